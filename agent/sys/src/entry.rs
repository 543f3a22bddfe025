//! A process that enters a container, and the launcher that started it: the memory that they share, and the last fork.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, Ordering};

use rustix::io::{Errno, FdFlags};

use super::last::finish;
use super::launch::{Strings, execute_file, last_errno};
use super::threads;

/// Of a subject's text, in a report.
const TEXT_BYTES: usize = 1024;

/// The kernel's `FUTEX_OWNER_DIED` (`include/uapi/linux/futex.h`).
const OWNER_DIED: u32 = 0x4000_0000;

/// What the entering process says, and how it learns of the launcher's end. The process that becomes visible has it too,
/// so that whoever reads it believes none of it.
#[repr(C)]
#[derive(Debug)]
struct Report {
    /// The launcher's thread id, with [`OWNER_DIED`] once it has died: the kernel writes that.
    launcher: AtomicU32,
    /// Not 0 once the launcher is to die.
    fault: AtomicU32,
    /// 1 and the number of the step that failed; 0 as long as none has.
    failed: AtomicU32,
    errno: AtomicI32,
    length: AtomicU32,
    text: [AtomicU8; TEXT_BYTES],
}

/// What failed, as it was reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub step: u8,
    pub errno: i32,
    pub subject: Vec<u8>,
}

/// Two pages of a file in memory, mapped for as long as the process lives.
#[derive(Clone, Copy, Debug)]
pub struct Shared {
    report: &'static Report,
    /// The pid of the process that became visible, as the kernel wrote it before that process ran. Not in that process's
    /// memory.
    born: &'static AtomicU32,
}

/// As large as a page may be.
const PAGE: usize = 64 << 10;

impl Shared {
    /// Of the file: what comes behind it there is the caller's.
    pub const BYTES: usize = 2 * PAGE;

    /// Maps the beginning of a file that is at least so long, and cannot be made shorter.
    ///
    /// # Errors
    /// mmap(2)'s.
    pub fn map(file: BorrowedFd<'_>) -> io::Result<Self> {
        // SAFETY: a new mapping, where the kernel likes.
        let memory = unsafe {
            libc::mmap(
                null_mut(),
                Self::BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the mapping is aligned to pages, longer than both, never unmapped, and any bytes are valid atomics.
        unsafe {
            Ok(Self {
                report: &*memory.cast::<Report>(),
                born: &*memory.add(PAGE).cast::<AtomicU32>(),
            })
        }
    }

    /// Lets the kernel mark this process's death there. The C library's own list of this kind is lost: nothing here has
    /// locks that outlive a process.
    ///
    /// # Errors
    /// set_robust_list(2)'s.
    pub fn mark_own_death(&self) -> io::Result<()> {
        /// `struct robust_list_head` (`include/uapi/linux/futex.h`).
        #[repr(C)]
        struct Head {
            next: *const Entry,
            offset: isize,
            pending: *const Entry,
        }
        #[repr(C)]
        struct Entry {
            next: *const Head,
        }
        let word = self.report.launcher.as_ptr();
        let head = Box::leak(Box::new(Head {
            next: std::ptr::null(),
            offset: 0,
            pending: std::ptr::null(),
        }));
        // The list is in this process's own memory, and only the word that it leads to is not.
        let entry = Box::leak(Box::new(Entry { next: head }));
        head.next = entry;
        head.offset = (word as isize).wrapping_sub(std::ptr::from_ref(entry) as isize);
        // SAFETY: the call takes no argument.
        let own = unsafe { libc::gettid() };
        self.report
            .launcher
            .store(own.cast_unsigned(), Ordering::SeqCst);
        // The page is then there, and charged to this process's cgroup.
        self.born.store(0, Ordering::SeqCst);
        // SAFETY: head and entry live as long as the process.
        let result = unsafe {
            libc::syscall(
                libc::SYS_set_robust_list,
                std::ptr::from_ref::<Head>(head),
                size_of::<Head>(),
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Leaves where the kernel writes the copy's number out of the copy's memory, for [`fork_last`].
    ///
    /// # Errors
    /// madvise(2)'s; EBUSY where this process has more threads than one, whose locks a copy would wait for. It is looked at
    /// here, since the filter of the command's system calls may stand before the fork.
    pub fn keep_from_copies(self) -> io::Result<KeptFromCopies> {
        threads::expect_one()?;
        let born = NonNull::from(self.born).cast::<libc::c_void>();
        // SAFETY: the address is that of a mapping which nothing but `born` uses, and no copy follows that.
        if unsafe { libc::madvise(born.as_ptr(), PAGE, libc::MADV_DONTFORK) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(KeptFromCopies(self))
    }

    #[must_use]
    pub fn launcher_died(&self) -> bool {
        self.report.launcher.load(Ordering::SeqCst) & OWNER_DIED != 0
    }

    /// Reports a failure.
    pub fn fail(&self, step: u8, errno: Errno, subject: &CStr) {
        let text = subject.to_bytes();
        for (to, from) in self.report.text.iter().zip(text) {
            to.store(*from, Ordering::Relaxed);
        }
        let length = text.len().min(TEXT_BYTES) as u32;
        self.report.length.store(length, Ordering::Relaxed);
        self.report
            .errno
            .store(errno.raw_os_error(), Ordering::Relaxed);
        let step = 1 + u32::from(step);
        self.report.failed.store(step, Ordering::SeqCst);
    }

    #[must_use]
    pub fn failed(&self) -> Option<Failed> {
        let step = self.report.failed.load(Ordering::SeqCst).checked_sub(1)?;
        let length = self.report.length.load(Ordering::Relaxed) as usize;
        let text = self.report.text.iter().take(length);
        Some(Failed {
            step: step as u8,
            errno: self.report.errno.load(Ordering::Relaxed),
            subject: text.map(|byte| byte.load(Ordering::Relaxed)).collect(),
        })
    }

    /// Says that the launcher is to die.
    pub fn fault(&self) {
        self.report.fault.store(1, Ordering::SeqCst);
    }

    #[must_use]
    pub fn is_fault(&self) -> bool {
        self.report.fault.load(Ordering::SeqCst) != 0
    }

    /// The process that became visible, as the host numbers it, once there is one.
    #[must_use]
    pub fn born(&self) -> Option<i32> {
        let pid = self.born.load(Ordering::SeqCst).cast_signed();
        (pid != 0).then_some(pid)
    }
}

/// The memory shared by a process whose copy does not see [`Shared::born`].
#[derive(Clone, Copy, Debug)]
pub struct KeptFromCopies(Shared);

impl std::ops::Deref for KeptFromCopies {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// The flags of the last fork, which a filter of system calls has to let through.
pub const LAST_FORK: u64 =
    (libc::CLONE_VFORK | libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID).cast_unsigned() as u64;

/// Who returns from [`fork_last`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The copy executes a program, or has ended.
    Parent,
    Copy,
}

/// clone(2): a child of this process's parent, which executes a program soon. The kernel tells its number to the launcher
/// alone, before it runs, and holds this process up until then.
///
/// # Errors
/// clone(2)'s.
pub fn fork_last(shared: &KeptFromCopies) -> Result<Side, Errno> {
    let born = NonNull::from(shared.0.born).cast::<libc::c_void>();
    let no_stack = null_mut::<libc::c_void>();
    // SAFETY: without CLONE_VM the copy has its own memory, and goes on here with its own stack; the kernel writes to
    // `born`, which is an integer of four bytes. The arguments that differ from one architecture to another are zeros.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone,
            LAST_FORK,
            no_stack,
            born.as_ptr(),
            0_usize,
            0_usize,
        )
    };
    match result {
        0 => Ok(Side::Copy),
        ..0 => Err(last_errno()),
        1.. => Ok(Side::Parent),
    }
}

/// A descriptor that this program was executed with. Whatever the program itself opens closes at exec, so that one which does
/// not is owned by nobody; from now on it does.
///
/// # Errors
/// EBADF where it is not open, or has an owner.
pub fn inherited(number: usize) -> io::Result<OwnedFd> {
    const FIRST: i32 = 3;
    let unknown = || io::Error::from_raw_os_error(libc::EBADF);
    let number = i32::try_from(number).map_err(|_| unknown())?;
    // SAFETY: the call takes no pointer.
    if number < FIRST || unsafe { libc::fcntl(number, libc::F_GETFD) } != 0 {
        return Err(unknown());
    }
    // SAFETY: it is open, and nothing here has opened it, since it would close at exec.
    let inherited = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&inherited, FdFlags::CLOEXEC)?;
    Ok(inherited)
}

/// Executes a program that has these descriptors, in their order, and no others. None of them has a number lower than
/// there are of them, nor has the program's file. Where that fails, `report` hears why, and the process ends: owners of the
/// numbers that were taken do not run again.
pub fn execute_with(
    descriptors: &[BorrowedFd<'_>],
    program: BorrowedFd<'_>,
    arguments: &Strings,
    environment: &Strings,
    report: impl FnOnce(Errno),
) -> ! {
    finish(|_| {
        let Err(errno) =
            take_numbers(descriptors).and_then(|()| execute_file(program, arguments, environment));
        report(errno);
        1
    })
}

fn take_numbers(descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    for (number, descriptor) in (0_i32..).zip(descriptors) {
        // SAFETY: the call takes no pointer. Owners of the numbers that it takes do not run again.
        if unsafe { libc::dup3(descriptor.as_raw_fd(), number, 0) } < 0 {
            return Err(last_errno());
        }
    }
    let (first, all) = (descriptors.len(), libc::c_uint::MAX);
    // SAFETY: the call takes no pointer, and closes nothing before exec.
    match unsafe { libc::syscall(libc::SYS_close_range, first, all, CLOSE_RANGE_CLOEXEC) } {
        ..0 => Err(last_errno()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    use super::*;

    #[test]
    fn a_report_is_read_from_the_other_mapping() {
        let file = memfd_create(c"shared", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, Shared::BYTES as u64).unwrap();
        let (one, other) = (
            Shared::map(file.as_fd()).unwrap(),
            Shared::map(file.as_fd()).unwrap(),
        );
        assert_eq!((one.failed(), one.born()), (None, None));
        other.fail(3, Errno::NOENT, c"there");
        let failed = one.failed().unwrap();
        assert_eq!((failed.step, failed.errno), (3, libc::ENOENT));
        assert_eq!(failed.subject, b"there");
        assert!(!one.launcher_died());
    }

    #[test]
    fn the_death_of_a_launcher_is_marked() {
        let file = memfd_create(c"shared", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, Shared::BYTES as u64).unwrap();
        let shared = Shared::map(file.as_fd()).unwrap();
        // A thread's end is marked as that of a process is.
        std::thread::spawn(move || {
            shared.mark_own_death().unwrap();
            assert!(!shared.launcher_died());
        })
        .join()
        .unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !shared.launcher_died() {
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        }
    }
}

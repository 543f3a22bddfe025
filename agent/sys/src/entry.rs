//! The memory that a process which enters a container shares with its launcher, and the fork that makes the container's
//! new process.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, Ordering};

use rustix::io::{Errno, FdFlags};

use super::last::finish;
use super::launch::{Strings, execute_file, last_errno};
use super::threads;

/// The most bytes of a subject's text in a report.
const TEXT_BYTES: usize = 1024;

/// The kernel's `FUTEX_OWNER_DIED` (`include/uapi/linux/futex.h`).
const OWNER_DIED: u32 = 0x4000_0000;

/// The entering process reports its failure here, and learns of the launcher's end.
///
/// The process that becomes visible in the container has this memory too. So a reader must not trust what it holds.
#[repr(C)]
#[derive(Debug)]
struct Report {
    /// The launcher's thread id. When the launcher dies, the kernel sets [`OWNER_DIED`].
    launcher: AtomicU32,
    /// Not 0 once the launcher is to die, as a test's fault point asks for.
    fault: AtomicU32,
    /// The number of the step that failed plus 1; 0 if none has failed.
    failed: AtomicU32,
    errno: AtomicI32,
    length: AtomicU32,
    text: [AtomicU8; TEXT_BYTES],
}

/// A failure of the entering process, as it was reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub step: u8,
    pub errno: i32,
    pub subject: Vec<u8>,
}

/// Two pages of a file in memory, which stay mapped until the process ends.
#[derive(Clone, Copy, Debug)]
pub struct Shared {
    report: &'static Report,
    /// The pid of the process that became visible. The kernel writes it before that process runs. The page is not in
    /// that process's memory.
    born: &'static AtomicU32,
}

/// The largest size of a page on any platform.
const PAGE: usize = 64 << 10;

impl Shared {
    /// The bytes of the file that this type uses. The caller may use what comes behind them.
    pub const BYTES: usize = 2 * PAGE;

    /// Maps the first [`Self::BYTES`] of a file. The file must be at least that long, and nobody may be able to shorten
    /// it.
    ///
    /// # Errors
    /// mmap(2)'s.
    pub fn map(file: BorrowedFd<'_>) -> io::Result<Self> {
        // SAFETY: the kernel chooses the address of a new mapping, where no other memory is.
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
        // SAFETY: the mapping is aligned to pages, longer than `PAGE` and `Report`, and never unmapped. Any bytes are
        // valid atomics.
        unsafe {
            Ok(Self {
                report: &*memory.cast::<Report>(),
                born: &*memory.add(PAGE).cast::<AtomicU32>(),
            })
        }
    }

    /// Makes the kernel mark the death of this thread, the launcher's, in the shared memory.
    ///
    /// This replaces the C library's own robust list, which the agent does not need: it has no locks that outlive a
    /// process.
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
        // The list is in this process's own memory; only the word that it leads to is in the shared memory.
        let entry = Box::leak(Box::new(Entry { next: head }));
        head.next = entry;
        head.offset = (word as isize).wrapping_sub(std::ptr::from_ref(entry) as isize);
        // SAFETY: the call takes no argument.
        let own = unsafe { libc::gettid() };
        self.report
            .launcher
            .store(own.cast_unsigned(), Ordering::SeqCst);
        // This write allocates the page, which the kernel charges to this process's cgroup.
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

    /// Keeps the page with the child's pid out of the memory of children, as [`fork_last`] needs it.
    ///
    /// # Errors
    /// madvise(2)'s; EBUSY if this process has more than one thread: a child would wait for the locks of the others.
    /// This is checked here because the system call filter of the command may be in place before the fork.
    pub fn keep_from_copies(self) -> io::Result<KeptFromCopies> {
        threads::expect_one()?;
        let born = NonNull::from(self.born).cast::<libc::c_void>();
        // SAFETY: only `born` refers to these `PAGE` bytes of the mapping, and no child of this process follows it.
        if unsafe { libc::madvise(born.as_ptr(), PAGE, libc::MADV_DONTFORK) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(KeptFromCopies(self))
    }

    /// Whether the thread that called [`Self::mark_own_death`] has died.
    #[must_use]
    pub fn launcher_died(&self) -> bool {
        self.report.launcher.load(Ordering::SeqCst) & OWNER_DIED != 0
    }

    /// Reports that a step failed. The subject is cut to its first 1024 bytes.
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

    /// The failure that was reported, if any was.
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

    /// Asks the launcher to die.
    pub fn fault(&self) {
        self.report.fault.store(1, Ordering::SeqCst);
    }

    /// Whether the launcher was asked to die.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        self.report.fault.load(Ordering::SeqCst) != 0
    }

    /// The pid of the process that became visible, in the pid namespace of the process that made it; `None` before.
    #[must_use]
    pub fn born(&self) -> Option<i32> {
        let pid = self.born.load(Ordering::SeqCst).cast_signed();
        (pid != 0).then_some(pid)
    }
}

/// Shared memory whose page with [`Shared::born`] is not in the memory of children.
#[derive(Clone, Copy, Debug)]
pub struct KeptFromCopies(Shared);

impl std::ops::Deref for KeptFromCopies {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// The flags of [`fork_last`]'s clone(2), which a system call filter has to allow.
pub const LAST_FORK: u64 =
    (libc::CLONE_VFORK | libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID).cast_unsigned() as u64;

/// Who returns from [`fork_last`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The process that called. Its child has executed a program, or has ended.
    Parent,
    /// The child.
    Copy,
}

/// Makes a child of this process's parent by clone(2), which is to execute a program soon.
///
/// Before the child runs, the kernel writes its pid where the launcher reads it ([`Shared::born`]); the child does not
/// have that memory. The kernel suspends this process until the child executes a program or ends.
///
/// # Errors
/// clone(2)'s.
pub fn fork_last(shared: &KeptFromCopies) -> Result<Side, Errno> {
    let born = NonNull::from(shared.0.born).cast::<libc::c_void>();
    let no_stack = null_mut::<libc::c_void>();
    // SAFETY: without CLONE_VM, the child has a copy of this process's memory, and returns from the call on a stack of
    // its own. The kernel writes to `born`, which is an integer of four bytes. The arguments that architectures have in
    // different orders are zeros.
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

/// Takes ownership of a descriptor that this program was executed with, and sets close-on-exec for it.
///
/// All descriptors that the program opens itself are close-on-exec, so one that is not has no owner.
///
/// # Errors
/// EBADF if the descriptor is not open, is a standard stream, or is close-on-exec and so has an owner.
pub fn inherited(number: usize) -> io::Result<OwnedFd> {
    const FIRST: i32 = 3;
    let unknown = || io::Error::from_raw_os_error(libc::EBADF);
    let number = i32::try_from(number).map_err(|_| unknown())?;
    // SAFETY: the call takes no pointer.
    if number < FIRST || unsafe { libc::fcntl(number, libc::F_GETFD) } != 0 {
        return Err(unknown());
    }
    // SAFETY: the descriptor is open. It is not close-on-exec, so this program did not open it, and nobody owns it.
    let inherited = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&inherited, FdFlags::CLOEXEC)?;
    Ok(inherited)
}

/// Executes a program with `descriptors` as its descriptors 0, 1 and so on, and with no others.
///
/// The numbers of `descriptors` and of `program` must not be lower than `descriptors.len()`. If a step fails, `report`
/// gets the errno, and the process ends with status 1: the owners of the numbers 0, 1 and so on must not run again.
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
        // SAFETY: the call takes no pointer. The owners of the number that it replaces do not run again: this is called
        // within `finish`.
        if unsafe { libc::dup3(descriptor.as_raw_fd(), number, 0) } < 0 {
            return Err(last_errno());
        }
    }
    let (first, all) = (descriptors.len(), libc::c_uint::MAX);
    // SAFETY: the call takes no pointer. It only sets close-on-exec, and closes nothing before exec.
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
        // The kernel marks the end of a thread as it marks that of a process.
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

//! The system calls between clone and exec. The functions that run there allocate nothing.

use std::convert::Infallible;
use std::ffi::{CStr, CString, c_char};
use std::io;
use std::num::NonZeroI32;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use super::threads;

/// Who returns from [`clone`].
#[derive(Debug)]
pub enum Side {
    /// The process that called, with the child's pid and pidfd.
    Parent { pid: Pid, pidfd: OwnedFd },
    /// The new process.
    Child,
}

/// Whose child the new process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kin {
    /// The child of this process. Its exit signal is SIGCHLD.
    Child,
    /// The child of this process's parent. It has the exit signal of this process.
    Sibling,
}

/// The flags of clone3(2) that ask for new namespaces, and change nothing else.
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWTIME) as u64;

/// Makes a copy of this process by clone3(2), in new `namespaces` (`CLONE_NEW*`), and in `cgroup` if one is given.
///
/// # Errors
/// clone3(2)'s; EBUSY if this process has more than one thread: the child would wait for the locks of the others;
/// EINVAL if `namespaces` has another flag.
pub fn clone(namespaces: u64, cgroup: Option<BorrowedFd<'_>>, kin: Kin) -> Result<Side, Errno> {
    if namespaces & !NAMESPACES != 0 {
        return Err(Errno::INVAL);
    }
    threads::expect_one()?;
    // `struct clone_args` has fields of eight bytes only, so that none of it is padding.
    // SAFETY: zeros are a valid `clone_args`.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    let mut pidfd: i32 = -1;
    arguments.flags = namespaces | libc::CLONE_PIDFD as u64;
    arguments.pidfd = &raw mut pidfd as u64;
    match kin {
        Kin::Child => arguments.exit_signal = libc::SIGCHLD as u64,
        Kin::Sibling => arguments.flags |= libc::CLONE_PARENT as u64,
    }
    if let Some(cgroup) = cgroup {
        const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM, the child has a copy of this process's memory, and returns from the call on a stack of
    // its own. There is no other thread that could hold a lock. The arguments outlive the call, which writes only
    // `pidfd`.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<libc::clone_args>(),
        )
    };
    match result {
        0 => Ok(Side::Child),
        ..0 => Err(last_errno()),
        pid => {
            // SAFETY: the kernel has just made this descriptor for this process; nobody else has it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = Pid::from_raw(pid as i32).ok_or(Errno::INVAL)?;
            Ok(Side::Parent { pid, pidfd })
        }
    }
}

/// Ends this process at once, without running destructors or functions registered by atexit(3).
pub fn exit(status: u8) -> ! {
    // SAFETY: _exit(2) may be called at any time.
    unsafe { libc::_exit(i32::from(status)) }
}

/// Strings as execve(2) takes them.
#[derive(Debug)]
pub struct Strings {
    /// The strings that `pointers` point to.
    strings: Vec<CString>,
    /// The addresses of the strings, and a null at the end.
    pointers: Vec<*const c_char>,
}

impl Strings {
    /// Makes the array of pointers that execve(2) takes.
    #[must_use]
    pub fn new(strings: Vec<CString>) -> Self {
        let mut pointers: Vec<_> = strings.iter().map(|string| string.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Self { strings, pointers }
    }

    /// The first string, if there is one.
    #[must_use]
    pub fn first(&self) -> Option<&CStr> {
        self.strings.first().map(CString::as_c_str)
    }
}

/// Executes the program at `path` by execve(2).
///
/// # Errors
/// execve(2)'s. The function returns only then.
pub fn execute(
    path: &CStr,
    arguments: &Strings,
    environment: &Strings,
) -> Result<Infallible, Errno> {
    // SAFETY: the strings end with a NUL, the arrays with a null, and all of them outlive the call.
    unsafe {
        libc::execve(
            path.as_ptr(),
            arguments.pointers.as_ptr(),
            environment.pointers.as_ptr(),
        );
    }
    Err(last_errno())
}

/// Executes this program again from a read-only mount ([`super::start::again`]).
///
/// # Errors
/// The kernel refuses a step. The function returns only then.
pub fn run_again(arguments: &Strings, environment: &Strings) -> Result<Infallible, Errno> {
    // SAFETY: the strings end with a NUL, and the arrays with a null.
    unsafe { super::start::again(arguments.pointers.as_ptr(), environment.pointers.as_ptr()) }
}

/// Executes the program in an open file by execveat(2).
///
/// # Errors
/// execveat(2)'s. The function returns only then.
pub fn execute_file(
    file: BorrowedFd<'_>,
    arguments: &Strings,
    environment: &Strings,
) -> Result<Infallible, Errno> {
    // SAFETY: the strings end with a NUL, the arrays with a null, and all of them outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            arguments.pointers.as_ptr(),
            environment.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    Err(last_errno())
}

/// The attributes of a mount that mount_setattr(2) changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountAttributes {
    /// The `MOUNT_ATTR_*` flags to set.
    pub set: u64,
    /// The `MOUNT_ATTR_*` flags to clear.
    pub clear: u64,
    /// The new propagation (`MS_PRIVATE` …); 0 to leave it.
    pub propagation: u64,
}

/// Changes the attributes of an open mount by mount_setattr(2); if `recursive`, also those of all mounts below it.
///
/// # Errors
/// mount_setattr(2)'s; ENOSYS before Linux 5.12.
pub fn set_mount(
    mount: BorrowedFd<'_>,
    attributes: &MountAttributes,
    recursive: bool,
) -> Result<(), Errno> {
    change_mount(mount, attributes, recursive, 0)
}

/// Makes an open, detached mount an idmapped mount: the user namespace `user` maps the owners of its files.
///
/// # Errors
/// mount_setattr(2)'s; EINVAL if the file system has no idmapped mounts.
pub fn map_owners(mount: BorrowedFd<'_>, user: BorrowedFd<'_>) -> Result<(), Errno> {
    let attributes = MountAttributes {
        set: libc::MOUNT_ATTR_IDMAP,
        ..MountAttributes::default()
    };
    change_mount(mount, &attributes, false, user.as_raw_fd() as u64)
}

fn change_mount(
    mount: BorrowedFd<'_>,
    attributes: &MountAttributes,
    recursive: bool,
    user: u64,
) -> Result<(), Errno> {
    let attributes = libc::mount_attr {
        attr_set: attributes.set,
        attr_clr: attributes.clear,
        propagation: attributes.propagation,
        userns_fd: user,
    };
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the attributes outlive the call, which gets their size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 {
        Err(last_errno())
    } else {
        Ok(())
    }
}

/// Gives every signal its default action and unblocks all signals, as a new program expects.
pub fn reset_signals() {
    /// The number of the kernel's last signal. This includes the real-time signals that the C library reserves.
    const SIGNALS: i32 = 64;
    /// The kernel's `struct sigaction` has a handler, flags, a restorer and a mask, of eight bytes each: zeros are the
    /// default action. The C library's sigaction(2) refuses the two signals that it reserves.
    const DEFAULT: [u64; 4] = [0; 4];
    const MASK_BYTES: usize = 8;
    // SAFETY: the action and the empty set outlive the calls, which only read them. The calls for SIGKILL and SIGSTOP
    // fail: their actions cannot be changed.
    unsafe {
        for signal in 1..=SIGNALS {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                DEFAULT.as_ptr(),
                std::ptr::null_mut::<u64>(),
                MASK_BYTES,
            );
        }
        let none: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Joins a new, empty session keyring, so that the container cannot reach the keys of the host.
///
/// # Errors
/// keyctl(2)'s; ENOSYS if the kernel is built without keys.
pub fn join_new_keyring() -> Result<(), Errno> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: a null name asks for a new keyring; no memory is read.
    let result = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<c_char>(),
        )
    };
    if result < 0 {
        Err(last_errno())
    } else {
        Ok(())
    }
}

/// Removes a capability from this thread's bounding set, for ever.
///
/// # Errors
/// EINVAL for one that the kernel does not know, EPERM without CAP_SETPCAP.
pub fn drop_from_bounding_set(capability: u8) -> Result<(), Errno> {
    // SAFETY: the call takes no pointer.
    let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability)) };
    if result < 0 {
        Err(last_errno())
    } else {
        Ok(())
    }
}

/// Adds a capability to this thread's ambient set. It must be in the permitted and the inheritable set.
///
/// # Errors
/// prctl(2)'s.
pub fn raise_ambient(capability: u8) -> Result<(), Errno> {
    // SAFETY: the call takes no pointer.
    let result = unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong,
            libc::c_ulong::from(capability),
            0,
            0,
        )
    };
    if result < 0 {
        Err(last_errno())
    } else {
        Ok(())
    }
}

/// Enters a namespace, or the namespaces of the types `kinds` (`CLONE_NEW*`) of the process of a pidfd, by setns(2).
///
/// # Errors
/// setns(2)'s.
pub fn enter(namespace: BorrowedFd<'_>, kinds: i32) -> Result<(), Errno> {
    // SAFETY: the call takes no pointer, and changes only the calling thread.
    let result = unsafe { libc::setns(namespace.as_raw_fd(), kinds) };
    if result < 0 {
        Err(last_errno())
    } else {
        Ok(())
    }
}

/// Moves this thread into new namespaces of the types `kinds` (`CLONE_NEW*`) by unshare(2).
///
/// # Errors
/// unshare(2)'s.
pub fn unshare(kinds: i32) -> Result<(), Errno> {
    // SAFETY: the call takes no pointer. Callers pass only flags of namespaces, so threads share descriptors as before.
    let result = unsafe { libc::unshare(kinds) };
    if result < 0 {
        Err(last_errno())
    } else {
        Ok(())
    }
}

/// Blocks all signals, so that they stay pending until [`reap`](super::forget::reap) takes them.
pub fn block_signals() {
    // SAFETY: sigfillset(3) fills the set before it is read, and the set outlives the calls.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
    }
}

/// Waits for the next signal to this process, which must have blocked all signals.
pub(super) fn wait_for_signal() -> Signal {
    loop {
        let mut signal = 0;
        // SAFETY: sigfillset(3) fills the set before it is read. The set and `signal` outlive the calls.
        let failed = unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::sigwait(&raw const all, &raw mut signal)
        };
        if let (0, Some(signal)) = (failed, NonZeroI32::new(signal)) {
            // SAFETY: sigwait(3) returned the number: that of a signal, and none that the C library keeps for itself, which
            // sigfillset(3) leaves out.
            return unsafe { Signal::from_raw_nonzero_unchecked(signal) };
        }
    }
}

/// The errno of the last call that failed in this thread.
pub(super) fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

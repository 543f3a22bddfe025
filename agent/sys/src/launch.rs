//! From clone to exec: what stands there allocates nothing.

use std::convert::Infallible;
use std::ffi::{CStr, CString, c_char};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use super::threads;

/// Who returns from [`clone`].
#[derive(Debug)]
pub enum Side {
    Parent { pid: Pid, pidfd: OwnedFd },
    Child,
}

/// Whose child the new process is, and which exit signal it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kin {
    /// This process's child.
    Child,
    /// The child of this process's parent.
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

/// clone3(2): a copy of this process, in new `namespaces` (`CLONE_NEW*`), and in `cgroup` where one is given.
///
/// # Errors
/// clone3(2)'s; EBUSY where this process has more threads than one, whose locks the copy would wait for; EINVAL for flags
/// that are no namespaces.
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
    // SAFETY: without CLONE_VM the new process has a copy of this one's memory, and goes on here with its own stack. No
    // other thread held a lock. The arguments outlive the call, which writes `pidfd` only.
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

/// Ends this process now, with nothing of Rust's or the C library's run.
pub fn exit(status: u8) -> ! {
    // SAFETY: it may be called at any time.
    unsafe { libc::_exit(i32::from(status)) }
}

/// Strings as execve(2) takes them.
#[derive(Debug)]
pub struct Strings {
    /// What `pointers` point to.
    strings: Vec<CString>,
    /// Ends in a null.
    pointers: Vec<*const c_char>,
}

impl Strings {
    #[must_use]
    pub fn new(strings: Vec<CString>) -> Self {
        let mut pointers: Vec<_> = strings.iter().map(|string| string.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Self { strings, pointers }
    }

    #[must_use]
    pub fn first(&self) -> Option<&CStr> {
        self.strings.first().map(CString::as_c_str)
    }
}

/// execve(2).
///
/// # Errors
/// It returns only with one.
pub fn execute(
    path: &CStr,
    arguments: &Strings,
    environment: &Strings,
) -> Result<Infallible, Errno> {
    // SAFETY: all are strings that end in NUL, and arrays that end in null; they outlive the call.
    unsafe {
        libc::execve(
            path.as_ptr(),
            arguments.pointers.as_ptr(),
            environment.pointers.as_ptr(),
        );
    }
    Err(last_errno())
}

/// Runs this program again, as [`super::start::again`].
///
/// # Errors
/// It returns only with one.
pub fn run_again(arguments: &Strings, environment: &Strings) -> Result<Infallible, Errno> {
    // SAFETY: both are strings that end in NUL, in arrays that end in null.
    unsafe { super::start::again(arguments.pointers.as_ptr(), environment.pointers.as_ptr()) }
}

/// execveat(2) of an open file.
///
/// # Errors
/// It returns only with one.
pub fn execute_file(
    file: BorrowedFd<'_>,
    arguments: &Strings,
    environment: &Strings,
) -> Result<Infallible, Errno> {
    // SAFETY: as of `execute`.
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

/// What mount_setattr(2) changes of a mount: `MOUNT_ATTR_*`, and a propagation (`MS_PRIVATE` …) or 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountAttributes {
    pub set: u64,
    pub clear: u64,
    pub propagation: u64,
}

/// mount_setattr(2) of an open mount, and with `recursive` of all below.
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

/// Maps the owners of all files of an open, detached mount as this user namespace maps them.
///
/// # Errors
/// mount_setattr(2)'s; EINVAL where the file system cannot.
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
    // SAFETY: the attributes outlive the call, and are as long as it says.
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

/// Gives every signal its default action, and blocks none: what a new program expects.
pub fn reset_signals() {
    /// The kernel's, which counts real-time signals that the C library keeps to itself too.
    const SIGNALS: i32 = 64;
    /// The kernel's `struct sigaction` has a handler, flags, a restorer and a mask, of eight bytes each: zeros are the
    /// default action. The C library's call would refuse the two signals that it keeps to itself.
    const DEFAULT: [u64; 4] = [0; 4];
    const MASK_BYTES: usize = 8;
    // SAFETY: the action outlives the calls, which only read it, as does the empty set. Those calls that fail are of
    // signals whose action nobody can change.
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

/// Joins a new, empty session keyring, so that the host's keys are out of reach.
///
/// # Errors
/// keyctl(2)'s; ENOSYS where the kernel has no keys.
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

/// Takes a capability out of the bounding set, for ever.
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

/// Puts a capability that is permitted and inheritable into the ambient set.
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

/// setns(2).
///
/// # Errors
/// setns(2)'s.
pub fn enter(namespace: BorrowedFd<'_>, kinds: i32) -> Result<(), Errno> {
    // SAFETY: the call takes no pointer; no thread shares anything with this one.
    let result = unsafe { libc::setns(namespace.as_raw_fd(), kinds) };
    if result < 0 {
        Err(last_errno())
    } else {
        Ok(())
    }
}

/// unshare(2) of namespaces (`CLONE_NEW*`).
///
/// # Errors
/// unshare(2)'s.
pub fn unshare(kinds: i32) -> Result<(), Errno> {
    // SAFETY: the call takes no pointer, and leaves descriptors shared as they were.
    let result = unsafe { libc::unshare(kinds) };
    if result < 0 {
        Err(last_errno())
    } else {
        Ok(())
    }
}

/// Blocks all signals: they wait for [`reap`](super::forget::reap).
pub fn block_signals() {
    // SAFETY: the set is made full before it is read, and outlives the calls.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
    }
}

/// The next signal to this process, which blocks them all.
pub(super) fn wait_for_signal() -> Signal {
    loop {
        let mut signal = 0;
        // SAFETY: the set is made full before it is read; both outlive the calls.
        let failed = unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::sigwait(&raw const all, &raw mut signal)
        };
        if let (0, Some(signal)) = (failed, Signal::from_named_raw(signal)) {
            return signal;
        }
    }
}

pub(super) fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

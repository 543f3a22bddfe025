//! Forks a process that stays when its caller has gone, and sends it signals.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use rustix::process::Pid;

use super::threads;

/// Who returns from [`fork`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The parent, with the child's pid.
    Parent(Pid),
    /// The child.
    Child,
}

/// fork(2).
///
/// # Errors
/// fork(2)'s; EBUSY if this process has more than one thread: the child would wait for the locks of the others.
pub fn fork() -> io::Result<Side> {
    threads::expect_one()?;
    // SAFETY: this process has one thread, so the child may do everything that this process may.
    match unsafe { libc::fork() } {
        0 => Ok(Side::Child),
        ..0 => Err(io::Error::last_os_error()),
        pid => Pid::from_raw(pid)
            .map(Side::Parent)
            .ok_or_else(|| io::ErrorKind::InvalidData.into()),
    }
}

/// Ends a child that [`fork`] has made, without running what its parent runs when it ends.
pub fn exit(status: i32) -> ! {
    // SAFETY: the call takes no pointer, and does not return.
    unsafe { libc::_exit(status) }
}

/// Makes this process's standard output the same as its standard error.
///
/// # Errors
/// dup2(2)'s.
pub fn speak_on_errors() -> io::Result<()> {
    // SAFETY: the standard streams have no owner in Rust. A writer to standard output then writes to standard error.
    match unsafe { libc::dup2(libc::STDERR_FILENO, libc::STDOUT_FILENO) } {
        ..0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// The first descriptor that is no standard stream.
const FIRST: RawFd = 3;

/// Separates this process, which [`fork`] has just made, from its parent.
///
/// The process gets a session of its own and /dev/null as its standard streams. It closes the other descriptors that
/// its parent was executed with.
///
/// # Errors
/// /dev/null cannot be opened, or there is no /proc.
pub fn leave_parent() -> io::Result<()> {
    // setsid(2) fails only for the leader of a process group, which a new child is not.
    let _ = rustix::process::setsid();
    let nothing = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    for stream in 0..FIRST {
        // SAFETY: the standard streams have no owner in Rust. A user of one then uses /dev/null.
        if unsafe { libc::dup2(nothing.as_raw_fd(), stream) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    drop(nothing);
    close_inherited()
}

/// Closes the descriptors that this program was executed with, except the standard streams.
///
/// All descriptors that the program opens itself are close-on-exec, so one that is not has no owner.
fn close_inherited() -> io::Result<()> {
    let entries = std::fs::read_dir("/proc/self/fd")?.flatten();
    let numbers: Vec<RawFd> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for number in numbers.into_iter().filter(|number| *number >= FIRST) {
        // SAFETY: the calls take no pointer. Only a descriptor that is not close-on-exec is closed; it has no owner.
        unsafe {
            if libc::fcntl(number, libc::F_GETFD) == 0 {
                libc::close(number);
            }
        }
    }
    Ok(())
}

/// Blocks signals, and returns a descriptor to read them from. It also reports those that are ignored (see
/// [`is_ignored`]).
///
/// # Errors
/// signalfd(2)'s.
pub fn catch_signals(signals: impl IntoIterator<Item = i32>) -> io::Result<OwnedFd> {
    // SAFETY: zeros are the empty set. The calls get pointers to a valid set that outlives them, and refuse a number
    // that is no signal. This process has one thread, so the thread's mask is the process's.
    let descriptor = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        for signal in signals {
            libc::sigaddset(&raw mut set, signal);
        }
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) < 0 {
            return Err(io::Error::last_os_error());
        }
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call returned a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Whether this process ignores a signal. The kernel keeps a signal pending that is blocked, even if it is ignored.
#[must_use]
pub fn is_ignored(signal: i32) -> bool {
    // SAFETY: zeros are a valid action, to which the call writes. The call refuses a number that is no signal.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}

/// Sends a signal, which may be a real-time signal, to the process of a pidfd.
///
/// # Errors
/// pidfd_send_signal(2)'s; ESRCH where it has ended.
pub fn send_signal(process: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open. With a null pointer, the kernel fills in the same `siginfo_t` as for kill(2).
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal,
            no_info,
            0,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

//! A copy of this process that stays when its caller has gone, and signals to those that stay.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use rustix::process::Pid;

use super::threads;

/// Who returns from [`fork`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The child's number.
    Parent(Pid),
    Child,
}

/// fork(2).
///
/// # Errors
/// fork(2)'s; EBUSY where this process has more threads than one, whose locks the copy would wait for.
pub fn fork() -> io::Result<Side> {
    threads::expect_one()?;
    // SAFETY: with one thread, the copy may do all that this process may.
    match unsafe { libc::fork() } {
        0 => Ok(Side::Child),
        ..0 => Err(io::Error::last_os_error()),
        pid => Pid::from_raw(pid)
            .map(Side::Parent)
            .ok_or_else(|| io::ErrorKind::InvalidData.into()),
    }
}

/// Ends a child that [`fork`] has made, without what its parent does at its end.
pub fn exit(status: i32) -> ! {
    // SAFETY: the call takes no pointer, and does not return.
    unsafe { libc::_exit(status) }
}

/// Makes standard error this process's standard output too.
///
/// # Errors
/// dup2(2)'s.
pub fn speak_on_errors() -> io::Result<()> {
    // SAFETY: the standard streams have no owner in Rust; whoever writes to the output finds the other.
    match unsafe { libc::dup2(libc::STDERR_FILENO, libc::STDOUT_FILENO) } {
        ..0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// The first descriptor behind the standard streams.
const FIRST: RawFd = 3;

/// Makes this process, a child that [`fork`] has just made, one that nobody waits for and nobody talks to: in a session
/// of its own, /dev/null as its standard streams, and no other descriptor that its parent was started with.
///
/// # Errors
/// /dev/null cannot be opened, or there is no /proc.
pub fn leave_parent() -> io::Result<()> {
    // It fails for the leader of a group of processes only, which a child is not.
    let _ = rustix::process::setsid();
    let nothing = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    for stream in 0..FIRST {
        // SAFETY: the standard streams have no owner in Rust; whoever uses them finds /dev/null.
        if unsafe { libc::dup2(nothing.as_raw_fd(), stream) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    drop(nothing);
    close_inherited()
}

/// Closes the descriptors that this program was executed with, but for the standard streams. All that it opens closes at
/// exec: nobody here owns one that does not.
fn close_inherited() -> io::Result<()> {
    let entries = std::fs::read_dir("/proc/self/fd")?.flatten();
    let numbers: Vec<RawFd> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for number in numbers.into_iter().filter(|number| *number >= FIRST) {
        // SAFETY: the calls take no pointer, and the descriptor has no owner, as above.
        unsafe {
            if libc::fcntl(number, libc::F_GETFD) == 0 {
                libc::close(number);
            }
        }
    }
    Ok(())
}

/// Blocks signals, and gives a descriptor to read them from: those too that are ignored (see [`is_ignored`]).
///
/// # Errors
/// signalfd(2)'s.
pub fn catch_signals(signals: impl IntoIterator<Item = i32>) -> io::Result<OwnedFd> {
    // SAFETY: zeros are the empty set; the calls get valid ones, and refuse what is no signal. One thread runs, so that
    // the mask is the process's.
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

/// Whether this process ignores a signal. The kernel keeps those that are blocked and ignored.
#[must_use]
pub fn is_ignored(signal: i32) -> bool {
    // SAFETY: zeros are an action, which the call writes to; it refuses what is no signal.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}

/// Sends a signal to the process of a pidfd, real-time signals too.
///
/// # Errors
/// pidfd_send_signal(2)'s; ESRCH where it has ended.
pub fn send_signal(process: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open, and the null pointer asks for the info that kill(2) gives.
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

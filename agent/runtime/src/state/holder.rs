//! The process that holds a lock, and the state of that process.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use agent_host::process::Process;
use agent_sys::fork::send_signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// A process that holds a lock. `None` stands for a process that this process's pid namespace does not contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockHolder(Option<Pid>);

/// The state of a process, as far as it matters to a process that waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessCondition {
    /// A signal such as SIGSTOP, or SIGTSTP after ^Z, has stopped the process.
    Stopped,
    /// A debugger has stopped the process.
    Traced,
    /// The process sleeps in the kernel, uninterruptibly: it handles no signal.
    Waits,
    /// The process has ended.
    Ended,
    /// The process runs, or can run.
    Runs,
    /// The state cannot be read.
    Unknown,
}

impl LockHolder {
    /// Makes the holder from its pid. None stands for a process of another pid namespace.
    pub const fn new(pid: Option<Pid>) -> Self {
        Self(pid)
    }

    /// Returns the pid of the process, or 0 for a process of another pid namespace.
    pub fn pid(self) -> i32 {
        self.0.map_or(0, |pid| pid.as_raw_nonzero().get())
    }

    /// Reads the state of the process from the kernel.
    pub fn condition(self) -> ProcessCondition {
        let Ok(pid) = u32::try_from(self.pid()) else {
            return ProcessCondition::Unknown;
        };
        match Process::new(Path::new("/"), pid).state() {
            Ok(b'T') => ProcessCondition::Stopped,
            Ok(b't') => ProcessCondition::Traced,
            Ok(b'D') => ProcessCondition::Waits,
            Ok(b'Z' | b'X') => ProcessCondition::Ended,
            Ok(_) => ProcessCondition::Runs,
            Err(_) => ProcessCondition::Unknown,
        }
    }

    /// Waits until the process has ended, for at most `patience`. Where the process cannot be opened, sleeps for at
    /// most 20 ms instead.
    pub fn wait(self, patience: Duration) {
        const BLIND: Duration = Duration::from_millis(20);
        match self.open() {
            Some(process) => drop(ends(&process, patience)),
            // The process has ended, or is in another pid namespace.
            None => sleep(patience.min(BLIND)),
        }
    }

    /// Returns a pidfd of the process. None where the process has ended, or is in another pid namespace.
    pub fn open(self) -> Option<OwnedFd> {
        pidfd_open(self.0?, PidfdFlags::empty()).ok()
    }

    /// Sends a signal to the process. `is_still` is called once the pidfd is open, and tells whether the pid still
    /// belongs to that process.
    pub fn signal(self, signal: i32, is_still: impl FnOnce() -> bool) {
        if let Some(process) = self.open()
            && is_still()
        {
            // The process may have ended since.
            let _ = send_signal(process.as_fd(), signal);
        }
    }
}

/// Tells whether a process ends within `patience`. A signal that this process handles does not end the wait.
pub fn ends(process: &impl AsFd, patience: Duration) -> bool {
    let deadline = std::time::Instant::now() + patience;
    loop {
        let now = std::time::Instant::now();
        let left = Timespec::try_from(deadline.saturating_duration_since(now)).ok();
        match poll(&mut [PollFd::new(process, PollFlags::IN)], left.as_ref()) {
            Ok(ready) => return ready > 0,
            Err(_) if now < deadline => {}
            Err(_) => return false,
        }
    }
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(pid) = self.0.map(Pid::as_raw_nonzero) else {
            return f.write_str("the lock's holder is a process of another pid namespace");
        };
        write!(f, "process {pid} ")?;
        match self.condition() {
            ProcessCondition::Stopped => write!(f, "is stopped; kill -CONT {pid} lets it go on"),
            ProcessCondition::Traced => f.write_str("is stopped by a debugger"),
            ProcessCondition::Waits => {
                f.write_str("waits in the kernel, where no signal reaches it")
            }
            ProcessCondition::Ended => f.write_str("has ended"),
            ProcessCondition::Runs => f.write_str("runs"),
            ProcessCondition::Unknown => f.write_str("is in an unknown state"),
        }
    }
}

//! The threads of the host, each with its cgroup and what it does.

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};

use agent_ebpf::ThreadState;

/// What a thread does, as the kernel counts it for taskstats (`cgroupstats_build`, `kernel/cgroup/cgroup-v1.c`). A
/// thread that waits uninterruptibly, but for a fatal signal, counts as uninterruptible here, and in no state there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadActivity {
    /// It waits for an event or a signal.
    Sleeping,
    /// It runs, or waits for a CPU.
    Running,
    /// A signal or a tracer has stopped it.
    Stopped,
    /// It waits for an event, and for no signal.
    Uninterruptible,
    /// It waits for I/O, in a state that is none of the others.
    Iowaiting,
}

/// The bits of `task_struct.__state` (`include/linux/sched.h`), which no kernel from 5.10 on has changed.
const INTERRUPTIBLE: u32 = 1;
const UNINTERRUPTIBLE: u32 = 2;
const STOPPED_OR_TRACED: u32 = 4 | 8;
const WAKEKILL: u32 = 0x100;

impl ThreadActivity {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Sleeping,
        Self::Running,
        Self::Stopped,
        Self::Uninterruptible,
        Self::Iowaiting,
    ];

    /// Its name in metrics, which is cAdvisor's.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sleeping => "sleeping",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Uninterruptible => "uninterruptible",
            Self::Iowaiting => "iowaiting",
        }
    }

    /// What a thread does. None: it is idle as kernel threads are, frozen, or at its end.
    pub fn of(thread: &ThreadState) -> Option<Self> {
        match thread.state {
            0 => Some(Self::Running),
            INTERRUPTIBLE => Some(Self::Sleeping),
            UNINTERRUPTIBLE => Some(Self::Uninterruptible),
            state if state & STOPPED_OR_TRACED != 0 => Some(Self::Stopped),
            _ if thread.in_iowait != 0 => Some(Self::Iowaiting),
            state if state == UNINTERRUPTIBLE | WAKEKILL => Some(Self::Uninterruptible),
            _ => None,
        }
    }
}

/// Calls `with` for each thread of the host. `program` is that of [`Kernel::threads`](super::Kernel::threads).
///
/// # Errors
/// The kernel refuses the task iterator, or its list cannot be read.
pub fn all(program: &OwnedFd, mut with: impl FnMut(&ThreadState)) -> io::Result<()> {
    let mut bytes = Vec::new();
    agent_sys::bpf::iterate(program.as_fd())?.read_to_end(&mut bytes)?;
    let threads = bytes.chunks_exact(size_of::<ThreadState>());
    let threads = threads.filter_map(agent_sys::from_bytes);
    threads.for_each(|thread| with(&thread));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states() {
        for (state, in_iowait, doing) in [
            (0, 0, Some(ThreadActivity::Running)),
            (0, 1, Some(ThreadActivity::Running)),
            (1, 0, Some(ThreadActivity::Sleeping)),
            (2, 1, Some(ThreadActivity::Uninterruptible)),
            (0x102, 0, Some(ThreadActivity::Uninterruptible)),
            (0x102, 1, Some(ThreadActivity::Iowaiting)),
            (0x104, 0, Some(ThreadActivity::Stopped)),
            (0x108, 0, Some(ThreadActivity::Stopped)),
            // TASK_IDLE, EXIT_ZOMBIE and TASK_FROZEN.
            (0x402, 0, None),
            (0x20, 0, None),
            (0x8000, 0, None),
        ] {
            let thread = ThreadState {
                state,
                in_iowait,
                ..ThreadState::default()
            };
            assert_eq!(ThreadActivity::of(&thread), doing, "{state:#x}");
        }
    }
}

//! The thread that makes the kernel side check all processes for escapes.
//!
//! A probe can miss an escape: the kernel skips a program on a CPU where another task was preempted in the same program
//! (`__bpf_prog_enter_recur`, `kernel/bpf/trampoline.c`). A container can provoke that with many calls. A ring may also
//! have no room for a record.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::park_timeout;
use std::time::Duration;

/// How often the kernel side checks. It reports an escape at the second check that finds it.
const INTERVAL: Duration = Duration::from_secs(5);

/// Checks until `stop` is set. The thread that sets it wakes this one.
pub(crate) fn recheck(program: &OwnedFd, stop: &AtomicBool) {
    let mut failed = false;
    loop {
        park_timeout(INTERVAL);
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let looked = agent_sys::bpf::iterate(program.as_fd());
        // The iterator returns no bytes, but the read to its end runs it.
        let looked = looked.and_then(|mut it| std::io::copy(&mut it, &mut std::io::sink()));
        if let Err(error) = &looked
            && !failed
        {
            tracing::warn!(%error, "processes cannot be checked for escapes that no probe saw");
        }
        failed = looked.is_err();
    }
}

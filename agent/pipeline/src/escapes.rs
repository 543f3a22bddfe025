//! The thread that lets all processes be looked at for escapes.
//!
//! A probe does not see all of them: the kernel skips a program on a CPU where another task was preempted in that same
//! program (`__bpf_prog_enter_recur`, `kernel/bpf/trampoline.c`), which a container can bring about by many calls; and a
//! record may find no room.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::park_timeout;
use std::time::Duration;

/// How often. An escape is told at the second look that finds it.
const INTERVAL: Duration = Duration::from_secs(5);

/// Looks until `stop`; whoever sets it wakes this thread.
pub(crate) fn recheck(program: &OwnedFd, stop: &AtomicBool) {
    let mut failed = false;
    loop {
        park_timeout(INTERVAL);
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let looked = agent_sys::bpf::iterate(program.as_fd());
        // It prints nothing: to read to the end is what runs it.
        let looked = looked.and_then(|mut it| std::io::copy(&mut it, &mut std::io::sink()));
        if let Err(error) = &looked
            && !failed
        {
            tracing::warn!(%error, "processes cannot be looked at: escapes that no probe sees stay unseen");
        }
        failed = looked.is_err();
    }
}

//! unshare(2) and setns(2), by the system calls' tracepoints.
//!
//! `long sys_unshare(unsigned long unshare_flags)`, `long sys_setns(int fd, int flags)` (`include/linux/syscalls.h`).
//! The arguments begin at byte 16 of a tracepoint's context, and so does the result. The tracepoints do not see the
//! calls of 32-bit programs.

use agent_ebpf::{Call, RecordKind};
use aya_ebpf::{macros::tracepoint, programs::TracePointContext};

use crate::namespace_call::{begin, end};

#[tracepoint]
pub fn unshare_enter(ctx: TracePointContext) -> u32 {
    begin(&ctx, word(&ctx, 16), RecordKind::Unshare);
    0
}

#[tracepoint]
pub fn unshare_exit(ctx: TracePointContext) -> u32 {
    end(word(&ctx, 16) as i64, RecordKind::Unshare, Call::Unshare);
    0
}

#[tracepoint]
pub fn setns_enter(ctx: TracePointContext) -> u32 {
    begin(&ctx, word(&ctx, 24), RecordKind::Setns);
    0
}

#[tracepoint]
pub fn setns_exit(ctx: TracePointContext) -> u32 {
    end(word(&ctx, 16) as i64, RecordKind::Setns, Call::Setns);
    0
}

/// The 64-bit argument or result at byte `at` of the context.
#[inline(always)]
fn word(ctx: &TracePointContext, at: usize) -> u64 {
    // SAFETY: the verifier bounds the offset by the tracepoint's size.
    unsafe { ctx.read_at::<u64>(at) }.unwrap_or_default()
}

//! unshare(2) and setns(2), by BPF trampolines around the kernel functions that carry them out. The trampolines cost
//! nothing at other system calls. Where they do not load, the agent attaches the tracepoints of `syscall`.
//!
//! `int ksys_unshare(unsigned long unshare_flags)` (`kernel/fork.c`) carries out the calls of 64-bit and 32-bit
//! programs.
//!
//! `long __x64_sys_setns(const struct pt_regs *regs)` and, for `int $0x80`,
//! `long __ia32_sys_setns(const struct pt_regs *regs)` (`arch/x86/include/asm/syscall_wrapper.h`) have the flags in
//! the register of the second argument.
//!
//! `void perf_event_namespaces(struct task_struct *task)` (`kernel/events/core.c`) is the last function that both calls
//! run when they succeed (`ksys_unshare`, `kernel/fork.c`; `setns`, `kernel/nsproxy.c`).

use agent_ebpf::{Call, Field, RecordKind};
use aya_ebpf::{
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};

use crate::{
    namespace_call::{begin, end},
    task::Typed,
};

#[fentry(function = "ksys_unshare")]
pub fn unshare_fentry(ctx: FEntryContext) -> i32 {
    begin(&ctx, ctx.arg(0), RecordKind::Unshare);
    0
}

#[fexit(function = "ksys_unshare")]
pub fn unshare_fexit(ctx: FExitContext) -> i32 {
    let result: i32 = ctx.arg(1);
    end(result.into(), RecordKind::Unshare, Call::Unshare);
    0
}

#[fentry(function = "perf_event_namespaces")]
pub fn unshare_done(_ctx: FEntryContext) -> i32 {
    end(0, RecordKind::Unshare, Call::Unshare);
    0
}

#[fentry(function = "perf_event_namespaces")]
pub fn setns_done(_ctx: FEntryContext) -> i32 {
    end(0, RecordKind::Setns, Call::Setns);
    0
}

#[fentry(function = "__x64_sys_setns")]
pub fn setns_fentry(ctx: FEntryContext) -> i32 {
    setns(&ctx, Field::RegsSi)
}

#[fexit(function = "__x64_sys_setns")]
pub fn setns_fexit(ctx: FExitContext) -> i32 {
    end(ctx.arg(1), RecordKind::Setns, Call::Setns);
    0
}

#[fentry(function = "__ia32_sys_setns")]
pub fn setns32_fentry(ctx: FEntryContext) -> i32 {
    setns(&ctx, Field::RegsCx)
}

#[fexit(function = "__ia32_sys_setns")]
pub fn setns32_fexit(ctx: FExitContext) -> i32 {
    end(ctx.arg(1), RecordKind::Setns, Call::Setns);
    0
}

#[inline(always)]
fn setns(ctx: &FEntryContext, flags: Field) -> i32 {
    let registers = Typed::new(ctx.arg(0));
    // The flags are an int: the upper half of the register may hold anything.
    let flags: u32 = registers.load(flags);
    begin(ctx, flags.into(), RecordKind::Setns);
    0
}

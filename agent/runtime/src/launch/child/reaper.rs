//! A pid 1 that reaps each process of its namespace and passes signals on to the command.

use std::ffi::CStr;

use agent_host::faults::{Guard, guarded};
use agent_sys::forget::{Memory, reap};
use agent_sys::launch::{Kin, Side};
use rustix::process::{DumpableBehavior, set_dumpable_behavior, setpgid};
use rustix::termios::tcsetpgrp;
use rustix::thread::set_name;

use super::{Child, Done, On as _, identity};
use crate::launch::plan::Stdio;

const NAME: &CStr = c"init";

/// Looks where this process's memory is, while the host's `/proc` can be reached. It grows no more: nothing allocates.
pub(super) fn look<'a>(child: &mut Child<'a>) -> Done<'a> {
    if child.plan.reaper.is_some() {
        child.memory = Some(Memory::of_own().on(Memory::FILE)?);
    }
    Ok(())
}

/// Splits in two, where a reaper is wanted: this process stays as the reaper, and the new one goes on to the command.
pub(super) fn split<'a>(child: &mut Child<'a>) -> Done<'a> {
    let Some(area) = &child.plan.reaper else {
        return Ok(());
    };
    agent_sys::launch::block_signals();
    match agent_sys::launch::clone(0, None, Kin::Child).on(c"reaper")? {
        Side::Child => {
            // A process group of its own: what is typed at the terminal goes to it, and not to the reaper too.
            setpgid(None, None).on(c"process group")?;
            if matches!(child.plan.stdio, Stdio::Terminal) {
                let own = rustix::process::getpid();
                tcsetpgrp(rustix::stdio::stdin(), own).on(c"terminal")?;
            }
            agent_sys::launch::reset_signals();
            Ok(())
        }
        Side::Parent { pid, .. } => {
            set_name(NAME).on(NAME)?;
            area.wipe(NAME).on(NAME)?;
            set_dumpable_behavior(DumpableBehavior::NotDumpable).on(NAME)?;
            identity::give_up_all(child)?;
            // It is a copy of the launcher, and the command may have CAP_SYS_PTRACE.
            let memory = child.memory.as_ref().filter(|_| guarded(Guard::Entry));
            reap(pid, memory.map(|memory| (memory, *area)))
        }
    }
}

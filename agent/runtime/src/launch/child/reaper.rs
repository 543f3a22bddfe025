//! A pid 1 that reaps the processes of its pid namespace, and passes signals on to the command.

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

/// Reads the mappings of this process while the host's `/proc` can be reached. They do not grow afterwards, because
/// nothing allocates.
pub(super) fn look<'a>(child: &mut Child<'a>) -> Done<'a> {
    if child.plan.reaper.is_some() {
        child.memory = Some(Memory::of_own().on(Memory::FILE)?);
    }
    Ok(())
}

/// Clones the process that executes the command, where the container has a reaper. This process stays as the reaper.
pub(super) fn split<'a>(child: &mut Child<'a>) -> Done<'a> {
    let Some(area) = &child.plan.reaper else {
        return Ok(());
    };
    agent_sys::launch::block_signals();
    match agent_sys::launch::clone(0, None, Kin::Child).on(c"reaper")? {
        Side::Child => {
            // In a process group of its own, the command gets the signals of keys at the terminal, and the reaper does
            // not.
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
            // The reaper is a copy of the launcher, and a command with CAP_SYS_PTRACE could read its memory.
            let memory = child.memory.as_ref().filter(|_| guarded(Guard::Entry));
            reap(pid, memory.map(|memory| (memory, *area)))
        }
    }
}

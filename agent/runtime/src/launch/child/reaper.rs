//! A pid 1 that reaps each process of its namespace and passes signals on to the command.

use std::ffi::CStr;

use agent_host::faults::{Guard, guarded};
use agent_sys::forget::{Memory, leave_memory};
use agent_sys::launch::{Descriptors, Kin, Side};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, kill_process, set_dumpable_behavior, setpgid, wait,
};
use rustix::termios::tcsetpgrp;
use rustix::thread::set_name;

use super::{Child, Done, FAILED, On as _, identity};

const NAME: &CStr = c"init";
/// What a shell adds to a signal's number.
const KILLED: i32 = 128;

/// Looks where this process's memory is, while the host's `/proc` can be reached. It grows no more: nothing allocates.
pub(super) fn look<'a>(child: &mut Child<'a>) -> Done<'a> {
    if child.plan.reaper.is_some() {
        let path = c"/proc/self/maps";
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let maps = openat(CWD, path, flags, Mode::empty()).on(path)?;
        child.memory = Some(Memory::read(&maps).on(path)?);
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
            if child.terminal.is_some() {
                let own = rustix::process::getpid();
                tcsetpgrp(rustix::stdio::stdin(), own).on(c"terminal")?;
            }
            agent_sys::launch::reset_signals();
            Ok(())
        }
        Side::Parent { pid, .. } => {
            set_name(NAME).on(NAME)?;
            agent_sys::launch::wipe_start_area(area, NAME);
            set_dumpable_behavior(DumpableBehavior::NotDumpable).on(NAME)?;
            identity::give_up_all(child)?;
            // It is a copy of the launcher, and the command may have CAP_SYS_PTRACE.
            match &child.memory {
                Some(memory) if guarded(Guard::Entry) => leave_memory(memory, *area, pid, reap),
                _ => reap(pid),
            }
        }
    }
}

fn reap(command: Pid) -> ! {
    if agent_sys::launch::close_from(0, Descriptors::Close).is_err() {
        agent_sys::launch::exit(FAILED)
    }
    loop {
        let signal = agent_sys::launch::wait_for_signal();
        if signal != Signal::CHILD {
            let _ = kill_process(command, signal);
            continue;
        }
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == command => {
                    let killed = status.terminating_signal().map(|signal| KILLED + signal);
                    let status = killed.or(status.exit_status()).unwrap_or(KILLED);
                    agent_sys::launch::exit(status as u8)
                }
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) | Err(_) => break,
            }
        }
    }
}

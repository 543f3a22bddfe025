//! A pid 1 that waits for whatever dies in its namespace, and hands signals on to the command.

use std::ffi::CStr;

use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, kill_process, set_dumpable_behavior, setpgid, wait,
};
use rustix::termios::tcsetpgrp;
use rustix::thread::set_name;

use super::{Child, Done, On as _, identity};
use crate::sys;
use crate::sys::launch::{Descriptors, Kin, Side};

const NAME: &CStr = c"init";
/// What a shell adds to a signal's number.
const KILLED: i32 = 128;

/// Splits in two, where a reaper is wanted: this process stays as the reaper, and the new one goes on to the command.
pub fn split<'a>(child: &mut Child<'a>) -> Done<'a> {
    let Some(area) = &child.plan.reaper else {
        return Ok(());
    };
    sys::launch::block_signals();
    match sys::launch::clone(0, None, Kin::Child).on(c"reaper")? {
        Side::Child => {
            // A process group of its own: what is typed at the terminal goes to it, and not to the reaper too.
            setpgid(None, None).on(c"process group")?;
            if child.terminal.is_some() {
                let own = rustix::process::getpid();
                tcsetpgrp(rustix::stdio::stdin(), own).on(c"terminal")?;
            }
            sys::launch::reset_signals();
            Ok(())
        }
        Side::Parent { pid, .. } => {
            set_name(NAME).on(NAME)?;
            sys::launch::wipe_start_area(area, NAME);
            set_dumpable_behavior(DumpableBehavior::NotDumpable).on(NAME)?;
            identity::give_up_all(child)?;
            sys::launch::close_from(0, Descriptors::Close).on(c"descriptors")?;
            reap(pid)
        }
    }
}

fn reap(command: Pid) -> ! {
    loop {
        let signal = sys::launch::wait_for_signal();
        if signal != Signal::CHILD {
            let _ = kill_process(command, signal);
            continue;
        }
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == command => {
                    let killed = status.terminating_signal().map(|signal| KILLED + signal);
                    let status = killed.or(status.exit_status()).unwrap_or(KILLED);
                    sys::launch::exit(status as u8)
                }
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) | Err(_) => break,
            }
        }
    }
}

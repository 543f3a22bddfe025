//! The steps that only a stage takes: it enters the container, and forks the copy that the container can see.

use agent_sys::entry::Side;
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Signal, ioctl_tiocsctty, set_dumpable_behavior,
    set_parent_process_death_signal, setsid,
};
use rustix::stdio::stdin;

use super::{Child, Done, Failure, On as _};
use crate::launch::plan::Stage;

fn stage<'a>(child: &Child<'a>) -> Result<&'a Stage, Failure<'a>> {
    child.plan.stage.as_ref().ok_or(Errno::INVAL).on(c"stage")
}

/// While it sees the host's `/proc`.
pub(super) fn oom_score<'a>(child: &mut Child<'a>) -> Done<'a> {
    let Some(score) = stage(child)?.oom_score_adjustment else {
        return Ok(());
    };
    agent_host::launch::set_own_oom_score_adjustment(score).on(c"oom_score_adj")
}

/// By writing itself into them: v1 makes whoever moves another process wait for a grace period of the kernel.
pub(super) fn cgroups<'a>(child: &mut Child<'a>) -> Done<'a> {
    for file in &stage(child)?.cgroups {
        rustix::io::write(file, b"0").on(c"cgroup")?;
    }
    Ok(())
}

pub(super) fn join<'a>(child: &mut Child<'a>) -> Done<'a> {
    for (namespace, kinds, index) in &stage(child)?.joins {
        agent_sys::launch::enter(std::os::fd::AsFd::as_fd(namespace), *kinds).on(index)?;
    }
    Ok(())
}

/// The host's keys are out of reach.
pub(super) fn keys<'a>(_: &mut Child<'a>) -> Done<'a> {
    super::leave_keys()
}

/// Gives the terminal to the command's user. A user namespace of one id has no other owner to give.
pub(super) fn own_terminal<'a>(child: &mut Child<'a>) -> Done<'a> {
    if !stage(child)?.terminal {
        return Ok(());
    }
    match rustix::fs::fchown(stdin(), Some(child.plan.identity.uid), None) {
        Ok(()) | Err(Errno::INVAL | Errno::PERM) => Ok(()),
        Err(errno) => Err(errno).on(c"terminal"),
    }
}

/// What the command reads where it is to read nothing: of the container, not of the host.
pub(super) fn read_nothing<'a>(child: &mut Child<'a>) -> Done<'a> {
    if !stage(child)?.reads_nothing {
        return Ok(());
    }
    let nothing = super::terminal::nothing_to_read().on(c"standard input")?;
    rustix::stdio::dup2_stdin(nothing).on(c"standard input")
}

/// Nobody without CAP_SYS_PTRACE looks into the copy. To be called when ids and capabilities are the command's: their
/// change would undo it.
pub(super) fn hide(child: &Child<'_>) -> Result<(), Errno> {
    match child.plan.stage {
        Some(_) => set_dumpable_behavior(DumpableBehavior::NotDumpable),
        None => Ok(()),
    }
}

/// The copy goes on; this process waits until that executes the command, and ends.
pub(super) fn fork<'a>(child: &mut Child<'a>) -> Done<'a> {
    let shared = &stage(child)?.shared;
    match agent_sys::entry::fork_last(shared).on(c"copy")? {
        Side::Copy => Ok(()),
        Side::Parent => agent_sys::launch::exit(0),
    }
}

/// A session of the copy's own, with the terminal.
pub(super) fn lead<'a>(child: &mut Child<'a>) -> Done<'a> {
    setsid().on(c"session")?;
    if stage(child)?.terminal {
        ioctl_tiocsctty(stdin()).on(c"terminal")?;
    }
    Ok(())
}

/// The copy ends with the launcher, also where that has died before.
pub(super) fn tie<'a>(child: &mut Child<'a>) -> Done<'a> {
    set_parent_process_death_signal(Some(Signal::KILL)).on(c"parent's death")?;
    let stage = stage(child)?;
    if stage.shared.launcher_died() {
        return Err(Errno::PIPE).on(c"launcher");
    }
    for program in &stage.late {
        agent_sys::seccomp::install(&program.instructions, program.flags).on(c"seccomp")?;
    }
    Ok(())
}

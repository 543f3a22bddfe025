//! The steps that only a stage takes: it enters the container, and forks the copy, which the container can see.

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

/// Sets `oom_score_adj` while the stage still sees the host's `/proc`.
pub(super) fn oom_score<'a>(child: &mut Child<'a>) -> Done<'a> {
    let Some(score) = stage(child)?.oom_score_adjustment else {
        return Ok(());
    };
    agent_host::launch::set_own_oom_score_adjustment(score).on(c"oom_score_adj")
}

/// Joins the v1 cgroups. The stage writes itself into them, because a process that moves another one waits for a grace
/// period of the kernel.
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

/// Joins an empty session keyring, so that the host's keys are out of reach.
pub(super) fn keys<'a>(_: &mut Child<'a>) -> Done<'a> {
    super::leave_keys()
}

/// Makes the command's user the owner of the terminal. A user namespace that maps one id has no other owner to give.
pub(super) fn own_terminal<'a>(child: &mut Child<'a>) -> Done<'a> {
    if !stage(child)?.terminal {
        return Ok(());
    }
    match rustix::fs::fchown(stdin(), Some(child.plan.identity.uid), None) {
        Ok(()) | Err(Errno::INVAL | Errno::PERM) => Ok(()),
        Err(errno) => Err(errno).on(c"terminal"),
    }
}

/// Replaces the placeholder of standard input by the container's `/dev/null`, where the command has no standard input.
pub(super) fn read_nothing<'a>(child: &mut Child<'a>) -> Done<'a> {
    if !stage(child)?.reads_nothing {
        return Ok(());
    }
    let nothing = super::terminal::nothing_to_read().on(c"standard input")?;
    rustix::stdio::dup2_stdin(nothing).on(c"standard input")
}

/// Makes the copy non-dumpable, so that only a process with CAP_SYS_PTRACE can look into it. This comes after the
/// changes of ids and capabilities, because they would reset it.
pub(super) fn hide(child: &Child<'_>) -> Result<(), Errno> {
    match child.plan.stage {
        Some(_) => set_dumpable_behavior(DumpableBehavior::NotDumpable),
        None => Ok(()),
    }
}

/// Forks the copy, which takes the next steps. The kernel holds this process up until the copy executes the command or
/// ends. This process then exits.
pub(super) fn fork<'a>(child: &mut Child<'a>) -> Done<'a> {
    let shared = &stage(child)?.shared;
    match agent_sys::entry::fork_last(shared).on(c"copy")? {
        Side::Copy => Ok(()),
        Side::Parent => agent_sys::launch::exit(0),
    }
}

/// Starts a new session, with the terminal as its controlling terminal where the command has one.
pub(super) fn lead<'a>(child: &mut Child<'a>) -> Done<'a> {
    setsid().on(c"session")?;
    if stage(child)?.terminal {
        ioctl_tiocsctty(stdin()).on(c"terminal")?;
    }
    Ok(())
}

/// Asks the kernel to kill the copy when the launcher dies, and checks that the launcher has not died before. Installs
/// the copy's own filters last.
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

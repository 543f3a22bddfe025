//! Steps that change the working directory and execute the command.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::process::fchdir;

use super::{Child, Done, Failure, On as _};
use crate::launch::place::{LinkPolicy, NodeKind};

/// Enters the working directory. A link never leads out of the root, not even through `/proc/self/fd`: descriptors of
/// the launcher are still open here. A missing directory is made, as docker does.
pub(super) fn enter_directory<'a>(child: &mut Child<'a>) -> Done<'a> {
    let path = &child.plan.command.directory;
    fchdir(directory(child)?).on(path)
}

/// Opens the working directory, and makes it where it is missing.
pub(super) fn directory<'a>(child: &Child<'a>) -> Result<OwnedFd, Failure<'a>> {
    let path = &child.plan.command.directory;
    let root = child.root()?;
    let directory = root.mount_point(path, NodeKind::Directory, LinkPolicy::Follow);
    directory.on(path)
}

/// Stands for a command that exists and whose loader or interpreter is missing. The kernel reports ENOENT in both
/// cases.
pub(crate) const NO_INTERPRETER: Errno = Errno::LIBACC;

fn is_there(path: &CStr) -> bool {
    rustix::fs::stat(path).is_ok()
}

/// Closes all descriptors except the standard streams and the channel. This comes before the look-up of the command: a
/// path could lead to the host through an open descriptor. The kernel closes the channel at exec.
pub(super) fn leave_descriptors<'a>(child: &mut Child<'a>) -> Done<'a> {
    agent_sys::launch::reset_signals();
    child.drop_descriptors();
    let channel = child.channel.descriptor().ok();
    child.last.close_others(channel).on(c"descriptors")
}

pub(super) fn execute<'a>(child: &mut Child<'a>) -> Done<'a> {
    let command = &child.plan.command;
    let candidates = &command.candidates;
    let mut denied = None;
    for candidate in candidates.all() {
        let path = candidate.path();
        let Err(errno) = agent_sys::launch::execute(path, &command.arguments, &command.environment);
        match errno {
            Errno::NOENT if is_there(path) => {
                return Err(NO_INTERPRETER).on(candidates.failed(candidate));
            }
            Errno::NOENT | Errno::NOTDIR => {}
            // A later candidate may be executable (execvp(3)).
            Errno::ACCESS => denied = Some(candidate),
            errno => return Err(errno).on(candidates.failed(candidate)),
        }
    }
    match (denied, command.arguments.first()) {
        (Some(candidate), _) => Err(Errno::ACCESS).on(candidates.failed(candidate)),
        (None, Some(name)) => Err(Errno::NOENT).on(name),
        (None, None) => Err(Errno::NOENT).on(c""),
    }
}

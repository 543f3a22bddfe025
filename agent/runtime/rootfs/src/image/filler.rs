//! Unpacks layers into memory in a process of its own. The kernel charges the container for that memory, and the
//! launcher stays in its own cgroup.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use agent_model::text::error_line;
use agent_sys::fork::{Side, exit, fork};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Signal, WaitOptions, getpid, getppid, kill_process, set_parent_process_death_signal, waitpid,
};
use serde::{Deserialize, Serialize};

use super::interruption::Stop;
use crate::{Charge, Error};

/// How long the unpacking may take. `agent run -d` waits as long for its supervisor.
const PATIENCE: Duration = Duration::from_secs(600);

/// The result that the child process reports at its end.
#[derive(Debug, Serialize, Deserialize)]
struct FillerReport {
    /// The text of the error; `None` where there was none.
    failed: Option<String>,
    /// Whether the budget was exceeded.
    is_spent: bool,
}

/// The result of [`fill`].
#[derive(Debug)]
pub(super) enum Filled {
    Well,
    /// There was too little room in the budget, or too little memory.
    Short(Error),
}

/// Calls `fill` in a child process, whose memory the kernel charges to the container. The child has this process's
/// mounts and working directory; this process must have one thread. An error of `fill` says whether the budget was
/// exceeded.
///
/// # Errors
/// Those of `fill`.
pub(super) fn fill(
    image: &std::path::Path,
    charge: Charge<'_>,
    stop: &dyn Stop,
    fill: impl FnOnce() -> Result<(), (Error, bool)>,
) -> Result<Filled, Error> {
    let process = |error: io::Error| Error::io("unpack", image)(error);
    let (heard, said) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| process(errno.into()))?;
    let parent = getpid();
    let side = fork().map_err(process)?;
    let Side::Parent(filler) = side else {
        drop(heard);
        // Nobody waits for this process if its parent is killed.
        let tied = set_parent_process_death_signal(Some(Signal::KILL));
        if tied.is_err() || getppid() != Some(parent) {
            exit(1);
        }
        let filled = match charge() {
            Ok(()) => fill(),
            Err(error) => Err((Error::Charge(error), false)),
        };
        exit(i32::from(report(filled, said).is_err()));
    };
    drop(said);
    let mut text = Vec::new();
    let read = match stop.wait(Some(heard.as_fd()), PATIENCE) {
        Ok(true) => std::fs::File::from(heard).read_to_end(&mut text),
        Ok(false) => Err(io::Error::other(format!(
            "waited {} s for the process that unpacks it",
            PATIENCE.as_secs()
        ))),
        Err(signal) => Err(signal),
    };
    if read.is_err() {
        // It may have ended.
        let _ = kill_process(filler, Signal::KILL);
    }
    // The file system is complete only once the child has ended.
    let ended = rustix::io::retry_on_intr(|| waitpid(Some(filler), WaitOptions::empty()));
    read.and(ended.map_err(io::Error::from)).map_err(process)?;
    let report: Option<FillerReport> = serde_json::from_slice(&text).ok();
    match report {
        Some(FillerReport { failed: None, .. }) => Ok(Filled::Well),
        Some(FillerReport {
            failed: Some(text),
            is_spent,
        }) => match is_spent {
            true => Ok(Filled::Short(Error::Said(text))),
            false => Err(Error::Said(text)),
        },
        // The kernel kills the child where the container has too little memory for it.
        None => Ok(Filled::Short(Error::Image {
            path: PathBuf::from(image),
            what: "the process that unpacked it was killed; give the container more memory with -m"
                .to_owned(),
        })),
    }
}

fn report(filled: Result<(), (Error, bool)>, said: OwnedFd) -> io::Result<()> {
    let report = match filled {
        Ok(()) => FillerReport {
            failed: None,
            is_spent: false,
        },
        Err((error, is_spent)) => FillerReport {
            failed: Some(error_line(&error)),
            is_spent,
        },
    };
    std::fs::File::from(said).write_all(&serde_json::to_vec(&report)?)
}

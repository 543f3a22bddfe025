//! Runs as an ordinary user: in a user namespace, in which that user is root.
//!
//! Every user can map one user id: their own. The ranges that /etc/subuid and /etc/subgid give a user are mapped by the
//! programs newuidmap and newgidmap, which are installed with the privileges for it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use agent_sys::fork::{Side, fork};
use agent_sys::launch::unshare;
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, getpid};

use crate::subordinate::{SubordinateRange, of_user};

/// Why an ordinary user cannot run a container here.
#[allow(
    missing_docs,
    reason = "the messages document the variants and their fields"
)]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "an ordinary user needs a user namespace, and this host refuses it ({source}): run agent as root, or see \
         the sysctls user.max_user_namespaces, kernel.unprivileged_userns_clone and \
         kernel.apparmor_restrict_unprivileged_userns"
    )]
    Refused { source: Errno },
    #[error("cannot map users to the namespace")]
    Map(#[source] crate::launch::Error),
    #[error("cannot start a process")]
    Process(#[source] io::Error),
    #[error(
        "waited {} s for {} and {} to map users to the namespace",
        PATIENCE.as_secs(), USERS.program, GROUPS.program
    )]
    Late,
}

/// How long the programs that map ids may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pause between two checks whether they have ended.
const PAUSE: Duration = Duration::from_micros(200);

/// A file with ranges of ids, and the program that maps them.
struct IdFile {
    /// The name of the file in /etc.
    name: &'static str,
    program: &'static str,
}

const USERS: IdFile = IdFile {
    name: "subuid",
    program: "newuidmap",
};

const GROUPS: IdFile = IdFile {
    name: "subgid",
    program: "newgidmap",
};

/// For an ordinary user, enters a user namespace, in which this process is then root, and a mount namespace. Returns a
/// text for the user about the mapped ids. For root, does nothing. A process with one thread must call this, before it
/// makes anything of a container.
///
/// # Errors
/// The host refuses unprivileged user namespaces, or the ids cannot be mapped.
pub fn enter() -> Result<Option<String>, Error> {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    if user.is_root() {
        return Ok(None);
    }
    let (user, group) = (user.as_raw(), group.as_raw());
    let ranges = ranges(user);
    let mapped = match ranges {
        Some(ranges) => enter_with(ranges, user, group)?,
        None => {
            unshare_now()?;
            false
        }
    };
    if mapped && let Some((users, _)) = ranges {
        let SubordinateRange { first, count } = users;
        let text = format!(
            "rootless: root inside is user {user} here, and 1 to {count} are those from {first} on"
        );
        return Ok(Some(text));
    }
    crate::launch::map_one_id(user, group).map_err(Error::Map)?;
    let text = format!(
        "rootless: root inside is user {user} here, and there is no other user or group; for more, \
         give the user a range in /etc/subuid and in /etc/subgid, and install the package uidmap"
    );
    Ok(Some(text))
}

fn unshare_now() -> Result<(), Error> {
    unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS).map_err(|source| Error::Refused { source })
}

/// Enters the namespaces. Returns whether the ranges are mapped. A child maps them: newuidmap and newgidmap must run
/// outside the namespace, as this user.
fn enter_with(
    (users, groups): (SubordinateRange, SubordinateRange),
    user: u32,
    group: u32,
) -> Result<bool, Error> {
    let process = |error: Errno| Error::Process(error.into());
    let pid = getpid();
    let (entered, enter) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(process)?;
    let side = fork().map_err(Error::Process)?;
    let Side::Parent(mapper) = side else {
        drop(enter);
        let done = wait_for(&entered)
            && map(&GROUPS, pid.as_raw_nonzero().get(), group, groups)
            && map(&USERS, pid.as_raw_nonzero().get(), user, users);
        // The child exits without cleanup, as it owns nothing.
        agent_sys::fork::exit(i32::from(!done));
    };
    drop(entered);
    let unshared = unshare_now();
    if unshared.is_ok() {
        let _ = rustix::io::write(&enter, b"1");
    }
    drop(enter);
    let mapped = wait_for_child(mapper);
    unshared?;
    mapped
}

/// Waits for a child, and returns whether it succeeded. It waits for no other child, as the caller may have some: a
/// shell that becomes this program leaves its own.
fn wait_for_child(child: Pid) -> Result<bool, Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match rustix::process::waitpid(Some(child), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => return Ok(status.exit_status() == Some(0)),
            Ok(None) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::Process(errno.into())),
        }
        if Instant::now() > deadline {
            return Err(Error::Late);
        }
        sleep(PAUSE);
    }
}

/// Waits for the other end of the pipe. Returns whether it has written a byte; on failure it closes the pipe without.
fn wait_for(pipe: &OwnedFd) -> bool {
    let mut byte = [0];
    rustix::io::retry_on_intr(|| rustix::io::read(pipe, &mut byte)) == Ok(1)
}

/// Maps id 0 inside to `id` outside, and the ids from 1 on to `range`. Returns whether that succeeded.
fn map(file: &IdFile, pid: i32, id: u32, range: SubordinateRange) -> bool {
    let SubordinateRange { first, count } = range;
    let numbers = [0, id, 1, 1, first, count].map(|number| number.to_string());
    let mut program = Command::new(file.program);
    program.arg(pid.to_string()).args(numbers);
    let program = program
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    program.status().is_ok_and(|status| status.success())
}

/// Returns the user's first range of user ids and of group ids. Returns None where one of the two is missing.
fn ranges(user: u32) -> Option<(SubordinateRange, SubordinateRange)> {
    let first = |file: &IdFile| {
        let (_, ranges) = of_user(Path::new("/etc"), file.name, user);
        ranges.first().copied()
    };
    Some((first(&USERS)?, first(&GROUPS)?))
}

//! Running as an ordinary user: in a user namespace, whose root they are.
//!
//! One user id can be mapped by anybody: their own. The ranges that /etc/subuid and /etc/subgid give a user are mapped by
//! the programs newuidmap and newgidmap, which are installed for that.

use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{fs, io};

use agent_sys::fork::{Side, fork};
use agent_sys::launch::unshare;
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, getpid};

/// Why an ordinary user cannot run a container here.
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

/// Between two looks whether they have ended.
const PAUSE: Duration = Duration::from_micros(200);

/// Ids of a user or of a group: a kind of file and a program for each.
struct Kind {
    ranges: &'static str,
    program: &'static str,
}

const USERS: Kind = Kind {
    ranges: "/etc/subuid",
    program: "newuidmap",
};

const GROUPS: Kind = Kind {
    ranges: "/etc/subgid",
    program: "newgidmap",
};

/// Ids that a user may give away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u32,
    count: u32,
}

/// As an ordinary user: enters a user namespace, whose root this process then is, and a mount namespace; says what one
/// should know of it. As root: does nothing. To be called by a process of one thread, before anything of a container is
/// made.
///
/// # Errors
/// There are to be no unprivileged user namespaces.
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
        let Range { first, count } = users;
        let text = format!(
            "rootless: root inside is user {user} here, and 1 to {count} are those from {first} on"
        );
        return Ok(Some(text));
    }
    crate::launch::map_one_id(user, group).map_err(Error::Map)?;
    let text = format!(
        "rootless: root inside is user {user} here, and there is no other user or group; more take a range in {} \
         and {}, and the package uidmap",
        USERS.ranges, GROUPS.ranges
    );
    Ok(Some(text))
}

fn unshare_now() -> Result<(), Error> {
    unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS).map_err(|source| Error::Refused { source })
}

/// Enters the namespaces; whether the ranges are mapped. The programs that map them must be outside, as this user.
fn enter_with((users, groups): (Range, Range), user: u32, group: u32) -> Result<bool, Error> {
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
        // The copy owns nothing that would have to be cleaned.
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

/// Waits for a child; whether it succeeded. The caller may have others: a shell that becomes this program leaves its own.
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

/// Whether the other end has written; it is closed without where it failed.
fn wait_for(pipe: &OwnedFd) -> bool {
    let mut byte = [0];
    rustix::io::retry_on_intr(|| rustix::io::read(pipe, &mut byte)) == Ok(1)
}

/// Maps 0 to this id, and a range after it.
fn map(kind: &Kind, pid: i32, id: u32, range: Range) -> bool {
    let Range { first, count } = range;
    let numbers = [0, id, 1, 1, first, count].map(|number| number.to_string());
    let mut program = Command::new(kind.program);
    program.arg(pid.to_string()).args(numbers);
    let program = program
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    program.status().is_ok_and(|status| status.success())
}

/// The first range of users and of groups that is this user's; none where one of the two is missing.
fn ranges(user: u32) -> Option<(Range, Range)> {
    let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = name_of(&accounts, user);
    let read = |kind: &Kind| {
        let text = fs::read_to_string(Path::new(kind.ranges)).ok()?;
        range_of(&text, user, name)
    };
    Some((read(&USERS)?, read(&GROUPS)?))
}

/// The name of a user, in the text of /etc/passwd.
fn name_of(accounts: &str, user: u32) -> Option<&str> {
    let user = user.to_string();
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == user).then_some(name)
    })
}

/// The first range in the text of /etc/subuid that is of this name or number: `WHO:FIRST:COUNT`.
fn range_of(text: &str, user: u32, name: Option<&str>) -> Option<Range> {
    let number = user.to_string();
    let found = text.lines().try_for_each(|line| {
        let mut fields = line.trim().split(':');
        let is_theirs = fields
            .next()
            .is_some_and(|who| who == number || Some(who) == name);
        let mut number = || fields.next().and_then(|field| field.parse().ok());
        match (is_theirs, number(), number()) {
            (true, Some(first), Some(count @ 1..)) => ControlFlow::Break(Range { first, count }),
            _ => ControlFlow::Continue(()),
        }
    });
    found.break_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_by_name_and_number() {
        let text = "a:1:2\nann:100000:65536\nann:5:5\n1001:300000:10\nbad:x:1\nnone:5:0\n";
        let range = |user, name| range_of(text, user, name).map(|it| (it.first, it.count));
        assert_eq!(range(1000, Some("ann")), Some((100_000, 65_536)));
        assert_eq!(range(1001, None), Some((300_000, 10)));
        for name in ["bad", "none", "nobody"] {
            assert_eq!(range(1, Some(name)), None);
        }
    }

    #[test]
    fn names() {
        let accounts = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/:/bin/sh\nodd\n";
        assert_eq!(name_of(accounts, 1000), Some("ann"));
        assert_eq!(name_of(accounts, 1), None);
    }
}

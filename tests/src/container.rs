//! A container with namespaces of its own, started as engines do: the first process is cloned outside, moves into the
//! container's cgroup, and execs there.

use std::fs;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use crate::cgroup::Cgroup;
use crate::nscall;
use crate::wait::{PATIENCE, wait_for};

/// A container that runs in a cgroup. Dropping it ends it, and removes the cgroup unless that is still wanted.
#[derive(Debug)]
pub struct Container {
    pub cgroup: Arc<Cgroup>,
    /// The first process.
    pub pid: u32,
    /// That of the first process, and its end is its child's.
    parent: Child,
}

/// A container's first process.
#[derive(Clone, Copy, Debug)]
pub struct First<'a> {
    /// Which namespaces of its own it has. As a container's first process it is known only with `mnt`.
    pub types: &'a str,
    /// Its pid, which no other may have; else the kernel chooses.
    pub pid: Option<u32>,
    /// What it execs in the cgroup; other than `sh`.
    pub command: &'a [&'a str],
}

impl Default for First<'_> {
    fn default() -> Self {
        Self {
            types: "mnt",
            pid: None,
            command: &["sleep", "infinity"],
        }
    }
}

impl Container {
    /// Starts one with namespaces of these types (`mnt,net`), which sleeps.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn start(cgroup: impl Into<Arc<Cgroup>>, types: &str) -> Self {
        let first = First {
            types,
            ..First::default()
        };
        Self::run(cgroup, first)
    }

    /// Starts one, in a cgroup that has no process.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn run(cgroup: impl Into<Arc<Cgroup>>, first: First<'_>) -> Self {
        let cgroup = cgroup.into();
        let parent = first.spawn(&cgroup).stdin(Stdio::piped()).spawn();
        let mut parent = parent.expect("nscall can be run");
        let pid = wait_for("the container's first process runs", PATIENCE, || {
            let ended = parent.try_wait().expect("nscall's state");
            assert!(ended.is_none(), "the container ended at once: {ended:?}");
            let pid = cgroup.members().first().copied()?;
            (comm(pid)? == first.command[0]).then_some(pid)
        });
        Self {
            cgroup,
            pid,
            parent,
        }
    }

    /// Sends a line to the standard input of the first process.
    ///
    /// # Panics
    /// Where nobody reads it.
    pub fn tell(&mut self, line: &str) {
        let stdin = self.parent.stdin.as_mut().expect("a pipe");
        writeln!(stdin, "{line}").expect("a reader of standard input");
    }

    /// Waits until the first process has ended.
    ///
    /// # Panics
    /// Where it does not end.
    pub fn wait_for_first(&mut self) {
        crate::process::wait_for_end(&mut self.parent, "the first process ends");
    }

    /// The path of one of its first process's namespaces, by its name in `/proc/PID/ns`.
    pub fn namespace(&self, name: &str) -> String {
        format!("/proc/{}/ns/{name}", self.pid)
    }

    /// The inode of that namespace.
    ///
    /// # Panics
    /// Where there is none.
    pub fn inode(&self, name: &str) -> u32 {
        inode(&self.namespace(name))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.cgroup.kill();
        // It ends with its child.
        let _ = self.parent.wait();
    }
}

impl First<'_> {
    /// The call that clones it and waits for its end.
    fn spawn(&self, cgroup: &Cgroup) -> Command {
        let mut inside = cgroup.command(self.command[0]);
        inside.args(&self.command[1..]);
        let mut spawn = Command::new(nscall::binary());
        if let Some(pid) = self.pid {
            spawn.args(["--pid", &pid.to_string()]);
        }
        spawn.args(["spawn", self.types]);
        spawn.arg(inside.get_program()).args(inside.get_args());
        spawn
    }
}

/// The inode of the namespace that a path in `/proc/PID/ns` leads to.
///
/// # Panics
/// Where it leads to none.
pub fn inode(path: &str) -> u32 {
    let link = fs::read_link(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let link = link.to_string_lossy();
    let inode = link.trim_end_matches(']').rsplit('[').next();
    let inode = inode.and_then(|it| it.parse().ok());
    inode.unwrap_or_else(|| panic!("{path} leads to no namespace: {link}"))
}

fn comm(pid: u32) -> Option<String> {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(comm.trim().to_owned())
}

//! A container with namespaces of its own, started as engines do: the first process is cloned outside, moves into the
//! container's cgroup, and execs there.

use std::fs;
use std::process::{Child, Command};

use crate::cgroup::Cgroup;
use crate::nscall;
use crate::wait::{PATIENCE, wait_for};

/// A container that runs in a cgroup. Dropping it ends it; the cgroup stays.
#[derive(Debug)]
pub struct Container<'a> {
    pub cgroup: &'a Cgroup,
    /// The first process, which sleeps.
    pub pid: u32,
    parent: Child,
}

impl<'a> Container<'a> {
    /// Starts one with namespaces of these types (`net,pid`). A first process is known as such only with a mount
    /// namespace of its own.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn start(cgroup: &'a Cgroup, types: &str) -> Self {
        Self::wait_until_it_sleeps(cgroup, spawn(cgroup, types, &[]))
    }

    /// Starts one whose first process has the pid `pid`, which no other may have.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn start_with_pid(cgroup: &'a Cgroup, types: &str, pid: u32) -> Self {
        let pid = pid.to_string();
        Self::wait_until_it_sleeps(cgroup, spawn(cgroup, types, &["--pid", &pid]))
    }

    fn wait_until_it_sleeps(cgroup: &'a Cgroup, mut spawn: Command) -> Self {
        let mut parent = spawn.spawn().expect("nscall can be run");
        let pid = wait_for("the container's first process sleeps", PATIENCE, || {
            let ended = parent.try_wait().expect("nscall's state");
            assert!(ended.is_none(), "the container ended at once: {ended:?}");
            let pid = cgroup.members().first().copied()?;
            (comm(pid)? == "sleep").then_some(pid)
        });
        Self {
            cgroup,
            pid,
            parent,
        }
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

impl Drop for Container<'_> {
    fn drop(&mut self) {
        self.cgroup.kill();
        // It ends with its child.
        let _ = self.parent.wait();
    }
}

/// A call of `nscall` that starts the first process.
fn spawn(cgroup: &Cgroup, types: &str, options: &[&str]) -> Command {
    let inside = cgroup.command("sleep");
    let mut spawn = Command::new(nscall::binary());
    spawn.args(options).args(["spawn", types]);
    spawn.arg(inside.get_program()).args(inside.get_args());
    spawn.arg("infinity");
    spawn
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

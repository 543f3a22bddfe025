//! A program that may have little memory, of its own and of the host.

use std::ffi::OsStr;
use std::process::{Child, Command, Output, Stdio};

use crate::cgroup::Cgroup;
use crate::memory::set_limit;
use crate::program::program;
use crate::wait::{PATIENCE, wait_for};

/// Bytes of memory of a process's own: its heap, and all else that is private and can be written to.
const OWN: u64 = 64 << 20;

/// Bytes of memory of all sorts: files in memory too. What is on disk makes room where others need it.
const ALL: u64 = 160 << 20;

/// Runs a program that may have no more memory than is good for it: where it wants more of its own, it fails; where it
/// takes more of the host's, it is killed. Dropping it kills it.
#[derive(Debug)]
pub struct Bounded {
    child: Child,
    _cgroup: Cgroup,
}

impl Bounded {
    /// Starts it; its process has the number of this one's.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn start(command: &Command) -> Self {
        let cgroup = Cgroup::new("bounded");
        set_limit(&cgroup, ALL);
        let mut bounded = cgroup.command(program("prlimit"));
        bounded.arg(format!("--data={OWN}"));
        bounded.arg(command.get_program()).args(command.get_args());
        let changed = command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?)));
        bounded.envs(changed.collect::<Vec<(&OsStr, &OsStr)>>());
        let streams = [Stdio::null(), Stdio::piped(), Stdio::piped()];
        let [stdin, stdout, stderr] = streams;
        let child = bounded.stdin(stdin).stdout(stdout).stderr(stderr).spawn();
        Self {
            child: child.expect("prlimit can be run"),
            _cgroup: cgroup,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it, and waits for its end.
    pub fn kill(mut self) {
        crate::process::kill(&mut self.child);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// Where that does not come.
    pub fn output(mut self) -> Output {
        // What is refused only after much work takes a debug build on a busy machine its time.
        wait_for("a program that is bounded ends", PATIENCE * 3, || {
            self.child.try_wait().expect("a child")
        });
        self.child.wait_with_output().expect("its end")
    }
}

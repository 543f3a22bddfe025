//! What is judged while somebody does something to it.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tests::cgroup::{Cgroup, PARENT, directory};
use tests::process::{Log, kill, wait_for_end};
use tests::wait::{PATIENCE, wait_for};

use super::setup::Act;
use crate::agent::ending_with_us;

/// A container.
pub struct Subject {
    /// Its first process.
    pid: u32,
    /// The path of its cgroup.
    cgroup: String,
}

impl Subject {
    /// The container of a first process.
    pub fn of(pid: u32) -> Self {
        wait_for("a container's cgroup", PATIENCE, || Self::find(pid))
    }

    /// A process in a cgroup that no engine made, once it is there.
    pub fn in_cgroup(pid: u32, cgroup: &Cgroup) -> Self {
        wait_for("a process in its cgroup", PATIENCE, || {
            cgroup.holds(pid).then_some(())
        });
        let cgroup = cgroup.path();
        Self { pid, cgroup }
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The path of its cgroup.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    fn find(pid: u32) -> Option<Self> {
        // Until it executes its command, it is not in all of its cgroups.
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        if name.trim() == "agent" {
            return None;
        }
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let mut paths = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
        let is_own = |path: &&str| {
            let parent = Path::new(path).parent();
            parent.is_some_and(|parent| parent.ends_with(PARENT))
        };
        let cgroup = paths.find(is_own)?.to_owned();
        Some(Self { pid, cgroup })
    }

    /// Somebody does this to it; what is taken back lasts for `short`.
    pub fn suffer(&self, act: Act, short: Duration) {
        let cgroup = &*self.cgroup;
        match act {
            Act::Write(knob, text) => knob.write(cgroup, text),
            Act::Change(knob, text) => {
                knob.wait_until_pressed(cgroup);
                knob.write(cgroup, text);
                self.end();
            }
            Act::Share(knob, text) => {
                knob.wait_until_pressed(cgroup);
                knob.write(cgroup, text);
            }
            Act::ForShort(knob, text) => {
                knob.wait_until_pressed(cgroup);
                let before = knob.read(cgroup);
                knob.write(cgroup, text);
                sleep(short);
                knob.write(cgroup, &before);
                self.end();
            }
            Act::Above(knob, text) => {
                knob.wait_until_pressed(cgroup);
                let above = Path::new(cgroup).ancestors().nth(2).and_then(Path::to_str);
                knob.write(above.expect("a parent"), text);
                self.end();
            }
            Act::Free(knob) => {
                knob.wait_until_pressed(cgroup);
                knob.free(self.pid);
                sleep(short);
                self.end();
            }
            Act::Inside(knob) => knob.inside(cgroup, None),
            Act::Limited(knob, text) => knob.inside(cgroup, Some(text)),
            Act::Freeze(knob) => {
                knob.wait_until_pressed(cgroup);
                self.freeze("FROZEN", "1");
            }
            Act::FreezeNow => self.freeze("FROZEN", "1"),
            Act::AwaitSleep(count) => self.wait_for_sleepers(count),
        }
    }

    /// Lets it go on, where it is there and frozen.
    pub fn thaw(&self) {
        self.freeze("THAWED", "0");
    }

    fn wait_for_sleepers(&self, count: usize) {
        let procs = directory("pids", &self.cgroup).join("cgroup.procs");
        wait_for("processes that sleep", PATIENCE, || {
            let pids = fs::read_to_string(&procs).ok()?;
            let stat = |pid: &str| fs::read_to_string(format!("/proc/{pid}/stat")).ok();
            let sleeps = |stat: &String| stat.contains("(sleep) S ");
            (pids.lines().filter_map(stat).filter(sleeps).count() == count).then_some(())
        });
    }

    fn freeze(&self, v1: &str, v2: &str) {
        let (file, text) = if Cgroup::is_v1("freezer") {
            ("freezer.state", v1)
        } else {
            ("cgroup.freeze", v2)
        };
        // It may be gone.
        let _ = fs::write(directory("freezer", &self.cgroup).join(file), text);
    }

    fn end(&self) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a pid"), Signal::KILL).expect("the workload still runs");
    }
}

/// `agent verify` at work. Dropping it kills it.
pub struct Running {
    child: Child,
    stdout: Log,
    stderr: Log,
}

impl Running {
    pub fn start(verify: &Command) -> Self {
        let mut child = ending_with_us(verify)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("agent verify can be run");
        Self {
            stdout: Log::of(child.stdout.take().expect("a pipe")),
            stderr: Log::of(child.stderr.take().expect("a pipe")),
            child,
        }
    }

    /// The container that it launched: the first process is its supervisor's child.
    pub fn subject(&self) -> Subject {
        wait_for("a workload", PATIENCE, || {
            let supervisors = children(self.child.id());
            let mut processes = supervisors.into_iter().flat_map(children);
            processes.find_map(Subject::find)
        })
    }

    /// What it said in the end.
    pub fn output(mut self) -> Output {
        let status = wait_for_end(&mut self.child, "agent verify ends");
        Output {
            status,
            stdout: self.stdout.all().into_bytes(),
            stderr: self.stderr.all().into_bytes(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}

/// The children of a process's first thread.
fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let text = text.unwrap_or_default();
    text.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

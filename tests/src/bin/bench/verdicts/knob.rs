//! The limits that somebody changes behind the agent's back.

use std::fs;
use std::io;
use std::path::PathBuf;

use tests::cgroup::{Cgroup, directory};
use tests::wait::{PATIENCE, wait_for};

/// A file of a limit.
#[derive(Clone, Copy, Debug)]
pub enum Knob {
    Memory,
    /// Together with memory on v1, alone on v2.
    Swap,
    Pids,
    Quota,
    Period,
    Cpus,
    Weight,
    /// Microseconds of CPU time that a quota gives later.
    Burst,
}

impl Knob {
    /// The controller, and what the file is called on v1 and on v2.
    fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Memory => ("memory", "memory.limit_in_bytes", "memory.max"),
            Self::Swap => ("memory", "memory.memsw.limit_in_bytes", "memory.swap.max"),
            Self::Pids => ("pids", "pids.max", "pids.max"),
            Self::Quota => ("cpu", "cpu.cfs_quota_us", "cpu.max"),
            Self::Period => ("cpu", "cpu.cfs_period_us", "cpu.max"),
            Self::Cpus => ("cpuset", "cpuset.cpus", "cpuset.cpus"),
            Self::Weight => ("cpu", "cpu.shares", "cpu.weight"),
            Self::Burst => ("cpu", "cpu.cfs_burst_us", "cpu.max.burst"),
        }
    }

    fn path(self, cgroup: &str) -> PathBuf {
        let (controller, v1, v2) = self.names();
        let name = if Cgroup::is_v1(controller) { v1 } else { v2 };
        directory(controller, cgroup).join(name)
    }

    pub fn read(self, cgroup: &str) -> String {
        let text = fs::read_to_string(self.path(cgroup)).expect("a limit can be read");
        text.trim().to_owned()
    }

    /// Writes to the limit of a cgroup; once it can be: memory that is used now may have to be freed first.
    ///
    /// # Panics
    /// Where it never can.
    pub fn write(self, cgroup: &str, text: &str) {
        let path = self.path(cgroup);
        let what = format!("{text} in {}", path.display());
        wait_for(&what, PATIENCE, || {
            match fs::write(&path, self.form(cgroup, text)) {
                Ok(()) => Some(()),
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => None,
                Err(error) => panic!("{what}: {error}"),
            }
        });
    }

    /// What is written for `text`, which is v1's form.
    fn form(self, cgroup: &str, text: &str) -> String {
        let (controller, ..) = self.names();
        match self {
            _ if Cgroup::is_v1(controller) => text.to_owned(),
            // v2 has quota and period in one file, the quota first.
            Self::Period if !text.contains(' ') => {
                let both = self.read(cgroup);
                let quota = both.split(' ').next().unwrap_or_default();
                format!("{quota} {text}")
            }
            _ => text.replace("-1", "max"),
        }
    }

    /// Waits until what is in the cgroup presses against the limit, or uses what it gives out.
    pub fn wait_until_pressed(self, cgroup: &str) {
        let (controller, file, key) = match self {
            Self::Memory | Self::Swap if Cgroup::is_v1("memory") => {
                ("memory", "memory.failcnt", "")
            }
            Self::Memory | Self::Swap => ("memory", "memory.events", "max "),
            Self::Pids => ("pids", "pids.events", "max "),
            Self::Quota | Self::Period | Self::Burst => ("cpu", "cpu.stat", "nr_throttled "),
            Self::Cpus | Self::Weight if Cgroup::is_v1("cpuacct") => {
                ("cpuacct", "cpuacct.usage", "")
            }
            Self::Cpus | Self::Weight => ("cpu", "cpu.stat", "usage_usec "),
        };
        let path = directory(controller, cgroup).join(file);
        wait_for(&format!("{} grows", path.display()), PATIENCE, || {
            let text = fs::read_to_string(&path).ok()?;
            let number = text.lines().find_map(|line| line.strip_prefix(key))?;
            (number.parse::<u64>().ok()? > 0).then_some(())
        });
    }

    /// Puts all processes of a cgroup into a new one below it, which may have a limit of its own, and waits until none is
    /// left.
    pub fn inside(self, cgroup: &str, limit: Option<&str>) {
        let (controller, ..) = self.names();
        let is_v1 = Cgroup::is_v1(controller);
        let above = directory(controller, cgroup);
        let below = format!("{cgroup}/below");
        fs::create_dir_all(directory(controller, &below)).expect("a cgroup can be made");
        if let (true, Some(limit)) = (is_v1, limit) {
            self.write(&below, limit);
        }
        let procs = directory(controller, &below).join("cgroup.procs");
        wait_for("a cgroup without processes", PATIENCE, || {
            let members = fs::read_to_string(above.join("cgroup.procs")).ok()?;
            for member in members.lines() {
                // It may have ended meanwhile.
                let _ = fs::write(&procs, member);
            }
            members.is_empty().then_some(())
        });
        if let (false, Some(limit)) = (is_v1, limit) {
            // v2 gives a controller only below a cgroup without processes.
            let give = above.join("cgroup.subtree_control");
            fs::write(give, format!("+{controller}")).expect("a controller can be given");
            self.write(&below, limit);
        }
    }

    /// Puts a process into the root of the hierarchy, where nothing is limited.
    pub fn free(self, pid: u32) {
        let (controller, ..) = self.names();
        let file = directory(controller, "").join("cgroup.procs");
        fs::write(file, pid.to_string()).expect("a process can be moved");
    }
}

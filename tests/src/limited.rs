//! A container whose memory is limited, and what it is held against when processes of it were killed.

use std::process::{Child, Stdio};

use serde_json::Value;

use crate::cgroup::Cgroup;
use crate::memory::{oom_kills, set_limit};
use crate::metrics::Metrics;
use crate::process::{kill, wait_until_it_is};
use crate::serve::Serve;
use crate::wait::PATIENCE;
use crate::watch::Watch;

/// The limit in bytes: a whole number of pages of any size.
pub const LIMIT: u64 = 50 << 20;

/// More bytes than fit.
pub const TOO_MUCH: u64 = 80 << 20;

/// A container with a limit of [`LIMIT`], and a cgroup below it without one, for its processes.
#[derive(Debug)]
pub struct Limited {
    pub below: Cgroup,
    pub container: Cgroup,
    /// Keeps the container running: it waits for its input's end.
    anchor: Child,
}

impl Limited {
    /// Makes it, and starts a process in it that only waits.
    ///
    /// # Panics
    /// Where that fails.
    pub fn new(name: &str) -> Self {
        let container = Cgroup::new(name);
        set_limit(&container, LIMIT);
        let below = container.child("below");
        let mut anchor = container.command("cat");
        let anchor = anchor.stdin(Stdio::piped()).stdout(Stdio::null());
        let anchor = anchor.spawn().expect("cat can be run");
        wait_until_it_is(anchor.id(), "cat");
        Self {
            below,
            container,
            anchor,
        }
    }

    /// A stream of its OOM kills, and of its own start and stop.
    pub fn watch(&self, serve: &Serve) -> Watch {
        serve.watch(&[
            "--kind",
            "oom,container",
            "--container",
            self.container.name(),
        ])
    }

    /// Ends it: its OOM kills, as `watch` has them.
    ///
    /// # Panics
    /// Where there is no end.
    pub fn stop(&mut self, watch: &mut Watch) -> Vec<Value> {
        kill(&mut self.anchor);
        // What was killed before has its record before.
        let mut records = watch.until(PATIENCE, |record| record["action"] == "stop");
        records.retain(|record| record["kind"] == "oom");
        records
    }

    /// Checks every count of kills since `before` against the kernel's own, where all were for the container's limit:
    /// it is returned. A kill in the cgroup below counts for the container.
    ///
    /// # Panics
    /// Where one differs.
    pub fn assert_counted(&self, before: &Metrics, metrics: &Metrics) -> u64 {
        let kills = oom_kills(&self.below);
        let id = [("id", &*self.container.path())];
        let events = metrics.count("container_oom_events_total", &id);
        assert_eq!(events, kills);
        for role in ["victim", "limit_owner"] {
            let labels = [("role", role), id[0]];
            let counted = metrics.count("container_oom_kills_total", &labels);
            assert_eq!(counted, kills, "{role}");
        }
        // Other tests kill too.
        assert!(host_kills(metrics) >= host_kills(before) + kills);
        kills
    }

    /// Checks that a record tells of a kill in `below`, for the container's limit.
    ///
    /// # Panics
    /// Where it does not.
    pub fn assert_told(&self, record: &Value) {
        assert_eq!(record["constraint"], "memcg", "{record}");
        let owner = &record["limit_owner"];
        assert_eq!(owner["cgroup"], self.container.path(), "{record}");
        assert_eq!(owner["limit_bytes"], LIMIT, "{record}");
        for task in [&record["victim"], &record["trigger"]] {
            assert_eq!(task["container"]["id"], self.container.name(), "{record}");
            assert_eq!(
                task["container"]["cgroup"],
                self.container.path(),
                "{record}"
            );
        }
        assert_eq!(record["container_unknown"], Value::Null, "{record}");
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        kill(&mut self.anchor);
    }
}

/// Kills of the host for limits of cgroups.
pub fn host_kills(metrics: &Metrics) -> u64 {
    metrics.count("machine_oom_kills_total", &[("constraint", "memcg")])
}

/// The pid of a record's victim.
///
/// # Panics
/// Where there is none.
pub fn victim(record: &Value) -> u32 {
    let pid = record["victim"]["process"]["pid"].as_u64();
    let pid = pid.and_then(|pid| u32::try_from(pid).ok());
    pid.unwrap_or_else(|| panic!("no victim: {record}"))
}

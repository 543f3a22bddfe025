//! Events and filters for tests: readable samples, and strategies for property tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use agent_model::clock::Moment;
use agent_model::container::{Container, ContainerKind, Namespaces};
use agent_model::labels::ContainerLabels;

use super::stream_event::*;

mod any;

pub use any::{event, filter};

/// The id of [`web`].
pub const WEB_ID: &str = "4f5e9e8d7c6b0123456789abcdef0123456789abcdef0123456789abcdef0123";

/// The time of the samples.
pub const TIME: &str = "2026-11-22T10:11:12.345678901Z";

fn moment(text: &str) -> Moment {
    text.parse().expect("an RFC 3339 time")
}

/// A docker container.
pub fn web() -> Arc<Container> {
    Arc::new(Container {
        kind: ContainerKind::Container,
        id: WEB_ID.into(),
        name: "web-1".into(),
        runtime: "docker".into(),
        image: "nginx:1.27".into(),
        confirmed: Some(true),
        cgroup: format!("/docker/{WEB_ID}"),
        pod: None,
        labels: ContainerLabels::default(),
    })
}

/// A systemd service.
pub fn service() -> Arc<Container> {
    Arc::new(Container {
        kind: ContainerKind::Unit,
        id: "/system.slice/cron.service".into(),
        name: "cron.service".into(),
        runtime: String::new(),
        image: String::new(),
        confirmed: None,
        cgroup: "/system.slice/cron.service".into(),
        pod: None,
        labels: ContainerLabels::default(),
    })
}

/// A process of root.
pub fn process(pid: u32, comm: &str) -> EventProcess {
    EventProcess {
        pid,
        tid: pid,
        ppid: 1,
        ns_pid: pid,
        comm: comm.into(),
        uid: 0,
        start_time: moment("2026-11-22T10:11:00.000000000Z"),
    }
}

/// A process in `container`.
pub fn subject(pid: u32, comm: &str, container: Option<Arc<Container>>) -> EventSubject {
    EventSubject {
        process: process(pid, comm),
        container,
    }
}

/// A namespace call; `changed` has names in `/proc/PID/ns` with the inodes before and after.
pub fn call(requested: &[&str], changed: &[(&str, u32, u32)], result: &str) -> NamespaceCall {
    NamespaceCall {
        requested: requested.iter().map(|it| (*it).into()).collect(),
        changed: changed
            .iter()
            .map(|&(entry, from, to)| (entry.into(), InodeChange { from, to }))
            .collect(),
        result: result.into(),
    }
}

/// An event with these details, caused by process `pid` in `container`.
pub fn by(
    pid: u32,
    comm: &str,
    container: Option<Arc<Container>>,
    details: EventDetails,
) -> StreamEvent {
    StreamEvent {
        time: moment(TIME),
        caller: Some(Caller {
            process: process(pid, comm),
            container,
            container_unknown: false,
            namespaces: Namespaces::default(),
        }),
        details,
    }
}

/// `unshare -n` in [`web`].
pub fn unshare() -> StreamEvent {
    let call = call(&["net"], &[("net", 4_026_531_840, 4_026_532_201)], "0");
    by(1234, "unshare", Some(web()), EventDetails::Unshare { call })
}

/// A kill by the limit of the parent of [`web`], triggered by another process.
pub fn oom() -> StreamEvent {
    let oom = Oom {
        constraint: "memcg".into(),
        victim: subject(4711, "stress-ng", Some(web())),
        trigger: subject(4712, "stress-ng-vm", Some(web())),
        limit_owner: Some(LimitOwner {
            cgroup: "/parent".into(),
            limit_bytes: Some(52_428_800),
            usage_bytes: 52_428_800,
            swap_limit_bytes: None,
            swap_usage_bytes: 0,
        }),
        rss: Rss {
            anon_bytes: 52_000_000,
            file_bytes: 200_000,
            shmem_bytes: 0,
        },
        init_killed: false,
        victim_cgroup: Some("/docker/597c7dadfbd3".to_owned()),
    };
    by(
        4712,
        "stress-ng-vm",
        Some(web()),
        EventDetails::Oom(Box::new(oom)),
    )
}

/// A loss of two kinds.
pub fn lost() -> StreamEvent {
    StreamEvent {
        time: moment(TIME),
        caller: None,
        details: EventDetails::Lost {
            kinds: BTreeMap::from([("clone".into(), 12), ("oom".into(), 3)]),
            since: moment("2026-11-22T10:11:10.000000001Z"),
        },
    }
}

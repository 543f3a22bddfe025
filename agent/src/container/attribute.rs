//! Events, put on the account of containers: what the registry learns from an event, and the
//! record that a stream gets of it.

use std::collections::BTreeMap;

use agent_ebpf::{
    CgroupKey, Clone as CloneRecord, Constraint, Counts, Namespace, NamespaceCall as CallRecord,
    NamespaceType, Namespaces, Oom as OomRecord, Task, UNLIMITED,
};

use super::{life::Change, place::Where, registry::Registry};
use crate::{
    event::{Body, Event, clock::Clock},
    sys,
    watch::record::{
        self, Caller, Change as Inodes, Joined, LimitOwner, NamespaceCall, Oom, Process, Record,
        Rss, Subject,
    },
};

/// Tells the registry what happened, and gives the record that streams get of it, if they do.
///
/// `take` gives what the kernel counted in a cgroup that is gone.
pub fn attribute(
    event: &Event,
    registry: &mut Registry,
    clock: Clock,
    take: impl FnOnce(CgroupKey) -> Counts,
) -> Option<Record> {
    let caller = &event.caller;
    let said = match &event.body {
        Body::Clone(call) => said_clone(call, registry, clock),
        Body::Unshare(call) => {
            let caller = before(caller, &call.before);
            (
                caller_of(&caller, &caller_namespaces(event), registry, clock),
                record::Event::Unshare {
                    call: said_call(call, &event.caller.namespaces),
                },
            )
        }
        Body::Setns(call) => {
            let caller = before(caller, &call.before);
            let said = record::Event::Setns {
                joined: joined(call, &event.caller.namespaces, registry),
                call: said_call(call, &event.caller.namespaces),
            };
            (
                caller_of(&caller, &caller_namespaces(event), registry, clock),
                said,
            )
        }
        Body::Oom(oom, constraint) => {
            let init = registry.set_oom_killed(&oom.victim);
            let said = said_oom(oom, *constraint, init, caller, registry, clock);
            (caller_of(caller, &caller.namespaces, registry, clock), said)
        }
        Body::CgroupMkdir { cgroup, path } => {
            registry.add(*cgroup, path, clock.wall(event.time));
            return None;
        }
        Body::CgroupRmdir { cgroup } => {
            let counts = take(*cgroup);
            let change = registry.remove(*cgroup, &counts, std::time::Instant::now())?;
            said_change(change, caller, registry, clock)
        }
        Body::CgroupPopulated { cgroup, populated } => {
            let change = registry.set_populated(*cgroup, *populated, event.time)?;
            said_change(change, caller, registry, clock)
        }
        Body::Exec => {
            registry.set_init(caller);
            return None;
        }
        Body::Exit { status } => {
            registry.set_exit(caller, *status, event.time);
            return None;
        }
    };
    let (caller, said) = said;
    Some(Record {
        time: clock.text(event.time),
        caller: Some(caller),
        event: said,
    })
}

/// The caller as it was before the call: what it is in does not change by what it makes.
fn before(caller: &Task, before: &Namespaces) -> Task {
    Task {
        namespaces: *before,
        ..*caller
    }
}

fn caller_namespaces(event: &Event) -> Namespaces {
    event.caller.namespaces
}

fn caller_of(task: &Task, namespaces: &Namespaces, registry: &Registry, clock: Clock) -> Caller {
    let place = registry.locate(task);
    Caller {
        process: process(task, clock),
        container: place.container(),
        container_unknown: place == Where::Unknown,
        namespaces: named(namespaces),
    }
}

fn process(task: &Task, clock: Clock) -> Process {
    let length = task
        .comm
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(task.comm.len());
    Process {
        pid: task.pid,
        tid: task.tid,
        ppid: task.ppid,
        ns_pid: task.ns_pid,
        comm: String::from_utf8_lossy(&task.comm[..length]).into_owned(),
        uid: task.uid,
        start_time: clock.text(task.start_time),
    }
}

fn subject(task: &Task, registry: &Registry, clock: Clock) -> Subject {
    Subject {
        process: process(task, clock),
        container: registry.locate(task).container(),
    }
}

/// The ten inodes by their names.
pub fn named(inodes: &Namespaces) -> record::Namespaces {
    let at = |namespace: Namespace| inodes[namespace as usize];
    record::Namespaces {
        cgroup: at(Namespace::Cgroup),
        ipc: at(Namespace::Ipc),
        mnt: at(Namespace::Mnt),
        net: at(Namespace::Net),
        pid: at(Namespace::Pid),
        pid_for_children: at(Namespace::PidForChildren),
        time: at(Namespace::Time),
        time_for_children: at(Namespace::TimeForChildren),
        user: at(Namespace::User),
        uts: at(Namespace::Uts),
    }
}

fn requested(flags: u64) -> Vec<String> {
    let asked = NamespaceType::ALL
        .iter()
        .filter(|kind| flags & kind.clone_flag() != 0);
    asked.map(|kind| kind.name().to_owned()).collect()
}

/// The namespaces that differ.
fn differences<'a>(
    from: &'a Namespaces,
    to: &'a Namespaces,
) -> impl Iterator<Item = (Namespace, Inodes)> + 'a {
    Namespace::ALL.iter().filter_map(|&namespace| {
        let change = Inodes {
            from: from[namespace as usize],
            to: to[namespace as usize],
        };
        (change.from != change.to).then_some((namespace, change))
    })
}

fn changed(from: &Namespaces, to: &Namespaces) -> BTreeMap<String, Inodes> {
    differences(from, to)
        .map(|(namespace, change)| (namespace.name().to_owned(), change))
        .collect()
}

fn said_clone(call: &CloneRecord, registry: &Registry, clock: Clock) -> (Caller, record::Event) {
    let caller = &call.header.task;
    let said = record::Event::Clone {
        call: NamespaceCall {
            requested: requested(call.flags),
            changed: changed(&caller.namespaces, &call.child.namespaces),
            result: "0".to_owned(),
        },
        child: subject(&call.child, registry, clock),
    };
    (
        caller_of(caller, &call.child.namespaces, registry, clock),
        said,
    )
}

fn said_call(call: &CallRecord, after: &Namespaces) -> NamespaceCall {
    NamespaceCall {
        requested: requested(call.flags),
        changed: changed(&call.before, after),
        result: result(call.result),
    }
}

/// "0", or the name of the errno that a system call returned.
fn result(returned: i64) -> String {
    if returned >= 0 {
        return "0".to_owned();
    }
    let errno = i32::try_from(-returned).unwrap_or(i32::MAX);
    sys::errno_name(errno).unwrap_or_else(|| errno.to_string())
}

/// Whose namespaces a setns entered: a container's that has one of them, else the host's.
fn joined(call: &CallRecord, after: &Namespaces, registry: &Registry) -> Option<Joined> {
    let entered: Vec<_> = differences(&call.before, after)
        // A pid namespace is entered by the children.
        .map(|(namespace, change)| match namespace {
            Namespace::PidForChildren => (Namespace::Pid as usize, change.to),
            Namespace::TimeForChildren => (Namespace::Time as usize, change.to),
            other => (other as usize, change.to),
        })
        .collect();
    let of_host = |(namespace, inode): &(usize, u32)| registry.host()[*namespace] == *inode;
    let strangers = entered.iter().filter(|entered| !of_host(entered));
    let mut owners = strangers.filter_map(|(namespace, inode)| registry.owner(*namespace, *inode));
    if let Some(container) = owners.next() {
        return Some(Joined::Container(record::Container::clone(container)));
    }
    entered
        .iter()
        .any(of_host)
        .then(|| Joined::Host("host".to_owned()))
}

fn said_oom(
    oom: &OomRecord,
    constraint: Constraint,
    init: bool,
    trigger: &Task,
    registry: &Registry,
    clock: Clock,
) -> record::Event {
    let limit = |bytes: u64| (bytes != UNLIMITED).then_some(bytes);
    let limit_owner = (constraint == Constraint::Memcg).then(|| LimitOwner {
        // The root of a hierarchy is never in the registry; it has no limit either.
        cgroup: registry
            .path(oom.owner)
            .unwrap_or(super::place::UNKNOWN)
            .to_owned(),
        limit_bytes: limit(oom.limit),
        usage_bytes: oom.usage,
        swap_limit_bytes: limit(oom.swap_limit),
        swap_usage_bytes: oom.swap_usage,
    });
    record::Event::Oom(Box::new(Oom {
        constraint: constraint.name().to_owned(),
        victim: subject(&oom.victim, registry, clock),
        trigger: subject(trigger, registry, clock),
        limit_owner,
        rss: Rss {
            anon_bytes: oom.anon,
            file_bytes: oom.file,
            shmem_bytes: oom.shmem,
        },
        init_killed: init || oom.init_killed != 0,
    }))
}

/// Of a start or stop, `container` is the one that did.
fn said_change(
    change: Change,
    caller: &Task,
    registry: &Registry,
    clock: Clock,
) -> (Caller, record::Event) {
    let said = record::Event::Container {
        action: change.action,
        exit: change.exit,
    };
    let mut caller = caller_of(caller, &caller.namespaces, registry, clock);
    caller.container = Some(record::Container::clone(&change.container));
    caller.container_unknown = false;
    (caller, said)
}

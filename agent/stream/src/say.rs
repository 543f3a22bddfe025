//! What an event says: the record that streams get of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use agent_ebpf::{
    CgroupKey, Constraint, Hierarchy, Namespace, NamespaceCallRecord as CallRecord, NamespaceType,
    NamespaceInodes, OomRecord as OomRecord, Task, UNLIMITED,
};
use agent_model::clock::Clock;
use agent_model::container::ContainerKind;
use agent_model::event::{Body, Event};
use agent_model::names::comm;
use agent_registry::life::Change;
use agent_registry::place::{UNKNOWN, Where};
use agent_registry::registry::{Registry, exit};

use crate::argv::Argv;
use crate::record;
use crate::record::{
    Caller, Change as Inodes, Joined, LimitOwner, NamespaceCallRecord, OomRecord, Process, Record, Rss, Subject,
};

/// The record that streams get of an event, if they do; `change` is what came of it.
pub fn say(
    event: &Event,
    change: Option<&Change>,
    registry: &Registry,
    clock: Clock,
) -> Option<Record> {
    let place = registry.locate(&before(event));
    Some(Record {
        time: clock.moment(event.time),
        event: what(event, change, &place, registry, clock)?,
        caller: Some(caller(event, place, clock)),
    })
}

fn what(
    event: &Event,
    change: Option<&Change>,
    place: &Where,
    registry: &Registry,
    clock: Clock,
) -> Option<record::Event> {
    let after = &event.caller.namespaces;
    Some(match &event.body {
        Body::Clone(call) => record::Event::Clone {
            call: NamespaceCallRecord {
                requested: requested(call.flags),
                changed: changed(after, &call.child.namespaces),
                result: result(0),
            },
            child: subject(&call.child, registry, clock),
        },
        Body::Unshare(call) => record::Event::Unshare {
            call: said_call(call, after),
        },
        Body::Setns(call) => record::Event::Setns {
            call: said_call(call, after),
            joined: joined(call, after, registry),
        },
        Body::Oom(oom, constraint) => {
            let trigger = subject(&event.caller, registry, clock);
            record::Event::Oom(Box::new(said_oom(
                oom,
                *constraint,
                trigger,
                registry,
                clock,
            )))
        }
        Body::Fork { child } => record::Event::Fork {
            child: subject(child, registry, clock),
        },
        Body::Exec(arguments) => record::Event::Exec {
            argv: Argv::new(&arguments.bytes),
            argv_truncated: arguments.cut,
        },
        Body::Exit { status, oom_killed } => {
            let duration = event.time.saturating_sub(event.caller.start_time);
            let exit = exit(*status, *oom_killed, duration);
            record::Event::Exit { exit }
        }
        Body::Escape {
            namespace,
            inode,
            how,
        } => {
            // The kernel looks at whatever has a first process, services too.
            match place {
                Where::In(container) if container.kind == ContainerKind::Container => {}
                Where::Unknown => {}
                Where::In(_) | Where::Host => return None,
            }
            record::Event::Escape {
                namespace: namespace.name().to_owned(),
                inode: *inode,
                how: how.name().to_owned(),
            }
        }
        Body::CgroupMkdir { .. } | Body::CgroupRmdir { .. } | Body::CgroupPopulated { .. } => {
            let Change { action, exit, .. } = change?;
            record::Event::Container {
                action: *action,
                exit: *exit,
            }
        }
    })
}

/// Who did it, as it was before. What the caller is in does not change by what it makes: it is
/// looked for where it was before the call.
fn before(event: &Event) -> Task {
    let mut before = event.caller;
    if let Body::Unshare(call) | Body::Setns(call) = &event.body {
        before.namespaces = call.before;
    }
    before
}

fn caller(event: &Event, place: Where, clock: Clock) -> Caller {
    let namespaces = match &event.body {
        Body::Clone(call) => &call.child.namespaces,
        _ => &event.caller.namespaces,
    };
    Caller {
        process: process(&event.caller, clock),
        container_unknown: place == Where::Unknown,
        container: place.container(),
        namespaces: namespaces.into(),
    }
}

fn process(task: &Task, clock: Clock) -> Process {
    Process {
        pid: task.pid,
        tid: task.tid,
        ppid: task.ppid,
        ns_pid: task.ns_pid,
        comm: comm(task),
        uid: task.uid,
        start_time: clock.moment(task.start_time),
    }
}

fn subject(task: &Task, registry: &Registry, clock: Clock) -> Subject {
    Subject {
        process: process(task, clock),
        container: registry.locate(task).container(),
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
    from: &'a NamespaceInodes,
    to: &'a NamespaceInodes,
) -> impl Iterator<Item = (Namespace, Inodes)> + 'a {
    Namespace::ALL.iter().filter_map(|&namespace| {
        let change = Inodes {
            from: from[namespace as usize],
            to: to[namespace as usize],
        };
        (change.from != change.to).then_some((namespace, change))
    })
}

fn changed(from: &NamespaceInodes, to: &NamespaceInodes) -> BTreeMap<String, Inodes> {
    differences(from, to)
        .map(|(namespace, change)| (namespace.name().to_owned(), change))
        .collect()
}

fn said_call(call: &CallRecord, after: &NamespaceInodes) -> NamespaceCallRecord {
    NamespaceCallRecord {
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
    agent_sys::errno_name(errno).unwrap_or_else(|| errno.to_string())
}

/// Whose namespaces a setns entered: a container's that has one of them, else the host's.
fn joined(call: &CallRecord, after: &NamespaceInodes, registry: &Registry) -> Option<Joined> {
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
        return Some(Joined::Container(Arc::clone(container)));
    }
    entered
        .iter()
        .any(of_host)
        .then(|| Joined::Host("host".to_owned()))
}

/// The path of the cgroup that a task's memory is charged to: that of v2 where v2 has the controller.
fn memory_cgroup(task: &Task, registry: &Registry) -> Option<String> {
    let places = [Hierarchy::Memory, Hierarchy::V2].map(|it| it as usize);
    let at = places.into_iter().find(|at| task.cgroups.ids[*at] != 0)?;
    let key = CgroupKey {
        id: task.cgroups.ids[at],
        hierarchy: task.cgroups.hierarchies[at],
        zero: 0,
    };
    let path = match task.cgroups.levels[at] {
        0 => Some("/"),
        _ => registry.path(key),
    };
    path.map(str::to_owned)
}

fn said_oom(
    oom: &OomRecord,
    constraint: Constraint,
    trigger: Subject,
    registry: &Registry,
    clock: Clock,
) -> OomRecord {
    let limit = |bytes: u64| (bytes != UNLIMITED).then_some(bytes);
    let limit_owner = (constraint == Constraint::Memcg).then(|| LimitOwner {
        cgroup: registry.path(oom.owner).unwrap_or(UNKNOWN).to_owned(),
        limit_bytes: limit(oom.limit),
        usage_bytes: oom.usage,
        swap_limit_bytes: limit(oom.swap_limit),
        swap_usage_bytes: oom.swap_usage,
    });
    OomRecord {
        constraint: constraint.name().to_owned(),
        victim: subject(&oom.victim, registry, clock),
        victim_cgroup: memory_cgroup(&oom.victim, registry),
        trigger,
        limit_owner,
        rss: Rss {
            anon_bytes: oom.anon,
            file_bytes: oom.file,
            shmem_bytes: oom.shmem,
        },
        init_killed: oom.init_killed != 0,
    }
}

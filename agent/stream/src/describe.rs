//! Describes an event of the kernel for the streams: the pure step from a decoded event and the registry to a
//! [`StreamEvent`].

use std::collections::BTreeMap;
use std::sync::Arc;

use agent_ebpf::{
    CgroupKey, Constraint, Hierarchy, Namespace, NamespaceCallRecord, NamespaceInodes,
    NamespaceType, OomRecord, Task, UNLIMITED,
};
use agent_model::clock::Clock;
use agent_model::event::{Body, Event};
use agent_model::names::comm;
use agent_registry::life::{LifeChange, exit};
use agent_registry::location::{TaskLocation, UNKNOWN};
use agent_registry::registry::Registry;

use crate::argv::Argv;
use crate::stream_event::{
    Caller, EventDetails, EventProcess, EventSubject, InodeChange, Joined, LimitOwner,
    NamespaceCall, Oom, Rss, StreamEvent,
};

/// Describes `event`, which the registry has already learned from. `change` is the start or stop of a container that the
/// event caused.
///
/// `None`: streams do not show the event. That is a change of a cgroup that starts or stops no container, and an escape
/// by a task that cannot escape.
pub fn describe(
    event: &Event,
    change: Option<&LifeChange>,
    registry: &Registry,
    clock: Clock,
) -> Option<StreamEvent> {
    let location = registry.locate(&caller_before(event));
    let details = details(event, change, &location, registry, clock)?;
    // A start or stop is shown for the container, not for the process that made or removed the cgroup.
    let location = change.map_or(location, |change| {
        TaskLocation::In(Arc::clone(&change.container))
    });
    Some(StreamEvent {
        time: clock.moment(event.time),
        details,
        caller: Some(caller(event, location, clock)),
    })
}

fn details(
    event: &Event,
    change: Option<&LifeChange>,
    location: &TaskLocation,
    registry: &Registry,
    clock: Clock,
) -> Option<EventDetails> {
    let after = &event.caller.namespaces;
    Some(match &event.body {
        Body::Clone(call) => EventDetails::Clone {
            call: NamespaceCall {
                requested: requested(call.flags),
                changed: changed(after, &call.child.namespaces),
                result: result(0),
            },
            child: subject(&call.child, registry, clock),
        },
        Body::Unshare(call) => EventDetails::Unshare {
            call: namespace_call(call, after),
        },
        Body::Setns(call) => EventDetails::Setns {
            call: namespace_call(call, after),
            joined: joined(call, after, registry),
        },
        Body::Oom(kill, constraint) => {
            let trigger = subject(&event.caller, registry, clock);
            EventDetails::Oom(Box::new(oom(kill, *constraint, trigger, registry, clock)))
        }
        Body::Fork { child } => EventDetails::Fork {
            child: subject(child, registry, clock),
        },
        Body::Exec(arguments) => EventDetails::Exec {
            argv: Argv::new(&arguments.bytes),
            argv_truncated: arguments.cut,
        },
        Body::Exit { status, oom_killed } => {
            let duration = event.time.saturating_sub(event.caller.start_time);
            let exit = exit(*status, *oom_killed, duration);
            EventDetails::Exit { exit }
        }
        Body::Escape { .. } if !location.can_escape() => return None,
        Body::Escape {
            namespace,
            inode,
            how,
        } => EventDetails::Escape {
            namespace: namespace.name().to_owned(),
            inode: *inode,
            how: how.name().to_owned(),
        },
        Body::CgroupMkdir { .. } | Body::CgroupRmdir { .. } | Body::CgroupPopulated { .. } => {
            let LifeChange { action, exit, .. } = change?;
            EventDetails::Container {
                action: *action,
                exit: *exit,
                result: None,
            }
        }
    })
}

/// The caller as it was before the call: a call that changes the caller's namespaces does not change the container that
/// the event is attributed to.
fn caller_before(event: &Event) -> Task {
    let mut before = event.caller;
    if let Body::Unshare(call) | Body::Setns(call) = &event.body {
        before.namespaces = call.before;
    }
    before
}

fn caller(event: &Event, location: TaskLocation, clock: Clock) -> Caller {
    let namespaces = match &event.body {
        Body::Clone(call) => &call.child.namespaces,
        _ => &event.caller.namespaces,
    };
    Caller {
        process: process(&event.caller, clock),
        container_unknown: location == TaskLocation::Unknown,
        container: location.container(),
        namespaces: namespaces.into(),
    }
}

fn process(task: &Task, clock: Clock) -> EventProcess {
    EventProcess {
        pid: task.pid,
        tid: task.tid,
        ppid: task.ppid,
        ns_pid: task.ns_pid,
        comm: comm(task),
        uid: task.uid,
        start_time: clock.moment(task.start_time),
    }
}

fn subject(task: &Task, registry: &Registry, clock: Clock) -> EventSubject {
    EventSubject {
        process: process(task, clock),
        container: registry.locate(task).container(),
    }
}

/// The names of the namespace types whose `CLONE_NEW*` bits are set in `flags`.
fn requested(flags: u64) -> Vec<String> {
    let types = NamespaceType::ALL
        .iter()
        .filter(|it| flags & it.clone_flag() != 0);
    types.map(|it| it.name().to_owned()).collect()
}

/// The namespaces that differ between `from` and `to`.
fn differences<'a>(
    from: &'a NamespaceInodes,
    to: &'a NamespaceInodes,
) -> impl Iterator<Item = (Namespace, InodeChange)> + 'a {
    Namespace::ALL.iter().filter_map(|&namespace| {
        let change = InodeChange {
            from: from[namespace as usize],
            to: to[namespace as usize],
        };
        (change.from != change.to).then_some((namespace, change))
    })
}

fn changed(from: &NamespaceInodes, to: &NamespaceInodes) -> BTreeMap<String, InodeChange> {
    differences(from, to)
        .map(|(namespace, change)| (namespace.name().to_owned(), change))
        .collect()
}

fn namespace_call(call: &NamespaceCallRecord, after: &NamespaceInodes) -> NamespaceCall {
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
    agent_sys::errno_name(errno).unwrap_or_else(|| errno.to_string())
}

/// The container whose namespace a setns entered, else the host if the namespace is the host's.
fn joined(
    call: &NamespaceCallRecord,
    after: &NamespaceInodes,
    registry: &Registry,
) -> Option<Joined> {
    let entered: Vec<_> = differences(&call.before, after)
        // The caller stays in its pid namespace; its children are born in the new one.
        .map(|(namespace, change)| match namespace {
            Namespace::PidForChildren => (Namespace::Pid as usize, change.to),
            Namespace::TimeForChildren => (Namespace::Time as usize, change.to),
            other => (other as usize, change.to),
        })
        .collect();
    let is_host = |(namespace, inode): &(usize, u32)| registry.host()[*namespace] == *inode;
    let others = entered.iter().filter(|entered| !is_host(entered));
    let mut owners = others.filter_map(|(namespace, inode)| registry.owner(*namespace, *inode));
    if let Some(container) = owners.next() {
        return Some(Joined::Container(Arc::clone(container)));
    }
    entered
        .iter()
        .any(is_host)
        .then(|| Joined::Host("host".to_owned()))
}

/// The path of the cgroup to which the kernel charges a task's memory: that of v1's memory hierarchy, else that of v2.
fn memory_cgroup(task: &Task, registry: &Registry) -> Option<String> {
    let hierarchies = [Hierarchy::Memory, Hierarchy::V2].map(|it| it as usize);
    let at = hierarchies
        .into_iter()
        .find(|at| task.cgroups.ids[*at] != 0)?;
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

fn oom(
    kill: &OomRecord,
    constraint: Constraint,
    trigger: EventSubject,
    registry: &Registry,
    clock: Clock,
) -> Oom {
    let limit = |bytes: u64| (bytes != UNLIMITED).then_some(bytes);
    let limit_owner = (constraint == Constraint::Memcg).then(|| LimitOwner {
        cgroup: registry.path(kill.owner).unwrap_or(UNKNOWN).to_owned(),
        limit_bytes: limit(kill.limit),
        usage_bytes: kill.usage,
        swap_limit_bytes: limit(kill.swap_limit),
        swap_usage_bytes: kill.swap_usage,
    });
    Oom {
        constraint: constraint.name().to_owned(),
        victim: subject(&kill.victim, registry, clock),
        victim_cgroup: memory_cgroup(&kill.victim, registry),
        trigger,
        limit_owner,
        rss: Rss {
            anon_bytes: kill.anon,
            file_bytes: kill.file,
            shmem_bytes: kill.shmem,
        },
        init_killed: kill.init_killed != 0,
    }
}

#[cfg(test)]
mod tests;

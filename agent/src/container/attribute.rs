//! Events, put on the account of containers: what the registry learns from an event, and the
//! record that a stream gets of it.

use std::{collections::BTreeMap, time::Instant};

use agent_ebpf::{
    CgroupKey, Constraint, Counts, Namespace, NamespaceCall as CallRecord, NamespaceType,
    Namespaces, Oom as OomRecord, Task, UNLIMITED,
};

use super::{
    life::Change,
    place::{UNKNOWN, Where},
    registry::Registry,
};
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
    let change = learn(event, registry, clock, take);
    let mut caller = caller(event, registry, clock);
    // Of a start or stop, `container` is the one that did.
    if let Some(change) = &change {
        caller.container = Some(record::Container::clone(&change.container));
        caller.container_unknown = false;
    }
    Some(Record {
        time: clock.text(event.time),
        event: say(event, change, registry, clock)?,
        caller: Some(caller),
    })
}

fn learn(
    event: &Event,
    registry: &mut Registry,
    clock: Clock,
    take: impl FnOnce(CgroupKey) -> Counts,
) -> Option<Change> {
    match &event.body {
        Body::CgroupMkdir { cgroup, path } => {
            registry.add(*cgroup, path, clock.wall(event.time));
            None
        }
        Body::CgroupRmdir { cgroup } => registry.remove(*cgroup, &take(*cgroup), Instant::now()),
        Body::CgroupPopulated { cgroup, populated } => {
            registry.set_populated(*cgroup, *populated, event.time)
        }
        Body::Exec(_) => {
            registry.set_init(&event.caller);
            None
        }
        Body::Exit { status, .. } => {
            registry.set_exit(&event.caller, *status, event.time);
            None
        }
        Body::Oom(oom, _) => {
            registry.set_oom_killed(&oom.victim);
            None
        }
        Body::Unshare(_) | Body::Setns(_) => {
            registry.set_namespaces(&event.caller);
            None
        }
        Body::Clone(_) | Body::Fork { .. } | Body::Escape { .. } => None,
    }
}

fn say(
    event: &Event,
    change: Option<Change>,
    registry: &Registry,
    clock: Clock,
) -> Option<record::Event> {
    let after = &event.caller.namespaces;
    Some(match &event.body {
        Body::Clone(call) => record::Event::Clone {
            call: NamespaceCall {
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
        Body::CgroupMkdir { .. }
        | Body::CgroupRmdir { .. }
        | Body::CgroupPopulated { .. }
        | Body::Exec(_)
        | Body::Exit { .. }
        | Body::Fork { .. }
        | Body::Escape { .. } => {
            let Change { action, exit, .. } = change?;
            record::Event::Container { action, exit }
        }
    })
}

/// Who did it. What the caller is in does not change by what it makes: it is looked for where it
/// was before the call.
fn caller(event: &Event, registry: &Registry, clock: Clock) -> Caller {
    let mut before = event.caller;
    let mut namespaces = event.caller.namespaces;
    match &event.body {
        Body::Unshare(call) | Body::Setns(call) => before.namespaces = call.before,
        Body::Clone(call) => namespaces = call.child.namespaces,
        _ => {}
    }
    let place = registry.locate(&before);
    Caller {
        process: process(&before, clock),
        container: place.container(),
        container_unknown: place == Where::Unknown,
        namespaces: named(&namespaces),
    }
}

/// The name of a task; what is not UTF-8 is replaced.
pub fn comm(task: &Task) -> String {
    let ends = task.comm.iter().position(|&byte| byte == 0);
    let length = ends.unwrap_or(task.comm.len());
    String::from_utf8_lossy(&task.comm[..length]).into_owned()
}

fn process(task: &Task, clock: Clock) -> Process {
    Process {
        pid: task.pid,
        tid: task.tid,
        ppid: task.ppid,
        ns_pid: task.ns_pid,
        comm: comm(task),
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
    trigger: Subject,
    registry: &Registry,
    clock: Clock,
) -> Oom {
    let limit = |bytes: u64| (bytes != UNLIMITED).then_some(bytes);
    let limit_owner = (constraint == Constraint::Memcg).then(|| LimitOwner {
        cgroup: registry.path(oom.owner).unwrap_or(UNKNOWN).to_owned(),
        limit_bytes: limit(oom.limit),
        usage_bytes: oom.usage,
        swap_limit_bytes: limit(oom.swap_limit),
        swap_usage_bytes: oom.swap_usage,
    });
    Oom {
        constraint: constraint.name().to_owned(),
        victim: subject(&oom.victim, registry, clock),
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

#[cfg(test)]
mod tests {
    use agent_ebpf::{CLONE_NEW_ANY, Header, NAMESPACES};

    use super::*;

    const HOST: Namespaces = [1; NAMESPACES];
    const NET: usize = Namespace::Net as usize;
    const WEB: CgroupKey = CgroupKey {
        id: 20,
        hierarchy: 0,
        zero: 0,
    };

    /// A process of the host, or of the container `web`.
    fn task(pid: u32, in_web: bool) -> Task {
        let mut task = Task {
            pid,
            tid: pid,
            namespaces: HOST,
            ..Task::EMPTY
        };
        let v2 = agent_ebpf::Hierarchy::V2 as usize;
        task.cgroups.ids[v2] = if in_web { WEB.id } else { 1 };
        task.cgroups.levels[v2] = u32::from(in_web);
        task
    }

    fn with(mut task: Task, namespace: Namespace, inode: u32) -> Task {
        task.namespaces[namespace as usize] = inode;
        task
    }

    fn say(registry: &mut Registry, caller: Task, body: Body) -> Option<Record> {
        let event = Event {
            time: 5,
            caller,
            body,
        };
        let clock = Clock::now();
        attribute(&event, registry, clock, |_| Counts::default())
    }

    fn call(before: Namespaces, flags: u64, result: i64) -> CallRecord {
        CallRecord {
            header: Header::default(),
            before,
            flags,
            result,
        }
    }

    /// `web` runs, with a net namespace of its own: 77.
    fn web() -> Registry {
        let mut registry = Registry::new(HOST);
        let path = "/agent/web".to_owned();
        let mkdir = Body::CgroupMkdir { cgroup: WEB, path };
        assert_eq!(say(&mut registry, task(2, false), mkdir), None);
        let populated = Body::CgroupPopulated {
            cgroup: WEB,
            populated: true,
        };
        let start = say(&mut registry, task(2, false), populated).unwrap();
        assert_eq!(start.caller.unwrap().container.unwrap().name, "web");
        let init = with(task(10, true), Namespace::Net, 77);
        assert_eq!(
            say(&mut registry, init, Body::Exec(Default::default())),
            None
        );
        registry
    }

    #[test]
    fn the_caller_is_where_it_was_before_the_call() {
        let mut registry = web();
        let after = with(task(3, false), Namespace::Mnt, 9);
        let record = say(&mut registry, after, Body::Unshare(call(HOST, 0x20000, 0))).unwrap();
        let caller = record.caller.unwrap();
        assert_eq!((caller.container, caller.namespaces.mnt), (None, 9));
        let record::Event::Unshare { call } = record.event else {
            panic!("another event")
        };
        assert_eq!(call.requested, ["mnt"]);
        assert_eq!(call.changed["mnt"], Inodes { from: 1, to: 9 });
        assert_eq!((call.changed.len(), call.result.as_str()), (1, "0"));
    }

    fn entered(after: Task, before: Namespaces) -> Option<Joined> {
        let said = say(&mut web(), after, Body::Setns(call(before, 0, 0)));
        match said.unwrap().event {
            record::Event::Setns { joined, .. } => joined,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_is_joined() {
        let host = task(3, false);
        let Some(Joined::Container(web)) = entered(with(host, Namespace::Net, 77), HOST) else {
            panic!("web has this namespace")
        };
        assert_eq!(web.name, "web");
        let mut own = HOST;
        own[NET] = 78;
        assert_eq!(entered(host, own), Some(Joined::Host("host".into())));
        assert_eq!(entered(host, HOST), None);
        assert_eq!(entered(with(host, Namespace::Net, 79), HOST), None);
        // A namespace of another kind with the same number is another one.
        assert_eq!(entered(with(host, Namespace::Uts, 77), HOST), None);
    }

    #[test]
    fn a_failed_call_has_its_errno() {
        let body = Body::Unshare(call(HOST, CLONE_NEW_ANY, -1));
        let record = say(&mut web(), task(3, false), body).unwrap();
        let record::Event::Unshare { call } = record.event else {
            panic!("another event")
        };
        assert_eq!((call.result.as_str(), call.changed.len()), ("EPERM", 0));
        assert_eq!(call.requested.len(), 8);
        assert_eq!([result(-22), result(-9999)], ["EINVAL", "9999"]);
    }

    #[test]
    fn a_stop_tells_how_the_first_process_ended() {
        let mut registry = web();
        assert_eq!(
            say(
                &mut registry,
                task(10, true),
                Body::Exit {
                    status: 7 << 8,
                    oom_killed: false
                }
            ),
            None
        );
        let stop = say(
            &mut registry,
            task(2, false),
            Body::CgroupRmdir { cgroup: WEB },
        )
        .unwrap();
        let record::Event::Container {
            exit: Some(exit), ..
        } = stop.event
        else {
            panic!("another event")
        };
        assert_eq!((exit.code, exit.signal, exit.oom_killed), (7, 0, false));
    }

    #[test]
    fn what_is_in_an_unknown_cgroup_is_unknown() {
        let mut stranger = task(3, true);
        stranger.cgroups.ids[agent_ebpf::Hierarchy::V2 as usize] = 99;
        let body = Body::Unshare(call(HOST, CLONE_NEW_ANY, 0));
        let caller = say(&mut web(), stranger, body).unwrap().caller.unwrap();
        assert_eq!((caller.container, caller.container_unknown), (None, true));
    }
}

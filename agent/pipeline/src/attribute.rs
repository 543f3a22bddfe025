//! Events, put on the account of containers: what the registry learns from an event.

use std::sync::Arc;

use agent_ebpf::{CgroupKey, Counts};
use agent_model::clock::Clock;
use agent_model::event::Event;
use agent_registry::learn::learn;
use agent_registry::life::Change;
use agent_registry::registry::Registry;
use agent_stream::record::Record;
use agent_stream::say::say;

/// Tells the registry what a record of the rare ring says, and gives the record that streams get of
/// it, if they do. An exec or exit in that ring is that of a cgroup's first process.
///
/// `take` gives what the kernel counted in a cgroup that is gone.
pub fn attribute(
    event: &Event,
    registry: &mut Registry,
    clock: Clock,
    take: impl FnOnce(CgroupKey) -> Counts,
) -> Option<Record> {
    let change = learn(event, registry, clock, take);
    told(event, change.as_ref(), registry, clock)
}

/// The record of an event of which it was not known at once what came of it.
pub fn told(
    event: &Event,
    change: Option<&Change>,
    registry: &Registry,
    clock: Clock,
) -> Option<Record> {
    let mut record = say(event, change, registry, clock)?;
    // Of a start or stop, `container` is the one that did.
    if let (Some(change), Some(caller)) = (change, &mut record.caller) {
        caller.container = Some(Arc::clone(&change.container));
        caller.container_unknown = false;
    }
    Some(record)
}

#[cfg(test)]
mod tests {
    use agent_ebpf::{
        CLONE_NEW_ANY, Header, How, NAMESPACES, Namespace, NamespaceCallRecord as CallRecord,
        NamespaceType, NamespaceInodes, Task,
    };
    use agent_model::event::{Arguments, Body};
    use agent_registry::claim::{Claim, Confirmation};
    use agent_stream::record;
    use agent_stream::record::{Change as Inodes, Joined};

    use super::*;

    const HOST: NamespaceInodes = [1; NAMESPACES];
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

    fn call(before: NamespaceInodes, flags: u64, result: i64) -> CallRecord {
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
        let claim = Claim::of("/agent/web").unwrap();
        registry.confirm([Confirmation::of(&claim)]);
        let populated = Body::CgroupPopulated {
            cgroup: WEB,
            populated: true,
        };
        let start = say(&mut registry, task(2, false), populated).unwrap();
        assert_eq!(start.caller.unwrap().container.unwrap().name, "web");
        let init = with(task(10, true), Namespace::Net, 77);
        say(&mut registry, init, Body::Exec(Arguments::default()));
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

    fn entered(after: Task, before: NamespaceInodes) -> Option<Joined> {
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
    }

    #[test]
    fn a_stop_tells_how_the_first_process_ended() {
        let mut registry = web();
        let exit = Body::Exit {
            status: 7 << 8,
            oom_killed: false,
        };
        say(&mut registry, task(10, true), exit);
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

    #[test]
    fn a_process_is_put_on_its_containers_account() {
        let mut registry = web();
        let arguments = |bytes: &[u8]| Arguments {
            bytes: bytes.into(),
            cut: false,
        };
        let exec = Body::Exec(arguments(b"sh\0-c\0"));
        let record = say(&mut registry, task(11, true), exec).unwrap();
        assert_eq!(record.caller.unwrap().container.unwrap().name, "web");
        let record::Event::Exec { argv, .. } = record.event else {
            panic!("another event")
        };
        let words: Vec<_> = argv.words().collect();
        assert_eq!(words, ["sh", "-c"]);
        let child = task(12, true);
        let record = say(&mut registry, task(2, false), Body::Fork { child }).unwrap();
        assert_eq!(record.caller.unwrap().container, None);
        let record::Event::Fork { child } = record.event else {
            panic!("another event")
        };
        assert_eq!(child.container.unwrap().name, "web");
    }

    #[test]
    fn only_containers_can_be_escaped_from() {
        let escape = || Body::Escape {
            namespace: NamespaceType::Mnt,
            inode: 1,
            how: How::Setns,
        };
        let record = say(&mut web(), task(11, true), escape()).unwrap();
        let wanted = record::Event::Escape {
            namespace: "mnt".into(),
            inode: 1,
            how: "setns".into(),
        };
        assert_eq!(record.event, wanted);
        assert_eq!(say(&mut web(), task(11, false), escape()), None);
    }
}

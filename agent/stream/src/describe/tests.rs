//! Each kind of event, described with what a registry knows.

use agent_ebpf::{CLONE_NEW_ANY, Counts, Header, How, NAMESPACES};
use agent_model::event::Arguments;
use agent_registry::claim::{Claim, Confirmation};
use agent_registry::learn::learn;

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

/// What streams say of an event, once the registry has learned from it.
fn described(registry: &mut Registry, caller: Task, body: Body) -> Option<StreamEvent> {
    let event = Event {
        time: 5,
        caller,
        body,
    };
    let clock = Clock::now();
    let change = learn(&event, registry, clock, |_| Counts::default());
    describe(&event, change.as_ref(), registry, clock)
}

fn call(before: NamespaceInodes, flags: u64, result: i64) -> NamespaceCallRecord {
    NamespaceCallRecord {
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
    assert_eq!(described(&mut registry, task(2, false), mkdir), None);
    let claim = Claim::of("/agent/web").unwrap();
    registry.confirm([Confirmation::of(&claim)]);
    let populated = Body::CgroupPopulated {
        cgroup: WEB,
        populated: true,
    };
    let start = described(&mut registry, task(2, false), populated).unwrap();
    assert_eq!(start.caller.unwrap().container.unwrap().name, "web");
    let init = with(task(10, true), Namespace::Net, 77);
    described(&mut registry, init, Body::Exec(Arguments::default()));
    registry
}

#[test]
fn the_caller_is_where_it_was_before_the_call() {
    let mut registry = web();
    let after = with(task(3, false), Namespace::Mnt, 9);
    let event = described(&mut registry, after, Body::Unshare(call(HOST, 0x20000, 0))).unwrap();
    let caller = event.caller.unwrap();
    assert_eq!((caller.container, caller.namespaces.mnt), (None, 9));
    let EventDetails::Unshare { call } = event.details else {
        panic!("another event")
    };
    assert_eq!(call.requested, ["mnt"]);
    assert_eq!(call.changed["mnt"], InodeChange { from: 1, to: 9 });
    assert_eq!((call.changed.len(), call.result.as_str()), (1, "0"));
}

fn entered(after: Task, before: NamespaceInodes) -> Option<Joined> {
    let said = described(&mut web(), after, Body::Setns(call(before, 0, 0)));
    match said.unwrap().details {
        EventDetails::Setns { joined, .. } => joined,
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
    let event = described(&mut web(), task(3, false), body).unwrap();
    let EventDetails::Unshare { call } = event.details else {
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
    described(&mut registry, task(10, true), exit);
    let stop = described(
        &mut registry,
        task(2, false),
        Body::CgroupRmdir { cgroup: WEB },
    )
    .unwrap();
    let EventDetails::Container {
        exit: Some(exit), ..
    } = stop.details
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
    let caller = described(&mut web(), stranger, body)
        .unwrap()
        .caller
        .unwrap();
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
    let event = described(&mut registry, task(11, true), exec).unwrap();
    assert_eq!(event.caller.unwrap().container.unwrap().name, "web");
    let EventDetails::Exec { argv, .. } = event.details else {
        panic!("another event")
    };
    let words: Vec<_> = argv.words().collect();
    assert_eq!(words, ["sh", "-c"]);
    let child = task(12, true);
    let event = described(&mut registry, task(2, false), Body::Fork { child }).unwrap();
    assert_eq!(event.caller.unwrap().container, None);
    let EventDetails::Fork { child } = event.details else {
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
    let event = described(&mut web(), task(11, true), escape()).unwrap();
    let wanted = EventDetails::Escape {
        namespace: "mnt".into(),
        inode: 1,
        how: "setns".into(),
    };
    assert_eq!(event.details, wanted);
    assert_eq!(described(&mut web(), task(11, false), escape()), None);
}

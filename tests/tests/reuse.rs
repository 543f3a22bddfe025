//! What the kernel gives out a second time does not lead to who had it first.

use std::process::Child;
use std::sync::Arc;

use serde_json::Value;
use tests::cgroup::Cgroup;
use tests::container::{Container, First};
use tests::law::assert_law;
use tests::nscall::{nscall, outcome};
use tests::serve::Serve;
use tests::wait::{PATIENCE, wait_for};
use tests::watch::Watch;

/// Containers that may be started until one gets the number that was another's: the kernel gives out the lowest that is
/// free, but others take some too.
const TRIES: usize = 100;

const CALLS: &str = "container_namespace_calls_total";

fn is_of(record: &Value, kind: &str, cgroup: &Cgroup) -> bool {
    record["kind"] == kind && record["container"]["name"] == cgroup.name()
}

fn is_stop(record: &Value, cgroup: &Cgroup) -> bool {
    is_of(record, "container", cgroup) && record["action"] == "stop"
}

/// Starts containers until the mount namespace of one has this number: that one.
fn heir_of(freed: u32) -> Container {
    // Those without luck keep their numbers, so that the next gets another.
    let mut others = Vec::new();
    for _ in 0..TRIES {
        let heir = Container::start(Cgroup::new("heir"), "mnt");
        if heir.inode("mnt") == freed {
            return heir;
        }
        others.push(heir);
    }
    panic!("{TRIES} containers did not get {freed}");
}

/// Into whose namespace a process of `caller` comes by the mount namespace of the container's first process.
fn joined(watch: &mut Watch, caller: &Cgroup, container: &Container) -> Value {
    let words = format!("setns {} mnt", container.namespace("mnt"));
    let outcome = outcome(&mut nscall(caller, &words));
    assert_eq!(outcome["changed"]["mnt"]["to"], container.inode("mnt"));
    let mut record = watch.next(PATIENCE, |record| is_of(record, "setns", caller));
    record["joined"].take()
}

/// Checks that this number, once it is another container's, leads to that one.
fn assert_inherited(watch: &mut Watch, caller: &Cgroup, freed: u32) {
    let heir = heir_of(freed);
    let joined = joined(watch, caller, &heir);
    assert_eq!(joined["name"], heir.cgroup.name(), "{joined}");
}

/// In one test: in several, one would take the number that another waits for.
#[test]
fn the_number_of_a_namespace() {
    if !tests::root() {
        return;
    }
    let serve = Serve::start(&[]);
    let mut watch = serve.watch(&["--kind", "setns,container"]);
    of_a_container_that_stopped(&mut watch);
    of_a_first_process_that_ended(&mut watch);
    that_a_first_process_left(&mut watch);
    assert_law(&serve);
    serve.stop();
}

fn of_a_container_that_stopped(watch: &mut Watch) {
    let (caller, cgroup) = (Cgroup::new("caller"), Arc::new(Cgroup::new("stopped")));
    let container = Container::start(Arc::clone(&cgroup), "mnt");
    let known = joined(watch, &caller, &container);
    assert_eq!(known["name"], cgroup.name(), "{known}");
    let freed = container.inode("mnt");
    drop(container);
    watch.next(PATIENCE, |record| is_stop(record, &cgroup));
    assert_inherited(watch, &caller, freed);
    // The same when its cgroup is gone too.
    let container = Container::start(cgroup, "mnt");
    let freed = container.inode("mnt");
    drop(container);
    assert_inherited(watch, &caller, freed);
}

/// The container goes on without it.
fn of_a_first_process_that_ended(watch: &mut Watch) {
    let first = First {
        command: &["bash", "-c", "read"],
        ..First::default()
    };
    let mut container = Container::run(Cgroup::new("headless"), first);
    let freed = container.inode("mnt");
    let mut other = join(&container.cgroup);
    container.tell("end");
    container.wait_for_first();
    assert_inherited(watch, &Cgroup::new("caller"), freed);
    let ended = other.try_wait().expect("its state");
    assert!(ended.is_none(), "the container ended meanwhile");
    drop(container);
    other.wait().expect("it was killed with its container");
}

fn that_a_first_process_left(watch: &mut Watch) {
    let first = First {
        command: &["bash", "-c", "read; exec unshare --mount sleep infinity"],
        ..First::default()
    };
    let mut container = Container::run(Cgroup::new("moved"), first);
    let freed = container.inode("mnt");
    container.tell("leave");
    wait_for("it has another mount namespace", PATIENCE, || {
        (container.inode("mnt") != freed).then_some(())
    });
    let caller = Cgroup::new("caller");
    assert_inherited(watch, &caller, freed);
    // What it went into is its container's.
    let joined = joined(watch, &caller, &container);
    assert_eq!(joined["name"], container.cgroup.name(), "{joined}");
}

/// A process in the container, in the namespaces of the host.
fn join(cgroup: &Cgroup) -> Child {
    let process = cgroup.command("sleep").arg("infinity").spawn();
    let process = process.expect("sleep can be run");
    wait_for("it is in the container", PATIENCE, || {
        cgroup.members().contains(&process.id()).then_some(())
    });
    process
}

#[test]
fn the_path_of_a_cgroup() {
    if !tests::root() {
        return;
    }
    let serve = Serve::start(&[]);
    let name = format!("again-{}", std::process::id());
    for times in [3, 1] {
        let cgroup = Cgroup::named(&name);
        let count = || {
            let labels = [
                ("call", "unshare"),
                ("type", "uts"),
                ("name", name.as_str()),
            ];
            serve.metrics().find(CALLS, &labels)
        };
        wait_for("the cgroup has its series", PATIENCE, || {
            count().filter(|it| *it == 0.0)
        });
        for _ in 0..times {
            assert_eq!(outcome(&mut nscall(&cgroup, "unshare uts"))["errno"], 0);
        }
        assert_eq!(count(), Some(f64::from(times)));
    }
    assert_law(&serve);
    serve.stop();
}

#[test]
fn the_pid_of_a_first_process() {
    if !tests::root() {
        return;
    }
    let serve = Serve::start(&[]);
    let mut watch = serve.watch(&["--kind", "unshare,container"]);
    let first = |code: u8| format!("read; unshare -u true; exit {code}");
    // A container goes on when its first process has ended.
    let start = |cgroup: &Arc<Cgroup>, code, pid| {
        let first = First {
            pid,
            command: &["bash", "-c", &first(code)],
            ..First::default()
        };
        Container::run(Arc::clone(cgroup), first)
    };
    let (one, two) = (Arc::new(Cgroup::new("one")), Arc::new(Cgroup::new("two")));
    let mut container = start(&one, 3, None);
    let pid = container.pid;
    let mut other = join(&one);
    container.tell("end");
    container.wait_for_first();
    watch.next(PATIENCE, |record| is_of(record, "unshare", &one));

    let mut heir = start(&two, 7, Some(pid));
    assert_eq!(heir.pid, pid);
    heir.tell("end");
    heir.wait_for_first();
    let stop = watch.next(PATIENCE, |record| is_stop(record, &two));
    assert_eq!(stop["exit"]["code"], 7, "{stop}");

    drop(container);
    other.wait().expect("it was killed with its container");
    let stop = watch.next(PATIENCE, |record| is_stop(record, &one));
    assert_eq!(stop["exit"]["code"], 3, "{stop}");
    assert_law(&serve);
    serve.stop();
}

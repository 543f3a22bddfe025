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

/// How often a number may be freed until a container gets it, and how many containers may be started each time: the
/// kernel gives out the lowest that is free, but others take some too, and may keep them.
const TIMES: usize = 10;
const CONTAINERS: usize = 20;

const CALLS: &str = "container_namespace_calls_total";

fn is_of(record: &Value, kind: &str, cgroup: &Cgroup) -> bool {
    record["kind"] == kind && record["container"]["name"] == cgroup.name()
}

fn is_stop(record: &Value, cgroup: &Cgroup) -> bool {
    is_of(record, "container", cgroup) && record["action"] == "stop"
}

/// Starts containers until the mount namespace of one has this number: that one.
fn heir_of(freed: u32) -> Option<Container> {
    // Those without luck keep their numbers, so that the next gets another.
    let mut others = Vec::new();
    for _ in 0..CONTAINERS {
        let heir = Container::start(Cgroup::new("heir"), "mnt");
        if heir.inode("mnt") == freed {
            return Some(heir);
        }
        others.push(heir);
    }
    None
}

/// Into whose namespace a process of `caller` comes by the mount namespace of the container's first process.
fn joined(watch: &mut Watch, caller: &Cgroup, container: &Container) -> Value {
    let words = format!("setns {} mnt", container.namespace("mnt"));
    let outcome = outcome(&mut nscall(caller, &words));
    assert_eq!(outcome["changed"]["mnt"]["to"], container.inode("mnt"));
    let mut record = watch.next(PATIENCE, |record| is_of(record, "setns", caller));
    record["joined"].take()
}

/// Checks that the number of a mount namespace that `free` frees, once it is another container's, leads to that one.
/// What `free` gives beside it is kept until then.
fn assert_inherited<T>(watch: &mut Watch, mut free: impl FnMut(&mut Watch) -> (u32, T)) {
    let caller = Cgroup::new("caller");
    for _ in 0..TIMES {
        let (freed, _kept) = free(watch);
        if let Some(heir) = heir_of(freed) {
            let joined = joined(watch, &caller, &heir);
            assert_eq!(joined["name"], heir.cgroup.name(), "{joined}");
            return;
        }
    }
    panic!("{TIMES} times {CONTAINERS} containers did not get the number that was freed");
}

/// In one test: in several, one would take the number that another waits for.
#[test]
#[ignore = "needs root"]
fn the_number_of_a_namespace() {
    let serve = Serve::start(&[]);
    let mut watch = serve.watch(&["--kind", "setns,container"]);
    of_a_container_that_stopped(&mut watch);
    of_a_container_that_is_gone(&mut watch);
    of_a_first_process_that_ended(&mut watch);
    that_a_first_process_left(&mut watch);
    assert_law(&serve);
    serve.stop();
}

fn of_a_container_that_stopped(watch: &mut Watch) {
    assert_inherited(watch, |watch| {
        let (caller, cgroup) = (Cgroup::new("caller"), Arc::new(Cgroup::new("stopped")));
        let container = Container::start(Arc::clone(&cgroup), "mnt");
        let joined = joined(watch, &caller, &container);
        assert_eq!(joined["name"], cgroup.name(), "{joined}");
        let freed = container.inode("mnt");
        drop(container);
        watch.next(PATIENCE, |record| is_stop(record, &cgroup));
        (freed, cgroup)
    });
}

fn of_a_container_that_is_gone(watch: &mut Watch) {
    assert_inherited(watch, |_| {
        let container = Container::start(Cgroup::new("gone"), "mnt");
        (container.inode("mnt"), ())
    });
}

/// The container goes on without it.
fn of_a_first_process_that_ended(watch: &mut Watch) {
    assert_inherited(watch, |_| {
        let mut container = Container::start(Cgroup::new("headless"), "mnt");
        let freed = container.inode("mnt");
        let other = Stranger::join(&container.cgroup);
        container.tell("end");
        container.wait_for_first();
        (freed, (container, other))
    });
}

fn that_a_first_process_left(watch: &mut Watch) {
    let caller = Cgroup::new("caller");
    assert_inherited(watch, |watch| {
        let first = First {
            script: "read; exec unshare --mount bash -c 'echo left; read'",
            ..First::default()
        };
        let mut container = Container::run(Cgroup::new("moved"), first);
        let freed = container.inode("mnt");
        container.tell("leave");
        assert_eq!(container.line(), "left");
        // What it went into is its container's.
        let joined = joined(watch, &caller, &container);
        assert_eq!(joined["name"], container.cgroup.name(), "{joined}");
        (freed, container)
    });
}

/// A process in a container, in the namespaces of the host. Dropping it waits until its container has ended.
struct Stranger(Child);

impl Stranger {
    fn join(cgroup: &Cgroup) -> Self {
        let process = cgroup.command("sleep").arg("infinity").spawn();
        let process = process.expect("sleep can be run");
        wait_for("it is in the container", PATIENCE, || {
            cgroup.members().contains(&process.id()).then_some(())
        });
        Self(process)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        // It was killed with its container.
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs root"]
fn the_path_of_a_cgroup() {
    let serve = Serve::start(&[]);
    let name = format!("again-{}", std::process::id());
    // Of one path the counters go on.
    let mut before = 0.0;
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
            count().filter(|it| *it == before)
        });
        for _ in 0..times {
            assert_eq!(outcome(&mut nscall(&cgroup, "unshare uts"))["errno"], 0);
        }
        before += f64::from(times);
        wait_for("the counts of before and now are one sum", PATIENCE, || {
            count().filter(|it| *it == before)
        });
    }
    assert_law(&serve);
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn the_pid_of_a_first_process() {
    let serve = Serve::start(&[]);
    let mut watch = serve.watch(&["--kind", "unshare,container"]);
    let first = |code: u8| format!("read; unshare -u true; exit {code}");
    // A container goes on when its first process has ended.
    let start = |cgroup: &Arc<Cgroup>, code, pid| {
        let first = First {
            pid,
            script: &first(code),
            ..First::default()
        };
        Container::run(Arc::clone(cgroup), first)
    };
    let (one, two) = (Arc::new(Cgroup::new("one")), Arc::new(Cgroup::new("two")));
    let mut container = start(&one, 3, None);
    let pid = container.pid;
    let other = Stranger::join(&one);
    container.tell("end");
    container.wait_for_first();
    watch.next(PATIENCE, |record| is_of(record, "unshare", &one));

    let mut heir = start(&two, 7, Some(pid));
    assert_eq!(heir.pid, pid);
    heir.tell("end");
    heir.wait_for_first();
    let stop = watch.next(PATIENCE, |record| is_stop(record, &two));
    assert_eq!(stop["exit"]["code"], 7, "{stop}");

    // In the same container it is still not the first process.
    let mut heir = start(&one, 9, Some(pid));
    assert_eq!(heir.pid, pid);
    heir.tell("end");
    heir.wait_for_first();

    drop((container, heir, other));
    let stop = watch.next(PATIENCE, |record| is_stop(record, &one));
    assert_eq!(stop["exit"]["code"], 3, "{stop}");
    assert_law(&serve);
    serve.stop();
}

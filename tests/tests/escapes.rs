//! Escapes: a container's task in a namespace of the host is told once for each namespace, whichever way it went, and
//! nobody who may be there is.

use std::fs;
use std::sync::Arc;

use agent_ebpf::WATCHED_BELOW;
use serde_json::Value;
use tests::cgroup::Cgroup;
use tests::container::{Container, First, inode};
use tests::law::assert_law;
use tests::nscall::{self, nscall, outcome};
use tests::serve::Serve;
use tests::wait::{PATIENCE, wait_for};
use tests::watch::Watch;

/// A container with mount and UTS namespaces of its own, that runs `script` when it is told to.
fn container(script: &str) -> Container {
    let script = format!("read; {script}\necho over; read");
    Container::run(
        Cgroup::new("escape"),
        First {
            types: "mnt,uts",
            script: &script,
            ..First::default()
        },
    )
}

/// `nscall CALL PID TYPES` with this process, which is among the host's namespaces.
fn into_host(call: &str) -> String {
    let nscall = nscall::binary();
    format!("{} {call} {} mnt,uts", nscall.display(), std::process::id())
}

/// Lets the container run its script, and one more namespace call that everybody may make: the escapes until then.
fn escapes(container: &mut Container, watch: &mut Watch) -> Vec<Value> {
    container.tell("go");
    while container.line() != "over" {}
    outcome(&mut nscall(&container.cgroup, "unshare ipc"));
    let mut records = watch.until(PATIENCE, |record| record["kind"] == "unshare");
    records.pop();
    records
}

/// One for each of both namespaces, and as many are counted.
fn assert_told_once(escapes: &[Value], container: &Container, serve: &Serve, how: &[&str]) {
    let said = |it: &Value| it["namespace"].as_str().map(str::to_owned);
    let namespaces: Vec<_> = escapes.iter().filter_map(said).collect();
    let metrics = serve.metrics();
    let name = [("name", container.cgroup.name())];
    let counted = ["container_execs_total", "container_unwatched_cgroups_total"];
    let counted = counted.map(|metric| metrics.find(metric, &name));
    assert_eq!(namespaces, ["mnt", "uts"], "{escapes:#?} {counted:?}");
    for escape in escapes {
        let name = escape["namespace"].as_str().expect("a name");
        assert_eq!(escape["kind"], "escape", "{escape}");
        assert_eq!(
            escape["inode"],
            inode(&format!("/proc/self/ns/{name}")),
            "{escape}"
        );
        assert_eq!(
            escape["container"]["name"],
            container.cgroup.name(),
            "{escape}"
        );
        assert!(
            how.contains(&escape["how"].as_str().expect("a way")),
            "{escape}"
        );
        let labels = [("type", name), ("name", container.cgroup.name())];
        assert_eq!(metrics.count("container_escapes_total", &labels), 1);
    }
}

#[test]
#[ignore = "needs root"]
fn by_setns() {
    let _room = tests::quiet();
    let serve = Serve::start(&[]);
    let mut container = container(&into_host("setns-pid"));
    let name = container.cgroup.name().to_owned();
    let mut watch = serve.watch(&["--kind", "escape,unshare", "--container", &name]);
    let escapes = escapes(&mut container, &mut watch);
    assert_told_once(&escapes, &container, &serve, &["setns"]);
    assert_law(&serve);
    serve.stop();
}

/// Where only the tracepoints of 64-bit calls see setns, the exec shows it. What it starts is no further escape.
#[test]
#[ignore = "needs root"]
fn by_a_call_of_32_bits_and_an_exec() {
    let _room = tests::quiet();
    let serve = Serve::start(&[]);
    let script = format!("{} sh -c '/bin/true; /bin/true'", into_host("setns-pid32"));
    let mut container = container(&script);
    let name = container.cgroup.name().to_owned();
    let mut watch = serve.watch(&["--kind", "escape,unshare", "--container", &name]);
    let escapes = escapes(&mut container, &mut watch);
    assert_told_once(&escapes, &container, &serve, &["unseen", "setns"]);
    assert_law(&serve);
    serve.stop();
}

/// Nothing sees the call, and no exec comes after it: a look at all processes finds who stays there.
#[test]
#[ignore = "needs root"]
fn by_a_call_that_no_probe_sees() {
    let _room = tests::quiet();
    let serve = Serve::start(&["--mechanism", "setns=syscall", "--syscall-probes", "off"]);
    let mut container = container(&format!("{} stay &", into_host("setns-pid")));
    let name = container.cgroup.name().to_owned();
    let mut watch = serve.watch(&["--kind", "escape", "--container", &name]);
    container.tell("go");
    assert_told_once(&both(&mut watch), &container, &serve, &["unseen"]);
    serve.stop();
}

/// It was there before the agent: its first process's namespaces are what is expected of it.
#[test]
#[ignore = "needs root"]
fn from_a_container_that_is_older() {
    let _room = tests::quiet();
    let mut container = container(&into_host("setns-pid"));
    let serve = Serve::start(&[]);
    let name = container.cgroup.name().to_owned();
    let mut watch = serve.watch(&["--kind", "escape,unshare", "--container", &name]);
    let escapes = escapes(&mut container, &mut watch);
    assert_told_once(&escapes, &container, &serve, &["setns"]);
    serve.stop();
}

/// Of the cgroups below a container only so many are watched, and the metrics say of which containers more are not.
#[test]
#[ignore = "needs root"]
fn of_too_many_cgroups_below_a_container_the_metrics_tell() {
    let _room = tests::quiet();
    let serve = Serve::start(&[]);
    let container = container("true");
    let below = container.cgroup.directory("memory");
    let make = |name: &str| fs::create_dir(below.join(name)).expect("a cgroup can be made");
    for number in 0..WATCHED_BELOW + 16 {
        make(&number.to_string());
    }
    let unwatched = || {
        let labels = [("name", container.cgroup.name())];
        let metrics = serve.metrics();
        metrics.value("container_unwatched_cgroups_total", &labels) as u64
    };
    assert_eq!(unwatched(), 16);
    // What is removed makes room.
    fs::remove_dir(below.join("0")).expect("it is empty");
    make("again");
    assert_eq!(unwatched(), 16);
    make("more");
    assert_eq!(unwatched(), 17);
    serve.stop();
}

/// The directories of a cgroup in all hierarchies.
fn directories(cgroup: &Cgroup) -> Vec<String> {
    let roots = tests::cgroup::roots();
    let directories = roots.map(|root| root.join(&cgroup.path()[1..]));
    directories.map(|it| it.display().to_string()).collect()
}

/// A shell's way into a cgroup that it makes below its own, in all hierarchies.
fn moves_below(cgroup: &Cgroup) -> String {
    let below = directories(cgroup).into_iter();
    let moves = below.map(|it| format!("{it}/below")).map(|directory| {
        format!(
            "mkdir {directory}; \
             for file in cpus mems; do \
             [ -e {directory}/cpuset.$file ] && cat {directory}/../cpuset.$file > {directory}/cpuset.$file; done; \
             echo 0 > {directory}/cgroup.procs; "
        )
    });
    moves.collect()
}

/// So was the cgroup below it, with the process that escapes.
#[test]
#[ignore = "needs root"]
fn from_a_cgroup_below_that_is_older() {
    let _room = tests::quiet();
    let cgroup = Cgroup::new("escape");
    let script = format!(
        "({} echo moved; read; exec {}); echo over; read",
        moves_below(&cgroup),
        into_host("setns-pid")
    );
    let first = First {
        types: "mnt,uts",
        script: &script,
        ..First::default()
    };
    let mut container = Container::run(cgroup, first);
    assert_eq!(container.line(), "moved");
    let serve = Serve::start(&[]);
    let name = container.cgroup.name().to_owned();
    let mut watch = serve.watch(&["--kind", "escape,unshare", "--container", &name]);
    let escapes = escapes(&mut container, &mut watch);
    assert_told_once(&escapes, &container, &serve, &["setns"]);
    serve.stop();
}

/// The first process of a new container in `cgroup`, by `script`, makes an escape that no probe of calls sees, or one of a
/// trampoline.
fn assert_told_by_exec(cgroup: Cgroup, script: &str, serve: &Serve) {
    let first = First {
        types: "mnt,uts",
        script,
        ..First::default()
    };
    let mut container = Container::run(cgroup, first);
    let name = container.cgroup.name().to_owned();
    let mut watch = serve.watch(&["--kind", "escape,unshare", "--container", &name]);
    let escapes = escapes(&mut container, &mut watch);
    assert_told_once(&escapes, &container, serve, &["unseen", "setns"]);
}

/// Who puts himself into a cgroup that he makes in the container's is still the container's.
#[test]
#[ignore = "needs root"]
fn from_a_cgroup_below() {
    let _room = tests::quiet();
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("escape");
    let script = moves_below(&cgroup);
    // A shell that moves itself, and escapes without an exec before.
    let script = format!(
        "read; ({script} exec {} sh -c /bin/true); echo over; read",
        into_host("setns-pid32")
    );
    assert_told_by_exec(cgroup, &script, &serve);
    serve.stop();
}

/// Whoever puts himself where he is already does not come from outside, though his parent is there.
#[test]
#[ignore = "needs root"]
fn from_the_first_process_that_moves_itself() {
    let _room = tests::quiet();
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("escape");
    let script = format!(
        "read; exec {} in {} sh -c '/bin/true; echo over; read'",
        into_host("setns-pid32"),
        directories(&cgroup).join(":")
    );
    assert_told_by_exec(cgroup, &script, &serve);
    serve.stop();
}

/// The next two escapes.
fn both(watch: &mut Watch) -> Vec<Value> {
    let mut next = || watch.next(PATIENCE, |record| record["kind"] == "escape");
    vec![next(), next()]
}

/// The second container of a cgroup is set up by a process that comes into it from outside, and becomes its first.
#[test]
#[ignore = "needs root"]
fn from_a_cgroup_that_is_used_again() {
    let _room = tests::quiet();
    let serve = Serve::start(&[]);
    let cgroup = Arc::new(Cgroup::new("escape"));
    let first = First {
        types: "mnt,uts",
        ..First::default()
    };
    drop(Container::run(Arc::clone(&cgroup), first));
    let mut watch = serve.watch(&["--kind", "escape", "--container", cgroup.name()]);
    let script = format!("{}; true", into_host("setns-pid"));
    let mut second = cgroup.command("unshare");
    second.args(["-m", "-u", "sh", "-c", &script]);
    outcome(&mut second);
    let said: Vec<_> = both(&mut watch)
        .iter()
        .map(|it| it["namespace"].clone())
        .collect();
    assert_eq!(said, ["mnt", "uts"]);
    serve.stop();
}

/// Who makes more namespace calls than are told still cannot hide an escape among them.
#[test]
#[ignore = "needs root"]
fn behind_a_flood_of_calls() {
    let _room = tests::flood();
    let serve = Serve::start(&[]);
    let flood = format!(
        "{} --times 1000000000 setns /dev/null net &",
        nscall::binary().display()
    );
    let script = format!("{flood} read; {} stay", into_host("setns-pid"));
    let first = First {
        types: "mnt,uts",
        script: &script,
        ..First::default()
    };
    let mut container = Container::run(Cgroup::new("escape"), first);
    let name = container.cgroup.name().to_owned();
    let mut watch = serve.watch(&["--kind", "escape", "--container", &name]);
    wait_for("calls are suppressed", PATIENCE, || {
        let suppressed = serve.metrics().events("kernel", "setns", "suppressed");
        (suppressed > 0).then_some(())
    });
    container.tell("go");
    // Kernels that preempt programs skip one where a task of the flood is in it.
    assert_told_once(&both(&mut watch), &container, &serve, &["setns", "unseen"]);
    serve.stop();
}

/// As engines' runtimes and operators do: from outside into the container's cgroup, among the host's namespaces.
#[test]
#[ignore = "needs root"]
fn who_comes_from_outside_escapes_nothing() {
    let _room = tests::quiet();
    let serve = Serve::start(&[]);
    let mut container = container("true");
    let name = container.cgroup.name().to_owned();
    let mut watch = serve.watch(&["--kind", "escape,unshare", "--container", &name]);
    let call = format!("setns-pid {} mnt,uts", std::process::id());
    outcome(&mut nscall(&container.cgroup, &call));
    let status = container
        .cgroup
        .command("sh")
        .args(["-c", "/bin/true; /bin/true"])
        .status();
    assert!(status.expect("sh can be run").success());
    let escapes = escapes(&mut container, &mut watch);
    assert!(escapes.is_empty(), "{escapes:#?}");
    serve.stop();
}

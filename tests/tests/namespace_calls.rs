//! Every namespace call of a container is seen: as it was, with the right container, and counted.

use std::collections::HashSet;
use std::thread;

use serde_json::{Value, json};
use tests::cgroup::Cgroup;
use tests::container::{Container, inode};
use tests::law::{assert_law, assert_others_lost};
use tests::nscall::{nscall, outcome};
use tests::serve::Serve;
use tests::slow::fewer;
use tests::wait::PATIENCE;
use tests::watch::Watch;

fn many() -> usize {
    fewer(2_000, 100)
}

/// All types (namespaces(7)), as `--namespace` names them.
const TYPES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

const CALLS: &str = "container_namespace_calls_total";
const ERRORS: &str = "container_namespace_call_errors_total";

/// Runs a command line in a container [`many`] times.
fn run_many(cgroup: &Cgroup, line: &str) {
    run_times(many(), cgroup, line);
}

fn run_times(times: usize, cgroup: &Cgroup, line: &str) {
    let line = format!("i=0; while [ $i -lt {times} ]; do {line} || exit 1; i=$((i + 1)); done");
    let status = cgroup.command("sh").args(["-c", &line]).status();
    assert!(status.expect("sh can be run").success(), "{line}");
}

/// The records of one kind that a container makes while `run` runs.
fn records_of(serve: &Serve, cgroup: &Cgroup, kind: &str, run: impl FnOnce()) -> Vec<Value> {
    let arguments = ["--kind", kind, "--container", cgroup.name()];
    let mut watch = serve.watch(&arguments);
    run();
    // Its record comes behind all others.
    let marker = match kind {
        "setns" => "setns /dev/null uts".to_owned(),
        _ => format!("{kind} uts"),
    };
    outcome(&mut nscall(cgroup, &marker));
    let is_marker = |record: &Value| record["requested"] == json!(["uts"]);
    let mut records = watch.until(PATIENCE, is_marker);
    records.pop();
    let lost: Vec<_> = records.extract_if(.., |it| it["kind"] == "lost").collect();
    assert_others_lost(serve, kind, &lost);
    records
}

fn assert_of_container(record: &Value, cgroup: &Cgroup) {
    let container = &record["container"];
    assert_eq!(container["kind"], "container", "{record}");
    assert_eq!(container["name"], cgroup.name(), "{record}");
    assert_eq!(container["runtime"], "agent", "{record}");
    assert_eq!(container["cgroup"], cgroup.path(), "{record}");
    assert_eq!(record.get("container_unknown"), None, "{record}");
}

/// Checks [`many`] records of different processes of the container.
fn assert_many(records: &[Value], cgroup: &Cgroup, kind: &str, requested: &Value) {
    assert_eq!(records.len(), many());
    let mut callers = HashSet::new();
    for record in records {
        assert_eq!(record["kind"], kind, "{record}");
        assert_eq!(&record["requested"], requested, "{record}");
        assert_eq!(record["result"], "0", "{record}");
        assert_of_container(record, cgroup);
        let process = match kind {
            "clone" => &record["child"]["process"],
            _ => &record["process"],
        };
        let new = callers.insert((process["pid"].as_u64(), process["start_time"].to_string()));
        assert!(new, "told twice: {record}");
    }
}

/// Checks that a namespace changed from the host's to a new one, in which the task is then.
fn assert_new(record: &Value, name: &str) {
    let change = &record["changed"][name];
    assert_eq!(change["from"], host(name), "{record}");
    assert_ne!(change["to"], change["from"], "{record}");
    assert_eq!(change["to"], record["namespaces"][name], "{record}");
    assert!(change["to"].as_u64().is_some_and(|to| to > 0), "{record}");
}

/// The inode of a namespace of the host.
fn host(name: &str) -> u32 {
    inode(&format!("/proc/self/ns/{name}"))
}

fn count(serve: &Serve, metric: &str, cgroup: &Cgroup, labels: &[(&str, &str)]) -> u64 {
    let path = cgroup.path();
    let of_cgroup = [("id", path.as_str()), ("name", cgroup.name())];
    serve
        .metrics()
        .count(metric, &[labels, &of_cgroup].concat())
}

#[test]
#[ignore = "needs root"]
fn many_unshares() {
    let _room = tests::flood();
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("unshares");
    let run = || run_many(&cgroup, "unshare -n true");
    let records = records_of(&serve, &cgroup, "unshare", run);
    assert_many(&records, &cgroup, "unshare", &json!(["net"]));
    records.iter().for_each(|record| assert_new(record, "net"));
    let counted = count(
        &serve,
        CALLS,
        &cgroup,
        &[("call", "unshare"), ("type", "net")],
    );
    assert_eq!(counted, many() as u64);
    assert_law(&serve);
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn many_clones() {
    let _room = tests::flood();
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("clones");
    let run = || {
        let done = outcome(&mut nscall(
            &cgroup,
            &format!("--times {} clone net,pid", many()),
        ));
        assert_eq!(done, json!({ "failed": 0 }));
    };
    let records = records_of(&serve, &cgroup, "clone", run);
    assert_many(&records, &cgroup, "clone", &json!(["net", "pid"]));
    // One process made them all: it is the same in every record.
    let callers: HashSet<_> = records.iter().map(|it| it["process"].to_string()).collect();
    assert_eq!(callers.len(), 1, "{callers:?}");
    for record in &records {
        for name in ["net", "pid", "pid_for_children"] {
            assert_new(record, name);
        }
        assert_eq!(record["child"]["process"]["ns_pid"], 1, "{record}");
        assert_eq!(
            record["child"]["process"]["ppid"], record["process"]["pid"],
            "{record}"
        );
        assert_eq!(
            record["child"]["container"], record["container"],
            "{record}"
        );
    }
    for kind in ["net", "pid"] {
        let counted = count(&serve, CALLS, &cgroup, &[("call", "clone"), ("type", kind)]);
        assert_eq!(counted, many() as u64, "{kind}");
    }
    assert_law(&serve);
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn many_setns() {
    let _room = tests::flood();
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("setns");
    let target = Container::start(Cgroup::new("target"), "mnt,net");
    let run = || run_many(&cgroup, &format!("nsenter -t {} -n true", target.pid));
    let records = records_of(&serve, &cgroup, "setns", run);
    assert_many(&records, &cgroup, "setns", &json!(["net"]));
    for record in &records {
        assert_new(record, "net");
        assert_eq!(
            record["changed"]["net"]["to"],
            target.inode("net"),
            "{record}"
        );
        assert_eq!(record["joined"]["name"], target.cgroup.name(), "{record}");
        assert_eq!(record["joined"]["cgroup"], target.cgroup.path(), "{record}");
    }
    let counted = count(
        &serve,
        CALLS,
        &cgroup,
        &[("call", "setns"), ("type", "net")],
    );
    assert_eq!(counted, many() as u64);
    assert_law(&serve);
    serve.stop();
}

/// Where another tracer attaches to the end of a function, or detaches from it, the kernel skips the programs there for
/// the calls under way (`bpf_tramp_image_put`, `kernel/bpf/trampoline.c`).
#[test]
#[ignore = "needs root"]
fn while_other_tracers_come_and_go() {
    let _room = tests::flood();
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("others");
    let rounds = fewer(500, 60);
    let run = || {
        // Each waits for the others in the call.
        let line = "for j in 1 2 3 4; do unshare -n true & done; wait";
        thread::scope(|scope| {
            let calls = scope.spawn(|| run_times(rounds, &cgroup, line));
            while !calls.is_finished() {
                Serve::start(&[]).stop();
            }
        });
    };
    let records = records_of(&serve, &cgroup, "unshare", run);
    records.iter().for_each(|record| assert_new(record, "net"));
    let labels = [("call", "unshare"), ("type", "net")];
    let counted = count(&serve, CALLS, &cgroup, &labels);
    assert_eq!((records.len(), counted), (4 * rounds, 4 * rounds as u64));
    assert_law(&serve);
    serve.stop();
}

/// A watcher of the calls that `nscall` makes in the container.
fn watch_calls(serve: &Serve, cgroup: &Cgroup) -> Watch {
    let kinds = ["--kind", "clone,unshare,setns"];
    let callers = ["--comm", "nscall", "--container", cgroup.name()];
    serve.watch(&[kinds.as_slice(), &callers].concat())
}

/// Makes one call in the container, and checks that the stream tells of it what the caller saw.
fn assert_told(watch: &mut Watch, cgroup: &Cgroup, words: &str, requested: &[&str]) -> Value {
    let kinds = ["clone", "unshare", "setns"];
    let kind = kinds.into_iter().find(|kind| words.contains(kind));
    let kind = kind.expect("one of the calls");
    let outcome = outcome(&mut nscall(cgroup, words));
    // A lost line that is about this call leaves nothing to come.
    let record = watch.next(PATIENCE, |record| record["kind"] != "lost");
    assert_eq!(record["kind"], kind, "{words}: {record}");
    assert_eq!(record["requested"], json!(requested), "{words}: {record}");
    assert_eq!(record["changed"], outcome["changed"], "{words}: {record}");
    assert_of_container(&record, cgroup);
    let result = match outcome["errno"].as_i64() {
        Some(0) => "0",
        Some(1) => "EPERM",
        Some(22) => "EINVAL",
        other => panic!("{words}: an unexpected errno: {other:?}"),
    };
    assert_eq!(record["result"], result, "{words}: {record}");
    record
}

#[test]
#[ignore = "needs root"]
fn each_type_by_each_call() {
    let _room = tests::quiet();
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("types");
    let target = Container::start(Cgroup::new("all"), &TYPES.join(","));
    let mut watch = watch_calls(&serve, &cgroup);
    for kind in TYPES {
        // clone(2) has no flag for it.
        let clone = if kind == "time" { "clone3" } else { "clone" };
        let setns = format!("setns {}", target.namespace(kind));
        for (call, words, requested, counted) in [
            ("clone", format!("{clone} {kind}"), &[kind][..], 1),
            ("unshare", format!("unshare {kind}"), &[kind], 1),
            ("setns", format!("{setns} {kind}"), &[kind], 1),
            // Whatever type the file is of.
            ("setns", format!("{setns} none"), &[], 2),
        ] {
            let record = assert_told(&mut watch, &cgroup, &words, requested);
            assert_eq!(record["result"], "0", "{words}: {record}");
            assert_ne!(record["changed"], json!({}), "{words}: {record}");
            if call == "setns" {
                let joined = &record["joined"]["name"];
                assert_eq!(joined, target.cgroup.name(), "{words}: {record}");
            }
            let labels = [("call", call), ("type", kind)];
            assert_eq!(count(&serve, CALLS, &cgroup, &labels), counted, "{words}");
        }
    }
    assert_law(&serve);
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn two_types_in_one_call() {
    let _room = tests::quiet();
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("two");
    let target = Container::start(Cgroup::new("both"), "mnt,net,uts");
    let mut watch = watch_calls(&serve, &cgroup);
    let setns = format!("setns-pid {} net,uts", target.pid);
    for (call, words) in [
        ("clone", "clone net,uts"),
        ("unshare", "unshare net,uts"),
        ("setns", &setns),
    ] {
        let record = assert_told(&mut watch, &cgroup, words, &["net", "uts"]);
        assert_eq!(record["result"], "0", "{record}");
        assert_new(&record, "net");
        assert_new(&record, "uts");
        for kind in ["net", "uts"] {
            let labels = [("call", call), ("type", kind)];
            assert_eq!(count(&serve, CALLS, &cgroup, &labels), 1, "{words}");
        }
    }
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn whose_namespaces_are_joined() {
    let _room = tests::quiet();
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("joins");
    let target = Container::start(Cgroup::new("joined"), "mnt,uts");
    let mut watch = serve.watch(&["--kind", "setns", "--container", cgroup.name()]);
    let mut joined = |from: &[&str], into: &str| {
        let mut command = cgroup.command(from[0]);
        command.args(&from[1..]).arg(tests::nscall::binary());
        command.args(["setns", into, "uts"]);
        assert_eq!(outcome(&mut command)["errno"], 0);
        let mut record = watch.next(PATIENCE, |record| record["kind"] == "setns");
        record["joined"].take()
    };
    let own = ["unshare", "-u"];
    let host = format!("/proc/{}/ns/uts", std::process::id());
    assert_eq!(joined(&own, &host), "host");
    assert_eq!(
        joined(&own, &target.namespace("uts"))["name"],
        target.cgroup.name()
    );
    // Entered is only what is new.
    assert_eq!(joined(&["env"], &host), Value::Null);
    // What no container began with is nobody's.
    let stranger = target
        .cgroup
        .command("unshare")
        .args(["-u", "sleep", "infinity"])
        .spawn();
    let mut stranger = stranger.expect("unshare can be run");
    let its = format!("/proc/{}/ns/uts", stranger.id());
    tests::wait::wait_for("it has a namespace of its own", PATIENCE, || {
        let known = [inode(&host), target.inode("uts")];
        (!known.contains(&inode(&its))).then_some(())
    });
    assert_eq!(joined(&own, &its), Value::Null);
    drop(target);
    stranger.wait().expect("it was killed with its container");
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn calls_that_fail() {
    let _room = tests::quiet();
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("fails");
    let mut watch = watch_calls(&serve, &cgroup);
    let net = format!("setns /proc/{}/ns/net", std::process::id());
    let wrong_type = format!("{net} uts");
    let not_permitted = format!("--user 65534 {net} net");
    let mut failed = [("unshare", 0), ("setns", 0)];
    for (words, requested, result) in [
        ("unshare 0x1", &[][..], "EINVAL"),
        ("setns /dev/null none", &[], "EINVAL"),
        ("setns /dev/null net", &["net"], "EINVAL"),
        (&wrong_type, &["uts"], "EINVAL"),
        ("--user 65534 unshare net,uts", &["net", "uts"], "EPERM"),
        (&not_permitted, &["net"], "EPERM"),
    ] {
        let record = assert_told(&mut watch, &cgroup, words, requested);
        assert_eq!(record["result"], result, "{words}: {record}");
        assert_eq!(record["changed"], json!({}), "{words}: {record}");
        assert_eq!(record.get("joined"), None, "{words}: {record}");
        if result == "EPERM" {
            assert_eq!(record["process"]["uid"], 65534, "{words}: {record}");
        }
        let call = failed.iter_mut().find(|(call, _)| record["kind"] == *call);
        call.expect("an unshare or a setns").1 += 1;
    }
    for (call, times) in failed {
        assert_eq!(
            count(&serve, ERRORS, &cgroup, &[("call", call)]),
            times,
            "{call}"
        );
        for kind in TYPES {
            let labels = [("call", call), ("type", kind)];
            assert_eq!(count(&serve, CALLS, &cgroup, &labels), 0, "{labels:?}");
        }
    }
    assert_law(&serve);
    serve.stop();
}

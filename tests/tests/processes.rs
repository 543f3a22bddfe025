//! Forks, execs and exits: told to whoever asks, with the right container, and to nobody else.

use serde_json::{Value, json};
use tests::cgroup::Cgroup;
use tests::container::{Container, First};
use tests::law::assert_law;
use tests::memory::{Hog, set_limit};
use tests::serve::Serve;
use tests::slow::fewer;
use tests::storm;
use tests::wait::{PATIENCE, wait_for};
use tests::watch::Watch;

/// Processes of a flood that can be told from what the rest of the host does.
fn many() -> u64 {
    fewer(3000, 1000)
}

fn pid(record: &Value) -> u64 {
    record["process"]["pid"].as_u64().expect("a pid")
}

fn is_exit_of(record: &Value, pid: u32) -> bool {
    record["kind"] == "exit" && record["process"]["pid"] == pid
}

/// What the shell in `cgroup` does, and its pid.
fn run(cgroup: &Cgroup, script: &str) -> u32 {
    let mut shell = cgroup.command("/bin/sh");
    let mut shell = shell.args(["-c", script]).spawn().expect("a shell");
    shell.wait().expect("it ends");
    shell.id()
}

/// Those of the kinds of a process's life.
fn lives(records: Vec<Value>) -> Vec<Value> {
    let frequent = |record: &Value| {
        ["fork", "exec", "exit"]
            .map(Value::from)
            .contains(&record["kind"])
    };
    records.into_iter().filter(frequent).collect()
}

#[test]
#[ignore = "needs root"]
fn a_process_from_birth_to_end() {
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("life");
    let mut watch = serve.watch(&["--all", "--container", cgroup.name()]);
    let script = "/bin/true 'a b' ''; exit 3";
    let shell = run(&cgroup, script);
    let records = lives(watch.until(PATIENCE, |record| is_exit_of(record, shell)));
    let kinds: Vec<_> = records.iter().map(|record| &record["kind"]).collect();
    assert_eq!(
        kinds,
        ["exec", "fork", "exec", "exit", "exit"],
        "{records:#?}"
    );
    for record in &records {
        assert_eq!(record["container"]["name"], cgroup.name(), "{record}");
    }
    let [shell_exec, fork, exec, exit, shell_exit] = &records[..] else {
        unreachable!("five, as seen above")
    };
    assert_eq!(shell_exec["argv"], json!(["/bin/sh", "-c", script]));
    assert_eq!(pid(fork), u64::from(shell));
    let child = &fork["child"]["process"]["pid"];
    assert_eq!(fork["child"]["container"]["name"], cgroup.name());
    assert_eq!(
        [&exec["process"]["pid"], &exit["process"]["pid"]],
        [child; 2]
    );
    assert_eq!(exec["argv"], json!(["/bin/true", "a b", ""]));
    assert_eq!(exec["argv_truncated"], Value::Null);
    assert_eq!(exec["process"]["ppid"], shell);
    let ending = |record: &Value| ["code", "signal", "oom_killed"].map(|key| record[key].clone());
    assert_eq!(ending(exit), [json!(0), json!(0), json!(false)]);
    assert_eq!(ending(shell_exit), [json!(3), json!(0), json!(false)]);
    assert_eq!(shell_exit["process"]["comm"], "sh");
    assert_law(&serve);
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn a_child_is_at_its_birth_who_it_is_at_its_end() {
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("births");
    let mut watch = serve.watch(&["--kind", "fork,exit", "--container", cgroup.name()]);
    // One that is elsewhere than its caller, and one beside it that is not in the host's namespaces either.
    let shell = run(
        &cgroup,
        "unshare --pid --fork sh -c '/bin/true; exit 5'; exit 0",
    );
    let records = lives(watch.until(PATIENCE, |record| is_exit_of(record, shell)));
    let who = |process: &Value| {
        ["pid", "tid", "ppid", "ns_pid", "uid", "start_time"].map(|key| process[key].clone())
    };
    let births = records.iter().filter(|record| record["kind"] == "fork");
    let children: Vec<&Value> = births.map(|fork| &fork["child"]["process"]).collect();
    for child in &children {
        let mut ends = records.iter();
        let end = ends.find(|it| it["kind"] == "exit" && it["process"]["pid"] == child["pid"]);
        let end = end.unwrap_or_else(|| panic!("no end of {child}: {records:#?}"));
        assert_eq!(who(child), who(&end["process"]), "{child}");
    }
    let of_own = |child: &&Value| child["ns_pid"].as_u64().expect("a number");
    let numbers: Vec<u64> = children[1..].iter().map(of_own).collect();
    assert_eq!(numbers, [1, 2], "{records:#?}");
    assert_law(&serve);
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn how_processes_end() {
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("ends");
    let mut watch = serve.watch(&["--kind", "exit", "--container", cgroup.name()]);
    let mut ended = |pid: u32| watch.next(PATIENCE, |record| is_exit_of(record, pid));
    let killed = ended(run(&cgroup, "kill -9 $$"));
    assert_eq!(
        [&killed["signal"], &killed["oom_killed"]],
        [&json!(9), &json!(false)]
    );
    let failed = ended(run(&cgroup, "exit 255"));
    assert_eq!(
        [&failed["code"], &failed["signal"]],
        [&json!(255), &json!(0)]
    );
    set_limit(&cgroup, 32 << 20);
    for threads in [1, 8] {
        let mut hog = Hog::start(&cgroup, threads, 128 << 20);
        hog.wait_until_killed();
        let oom = ended(hog.pid());
        assert_eq!(
            [&oom["signal"], &oom["oom_killed"]],
            [&json!(9), &json!(true)],
            "{oom}"
        );
        assert_eq!(oom["process"]["tid"], hog.pid(), "{oom}");
    }
    let metrics = serve.metrics();
    for (how, count) in [
        ("success", 0),
        ("failure", 1),
        ("signal", 1),
        ("oom_killed", 2),
    ] {
        let path = cgroup.path();
        let labels = [("id", path.as_str()), ("how", how)];
        assert_eq!(
            metrics.count("container_exits_total", &labels),
            count,
            "{how}"
        );
    }
    assert_law(&serve);
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn arguments_are_bounded() {
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("argv");
    let mut watch = serve.watch(&["--kind", "exec", "--container", cgroup.name()]);
    let long = "x".repeat(5000);
    // Of 1,024 bytes "/bin/true" has ten with its NUL, and the argument another NUL where it fits.
    for (length, kept) in [(5000, 1014), (1014, 1014), (1013, 1013)] {
        let mut command = cgroup.command("/bin/true");
        let status = command.arg(&long[..length]).status();
        assert!(status.expect("it runs").success());
        let exec = watch.next(PATIENCE, |record| record["argv"][0] == "/bin/true");
        let argument = exec["argv"][1].as_str().expect("a string");
        assert_eq!(argument.len(), kept);
        assert_eq!(exec["argv_truncated"] == true, length > 1013, "{length}");
    }
    serve.stop();
}

/// Processes born and ended in another container.
fn flood(cgroup: &Cgroup) {
    storm::run(&mut storm::storm(cgroup, &format!("vfork {}", many())));
}

/// It goes into a cgroup that was made, and looked at by the programs, before there was a container.
#[test]
#[ignore = "needs root"]
fn the_end_of_a_first_process_in_an_older_cgroup_below() {
    let serve = Serve::start(&[]);
    let own = Cgroup::new("own");
    let below = own.child("below");
    run(&below, "/bin/true");
    let mut watch = serve.watch(&["--kind", "container", "--container", own.name()]);
    let there = below.directory("memory").join("cgroup.procs");
    let script = format!("read; echo 0 > {}; exit 5", there.display());
    let first = First {
        types: "mnt",
        script: &script,
        ..First::default()
    };
    let mut container = Container::run(own, first);
    run(&below, "/bin/true");
    container.tell("go");
    container.wait_for_first();
    let stop = watch.next(PATIENCE, |record| record["action"] == "stop");
    assert_eq!(stop["exit"]["code"], 5, "{stop}");
    assert_law(&serve);
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn nothing_is_sent_that_nobody_wants() {
    let serve = Serve::start(&[]);
    let (wanted, other) = (Cgroup::new("wanted"), Cgroup::new("other"));
    let sent = || serve.metrics().events("kernel", "exit", "submitted");
    let before = sent();
    flood(&other);
    assert!(sent() - before < many() / 2, "sent although nobody watches");
    // A watcher of what is rare changes nothing.
    let rare = serve.watch(&[]);
    let before = sent();
    flood(&other);
    assert!(
        sent() - before < many() / 2,
        "sent to a watcher that did not ask"
    );
    let mut all = serve.watch(&["--all", "--container", other.name()]);
    let before = sent();
    flood(&other);
    assert!(
        sent() - before >= many(),
        "not sent to a watcher that asked"
    );
    let shell = run(&other, "exit");
    let records = all.until(PATIENCE, |record| is_exit_of(record, shell));
    let exits = records.iter().filter(|record| record["kind"] == "exit");
    // The flood's own process and the shell besides.
    assert_eq!(exits.count() as u64, many() + 2);
    drop(all);
    serve.wait_for_watchers(1);
    let mut picky = serve.watch(&["--all", "--container", wanted.name()]);
    // New containers are sent until the agent has told the kernel what they are.
    wait_for("the kernel leaves out another container", PATIENCE, || {
        let before = sent();
        flood(&other);
        (sent() - before < many() / 2).then_some(())
    });
    let shell = run(&wanted, "exit 7");
    let records = picky.until(PATIENCE, |record| is_exit_of(record, shell));
    assert_eq!(
        records.last().map(|record| &record["code"]),
        Some(&json!(7))
    );
    drop((rare, picky));
    serve.wait_for_watchers(0);
    wait_for("the kernel sends nothing any more", PATIENCE, || {
        let before = sent();
        flood(&other);
        (sent() - before < many() / 2).then_some(())
    });
    assert_law(&serve);
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn a_watcher_of_everything_without_a_server() {
    let cgroup = Cgroup::new("lone");
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("nobody.sock");
    let mut watch = Watch::spawn(&socket, &["--kind", "exec", "--container", cgroup.name()]);
    // It does not say when it begins to trace.
    let record = wait_for("it tells of an exec", PATIENCE, || {
        run(&cgroup, "exit");
        watch.take().into_iter().next()
    });
    assert_eq!(record["container"]["name"], cgroup.name(), "{record}");
}

//! Watchers that are killed, early, alone or picky: each gets what it asked for, and none stands in the way of another.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::cgroup::Cgroup;
use tests::law::assert_law;
use tests::nscall::{nscall, outcome};
use tests::process::wait_for_end;
use tests::serve::Serve;
use tests::wait::{PATIENCE, wait_for};
use tests::watch::Watch;

/// One call in the container.
fn call(cgroup: &Cgroup, words: &str) {
    outcome(&mut nscall(cgroup, words));
}

fn is_unshare_of(record: &Value, types: &[&str]) -> bool {
    record["kind"] == "unshare" && record["requested"] == json!(types)
}

#[test]
#[ignore = "needs root"]
fn a_killed_watcher() {
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("killed");
    let mut killed = serve.watch(&["--container", cgroup.name()]);
    let mut other = serve.watch(&["--container", cgroup.name()]);
    call(&cgroup, "unshare uts");
    for watch in [&mut killed, &mut other] {
        watch.next(PATIENCE, |record| is_unshare_of(record, &["uts"]));
    }
    killed.kill();
    // The server sees it without a word to say to it.
    serve.wait_for_watchers(1);
    call(&cgroup, "unshare ipc");
    other.next(PATIENCE, |record| is_unshare_of(record, &["ipc"]));
    assert_law(&serve);
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn two_watchers() {
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("both");
    let arguments = ["--kind", "unshare", "--container", cgroup.name()];
    let mut watches = [serve.watch(&arguments), serve.watch(&arguments)];
    call(&cgroup, "--times 500 unshare uts");
    call(&cgroup, "unshare ipc");
    let [one, two] = watches
        .each_mut()
        .map(|watch| watch.until(PATIENCE, |record| is_unshare_of(record, &["ipc"])));
    assert_eq!(one.len(), 501);
    assert_eq!(one, two);
    assert_law(&serve);
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn a_watcher_that_comes_before_the_probes() {
    let cgroup = Cgroup::new("early");
    let serve = Serve::spawn(&[]);
    wait_for("the socket is there", PATIENCE, || {
        serve.socket().exists().then_some(())
    });
    let arguments = [
        "--kind",
        "unshare",
        "--container",
        cgroup.name(),
        "--limit",
        "1",
    ];
    let watch = Watch::spawn(&serve.socket(), &arguments);
    assert_eq!(
        serve.address(),
        None,
        "it traced already: this test showed nothing"
    );
    serve.wait_until_it_traces();
    serve.wait_for_watchers(1);
    call(&cgroup, "unshare uts");
    let (status, records) = watch.to_end();
    assert!(status.success());
    assert!(is_unshare_of(&records[0], &["uts"]), "{records:?}");
    assert_eq!(records.len(), 1);
    assert_law(&serve);
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn a_watcher_without_a_server() {
    let cgroup = Cgroup::new("alone");
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("nobody.sock");
    let arguments = ["--kind", "unshare", "--container", cgroup.name()];
    let mut watch = Watch::spawn(&socket, &arguments);
    // It does not say when it begins to trace.
    let record = wait_for("it tells of an unshare", PATIENCE, || {
        call(&cgroup, "unshare uts");
        watch.take().into_iter().next()
    });
    assert!(is_unshare_of(&record, &["uts"]), "{record}");
    assert_eq!(record["container"]["name"], cgroup.name(), "{record}");
    let log = watch.log();
    let expected = ["slow every system call", "this command looks by itself"];
    let mut lines = log.lines();
    let is_expected = lines.all(|line| expected.iter().any(|said| line.contains(said)));
    assert!(
        is_expected,
        "no more than why, and the price of its probes: {log}"
    );
}

#[test]
#[ignore = "needs root"]
fn a_reader_that_goes() {
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("gone");
    // Before an event, and at one.
    for events in [0, 1] {
        let mut watch = serve.watch_unread(&["--container", cgroup.name()]);
        for _ in 0..events {
            call(&cgroup, "unshare uts");
        }
        drop(watch.stdout.take());
        let status = wait_for_end(&mut watch, "it ends with its reader");
        assert!(status.success(), "{status}");
        serve.wait_for_watchers(0);
    }
    assert_law(&serve);
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn what_a_watcher_asks_for() {
    let serve = Serve::start(&[]);
    let (cgroup, other) = (Cgroup::new("asked"), Cgroup::new("other"));
    let of_cgroup = ["--container", cgroup.name()];
    let mut by_container = serve.watch(&of_cgroup);
    let mut by_kind = serve.watch(&["--kind", "clone,setns", of_cgroup[0], of_cgroup[1]]);
    let two = serve.watch(&[
        "--limit",
        "2",
        "--kind",
        "unshare",
        of_cgroup[0],
        of_cgroup[1],
    ]);
    call(&other, "unshare uts");
    for words in [
        "unshare uts",
        "clone uts",
        "unshare ipc",
        "setns /dev/null uts",
    ] {
        call(&cgroup, words);
        call(&other, words);
    }
    let is_setns = |record: &Value| record["kind"] == "setns";
    let kinds = |records: &[Value]| -> Vec<String> {
        let of_calls = records
            .iter()
            .filter(|record| record["kind"] != "container");
        of_calls
            .map(|record| record["kind"].as_str().unwrap_or("none").to_owned())
            .collect()
    };
    let of_container = by_container.until(PATIENCE, is_setns);
    assert_eq!(
        kinds(&of_container),
        ["unshare", "clone", "unshare", "setns"]
    );
    let names = of_container
        .iter()
        .map(|record| &record["container"]["name"]);
    assert!(
        names.clone().all(|name| name == cgroup.name()),
        "{of_container:#?}"
    );
    let of_kind = by_kind.until(PATIENCE, is_setns);
    assert_eq!(of_kind.len(), 2, "{of_kind:#?}");
    assert_eq!(kinds(&of_kind), ["clone", "setns"]);
    let (status, of_limit) = two.to_end();
    assert!(status.success(), "{status}");
    assert_eq!(kinds(&of_limit), ["unshare", "unshare"]);
    assert_eq!(of_limit[1]["requested"], json!(["ipc"]));
    serve.wait_for_watchers(2);
    assert_law(&serve);
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn a_watcher_with_a_time() {
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("time");
    let started = Instant::now();
    let watch = serve.watch(&["--for", "2s", "--container", cgroup.name()]);
    call(&cgroup, "unshare uts");
    let (status, records) = watch.to_end();
    let took = started.elapsed();
    assert!(status.success(), "{status}");
    assert!(
        records.iter().any(|record| is_unshare_of(record, &["uts"])),
        "{records:#?}"
    );
    let time = Duration::from_secs(2)..Duration::from_secs(10);
    assert!(time.contains(&took), "{took:?}");
    serve.wait_for_watchers(0);
    assert_law(&serve);
    serve.stop();
}

//! Many processes at once, each living less than a millisecond: none goes unseen, none is on another's account.
//!
//! One test at a time: a watcher of the whole host sees the storm of another test.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader, Seek as _};
use std::time::Duration;

use memchr::memmem;
use serde_json::Value;
use tests::cgroup::Cgroup;
use tests::container::{Container, First};
use tests::law::assert_law;
use tests::process::wait_for_end;
use tests::serve::Serve;
use tests::storm::{self, storm};
use tests::wait::wait_for;

const CONTAINERS: usize = 50;
const EXECS_EACH: usize = 200;

const PROCESSES: u64 = 200_000;
const STORMS: usize = 4;

/// Where events can be lost.
const LOSSES: [(&str, &str); 4] = [
    ("kernel", "no_room"),
    ("kernel", "suppressed"),
    ("decode", "undecodable"),
    ("sink", "lost"),
];

/// For a storm, on a machine that has other things to do.
const STORM: Duration = Duration::from_secs(120);

/// What tells a process from all others.
fn key(record: &Value) -> String {
    let process = &record["process"];
    format!("{} {}", process["pid"], process["start_time"])
}

#[test]
fn ten_thousand_processes_of_fifty_containers() {
    if !tests::root() {
        return;
    }
    let _alone = tests::alone();
    let serve = Serve::start(&[]);
    let mut watch = serve.watch(&["--kind", "exec,exit"]);
    // Born while they are watched.
    let mut containers: Vec<Container> = (0..CONTAINERS).map(|_| raging_container()).collect();
    for container in &mut containers {
        container.tell("go");
    }
    for container in &containers {
        wait_for("a storm is over", STORM, || {
            (container.line() == "over").then_some(())
        });
    }
    let records = watch.until_now(STORM);
    let lost: Vec<_> = records.iter().filter(|it| it["kind"] == "lost").collect();
    assert!(lost.is_empty(), "{lost:?}");
    let marks = check_execs(&records, &containers);
    check_exits(&records, &marks);
    assert_law(&serve);
    serve.stop();
}

/// A container whose first process makes a storm when it is told to, of processes that say whose they are.
fn raging_container() -> Container {
    let cgroup = Cgroup::new("storm");
    let (storm, name) = (
        storm::binary().display().to_string(),
        cgroup.name().to_owned(),
    );
    let script = format!("read; {storm} exec {EXECS_EACH} {name} && echo over; read");
    Container::run(
        cgroup,
        First {
            types: "mnt,pid",
            script: &script,
            ..First::default()
        },
    )
}

/// Each exec of a storm is its container's. The container of each process, by its key.
fn check_execs(records: &[Value], containers: &[Container]) -> HashMap<String, String> {
    let mut marks = HashMap::new();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let storms = records
        .iter()
        .filter(|it| it["kind"] == "exec" && it["argv"][0] == "storm" && it["argv"][1] == "end");
    for record in storms {
        let mark = record["argv"][2].as_str().expect("a mark");
        assert_eq!(record["container"]["name"], mark, "{record}");
        assert_eq!(record["argv_truncated"], Value::Null, "{record}");
        *counts.entry(mark).or_default() += 1;
        marks.insert(key(record), mark.to_owned());
    }
    for container in containers {
        let name = container.cgroup.name();
        assert_eq!(counts.get(name), Some(&EXECS_EACH), "{name}");
    }
    assert_eq!(marks.len(), CONTAINERS * EXECS_EACH);
    marks
}

/// Each of these processes ended once, well, in its container.
fn check_exits(records: &[Value], marks: &HashMap<String, String>) {
    let mut lives = Vec::new();
    for record in records.iter().filter(|it| it["kind"] == "exit") {
        let Some(mark) = marks.get(&key(record)) else {
            continue;
        };
        assert_eq!(record["container"]["name"], **mark, "{record}");
        assert_eq!([&record["code"], &record["signal"]], [0, 0], "{record}");
        lives.push(record["duration_ms"].as_u64().expect("a duration"));
    }
    assert_eq!(lives.len(), marks.len(), "exits");
    lives.sort_unstable();
    println!("the median process lived {} ms", lives[lives.len() / 2]);
}

#[test]
fn threads_that_end_together_are_one_exit() {
    const PROCESSES: usize = 1000;
    if !tests::root() {
        return;
    }
    let _alone = tests::alone();
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("threads");
    let mut watch = serve.watch(&["--kind", "exec,exit"]);
    storm::run(&mut storm(
        &cgroup,
        &format!("--procs 2 threads {PROCESSES} 16"),
    ));
    let records = watch.until_now(STORM);
    let inside = records
        .iter()
        .filter(|it| it["container"]["name"] == cgroup.name());
    let exits: Vec<_> = inside.filter(|it| it["kind"] == "exit").collect();
    // Besides storm itself, and the two that share its work.
    assert_eq!(exits.len(), PROCESSES + 3);
    let mut keys: Vec<_> = exits.iter().map(|exit| key(exit)).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), PROCESSES + 3, "some ended twice");
    for exit in exits {
        assert_eq!(exit["process"]["pid"], exit["process"]["tid"], "{exit}");
        assert_eq!(exit["process"]["comm"], "storm", "{exit}");
    }
    assert_law(&serve);
    serve.stop();
}

/// A machine whose host takes its CPUs away for a second makes the agent lose some, which it says. So one of several
/// storms must be told of without a gap, and of each the agent must say exactly what is missing.
#[test]
fn two_hundred_thousand_processes() {
    if !tests::root() {
        return;
    }
    let _alone = tests::alone();
    let mut losses = (0..STORMS).map(|_| watched_storm());
    assert!(
        losses.any(|lost| lost == 0),
        "each of {STORMS} storms lost some"
    );
}

/// A storm that somebody watches with all else, told of into a file: how many of its records were lost.
fn watched_storm() -> u64 {
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("flood");
    let mut lines = tempfile::tempfile().expect("a file for the lines");
    let output = lines.try_clone().expect("a descriptor of it");
    let mut everything = serve.watch_into(output, &["--all"]);
    storm::run(&mut storm(&cgroup, &format!("--procs 2 vfork {PROCESSES}")));
    assert_law(&serve);
    let metrics = serve.metrics();
    serve.stop();
    // It ends with the server, and has written all by then.
    wait_for_end(&mut everything, "the watcher ends");
    lines.rewind().expect("the lines");
    let counts = count(lines, &format!("\"name\":\"{}\"", cgroup.name()));
    // The two that share the work are forked too; storm itself ends, and was forked elsewhere.
    let happened = [PROCESSES + 2, PROCESSES + 3];
    let kinds = ["fork", "exit"].into_iter().zip(counts).zip(happened);
    let losses = kinds.map(|((kind, count), happened)| {
        let lost = LOSSES.map(|(stage, outcome)| metrics.events(stage, kind, outcome));
        println!("{kind}: {count} of {happened}, lost {lost:?} {LOSSES:?}");
        let lost: u64 = lost.iter().sum();
        // What was lost may be of others.
        assert!(count <= happened && count + lost >= happened, "{kind}");
        lost
    });
    losses.sum()
}

/// How many forks and exits of a container the lines tell of.
fn count(lines: impl std::io::Read, name: &str) -> [u64; 2] {
    let name = memmem::Finder::new(name);
    let kinds = [r#""kind":"fork""#, r#""kind":"exit""#].map(memmem::Finder::new);
    let mut lines = BufReader::with_capacity(1 << 20, lines);
    let (mut line, mut counts) = (Vec::new(), [0; 2]);
    while lines
        .read_until(b'\n', &mut line)
        .is_ok_and(|bytes| bytes > 0)
    {
        if name.find(&line).is_some() {
            for (count, kind) in counts.iter_mut().zip(&kinds) {
                *count += u64::from(kind.find(&line).is_some());
            }
        }
        line.clear();
    }
    counts
}

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
use tests::slow::fewer;
use tests::storm::{self, storm};
use tests::wait::wait_for;
use tests::watch::{DAY, time};

const CONTAINERS: usize = 50;

/// Of each container.
fn execs_each() -> usize {
    fewer(200, 20)
}

fn processes() -> u64 {
    fewer(200_000, 1000)
}

/// Processes a second.
fn rate() -> u64 {
    fewer(32_000, 100)
}

/// Where events can be lost.
const LOSSES: [(&str, &str); 4] = [
    ("kernel", "no_room"),
    ("kernel", "suppressed"),
    ("decode", "undecodable"),
    ("sink", "lost"),
];

/// For a storm, on a machine that has other things to do.
const STORM: Duration = Duration::from_secs(120);

/// From exec to exit, in the middle of all, in seconds: where nobody traces them either.
const LIFE: f64 = 0.001;

/// A process of a storm that said whose it is.
struct Executed {
    mark: String,
    /// The second of the day.
    time: f64,
}

/// What tells a process from all others.
fn key(record: &Value) -> String {
    let process = &record["process"];
    format!("{} {}", process["pid"], process["start_time"])
}

/// What was counted of a container, exactly.
#[track_caller]
fn assert_counted(serve: &Serve, cgroup: &Cgroup, counts: [(&str, u64); 3]) {
    let (metrics, id) = (serve.metrics(), cgroup.path());
    for (what, wanted) in counts {
        let name = format!("container_{what}_total");
        assert_eq!(metrics.count(&name, &[("id", &id)]), wanted, "{name} {id}");
    }
}

#[test]
#[ignore = "needs root"]
fn ten_thousand_processes_of_fifty_containers() {
    let _alone = tests::alone();
    let untraced = untraced_life();
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
    let executed = check_execs(&records, &containers);
    let life = check_exits(&records, &executed);
    println!("lives: {untraced:.6} s untraced, birth and burial included; {life:.6} s traced");
    assert!(life < LIFE || untraced >= LIFE, "{life} s");
    for container in &containers {
        // The first process executes bash, which starts storm.
        let execs = execs_each() as u64 + 2;
        let counts = [
            ("execs", execs),
            ("forks", execs - 1),
            ("threads_created", 0),
        ];
        assert_counted(&serve, &container.cgroup, counts);
    }
    assert_law(&serve);
    serve.stop();
}

/// How long a process of a storm takes, one after the other, where nobody traces, in seconds.
fn untraced_life() -> f64 {
    let execs = fewer(1000, 100);
    let cgroup = Cgroup::new("untraced");
    let took = storm::run(&mut storm(&cgroup, &format!("exec {execs}")));
    (took / execs).as_secs_f64()
}

/// A container whose first process makes a storm when it is told to, of processes that say whose they are.
fn raging_container() -> Container {
    let cgroup = Cgroup::new("storm");
    let (storm, name) = (
        storm::binary().display().to_string(),
        cgroup.name().to_owned(),
    );
    let execs = execs_each();
    let script = format!("read; {storm} exec {execs} {name} && echo over; read");
    Container::run(
        cgroup,
        First {
            types: "mnt,pid",
            script: &script,
            ..First::default()
        },
    )
}

/// Each exec of a storm is its container's. The processes by their keys.
fn check_execs(records: &[Value], containers: &[Container]) -> HashMap<String, Executed> {
    let mut executed = HashMap::new();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let storms = records
        .iter()
        .filter(|it| it["kind"] == "exec" && it["argv"][0] == "storm" && it["argv"][1] == "end");
    for record in storms {
        let mark = record["argv"][2].as_str().expect("a mark");
        assert_eq!(record["container"]["name"], mark, "{record}");
        assert_eq!(record["argv_truncated"], Value::Null, "{record}");
        *counts.entry(mark).or_default() += 1;
        let (mark, time) = (mark.to_owned(), time(record));
        executed.insert(key(record), Executed { mark, time });
    }
    for container in containers {
        let name = container.cgroup.name();
        assert_eq!(counts.get(name), Some(&execs_each()), "{name}");
    }
    assert_eq!(executed.len(), CONTAINERS * execs_each());
    executed
}

/// Each of these processes ended once, well, in its container. How long it was from exec to exit in the middle, in
/// seconds.
fn check_exits(records: &[Value], executed: &HashMap<String, Executed>) -> f64 {
    let mut lives = Vec::new();
    for record in records.iter().filter(|it| it["kind"] == "exit") {
        let Some(exec) = executed.get(&key(record)) else {
            continue;
        };
        assert_eq!(record["container"]["name"], *exec.mark, "{record}");
        assert_eq!([&record["code"], &record["signal"]], [0, 0], "{record}");
        // The storm may have lasted until the next day.
        lives.push((time(record) - exec.time).rem_euclid(DAY));
    }
    assert_eq!(lives.len(), executed.len(), "exits");
    lives.sort_unstable_by(f64::total_cmp);
    lives[lives.len() / 2]
}

#[test]
#[ignore = "needs root"]
fn threads_that_end_together_are_one_exit() {
    const THREADS: usize = 16;
    let _alone = tests::alone();
    let threaded: usize = fewer(1000, 100);
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("threads");
    let mut watch = serve.watch(&["--kind", "exec,exit"]);
    storm::run(&mut storm(
        &cgroup,
        &format!("--procs 2 threads {threaded} {THREADS}"),
    ));
    let records = watch.until_now(STORM);
    let inside = records
        .iter()
        .filter(|it| it["container"]["name"] == cgroup.name());
    let exits: Vec<_> = inside.filter(|it| it["kind"] == "exit").collect();
    // Besides storm itself, and the two that share its work.
    assert_eq!(exits.len(), threaded + 3);
    let mut keys: Vec<_> = exits.iter().map(|exit| key(exit)).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), threaded + 3, "some ended twice");
    for exit in exits {
        assert_eq!(exit["process"]["pid"], exit["process"]["tid"], "{exit}");
        assert_eq!(exit["process"]["comm"], "storm", "{exit}");
    }
    let (processes, threads) = (threaded as u64, THREADS as u64);
    let counts = [
        ("forks", processes + 2),
        ("threads_created", processes * (threads - 1)),
        ("execs", 1),
    ];
    assert_counted(&serve, &cgroup, counts);
    assert_law(&serve);
    serve.stop();
}

/// Nothing is lost of as many as this a second.
#[test]
#[ignore = "needs root"]
fn two_hundred_thousand_processes() {
    let _alone = tests::alone();
    let lost = watched_storm(&format!(
        "--procs 2 --rate {} vfork {}",
        rate(),
        processes()
    ));
    assert_eq!(lost, 0);
}

/// As many as the machine makes, without a pause in which the agent could run: it says exactly what it had no time for.
#[test]
#[ignore = "needs root"]
fn two_hundred_thousand_processes_at_full_speed() {
    let _alone = tests::alone();
    watched_storm(&format!("--procs 2 vfork {}", processes()));
}

/// A storm that somebody watches with all else, told of into a file: how many of its records were lost.
fn watched_storm(words: &str) -> u64 {
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("flood");
    let mut lines = tempfile::tempfile().expect("a file for the lines");
    let output = lines.try_clone().expect("a descriptor of it");
    let mut everything = serve.watch_into(output, &["--all"]);
    let took = storm::run(&mut storm(&cgroup, words));
    println!(
        "{:.0} processes a second",
        processes() as f64 / took.as_secs_f64()
    );
    let counts = [
        ("forks", processes() + 2),
        ("threads_created", 0),
        ("execs", 1),
    ];
    assert_counted(&serve, &cgroup, counts);
    assert_law(&serve);
    let metrics = serve.metrics();
    serve.stop();
    // It ends with the server, and has written all by then.
    wait_for_end(&mut everything, "the watcher ends");
    lines.rewind().expect("the lines");
    let counts = count(lines, &format!("\"name\":\"{}\"", cgroup.name()));
    // The two that share the work are forked too; storm itself ends, and was forked elsewhere.
    let happened = [processes() + 2, processes() + 3];
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

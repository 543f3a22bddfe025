//! What tracing costs those who are traced: the time of a storm of processes that do nothing but end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;
use tests::agent::profile;
use tests::cgroup::Cgroup;
use tests::law::assert_law;
use tests::wait::{PATIENCE, wait_for};

use crate::Size;
use crate::agent::{self, Watcher, ending_with_us};
use crate::bpftrace::Bpftrace;
use crate::cgroups::Guard;
use crate::report::{Figure, Unit, median, median_ratio};

/// A storm of less than a second: in a longer one, a machine that is shared is another one at its end.
const PROCESSES: u32 = 20_000;

const ROUNDS: u32 = 32;

/// Who looks on, and in one of how many rounds: bpftrace is too far from its bound for noise to matter.
const SIDES: [(Side, u32); 3] = [(Side::Serve, 1), (Side::Watch, 1), (Side::Bpftrace, 4)];

#[derive(Clone, Copy)]
enum Side {
    Serve,
    Watch,
    Bpftrace,
}

/// Seconds of the storms that a side looked on, and of the storm beside each that nobody did.
#[derive(Default)]
struct Pairs {
    traced: Vec<f64>,
    untraced: Vec<f64>,
}

/// A process for good, whatever its pid is used for later: its pid and when it started.
type Process = (u64, String);

/// What the storm's cgroup has in the file of a watcher.
#[derive(Default)]
struct Told {
    /// The parent's pid, by child.
    forks: BTreeMap<Process, u64>,
    /// Of processes, how often.
    exits: BTreeMap<Process, u32>,
    /// Lines of forks.
    fork_lines: u32,
}

pub fn measure(size: Size) -> Vec<Figure> {
    let count = size.count.unwrap_or(PROCESSES);
    let guard = Guard::start();
    let new_storm = || Storm::new(&guard, count, size.procs);
    let mut pairs = SIDES.map(|_| Pairs::default());
    let mut lost_by_bpftrace = 0;
    for round in 0..size.rounds.unwrap_or(ROUNDS) {
        for ((side, every), pairs) in SIDES.into_iter().zip(&mut pairs) {
            if round % every != 0 {
                continue;
            }
            let mut traced = || {
                let storm = new_storm();
                match side {
                    Side::Serve => served(&storm),
                    Side::Watch => watched(&storm),
                    Side::Bpftrace => bpftraced(&storm, &mut lost_by_bpftrace),
                }
            };
            // Each is as often the first as the second.
            if round / every % 2 == 0 {
                pairs.traced.push(traced());
                pairs.untraced.push(new_storm().run());
            } else {
                pairs.untraced.push(new_storm().run());
                pairs.traced.push(traced());
            }
        }
    }
    let ratios = pairs
        .each_ref()
        .map(|it| median_ratio(&it.traced, &it.untraced));
    let [serve, watch, bpftrace] = ratios;
    let untraced = median(pairs.into_iter().flat_map(|it| it.untraced)) / f64::from(count);
    vec![
        Figure::new("storm: a process, untraced", Unit::Seconds, untraced),
        Figure::new("storm: agent serve, no watcher", Unit::Ratio, serve).at_most(1.03),
        Figure::new("storm: agent watch --all into a file", Unit::Ratio, watch).at_most(1.15),
        Figure::new("storm: bpftrace into a file", Unit::Ratio, bpftrace),
        Figure::new(
            "storm: events that bpftrace lost",
            Unit::Count,
            lost_by_bpftrace as f64,
        ),
        Figure::new(
            "storm: overhead of agent watch against bpftrace's",
            Unit::Ratio,
            overhead(watch) / overhead(bpftrace),
        )
        .at_most(0.2),
    ]
}

/// What a ratio has beyond 1. Noise alone may make it less.
fn overhead(ratio: f64) -> f64 {
    (ratio - 1.0).max(0.0)
}

/// With `agent serve`, and without a watcher.
fn served(storm: &Storm) -> f64 {
    let serve = agent::start();
    let seconds = storm.run();
    assert_law(&serve);
    serve.stop();
    seconds
}

/// With a watcher of everything: each birth and each end is told once.
fn watched(storm: &Storm) -> f64 {
    let directory = TempDir::new().expect("a directory for the lines");
    let lines = directory.path().join("lines");
    let serve = agent::start();
    let watcher = Watcher::start(&serve, &lines);
    let seconds = storm.run();
    wait_for("the last end is told", PATIENCE, || {
        let metrics = serve.metrics();
        let [matched, done] = [&["matched"][..], &["written", "lost"]].map(|outcomes| {
            let counts = outcomes
                .iter()
                .map(|outcome| metrics.events("sink", "exit", outcome));
            counts.sum::<u64>()
        });
        (matched == done && done >= u64::from(storm.count)).then_some(())
    });
    assert_law(&serve);
    serve.stop();
    // It ends with the server, and has written all by then.
    watcher.wait();
    Told::read(&lines, &storm.cgroup).assert_complete(storm.count);
    seconds
}

fn bpftraced(storm: &Storm, lost: &mut u64) -> f64 {
    let directory = TempDir::new().expect("a directory for the lines");
    let bpftrace = Bpftrace::start(&directory.path().join("lines"));
    let seconds = storm.run();
    *lost += bpftrace.stop();
    seconds
}

/// A storm, in a container of its own.
struct Storm {
    cgroup: Cgroup,
    count: u32,
    procs: u32,
}

impl Storm {
    fn new(guard: &Guard, count: u32, procs: u32) -> Self {
        Self {
            cgroup: guard.cgroup(),
            count,
            procs,
        }
    }

    /// Runs it to its end: how many seconds it took, by its own clock.
    fn run(&self) -> f64 {
        let mut storm = self.cgroup.command(profile().join("storm"));
        storm.args(["--procs", &self.procs.to_string()]);
        storm.args(["vfork", &self.count.to_string()]);
        let output = ending_with_us(&storm).stderr(Stdio::inherit()).output();
        let output = output.expect("storm can be run");
        assert!(output.status.success(), "storm: {}", output.status);
        let said: Value = serde_json::from_slice(&output.stdout).expect("storm prints JSON");
        assert_eq!(said["processes"], self.count, "{said}");
        said["seconds"].as_f64().expect("a time")
    }
}

impl Told {
    /// # Panics
    /// At a line that is no record, or that tells of a loss.
    fn read(lines: &Path, cgroup: &Cgroup) -> Self {
        let mut told = Self::default();
        let file = BufReader::new(File::open(lines).expect("the lines"));
        for line in file.lines() {
            let line = line.expect("a line of text");
            let record: Value =
                serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert_ne!(record["kind"], "lost", "{line}");
            if record["container"]["id"] == cgroup.name() {
                told.add(&record);
            }
        }
        told
    }

    fn add(&mut self, record: &Value) {
        let process = process(&record["process"]);
        match record["kind"].as_str() {
            Some("fork") => {
                self.fork_lines += 1;
                self.forks
                    .insert(self::process(&record["child"]["process"]), process.0);
            }
            Some("exit") => *self.exits.entry(process).or_default() += 1,
            _ => {}
        }
    }

    /// Checks that `count` processes were born and ended, each once, beside those that made them.
    fn assert_complete(&self, count: u32) {
        assert_eq!(
            self.fork_lines as usize,
            self.forks.len(),
            "a birth is told twice"
        );
        let parents: BTreeSet<u64> = self.forks.values().copied().collect();
        let made = self.forks.keys().filter(|(pid, _)| !parents.contains(pid));
        let ended = made
            .clone()
            .filter(|process| self.exits.get(*process) == Some(&1));
        let (made, ended) = (made.count(), ended.count());
        assert_eq!(
            [made, ended],
            [count as usize; 2],
            "processes born, and of these ended once"
        );
    }
}

fn process(of: &Value) -> Process {
    let pid = of["pid"].as_u64();
    let start = of["start_time"].as_str();
    let (pid, start) = pid.zip(start).unwrap_or_else(|| panic!("no process: {of}"));
    (pid, start.to_owned())
}

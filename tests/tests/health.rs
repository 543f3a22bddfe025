//! /healthz answers whatever the host does: nothing that it needs is locked while cgroups are walked.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::cgroup::Cgroup;
use tests::serve::Serve;
use tests::slow::{fewer, longer};

const CGROUPS: u32 = 16_000;

/// In which it answers.
const WITHIN: Duration = Duration::from_millis(100);

/// How long the agent is stopped, and how long it is asked then.
const STOPPED: Duration = Duration::from_secs(2);
const ASKED: Duration = Duration::from_secs(8);

/// Many cgroups. Dropping it removes them.
struct Many(PathBuf);

impl Many {
    fn new(parent: &Path) -> Self {
        let many = Self(parent.to_owned());
        for number in 0..fewer(CGROUPS, 1_000) {
            fs::create_dir(parent.join(number.to_string())).expect("a cgroup can be made");
        }
        many
    }
}

impl Drop for Many {
    fn drop(&mut self) {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        // The files of the cgroup are no directories.
        entries.for_each(|entry| drop(fs::remove_dir(entry.path())));
    }
}

/// Makes and removes cgroups until it is to stop.
fn storm(parent: &Path, stop: &AtomicBool) {
    let storm: Vec<_> = (0..64)
        .map(|it| parent.join(format!("storm{it}")))
        .collect();
    while !stop.load(Ordering::Relaxed) {
        for path in &storm {
            fs::create_dir(path).expect("a cgroup can be made");
        }
        for path in &storm {
            fs::remove_dir(path).expect("it is empty");
        }
    }
}

/// The longest that this busy machine let a thread wait for the CPU.
fn latest(stop: &AtomicBool) -> Duration {
    const NAP: Duration = Duration::from_millis(1);
    let mut latest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        thread::sleep(NAP);
        latest = latest.max(began.elapsed() - NAP);
    }
    latest
}

/// Lets the threads of a test end, also where it fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The longest that an answer took.
fn longest(serve: &Serve, time: Duration) -> Duration {
    let began = Instant::now();
    let mut longest = Duration::ZERO;
    while began.elapsed() < time {
        let asked = Instant::now();
        assert_eq!(serve.get("/healthz").status, 200);
        longest = longest.max(asked.elapsed());
        thread::sleep(Duration::from_millis(5));
    }
    longest
}

#[test]
#[ignore = "needs root"]
fn it_answers_while_cgroups_are_made_and_walked() {
    let parent = Cgroup::strangers("health", "many");
    let many = Many::new(&parent.directory("pids"));
    let serve = Serve::start(&["--docker-socket", "off"]);
    let watch = serve.watch(&["--kind", "exec,exit,setns"]);
    let stop = AtomicBool::new(false);
    let (longest, latest) = thread::scope(|scope| {
        let stops = Stop(&stop);
        scope.spawn(|| storm(&many.0, &stop));
        let scrapes = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                serve.get("/metrics");
            }
        });
        let latest = scope.spawn(|| latest(&stop));
        let before = longest(&serve, ASKED / 2);
        serve.signal(Signal::STOP);
        thread::sleep(STOPPED);
        serve.signal(Signal::CONT);
        let after = longest(&serve, longer(ASKED));
        drop(stops);
        scrapes.join().expect("scrapes end");
        (before.max(after), latest.join().expect("it ends"))
    });
    println!("the longest answer took {longest:?}, and a thread waited {latest:?}");
    assert!(longest <= longer(WITHIN) + latest, "{longest:?} {latest:?}");
    drop((watch, many));
    serve.stop();
}

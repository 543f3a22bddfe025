//! The law that no event is lost without being counted.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::metrics::Metrics;
use crate::serve::Serve;
use crate::wait::{PATIENCE, wait_for};

/// Kinds of records in the kernel's rings.
const KERNEL: &[&str] = &[
    "clone",
    "unshare",
    "setns",
    "oom",
    "cgroup_mkdir",
    "cgroup_rmdir",
    "cgroup_populated",
    "exec",
    "exit",
    "fork",
    "escape",
];

/// Kinds of records in streams, but `lost`.
const STREAM: &[&str] = &[
    "clone",
    "unshare",
    "setns",
    "oom",
    "container",
    "escape",
    "fork",
    "exec",
    "exit",
];

/// A stage and an outcome there.
type Outcome = (&'static str, &'static str);

/// For each of these kinds, what came in is as much as what is accounted for.
const LAWS: [(&[&str], Outcome, &[Outcome]); 3] = [
    (
        KERNEL,
        ("kernel", "seen"),
        &[
            ("kernel", "submitted"),
            ("kernel", "no_room"),
            ("kernel", "unwanted"),
            ("kernel", "suppressed"),
        ],
    ),
    (
        KERNEL,
        ("kernel", "submitted"),
        &[("decode", "decoded"), ("decode", "undecodable")],
    ),
    (
        STREAM,
        ("sink", "matched"),
        &[("sink", "written"), ("sink", "lost")],
    ),
];

/// How often in a row a law must hold for a kind. Other tests go on, so an event may be on its way during a scrape, and
/// one that is on its way may hide, in one scrape, one that is missing.
const TIMES: u32 = 3;

/// Between scrapes, so that they do not make the noise.
const PAUSE: Duration = Duration::from_millis(5);

/// A law for one kind, and how often in a row it held.
struct Equation {
    kind: &'static str,
    came: Outcome,
    accounted: &'static [Outcome],
    held: u32,
    last: [u64; 2],
}

impl Equation {
    fn all() -> Vec<Self> {
        let laws = LAWS.iter();
        let equations = laws.flat_map(|(kinds, came, accounted)| {
            kinds.iter().map(|kind| Self {
                kind,
                came: *came,
                accounted,
                held: 0,
                last: [0; 2],
            })
        });
        equations.collect()
    }

    /// Whether it held often enough, this time included.
    fn is_proven_by(&mut self, metrics: &Metrics) -> bool {
        let count = |(stage, outcome): &Outcome| metrics.events(stage, self.kind, outcome);
        let accounted: u64 = self.accounted.iter().map(count).sum();
        self.last = [count(&self.came), accounted];
        self.held = if self.last[0] == self.last[1] {
            self.held + 1
        } else {
            0
        };
        self.held >= TIMES
    }

    fn text(&self) -> String {
        let [came, accounted] = self.last;
        let (stage, outcome) = self.came;
        format!(
            "{}: {came} {outcome} at {stage}, but {accounted} are {:?}",
            self.kind, self.accounted
        )
    }
}

/// Waits until the law holds at every stage for every kind.
///
/// # Panics
/// Where it does not hold in the end.
pub fn assert_law(serve: &Serve) {
    let started = Instant::now();
    let mut unproven = Equation::all();
    let mut scrapes = 0;
    // A scrape of thousands of cgroups takes its time.
    while !unproven.is_empty() && (started.elapsed() < PATIENCE || scrapes < 3 * TIMES) {
        let metrics = serve.metrics();
        unproven.retain_mut(|equation| !equation.is_proven_by(&metrics));
        scrapes += 1;
        sleep(PAUSE);
    }
    let broken: Vec<_> = unproven.iter().map(Equation::text).collect();
    assert!(
        broken.is_empty(),
        "events are not accounted for in {scrapes} scrapes: {broken:#?}"
    );
}

/// Checks the `lost` lines of the only stream of a server, which is filtered for one container: they are about records of others
/// alone, as far as the server can tell. The stream's own queue lost nothing, and each record in a line is one that the kernel
/// counts as not sent or not seen. The kernel does not say whose those are: the caller compares the container's records with its count.
///
/// # Panics
/// Where a line is not accounted for.
pub fn assert_others_lost(serve: &Serve, kind: &str, lines: &[Value]) {
    let metrics = serve.metrics();
    let queue = metrics.events("sink", kind, "lost");
    assert_eq!(queue, 0, "the stream lost some of its own: {lines:?}");
    let told = lines.iter().filter_map(|line| line["kinds"][kind].as_u64());
    let told: u64 = told.sum();
    let probe = if kind == "clone" { "fork" } else { kind };
    let unseen = metrics.count("agent_probe_missed_total", &[("probe", probe)]);
    let unsent = ["no_room", "suppressed"].map(|outcome| metrics.events("kernel", kind, outcome));
    let lost = unseen + unsent.iter().sum::<u64>();
    assert!(told <= lost, "{lost} are lost, and told are {lines:?}");
}

/// Likewise, where something of every kind happened, and somebody watched all of them.
///
/// # Panics
/// Likewise, and where nothing of a kind came.
pub fn assert_law_of_every_kind(serve: &Serve) {
    let came = |stage, outcome| move |kind: &&'static str| (stage, *kind, outcome);
    let kernel = KERNEL.iter().map(came("kernel", "seen"));
    let stream = STREAM.iter().map(came("sink", "matched"));
    for (stage, kind, outcome) in kernel.chain(stream) {
        wait_for(&format!("{kind} at {stage}"), PATIENCE, || {
            (serve.metrics().events(stage, kind, outcome) > 0).then_some(())
        });
    }
    assert_law(serve);
}

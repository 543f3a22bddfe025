//! What a scrape costs where there are many cgroups.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::time::Instant;

use tests::cgroup::Cgroup;
use tests::metrics::Metrics;
use tests::serve::{Response, Serve, receive};

use crate::agent::{self, may_open, resident};
use crate::cgroups::{Guard, Network, Sleeper, Sleepers};
use crate::files::{read_by_a_first_scrape, sweep};
use crate::report::{Figure, Unit, median, median_ratio};
use crate::{ROUNDS, Size};

const CGROUPS: u32 = 1000;

/// How often as many cgroups there are when it is looked whether the cost grows as they do.
const MORE: f64 = 2.5;

/// By how much a cgroup may then cost more, for what caches hold no longer.
const LINEAR: f64 = 1.2;

pub fn measure(size: Size) -> Vec<Figure> {
    let few = size.count.unwrap_or(CGROUPS);
    let many = (f64::from(few) * MORE) as u32;
    let rounds = size.rounds.unwrap_or(ROUNDS);
    let guard = Guard::start();
    let mut figures = Vec::new();
    let networks = with_networks(&guard, few, rounds);
    let mut sleepers = Sleepers::start(&guard, few, Network::Host);
    let serve = agent::start();
    let at_few = Cost::of(&serve, &sleepers, rounds);
    figures.extend(at_few.figures(few));
    figures.extend(held(&serve));
    // Of the descriptors that it may keep, more cgroups have fewer each: with so few, what do those of fewer cost?
    let frugal = agent::start_with((may_open(serve.pid()) / MORE) as u64);
    let at_few_frugal = Cost::of(&frugal, &sleepers, rounds);
    frugal.stop();
    sleepers.grow(&guard, many);
    let at_many = Cost::of(&serve, &sleepers, rounds);
    let against = |cost: &Cost| at_many.scrape / f64::from(many) / (cost.scrape / f64::from(few));
    figures.extend([
        Figure::new(
            format!("scrape: {many} cgroups"),
            Unit::Seconds,
            at_many.scrape,
        ),
        Figure::new(
            format!("scrape: a cgroup of {many} against one of {few}"),
            Unit::Ratio,
            against(&at_few),
        ),
        Figure::new(
            "scrape: likewise, with as many descriptors for each",
            Unit::Ratio,
            against(&at_few_frugal),
        )
        .at_most(LINEAR),
    ]);
    serve.stop();
    figures.extend(networks);
    figures
}

/// Where each has a network of its own, whose numbers are opened anew at each scrape: a kept descriptor would keep the
/// network of a container that is gone.
fn with_networks(guard: &Guard, count: u32, rounds: u32) -> [Figure; 2] {
    let sleepers = Sleepers::start(guard, count, Network::Own);
    let serve = agent::start();
    let cost = Cost::of(&serve, &sleepers, rounds);
    serve.stop();
    let seconds = format!("scrape: {count} with a network each, {} files", cost.files);
    let ratio = "scrape: against opening and reading these";
    [
        Figure::new(seconds, Unit::Seconds, cost.scrape),
        Figure::new(ratio, Unit::Ratio, cost.ratio),
    ]
}

/// Of a scrape, medians.
struct Cost {
    files: usize,
    /// Seconds.
    scrape: f64,
    /// Against a sweep of the same files.
    ratio: f64,
}

impl Cost {
    fn of(serve: &Serve, sleepers: &Sleepers, rounds: u32) -> Self {
        let files = read_by_a_first_scrape(sleepers);
        let address = serve.address().expect("it traces");
        let (mut scrapes, mut sweeps) = (Vec::new(), Vec::new());
        // As large as the answer from the first on, as a scraper's is.
        let mut answer = Vec::new();
        receive(
            TcpStream::connect(address).expect("its address"),
            "/metrics",
            &mut answer,
        );
        for _ in 0..rounds {
            let usage = usage_of(sleepers);
            answer.clear();
            let (seconds, ()) = timed(|| {
                let stream = TcpStream::connect(address).expect("its address");
                receive(stream, "/metrics", &mut answer);
            });
            scrapes.push(seconds);
            assert_right(
                &Metrics::parse(&Response::parse(&answer).body),
                [&usage, &usage_of(sleepers)],
            );
            let (seconds, bytes) = timed(|| sweep(&files));
            sweeps.push(seconds);
            assert!(bytes > 0, "the files are empty");
        }
        Self {
            files: files.len(),
            ratio: median_ratio(&scrapes, &sweeps),
            scrape: median(scrapes),
        }
    }

    fn figures(&self, cgroups: u32) -> [Figure; 2] {
        let seconds = format!("scrape: {cgroups} cgroups, {} files", self.files);
        let ratio = "scrape: against opening and reading the same files";
        [
            Figure::new(seconds, Unit::Seconds, self.scrape).at_most(0.070),
            Figure::new(ratio, Unit::Ratio, self.ratio).at_most(0.35),
        ]
    }
}

/// What the agent holds after scrapes.
fn held(serve: &Serve) -> [Figure; 2] {
    let pid = serve.pid();
    [
        Figure::new("scrape: resident memory then", Unit::Bytes, resident(pid)).at_most(20e6),
        Figure::new("scrape: kept descriptors then", Unit::Count, kept(serve))
            .at_most(may_open(pid) / 2.0),
    ]
}

fn kept(serve: &Serve) -> f64 {
    serve.metrics().value("agent_kept_descriptors", &[])
}

fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let started = Instant::now();
    let result = work();
    (started.elapsed().as_secs_f64(), result)
}

/// The kernel's count of bytes that each cgroup uses, by path.
fn usage_of(sleepers: &Sleepers) -> BTreeMap<String, f64> {
    let file = if Cgroup::is_v1("memory") {
        "memory.usage_in_bytes"
    } else {
        "memory.current"
    };
    let usage = |sleeper: &Sleeper| {
        let bytes = sleeper.cgroup.read("memory", file).trim().parse();
        (sleeper.cgroup.path(), bytes.expect("a number of bytes"))
    };
    sleepers.all().iter().map(usage).collect()
}

/// Checks that all cgroups are there, with the same families, and with the usage that the kernel counted before the
/// scrape or behind it.
fn assert_right(metrics: &Metrics, usage: [&BTreeMap<String, f64>; 2]) {
    let told = metrics.samples("container_memory_usage_bytes", &[]);
    let told: BTreeMap<&str, f64> = told
        .filter_map(|sample| Some((sample.labels.get("id")?.as_str(), sample.value)))
        .collect();
    for (id, before) in usage[0] {
        let counted = [Some(before), usage[1].get(id)];
        let told = told.get(id.as_str());
        assert!(
            told.is_some() && counted.contains(&told),
            "memory usage of {id}: {told:?}, but the kernel has {counted:?}"
        );
    }
    for (family, series) in series_of(metrics.text(), usage[0]) {
        assert_eq!(series % usage[0].len(), 0, "not every cgroup has {family}");
    }
}

/// How many series of these cgroups each family has. Not those of devices: a process may have read from one before it
/// slept, or not.
fn series_of<'a>(text: &'a str, cgroups: &BTreeMap<String, f64>) -> BTreeMap<&'a str, usize> {
    let mut series = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (family, labels) = line.split_once('{').unwrap_or((line, ""));
        let id = labels
            .split("id=\"")
            .nth(1)
            .and_then(|it| it.split('"').next());
        let is_of_a_device = labels.contains("device=\"");
        if !is_of_a_device && id.is_some_and(|id| cgroups.contains_key(id)) {
            *series.entry(family).or_default() += 1;
        }
    }
    series
}

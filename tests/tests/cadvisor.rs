//! What Debian's cAdvisor and the agent export of the same containers, side by side: names, types, labels and values.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use tests::cadvisor::Cadvisor;
use tests::docker::{Container, Docker};
use tests::metrics::{Metrics, Sample};
use tests::serve::Serve;
use tests::veth::Veth;
use tests::wait::{PATIENCE, poll, wait_for};

/// Ends by the OOM killer, which takes the shell that grows.
const KILLED: &str = "sh -c 'x=a; while :; do x=$x$x; done'; sleep 1000";

/// What of the agent is off by default, and in cAdvisor on.
const ON: [&str; 2] = ["--enable-metrics", "percpu,process,tcp,udp,disk_usage"];

/// How a value of cAdvisor's compares with those of the agent before and after it.
enum Rule {
    /// It is between them. They may be apart by this part of the value, and by this much.
    Between { part: f64, more: f64 },
    /// cAdvisor's means another thing: METRICS.md says which.
    Other,
    /// The agent does not have it: METRICS.md says why.
    Missing,
}

const EXACT: Rule = Rule::Between {
    part: 1e-9,
    more: 0.0,
};

/// The rule of a family.
fn rule(name: &str) -> Rule {
    match name {
        // What it counts on each CPU may be a tick late.
        "container_cpu_usage_seconds_total"
        | "container_cpu_user_seconds_total"
        | "container_cpu_system_seconds_total" => Rule::Between {
            part: 0.0,
            more: 0.02,
        },
        // The kernel adds up pages of each CPU in batches of 64.
        "container_memory_usage_bytes"
        | "container_memory_working_set_bytes"
        | "container_memory_max_usage_bytes"
        | "container_memory_cache"
        | "container_memory_rss"
        | "container_memory_mapped_file"
        | "container_memory_swap" => Rule::Between {
            part: 0.05,
            more: 1024.0 * 1024.0,
        },
        // docker makes a container a moment before its cgroup.
        "container_start_time_seconds" | "container_last_seen" => Rule::Between {
            part: 0.0,
            more: 10.0,
        },
        // docker's log and files of the container are added.
        "container_fs_usage_bytes" => Rule::Between {
            part: 0.0,
            more: 512.0 * 1024.0,
        },
        // Without its load reader, all of these are 0.
        "container_tasks_state" | "container_cpu_load_average_10s" => Rule::Other,
        // Those of a container's disk are the host's.
        "container_fs_inodes_free"
        | "container_fs_io_current"
        | "container_fs_io_time_seconds_total"
        | "container_fs_io_time_weighted_seconds_total"
        | "container_fs_read_seconds_total"
        | "container_fs_reads_merged_total"
        | "container_fs_sector_reads_total"
        | "container_fs_sector_writes_total"
        | "container_fs_write_seconds_total"
        | "container_fs_writes_merged_total" => Rule::Missing,
        _ => EXACT,
    }
}

/// The samples of a container, by family and the values of the labels that are not the container's.
fn samples<'a>(metrics: &'a Metrics, id: &str) -> BTreeMap<(&'a str, Vec<&'a str>), &'a Sample> {
    let all = metrics
        .all()
        .filter(|it| it.labels.get("id").is_some_and(|it| it == id));
    let key = |sample: &'a Sample| {
        let own = sample.labels.iter();
        let own = own.filter(|(label, _)| !["id", "image", "name"].contains(&&***label));
        (&*sample.name, own.map(|(_, value)| &**value).collect())
    };
    all.map(|sample| (key(sample), sample)).collect()
}

/// The type of each family.
fn types(metrics: &Metrics) -> BTreeMap<&str, &str> {
    let lines = metrics.text().lines();
    let types = lines.filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types.collect()
}

/// Compares what both export of one container.
fn compare(id: &str, before: &Metrics, theirs: &Metrics, after: &Metrics) -> Vec<String> {
    let mut wrong = Vec::new();
    let (our_types, their_types) = (types(before), types(theirs));
    let (before, after) = (samples(before, id), samples(after, id));
    let mut families = BTreeSet::new();
    for ((name, own), theirs) in samples(theirs, id) {
        let (part, more) = match rule(name) {
            Rule::Missing => continue,
            Rule::Between { part, more } => (part, more),
            Rule::Other => (f64::INFINITY, f64::INFINITY),
        };
        families.insert(name);
        if our_types.get(name) != their_types.get(name) {
            wrong.push(format!(
                "{name}: {:?} is {:?} there",
                our_types.get(name),
                their_types[name]
            ));
            continue;
        }
        let key = (name, own);
        let (Some(first), Some(second)) = (before.get(&key), after.get(&key)) else {
            // cAdvisor has zeros of what the agent does not know, or of what was never used.
            if theirs.value != 0.0 {
                wrong.push(format!("{theirs:?} is missing"));
            }
            continue;
        };
        if first.labels != theirs.labels {
            wrong.push(format!(
                "{name}: {:?} are {:?} there",
                first.labels, theirs.labels
            ));
        }
        let slack = theirs.value.abs() * part + more;
        let least = first.value.min(second.value) - slack;
        let most = first.value.max(second.value) + slack;
        if !(least..=most).contains(&theirs.value) && slack.is_finite() {
            wrong.push(format!("{theirs:?} is not between {least} and {most}"));
        }
    }
    if families.len() < 30 {
        wrong.push(format!("only {families:?} of {id} are compared"));
    }
    wrong
}

/// Compares what both export of the machine, and of file systems that both know.
fn compare_host(ours: &Metrics, theirs: &Metrics) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut compared = 0;
    let families = [
        "machine_cpu_cores",
        "machine_cpu_physical_cores",
        "machine_cpu_sockets",
        "machine_memory_bytes",
        "machine_swap_bytes",
        "container_fs_limit_bytes",
        "container_fs_inodes_total",
        "container_spec_memory_limit_bytes",
    ];
    for name in families {
        for sample in theirs.samples(name, &[]) {
            if sample.labels.get("id").is_some_and(|id| id != "/") {
                continue;
            }
            let labels = sample
                .labels
                .iter()
                .map(|(name, value)| (&**name, &**value));
            let labels: Vec<(&str, &str)> = labels.collect();
            let found = ours.find(name, &labels);
            let is_seldom = name.starts_with("container_fs_") && found.is_none();
            if is_seldom {
                continue;
            }
            compared += 1;
            if found.is_none_or(|found| (found - sample.value).abs() > sample.value * 1e-6) {
                wrong.push(format!("{sample:?} is {found:?} here"));
            }
        }
    }
    if compared < 7 {
        wrong.push(format!("only {compared} values of the host are compared"));
    }
    wrong
}

/// Waits until the agent has measured the layers of all containers.
fn wait_for_layers(serve: &Serve, containers: &[&Container<'_>]) {
    wait_for("layers are measured", PATIENCE, || {
        let metrics = serve.metrics();
        let is_there = |it: &&Container<'_>| {
            let labels = [("id", &*it.cgroup())];
            metrics
                .samples("container_fs_usage_bytes", &labels)
                .next()
                .is_some()
        };
        containers.iter().all(is_there).then_some(())
    });
}

#[test]
#[ignore = "needs root"]
fn both_show_the_same() {
    let docker = Docker::start();
    let serve = docker.serve_with(&ON);
    let limits = [
        "--memory=64m",
        "--memory-swap=96m",
        "--memory-reservation=32m",
        "--cpu-shares=512",
        "--pids-limit=100",
    ];
    let write = "echo some > /file; sleep 1000";
    let limited = docker.run(&limits, &["sh", "-c", write]);
    let busy = "while :; do :; done";
    let throttled = docker.run(&["--cpus=0.1"], &["sh", "-c", busy]);
    let killed = docker.run(
        &["--memory=50m", "--memory-swap=50m"],
        &["sh", "-c", KILLED],
    );
    let owner = docker.run(&["--network=none"], &["sleep", "1000"]);
    let veth = Veth::new(owner.pid());
    let network = format!("--network=container:{}", owner.id());
    let sharing = docker.run(&[&network], &["sleep", "1000"]);
    let containers = [&limited, &throttled, &killed, &owner, &sharing];
    let ids: Vec<String> = containers.iter().map(|it| it.cgroup()).collect();
    let of_killed = [("id", &*ids[2])];
    wait_for("the kill is counted", PATIENCE, || {
        let kills = serve
            .metrics()
            .find("container_oom_events_total", &of_killed);
        (kills >= Some(1.0)).then_some(())
    });
    veth.send(100);
    wait_for_layers(&serve, &containers);

    let cadvisor = Cadvisor::start(&docker.socket());
    // A value that jumps in both directions between two scrapes is asked for again.
    let mut wrong = Vec::new();
    let same = poll(PATIENCE, || {
        let before = serve.metrics();
        let theirs = cadvisor.after(SystemTime::now(), &ids);
        let after = serve.metrics();
        wrong = ids
            .iter()
            .flat_map(|id| compare(id, &before, &theirs, &after))
            .chain(compare_host(&after, &theirs))
            .collect();
        wrong.is_empty().then_some(())
    });
    assert!(same.is_some(), "{wrong:#?}");
    serve.stop();
}

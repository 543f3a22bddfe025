//! Which cgroups have series, and what the root's limits are.

use std::collections::BTreeSet;
use std::fs;

use tests::cgroup::Cgroup;
use tests::serve::Serve;
use tests::wait::{PATIENCE, wait_for};

use super::{MEMORY, limit};

#[test]
#[ignore = "needs root"]
fn all_cgroups_have_series_or_containers_only() {
    let (above, container) = Cgroup::below_another("which");
    limit(&above);
    let below = container.child("below");
    let [above, inside, below_it] = [&above, &container, &below].map(Cgroup::path);
    let between = format!("{above}/agent");
    for (which, wanted) in [
        (
            "all",
            BTreeSet::from(["/", &above, &between, &inside, &below_it]),
        ),
        ("containers", BTreeSet::from(["/", &*inside])),
    ] {
        let serve = Serve::start(&["--cgroups", which]);
        let metrics = serve.metrics();
        let samples = metrics.samples("container_last_seen", &[]);
        let found: BTreeSet<&str> = samples.map(|sample| &*sample.labels["id"]).collect();
        let own = found
            .iter()
            .copied()
            .filter(|id| *id == "/" || id.starts_with(&*above));
        assert_eq!(own.collect::<BTreeSet<_>>(), wanted, "{which}");
        if which == "containers" {
            // What others made is a container too, or looks like one.
            for sample in metrics.samples("container_forks_total", &[]) {
                let is_cgroup = !["/", "unknown"].contains(&&*sample.labels["id"]);
                assert!(
                    !is_cgroup || !sample.labels["image"].is_empty(),
                    "{sample:?}"
                );
            }
        }
        for (name, wanted) in [
            ("container_effective_memory_limit_bytes", MEMORY as f64),
            ("container_effective_cpu_limit_cores", 0.1),
            ("container_spec_memory_limit_bytes", 0.0),
        ] {
            assert_eq!(metrics.value(name, &[("id", &inside)]), wanted, "{name}");
        }
        serve.stop();
    }
}

/// As cAdvisor has it: what is limited by nothing has what the machine has.
#[test]
#[ignore = "needs root"]
fn the_root_is_limited_by_the_machine() {
    let serve = Serve::start(&[]);
    let metrics = wait_for("the host's swap stays as it is", PATIENCE, || {
        let before = capacity();
        let metrics = serve.metrics();
        (before == capacity()).then_some(metrics)
    });
    let root = [("id", "/")];
    let limits = ["", "swap_"].map(|what| {
        let name = format!("container_spec_memory_{what}limit_bytes");
        metrics.count(&name, &root)
    });
    assert_eq!(limits, capacity());
    // It is no limit of what is below.
    let effective = "container_effective_memory_limit_bytes";
    assert_eq!(metrics.find(effective, &root), None);
    serve.stop();
}

/// Bytes of memory and of swap.
fn capacity() -> [u64; 2] {
    let text = fs::read_to_string("/proc/meminfo").expect("what the host has");
    ["MemTotal:", "SwapTotal:"].map(|row| {
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix(row)?.strip_suffix("kB"));
        let kib: u64 = line.expect(row).trim().parse().expect("a number");
        kib << 10
    })
}

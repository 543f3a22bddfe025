//! What cAdvisor exports too is of its type, and has its labels.

use std::collections::BTreeMap;

use tests::cgroup::Cgroup;
use tests::container::Container;
use tests::serve::Serve;
use tests::veth::Veth;
use tests::wait::{PATIENCE, wait_for};

/// A recorded scrape of cAdvisor: family, type, labels, and more.
const CADVISOR: &str = include_str!("../../fixtures/cadvisor-0.51-families.tsv");

/// How many of cAdvisor's families there are at least: a device may have had no I/O yet, and a machine without disks has none.
const FAMILIES: usize = 43;

#[test]
#[ignore = "needs root"]
fn families_are_as_cadvisor_has_them() {
    let serve = Serve::start(&[]);
    let container = Container::start(Cgroup::new("families"), "mnt,net");
    let _veth = Veth::new(container.pid);
    let id = container.cgroup.path();
    let metrics = wait_for("its interface is exported", PATIENCE, || {
        let metrics = serve.metrics();
        let labels = [("id", &*id)];
        let name = "container_network_receive_bytes_total";
        let is_there = metrics.samples(name, &labels).next().is_some();
        is_there.then_some(metrics)
    });
    let lines = metrics.text().lines();
    let types = lines.filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let types: BTreeMap<&str, &str> = types.collect();
    let mut with_series = 0;
    for family in CADVISOR.lines() {
        let [name, kind, labels, ..] = family.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{family}");
        };
        let Some(found) = types.get(name) else {
            continue;
        };
        assert_eq!(*found, kind, "{name}");
        let mut samples = metrics.samples(name, &[]).peekable();
        with_series += usize::from(samples.peek().is_some());
        for sample in samples {
            let found: Vec<&str> = sample.labels.keys().map(String::as_str).collect();
            assert_eq!(found.join(","), labels, "{sample:?}");
        }
    }
    assert!(with_series >= FAMILIES, "{with_series}");
    serve.stop();
}

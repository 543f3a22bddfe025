//! What the agent says of its own reading.

use std::fs;
use std::process::Command;
use std::time::Duration;

use tests::cgroup::Cgroup;
use tests::serve::Serve;
use tests::wait::{PATIENCE, wait_for};

#[test]
#[ignore = "needs root"]
fn descriptors_are_kept_and_given_back() {
    let serve = Serve::start(&[]);
    let kept = || serve.metrics().count("agent_kept_descriptors", &[]);
    let cgroup = Cgroup::new("kept");
    let id = cgroup.path();
    wait_for("its files are kept open", PATIENCE, || {
        kept();
        let open = open_files(serve.pid(), cgroup.name());
        (open > 5).then_some(())
    });
    let limit = serve.metrics().count("agent_kept_descriptors_limit", &[]);
    assert!(kept() <= limit, "{limit}");
    drop(cgroup);
    wait_for("they are closed", PATIENCE, || {
        let metrics = serve.metrics();
        assert_eq!(metrics.count("agent_cgroup_read_errors_total", &[]), 0);
        let gone = metrics
            .find("container_last_seen", &[("id", &id)])
            .is_none();
        (gone && open_files(serve.pid(), &id) == 0).then_some(())
    });
    serve.stop();
}

/// How many descriptors of a process are of files whose path holds `part`.
fn open_files(pid: u32, part: &str) -> usize {
    let directory = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors");
    let links = directory.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links
        .filter(|link| link.to_string_lossy().contains(part))
        .count()
}

#[test]
#[ignore = "needs root"]
fn bpf_programs_are_measured_on_request() {
    let names = ["agent_bpf_run_count_total", "agent_bpf_run_seconds_total"];
    let sysctl = fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled").expect("a setting");
    let serve = Serve::start(&[]);
    let metrics = serve.metrics();
    for name in names {
        let there = metrics.samples(name, &[]).count() > 0;
        assert_eq!(there, sysctl.trim() == "1", "{name}");
    }
    serve.stop();
    let serve = Serve::start(&["--bpf-stats"]);
    assert!(Command::new("true").status().is_ok());
    wait_for("an exec is measured", Duration::from_secs(10), || {
        let metrics = serve.metrics();
        let [runs, seconds] = names.map(|name| metrics.value(name, &[("probe", "exec")]));
        (runs >= 1.0 && seconds > 0.0).then_some(())
    });
    serve.stop();
}

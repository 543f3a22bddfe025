//! Limits of a container that runs and are no more what they were meant to be: told at the next scrape.

use std::fs;

use tests::cgroup::{Cgroup, directory};
use tests::root;
use tests::run::Container;
use tests::serve::Serve;
use tests::wait::{PATIENCE, wait_for};

#[test]
fn a_limit_that_is_shadowed_or_overwritten_drifts() {
    if !root() {
        return;
    }
    let serve = Serve::start(&["--docker-socket", "off"]);
    let container = Container::new("limits-drift");
    // Not below /agent: what is there is a container itself.
    let parent = format!("/limits-drift-{}", std::process::id());
    let flag = format!("--cgroup-parent={parent}");
    let flags = [&*flag, "--memory=64m", "--cpus=0.5", "--pids-limit=50"];
    container.start(&flags, &["sleep", "1000"]);
    let path = format!("{parent}/agent/{}", container.name);
    let drifting = || {
        let metrics = serve.metrics();
        let labels = [("id", &*path), ("name", &*container.name)];
        let samples: Vec<_> = metrics.samples("agent_limit_drift", &labels).collect();
        let drifting = samples.iter().filter(|sample| sample.value == 1.0);
        let drifting =
            drifting.map(|it| [&it.labels["limit"], &it.labels["drift"]].map(String::clone));
        let drifting: Vec<_> = drifting.map(|labels| labels.join(" ")).collect();
        (samples.len(), drifting)
    };
    let none = wait_for("its limits are known", PATIENCE, || {
        Some(drifting()).filter(|(series, _)| *series >= 9)
    });
    assert_eq!(none.1, [""; 0]);

    let (memory, limit) = if Cgroup::is_v1("memory") {
        ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
    } else {
        ("memory.max", "memory.swap.max")
    };
    let above = directory("memory", &parent);
    fs::write(above.join(memory), "33554432").expect("the kernel takes it");
    let pids = directory("pids", &path).join("pids.max");
    fs::write(pids, "60").expect("the kernel takes it");
    let wanted = ["memory shadowed", "pids-limit written"];
    wait_for("both are told", PATIENCE, || {
        (drifting().1 == wanted).then_some(())
    });
    // No metric of the kernel's word for swap is there where it counts none.
    let counts_swap = directory("memory", &path).join(limit).exists();
    assert_eq!(drifting().0, if counts_swap { 12 } else { 9 });
    drop(container);
    assert!(!above.exists(), "{}", above.display());
}

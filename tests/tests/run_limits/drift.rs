//! Limits of a container that runs and are no more what they were meant to be: told at the next scrape.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use tests::agent::binary;
use tests::cgroup::{Cgroup, directory};
use tests::run::{Container, STATE};
use tests::serve::Serve;
use tests::wait::{PATIENCE, wait_for};

#[test]
#[ignore = "needs root"]
fn a_limit_that_is_shadowed_or_overwritten_drifts() {
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

/// 0 would say that the limits are as they were meant to be.
#[test]
#[ignore = "needs root"]
fn a_damaged_record_makes_no_drift() {
    let container = Container::new("limits-damaged");
    container.start(&["--memory=64m", "--pids-limit=50"], &["sleep", "1000"]);
    for (file, text) in [
        ("config.json", "{}"),
        ("config.json", "{\"linux\":"),
        ("config.json", ""),
        ("state.json", "{}"),
    ] {
        let path = Path::new(STATE).join(&container.name).join(file);
        let before = fs::read(&path).expect("the state is there");
        fs::write(&path, text).expect("the state can be written");
        let serve = Serve::start(&["--docker-socket", "off"]);
        let metrics = serve.metrics();
        let id = format!("/agent/{}", container.name);
        let limit = metrics.find("container_spec_memory_limit_bytes", &[("id", &id)]);
        assert_eq!(limit, Some(f64::from(64 << 20)));
        let labels = [("id", &*id)];
        let mut samples = metrics.samples("agent_limit_drift", &labels);
        assert_eq!(samples.next(), None, "{file} {text:?}");
        fs::write(&path, before).expect("the state can be written");
        serve.stop();
    }
}

/// A file that is there and cannot be read says neither that the limit is missing nor that it is as it was meant to be.
#[test]
#[ignore = "needs root"]
fn what_cannot_be_read_is_no_drift() {
    let container = Container::new("limits-unread");
    container.start(&["--memory=64m", "--pids-limit=50"], &["sleep", "1000"]);
    let id = format!("/agent/{}", container.name);
    let directory = directory("pids", &id);
    let place = tempfile::tempdir().expect("a directory");
    let odd = place.path().join("odd");
    fs::write(&odd, "what no kernel writes").expect("a file");
    // Over the files, and in the mount namespace of the server alone.
    let mut command = Command::new("unshare");
    let script = "for file in pids.max pids.current; do mount --bind \"$1\" \"$2/$file\" || exit; done; shift 2; exec \"$@\"";
    command.args(["--mount", "--propagation", "private"]);
    command.args(["sh", "-c", script, "sh"]);
    command.arg(&odd).arg(&directory).arg(binary());
    let serve = Serve::spawn_by(command, &["--docker-socket", "off"]);
    serve.wait_until_it_traces();
    let metrics = serve.metrics();
    let labels = [("id", &*id)];
    let drift = metrics.samples("agent_limit_drift", &labels);
    let limits: HashSet<_> = drift.map(|sample| &*sample.labels["limit"]).collect();
    assert!(limits.contains("memory"), "{limits:?}");
    assert!(!limits.contains("pids-limit"), "{limits:?}");
    for gauge in [
        "container_threads",
        "container_threads_max",
        "container_effective_threads_max",
    ] {
        assert_eq!(metrics.find(gauge, &labels), None, "{gauge}");
    }
    serve.stop();
}

/// A weight of v2 says by which formula it was made: the shares are those of the command line.
#[test]
#[ignore = "needs root"]
fn shares_are_exported_as_they_were_asked_for() {
    let container = Container::new("limits-shares");
    container.start(&["-c", "1024"], &["sleep", "1000"]);
    let serve = Serve::start(&["--docker-socket", "off"]);
    let metrics = serve.metrics();
    let shares = metrics.value("container_spec_cpu_shares", &[("name", &container.name)]);
    assert_eq!(shares, 1024.0);
    serve.stop();
}

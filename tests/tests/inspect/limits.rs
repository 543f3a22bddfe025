//! Limits, and the cgroups that they come from.

use std::path::Path;

use serde_json::json;
use tests::cgroup::Cgroup;
use tests::memory::set_limit;
use tests::run::Container;

use crate::{NOBODY, SLEEP, alone, gaps, inspect, limit};

const MIB: u64 = 1 << 20;

/// The file that holds a limit of memory.
fn file() -> &'static str {
    if Cgroup::is_v1("memory") {
        "memory.limit_in_bytes"
    } else {
        "memory.max"
    }
}

#[test]
#[ignore = "needs root"]
fn limits_are_those_that_were_set() {
    let container = Container::new("inspect-limits");
    let flags = ["-m", "64m", "--cpus", "0.5", "--pids-limit", "50"];
    container.start(&flags, SLEEP);
    let report = alone(&container.name);
    for (name, value) in [
        ("memory", (64 * MIB).to_string()),
        ("cpu-quota", "50000 100000".to_owned()),
        ("pids-limit", "50".to_owned()),
    ] {
        let limit = limit(&report, name);
        assert_eq!(limit["own"]["value"], value, "{limit}");
        assert_eq!(limit["own"], limit["effective"], "{limit}");
        assert_eq!(limit["own"]["cgroup"], format!("/agent/{}", container.name));
        assert_eq!(
            (&limit["drift"], &limit["intended"]),
            (&json!(null), &limit["own"]["value"])
        );
        assert!(!gaps(&report).contains(&name), "{report}");
    }
    let source = limit(&report, "memory")["own"]["source"].as_str();
    let held = std::fs::read_to_string(source.expect("a path"));
    assert_eq!(held.expect("the file").trim(), (64 * MIB).to_string());
    let page = inspect(Path::new(NOBODY), &container.name, &[]);
    for row in [
        format!("memory               64.0M ({})", file()),
        "cpu-quota            0.5 CPUs (cpu.".to_owned(),
        "pids-limit           50 tasks (pids.max)".to_owned(),
    ] {
        assert!(page.contains(&row), "{row}: {page}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_tighter_parent_is_named() {
    let parent = Cgroup::new("inspect-parent");
    set_limit(&parent, 64 * MIB);
    let container = Container::new("inspect-shadowed");
    let flag = format!("--cgroup-parent={}", parent.path());
    container.start(&[&flag, "-m", "150m"], SLEEP);
    let report = alone(&container.name);
    let memory = limit(&report, "memory");
    assert_eq!(memory["own"]["value"], (150 * MIB).to_string(), "{memory}");
    assert_eq!(
        memory["effective"]["value"],
        (64 * MIB).to_string(),
        "{memory}"
    );
    assert_eq!(memory["effective"]["cgroup"], parent.path(), "{memory}");
    assert_eq!(memory["drift"], "shadowed", "{memory}");
    let page = inspect(Path::new(NOBODY), &container.name, &[]);
    let words: Vec<&str> = page.split_whitespace().collect();
    let wanted = format!(
        "memory 150.0M ({}), limited by {}: 64.0M",
        file(),
        parent.path()
    );
    assert!(words.join(" ").contains(&wanted), "{wanted}: {page}");
    // Without one of its own the parent's holds too, and nothing was meant otherwise.
    drop(container);
    let container = Container::new("inspect-below");
    container.start(&[&flag], SLEEP);
    let report = alone(&container.name);
    let memory = limit(&report, "memory");
    assert_eq!(memory["own"]["value"], "max", "{memory}");
    assert_eq!(memory["effective"]["cgroup"], parent.path(), "{memory}");
    assert_eq!(memory["drift"], json!(null), "{memory}");
    assert!(!gaps(&report).contains(&"memory"), "{report}");
}

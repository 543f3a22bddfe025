//! What is opened is told of.

use serde_json::json;
use tests::run::Container;
use tests::shared::Shared;

use crate::{SLEEP, alone, gap, gaps, namespace};

/// What a container with these flags is not isolated from, beside one without.
fn opened(flags: &[&str]) -> Vec<String> {
    let with = |flags: &[&str]| {
        let container = Container::new("inspect-gap");
        container.start(flags, SLEEP);
        let report = alone(&container.name);
        let gaps = gaps(&report).into_iter().map(str::to_owned);
        gaps.collect::<Vec<_>>()
    };
    let closed = with(&[]);
    with(flags)
        .into_iter()
        .filter(|gap| !closed.contains(gap))
        .collect()
}

#[test]
#[ignore = "needs root"]
fn what_flags_open() {
    for (flags, about) in [
        (&["--chroot"][..], &["root"][..]),
        (&["--pid", "host"], &["pid"]),
        (&["--net", "host"], &["net"]),
        (&["--ipc", "host", "--uts", "host"], &["ipc", "uts"]),
        (&["--cap-add", "SYS_ADMIN"], &["capabilities"]),
        (&["--cap-add", "NET_ADMIN"], &[]),
        (&["--security-opt", "seccomp=unconfined"], &["seccomp"]),
    ] {
        assert_eq!(opened(flags), about, "{flags:?}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_chroot_is_told_from_a_new_root() {
    let container = Container::new("inspect-chroot");
    container.start(&["--chroot"], SLEEP);
    let report = alone(&container.name);
    let root = json!({"how": "chroot", "path": "/tmp"});
    assert_eq!(report["root"]["value"], root, "{report}");
    let text = "root by chroot: isolates nothing but the path";
    assert_eq!(gap(&report, "root"), text);
    // The host's own files as a root are another root all the same.
    let host = Container::new("inspect-host");
    tests::run::text(
        tests::agent::agent(["run", "-d", "--name", &host.name, "--rootfs", "host"])
            .args(SLEEP)
            .stdin(std::process::Stdio::null()),
    );
    assert_eq!(alone(&host.name)["root"]["value"]["how"], "pivot_root");
}

#[test]
#[ignore = "needs root"]
fn who_shares_a_namespace_is_named_on_both_sides() {
    let (first, second) = (Container::new("inspect-one"), Container::new("inspect-two"));
    first.start(&[], SLEEP);
    let shared = format!("container:{}", first.name);
    second.start(&["--net", &shared], SLEEP);
    for (own, other) in [(&first, &second), (&second, &first)] {
        let report = alone(&own.name);
        let net = namespace(&report, "net");
        let wanted = json!([{"name": other.name, "id": other.name, "runtime": "agent"}]);
        assert_eq!(net["shared_with"], wanted, "{net}");
        assert_eq!(
            (&net["host"], &net["processes"]),
            (&json!(false), &json!(2))
        );
        let text = format!("shares net namespace with {}", other.name);
        assert_eq!(gap(&report, "net"), text);
        assert_eq!(namespace(&report, "pid")["shared_with"], json!([]));
    }
}

#[test]
#[ignore = "needs root"]
fn which_way_mounts_go_is_told() {
    let shared = Shared::new();
    for (propagation, count, way) in [
        ("rprivate", "private", json!(null)),
        ("rslave", "slave", json!("from_host")),
        ("rshared", "shared", json!("both_ways")),
    ] {
        let container = Container::new("inspect-mounts");
        let volume = format!("{}:/mnt:{propagation}", shared.path().display());
        container.start(&["--cap-add", "SYS_ADMIN", "-v", &volume], SLEEP);
        let report = alone(&container.name);
        let mounts = &report["mounts"]["value"];
        let all = mounts["all"].as_array().expect("a list");
        let of_point = |it: &&serde_json::Value| it["point"] == "/mnt";
        let mount = all.iter().find(of_point).expect("the volume");
        assert_eq!(mount["propagates"], way, "{mount}");
        assert_eq!(mount["type"], "tmpfs", "{mount}");
        let others = if count == "private" { all.len() } else { 1 };
        assert_eq!(mounts[count], others, "{mounts}");
        assert_eq!(gaps(&report).contains(&"mounts"), !way.is_null());
    }
}

#[test]
#[ignore = "needs root"]
fn mapped_ids_are_nobody_s_outside() {
    let container = Container::new("inspect-user");
    let flags = ["--uid-map", "0:100000:65536", "--cap-add", "SYS_ADMIN"];
    container.start(&flags, SLEEP);
    let report = alone(&container.name);
    let map = json!([{"inside": 0, "outside": 100_000, "count": 65_536}]);
    assert_eq!(report["uid_map"]["value"], map, "{report}");
    assert_eq!(namespace(&report, "user")["host"], false);
    let told = gaps(&report);
    for about in ["uid", "capabilities"] {
        assert!(!told.contains(&about), "{about}: {report}");
    }
}

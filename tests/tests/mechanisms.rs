//! The mechanisms by which probes are attached: trampolines where the kernel has them, and those that stand in for them,
//! which see the same.

use serde_json::json;
use tests::cgroup::Cgroup;
use tests::container::{Container, inode};
use tests::law::assert_law;
use tests::limited::{Limited, TOO_MUCH};
use tests::mechanism::{TRAMPOLINES, probe, trampolines};
use tests::memory::Hog;
use tests::nscall::{nscall, outcome};
use tests::serve::Serve;
use tests::wait::PATIENCE;

/// The other mechanisms: for calls, and for OOM kills.
const FALLBACKS: [&str; 4] = ["--mechanism", "syscall", "--mechanism", "btf"];

#[test]
#[ignore = "needs root"]
fn trampolines_come_first() {
    if !trampolines() {
        return;
    }
    for name in TRAMPOLINES {
        let probe = probe(name, &[]);
        assert_eq!(probe["mechanism"], "trampoline", "{probe}");
        assert_eq!(probe["state"], "attached", "{probe}");
    }
}

#[test]
#[ignore = "needs root"]
fn each_probe_has_its_own_mechanism() {
    let unshare = probe("unshare", &["--mechanism", "unshare=syscall"]);
    assert_eq!(unshare["mechanism"], "syscall", "{unshare}");
    assert_eq!(unshare["state"], "attached", "{unshare}");
    for (name, mechanism) in [("unshare", "syscall"), ("setns", "syscall"), ("oom", "btf")] {
        let probe = probe(name, &FALLBACKS);
        assert_eq!(probe["mechanism"], mechanism, "{probe}");
        assert_eq!(probe["state"], "attached", "{probe}");
    }
}

/// By tracepoints of system calls, which are all that some hosts have.
#[test]
#[ignore = "needs root"]
fn calls_are_seen_without_trampolines() {
    let serve = Serve::start(&FALLBACKS);
    let cgroup = Cgroup::new("fallback");
    let target = Container::start(Cgroup::new("target"), "mnt,net");
    let mut watch = serve.watch(&["--kind", "unshare,setns", "--container", cgroup.name()]);
    let setns = format!("setns {} net", target.namespace("net"));
    for (words, kind, requested, result) in [
        ("unshare net", "unshare", json!(["net"]), "0"),
        ("unshare pid", "unshare", json!(["pid"]), "0"),
        (&setns, "setns", json!(["net"]), "0"),
        (
            "--user 65534 unshare net",
            "unshare",
            json!(["net"]),
            "EPERM",
        ),
        ("setns /dev/null net", "setns", json!(["net"]), "EINVAL"),
    ] {
        let seen = outcome(&mut nscall(&cgroup, words));
        let record = watch.next(PATIENCE, |record| record["kind"] != "lost");
        assert_eq!(record["kind"], kind, "{words}: {record}");
        assert_eq!(record["requested"], requested, "{words}: {record}");
        assert_eq!(record["result"], result, "{words}: {record}");
        assert_eq!(record["changed"], seen["changed"], "{words}: {record}");
        assert_eq!(
            record["container"]["name"],
            cgroup.name(),
            "{words}: {record}"
        );
    }
    assert_law(&serve);
    serve.stop();
}

/// By the mark of the victim, and a walk up its cgroups.
#[test]
#[ignore = "needs root"]
fn kills_are_seen_without_trampolines() {
    let serve = Serve::start(&FALLBACKS);
    let mut limited = Limited::new("fallback");
    let mut watch = limited.watch(&serve);
    let before = serve.metrics();
    for threads in [1, 8] {
        Hog::start(&limited.below, threads, TOO_MUCH).wait_until_killed();
    }
    let records = limited.stop(&mut watch);
    assert_eq!(limited.assert_counted(&before, &serve.metrics()), 2);
    assert_eq!(records.len(), 2, "{records:?}");
    records
        .iter()
        .for_each(|record| limited.assert_told(record));
    assert_law(&serve);
    serve.stop();
}

/// The tracepoints of 64-bit calls do not see them; what runs first in the kernel for both does.
#[test]
#[ignore = "needs root"]
fn calls_of_32_bits_are_seen_by_trampolines() {
    if !trampolines() {
        return;
    }
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("bits32");
    let mut watch = serve.watch(&["--kind", "unshare,setns", "--container", cgroup.name()]);
    let host = inode("/proc/self/ns/uts");
    let seen = outcome(&mut nscall(&cgroup, "unshare32 uts"));
    let record = watch.next(PATIENCE, |record| record["kind"] == "unshare");
    assert_eq!(record["requested"], json!(["uts"]), "{record}");
    assert_eq!(record["result"], "0", "{record}");
    assert_eq!(record["changed"]["uts"]["from"], host, "{record}");
    assert_eq!(record["changed"], seen["changed"], "{record}");
    outcome(&mut nscall(&cgroup, "setns32 /dev/null uts"));
    let record = watch.next(PATIENCE, |record| record["kind"] == "setns");
    assert_eq!(record["requested"], json!(["uts"]), "{record}");
    assert_eq!(record["result"], "EINVAL", "{record}");
    assert_eq!(record["changed"], json!({}), "{record}");
    assert_law(&serve);
    serve.stop();
}

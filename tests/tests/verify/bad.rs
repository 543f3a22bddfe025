//! What cannot be judged, and what makes no sense: one line, and the right exit status.

use std::fs;
use std::process::{Command, Stdio};

use tests::agent::binary;
use tests::cgroup::{Cgroup, directory, remove, roots};
use tests::program;
use tests::wait::{PATIENCE, wait_for};

use super::{judged, report, verify};

/// What is said in one line, with this exit status; nothing is written else.
fn refused(verify: &mut Command, status: i32) -> String {
    let output = verify.output().expect("it can be run");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{verify:?}: {said}");
    assert_eq!(output.stdout, b"", "{verify:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{verify:?}: {said}");
    assert!(said.starts_with("agent: "), "{verify:?}: {said}");
    said
}

#[test]
fn what_makes_no_sense_is_misuse() {
    for (arguments, words) in [
        ("", "required"),
        ("--memory 64M", "required"),
        ("--weights 100:300", "required"),
        ("-- true", "no limit to judge"),
        ("--weights 100 -- true", "--weights"),
        ("--weights 0:1 -- true", "--weights"),
        ("--weights 1:2 --memory 64M -- true", "in a run of its own"),
        ("--memory junk -- true", "--memory"),
        ("--memory 64M --for 0s -- true", "--for"),
        ("--container x --memory 64M", "cannot be used"),
        ("--container x --pid 1", "cannot be used"),
        ("--container x -- true", "cannot be used"),
        ("--container x --weights 1:2", "cannot be used"),
        ("--container x --expect memory=junk", "memory=junk"),
        ("--container x --expect no-such=1", "no-such"),
        ("--container x --expect memory", "--expect"),
        ("--expect memory=64M -- true", "required"),
        ("--pid 0", "--pid"),
        ("--suite -- true", "cannot be used"),
        ("--suite=juggling", "juggling"),
        ("--suite --weights 1:2", "cannot be used"),
        ("--suite --memory 64M", "cannot be used"),
    ] {
        let said = refused(verify(&[]).args(arguments.split_whitespace()), 64);
        assert!(said.contains(words), "{arguments}: {said}");
    }
}

#[test]
#[ignore = "needs root"]
fn what_is_not_there_gives_no_verdict() {
    let most = fs::read_to_string("/proc/sys/kernel/pid_max").expect("a number");
    let no_process = format!("--pid {}", most.trim());
    for (arguments, words) in [
        ("--container no-such-one", "no-such-one"),
        ("--container no-such-one --for 1s", "no-such-one"),
        ("--cgroup /no/such/cgroup", "/no/such/cgroup"),
        ("--cgroup no-path", "no-path"),
        (&no_process, "no such process"),
        ("--memory 64M -- no-such-program", "no-such-program"),
        ("--weights 1:2 -- no-such-program", "no-such-program"),
    ] {
        let said = refused(verify(&[]).args(arguments.split_whitespace()), 2);
        assert!(said.contains(words), "{arguments}: {said}");
    }
    // What could be launched up to its command is gone too.
    let left = containers();
    assert!(
        left.iter().all(|name| !name.contains("no-such")),
        "{left:?}"
    );
}

/// What there is in the state of root's containers.
fn containers() -> Vec<String> {
    let entries = fs::read_dir(tests::run::STATE).into_iter().flatten();
    let names = entries.flatten().map(|entry| entry.file_name());
    names
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

#[test]
#[ignore = "needs root"]
fn a_cgroup_that_is_removed_meanwhile_gives_no_verdict() {
    let cgroup = Cgroup::new("verify-removed");
    cgroup.write("pids", "pids.max", "50");
    let mut verify = verify(&["--cgroup", &cgroup.path(), "--for=20s"]);
    let verifier = verify.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let verifier = verifier.expect("it can be run");
    // It has begun once its process waits for the time to pass.
    wait_for("it looks", PATIENCE, || looks(verifier.id()).then_some(()));
    for root in roots() {
        let path = root.join(cgroup.path().trim_start_matches('/'));
        wait_for("it is removed", PATIENCE, || tests::cgroup::remove(&path));
    }
    let output = verifier.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(output.stdout, b"");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(&cgroup.path()), "{said}");
    assert!(said.contains("removed during the run"), "{said}");
}

/// Whether a verifier watches: from then on it takes SIGINT itself.
fn looks(pid: u32) -> bool {
    const SIGINT: u64 = 1 << 1;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    caught.is_some_and(|set| set & SIGINT != 0)
}

#[test]
fn a_suite_without_stress_ng_names_the_package() {
    let directory = tempfile::tempdir().expect("a directory");
    let copy = directory.path().join("agent");
    program::copy(binary(), &copy);
    let mut suite = Command::new(copy);
    suite
        .args(["verify", "--suite"])
        .env("PATH", "/nonexistent");
    let said = refused(&mut suite, 2);
    assert!(said.contains("install the package stress-ng"), "{said}");
}

/// Both who looks and who launches are told which file to change.
#[test]
#[ignore = "needs root"]
fn the_file_that_keeps_a_controller_off_is_named() {
    let root = directory("memory", "/");
    if Cgroup::is_v1("memory") {
        tests::skip("needs the memory controller of v2, which a cgroup does not give by itself");
        return;
    }
    let name = format!("off-{}", std::process::id());
    let off = root.join(&name);
    fs::create_dir_all(off.join("sub")).expect("a cgroup");
    let switch = off.join("cgroup.subtree_control").display().to_string();
    let cgroup = format!("/{name}/sub");
    let report = report(&mut verify(&[
        "--cgroup",
        &cgroup,
        "--expect",
        "memory=64M",
    ]));
    judged(&report, "fail", &[&switch]);
    // A cgroup with processes cannot give controllers to others.
    let mut inside = Command::new("sleep")
        .arg("1000")
        .spawn()
        .expect("sleep can be run");
    fs::write(off.join("cgroup.procs"), inside.id().to_string()).expect("a process moves");
    let parent = format!("/{name}");
    let said = refused(
        &mut verify(&["--memory", "64M", "--cgroup-parent", &parent, "--", "true"]),
        2,
    );
    inside.kill().expect("it runs");
    inside.wait().expect("it ends");
    wait_for("the cgroup is gone", PATIENCE, || remove(&off));
    assert!(said.contains(&switch), "{said}");
}

//! Engines that run a container in a cgroup below its own: podman's crun (`libpod-ID.scope/container`), and nspawn
//! (`machine-NAME.scope/payload`).

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tests::agent::agent;
use tests::process::kill;
use tests::program::program;
use tests::run::output;
use tests::serve::Serve;
use tests::subtree::{KILLED_ONE_BY_ONE, assert_judged_at, assert_none_below, is_counted};
use tests::wait::{PATIENCE, wait_for};

use super::{Files, Podman, by, can_run, listed_by};

const SHELL: [&str; 3] = ["/bin/sh", "-c", KILLED_ONE_BY_ONE];

/// The path of the only cgroup of a process.
fn cgroup_of(pid: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
    let path = text.trim_end().strip_prefix("0::");
    path.expect("v2 alone").to_owned()
}

/// What `agent verify` says of a container that is to have so much memory.
fn verify(name: &str, memory: &str, more: &[&str]) -> Value {
    let mut verify = agent(["verify", "--docker-socket", "off", "--socket", "off"]);
    verify.args(["--output", "json", "--container", name]);
    verify.args(["--expect", &format!("memory={memory}")]);
    let verified = output(verify.args(more));
    serde_json::from_slice(&verified.stdout).unwrap_or_else(|error| panic!("{error}: {verified:?}"))
}

/// The container `name` has its own cgroup at `path`, a limit of 48 MiB there, and all of its processes below.
fn assert_is_the_subtree(serve: &Serve, name: &str, path: &str) {
    wait_for("its kills are counted", PATIENCE, || {
        is_counted(&serve.metrics(), path, name).then_some(())
    });
    assert_none_below(&serve.metrics(), path);
    let said = verify(name, "48m", &[]);
    assert_judged_at(&said, "pass", path);
    let said = verify(name, "64m", &[]);
    assert_judged_at(&said, "fail", path);
    let said = verify(name, "48m", &["--for", "5s"]);
    let memory = assert_judged_at(&said, "pass", path);
    let victims = memory["observed"]["victims"].as_array();
    assert!(victims.is_some_and(|it| !it.is_empty()), "{memory:#}");
}

#[test]
#[ignore = "needs root"]
fn podmans_container_is_the_subtree_that_podman_made() {
    if !can_run() {
        return;
    }
    let files = Files::new();
    let serve = Serve::start(&["--docker-socket", "off"]);
    let limits = ["--runtime=crun", "--memory=48m", "--memory-swap=48m"];
    let container = Podman::run(0, &files.path("root"), &limits, &SHELL);
    let id = container.inspect(".Id");
    let cgroup = cgroup_of(&container.inspect(".State.Pid"));
    let path = format!("/machine.slice/libpod-{id}.scope");
    assert_eq!(cgroup, format!("{path}/container"));
    assert_is_the_subtree(&serve, &id[..12], &path);
    serve.stop();
}

/// A machine of nspawn's; it ends with this.
struct Machine {
    name: String,
    nspawn: Child,
}

impl Machine {
    fn start(root: &Path, properties: &[&str], command: &[&str]) -> Self {
        let name = format!("nspawn{}", std::process::id());
        let mut nspawn = by(0, "systemd-nspawn");
        nspawn.args(["--quiet", "--private-network", "--machine", &name]);
        nspawn.args(properties.iter().map(|it| format!("--property={it}")));
        nspawn.arg("--directory").arg(root).args(command);
        nspawn.stdin(Stdio::null()).stdout(Stdio::null());
        let nspawn = nspawn.spawn().expect("nspawn can be run");
        Self { name, nspawn }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let mut terminate = Command::new(program("machinectl"));
        let _ = terminate.args(["terminate", &self.name]).output();
        kill(&mut self.nspawn);
    }
}

#[test]
#[ignore = "needs root"]
fn nspawns_machine_is_the_subtree_that_nspawn_made() {
    if !can_run() {
        return;
    }
    let files = Files::new();
    let root = files.path("root");
    // nspawn asks a tree whether it is that of an operating system.
    fs::create_dir_all(root.join("usr/lib")).expect("a directory");
    fs::write(root.join("usr/lib/os-release"), "ID=busybox\n").expect("a file");
    let serve = Serve::start(&["--docker-socket", "off"]);
    let limits = ["MemoryMax=48M", "MemorySwapMax=0"];
    let machine = Machine::start(&root, &limits, &SHELL);
    let path = format!("/machine.slice/machine-{}.scope", machine.name);
    let state = wait_for("it is listed", PATIENCE, || listed_by(&path));
    assert_eq!(state["name"], *machine.name, "{state}");
    assert_eq!(
        cgroup_of(&state["pid"].to_string()),
        format!("{path}/payload")
    );
    assert_is_the_subtree(&serve, &machine.name, &path);
    serve.stop();
}

//! On a host of systemd's with podman: a user's scopes, and what confirms podman's containers. `cargo xtask vm --debian` has
//! one.

mod subtree;
mod units;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use tests::agent::{agent, binary};
use tests::cgroup::unique;
use tests::program::{self, PATH, program};
use tests::run::{output, rootfs, text};

/// A user with a manager of systemd's that runs (tests/vm/debian.sh).
const USER: u32 = 1000;

fn can_run() -> bool {
    let manager = format!("/run/user/{USER}/systemd/private");
    let there = Path::new(&manager).exists() && Path::new("/usr/bin/podman").exists();
    if !there {
        tests::skip(format_args!(
            "needs podman, and a manager of user {USER} by systemd"
        ));
    }
    there
}

/// The program, and a root file system of that user's.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir_in("/var/tmp").expect("a directory");
        let path = directory.path();
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("permissions");
        chown(path, Some(USER), Some(USER)).expect("root may");
        program::copy(binary(), &path.join("agent"));
        let mut copy = Command::new(program("cp"));
        text(copy.arg("-a").arg(rootfs()).arg(path.join("root")));
        let mut own = Command::new(program("chown"));
        text(
            own.args(["-R", &format!("{USER}:{USER}")])
                .arg(path.join("root")),
        );
        Self(directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// A program as `user` calls it who is logged in.
fn by(user: u32, name: &str) -> Command {
    let mut command = Command::new(program(name));
    command.current_dir("/").env("PATH", PATH);
    if user != 0 {
        let runtime = format!("/run/user/{user}");
        let bus = format!("unix:path={runtime}/bus");
        command
            .env("XDG_RUNTIME_DIR", runtime)
            .env("HOME", "/home/user");
        command.env("DBUS_SESSION_BUS_ADDRESS", bus);
        command.uid(user).gid(user);
    }
    command
}

/// A scope that may have so much memory, in which a container allocates 100 MiB: the container's exit status.
fn allocate_in_scope(files: &Files, memory: &str) -> (Option<i32>, String) {
    let mut run = by(USER, "systemd-run");
    run.args(["--user", "--scope", "--quiet", "-p", "Delegate=yes"]);
    run.args([
        "-p",
        &format!("MemoryMax={memory}"),
        "-p",
        "MemorySwapMax=0",
    ]);
    run.arg(files.path("agent"))
        .args(["run", "-m", "200m", "--rootfs"]);
    run.arg(files.path("root"));
    run.args(["/bin/busybox", "dd", "if=/dev/zero", "of=/dev/null"]);
    let ended = output(run.args(["bs=100M", "count=1"]));
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    (ended.status.code(), said)
}

#[test]
#[ignore = "needs root"]
fn a_container_stays_under_the_limits_of_the_scope_that_it_is_started_in() {
    if !can_run() {
        return;
    }
    let files = Files::new();
    let (status, said) = allocate_in_scope(&files, "400M");
    assert_eq!(status, Some(0), "{said}");
    let (status, said) = allocate_in_scope(&files, "40M");
    assert_eq!(status, Some(137), "{said}");
}

/// A container of podman's; it is removed with this.
struct Podman {
    user: u32,
    name: String,
}

impl Podman {
    fn run(user: u32, root: &Path, options: &[&str], command: &[&str]) -> Self {
        let podman = Self {
            user,
            name: unique(&format!("podman{user}x")),
        };
        let mut run = by(user, "podman");
        run.args(["run", "-d", "--name", &podman.name, "--network", "none"]);
        run.args(options).arg("--rootfs").arg(root).args(command);
        text(&mut run);
        podman
    }

    fn inspect(&self, what: &str) -> String {
        let format = format!("{{{{{what}}}}}");
        let said = text(by(self.user, "podman").args(["inspect", "-f", &format, &self.name]));
        said.trim().to_owned()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let mut remove = by(self.user, "podman");
        let _ = remove.args(["rm", "-f", "-t", "0", &self.name]).output();
    }
}

/// What `agent ps` says of the container of this id.
fn listed(id: &str) -> Value {
    listed_by(id).unwrap_or_else(|| panic!("{id} is not listed"))
}

/// What `agent ps` says of the running container in whose path this is.
fn listed_by(part: &str) -> Option<Value> {
    let mut ps = agent(["ps", "--output", "json", "--docker-socket", "off"]);
    let said = text(ps.args(["--socket", "off"]));
    let all: Vec<Value> = serde_json::from_str(&said).expect("a list");
    let is_it = |it: &Value| it["cgroup"].as_str().is_some_and(|it| it.contains(part));
    let mut own = all.into_iter().filter(is_it);
    own.find(|it| !it["pid"].is_null())
}

/// Its records say which process and which cgroup are the container's.
#[test]
#[ignore = "needs root"]
fn podmans_records_confirm_its_containers() {
    if !can_run() {
        return;
    }
    let files = Files::new();
    for user in [0, USER] {
        let root = files.path("root");
        let container = Podman::run(user, &root, &["--memory=64m"], &["sleep", "1000"]);
        let id = container.inspect(".Id");
        let state = listed(&id);
        assert_eq!(state["confirmed"], true, "{user}: {state}");
        assert_eq!(state["name"], *container.name, "{user}: {state}");
        assert_eq!(state["id"], *id, "{user}: {state}");
        assert_eq!(state["pid"].to_string(), container.inspect(".State.Pid"));
        let verify = |form: [&str; 2]| {
            let mut verify = agent(["verify", "--docker-socket", "off", "--socket", "off"]);
            output(verify.args(["--output", "json"]).args(form))
        };
        let cgroup = state["cgroup"].as_str().expect("a path");
        let mut form = ["--container", &id[..12]];
        if user != 0 {
            // A user may give a container the name or the id of another's.
            let refused = verify(form);
            let said = String::from_utf8_lossy(&refused.stderr);
            assert!(said.contains(cgroup), "{refused:?}");
            form = ["--cgroup", cgroup];
        }
        let verified = verify(form);
        let report: Value = serde_json::from_slice(&verified.stdout)
            .unwrap_or_else(|error| panic!("{user}: {error}: {verified:?}"));
        assert_eq!(report["subject"]["cgroup"], cgroup, "{user}");
        let checks = report["checks"].as_array().expect("a list").iter();
        let memory = checks.clone().find(|it| it["limit"] == "memory");
        let intended = &memory.expect("a check")["intended"];
        assert_eq!(intended["source"], "the OCI bundle", "{user}: {report:#}");
    }
}

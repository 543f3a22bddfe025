//! Records of every kind, in a directory of the test's own.

mod described;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use agent_host::fixture::{add, tree};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use super::*;

const ID: &str = "9adc5277a29e0d474e8b1b1f44dd6af50352684d11bcb255637520a05f975b59";
const SHIM: &str = "containerd/io.containerd.runtime.v2.task";

fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A host with v2 alone, where each of `cgroups` is this user's.
fn host(cgroups: &[&str]) -> TempDir {
    let mountinfo = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
    let root = tree(&[
        ("proc/self/mountinfo", mountinfo),
        ("proc/self/cgroup", "0::/\n"),
        ("sys/fs/cgroup/cgroup.controllers", "memory\n"),
    ]);
    for cgroup in cgroups {
        fs::create_dir_all(root.path().join(format!("sys/fs/cgroup{cgroup}"))).unwrap();
    }
    root
}

/// A record below `/run`, or below this user's directory there.
fn record(root: &TempDir, path: &str, text: &str) {
    let path = in_run(path);
    add(root.path(), &[(&*path, text)]);
}

fn in_run(path: &str) -> String {
    match user() {
        0 => format!("run/{path}"),
        user => format!("run/user/{user}/{path}"),
    }
}

fn records(root: &Path) -> Records {
    let hierarchies = Hierarchies::discover(root).unwrap();
    Records::new(hierarchies, Intents::Read, None, LabelPatterns::default())
}

fn confirm(root: &Path, cgroup: &str) -> Option<Confirmation> {
    records(root).confirm(&Claim::of(cgroup).unwrap())
}

fn process(root: &TempDir, pid: u32, cgroup: &str, started: u64) {
    let zeros = "0 ".repeat(18);
    let stat = format!("{pid} (sh) S {zeros}{started} 0 0\n");
    let directory = format!("proc/{pid}");
    add(
        root.path(),
        &[
            (&*format!("{directory}/cgroup"), &*format!("0::{cgroup}\n")),
            (&*format!("{directory}/stat"), &*stat),
        ],
    );
}

/// A cgroup that another user makes to look like it.
fn forged(cgroup: &str) -> String {
    format!("/user.slice/forged{cgroup}")
}

/// The record confirms the cgroup, and none that only looks like it.
#[track_caller]
fn assert_confirms(root: &TempDir, cgroup: &str, process: Option<u32>) {
    let confirmation = confirm(root.path(), cgroup).expect("it is confirmed");
    assert_eq!(confirmation.cgroups, [cgroup]);
    assert_eq!(confirmation.process, process);
    assert_eq!(confirm(root.path(), &forged(cgroup)), None);
}

#[test]
fn what_launchers_leave() {
    let docker = format!("/docker/{ID}");
    let scope = format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope");
    let podman = format!("/libpod_parent/libpod-{ID}");
    let bundle = |path: &str| format!(r#"{{"ociVersion":"1","linux":{{"cgroupsPath":"{path}"}}}}"#);
    let of_systemd = bundle(&format!("kubepods-pod1.slice:cri-containerd:{ID}"));
    let directory = |root: &TempDir, cgroup: &str| {
        let directory = root.path().join("sys/fs/cgroup").join(&cgroup[1..]);
        format!(
            r#"{{"init_process_pid":7,"init_process_start":50,"cgroup_paths":{{"memory":{directory:?}}}}}"#
        )
    };
    let userdata = format!("containers/storage/overlay-containers/{ID}/userdata");
    for (cgroup, path, text) in [
        (
            &docker,
            format!("{SHIM}/moby/{ID}/config.json"),
            Some(bundle(&docker)),
        ),
        (
            &docker,
            format!("docker/containerd/daemon/io.containerd.runtime.v2.task/moby/{ID}/config.json"),
            Some(bundle(&docker)),
        ),
        (
            &docker,
            format!("docker/runtime-runc/moby/{ID}/state.json"),
            None,
        ),
        (&docker, format!("runc/{ID}/state.json"), None),
        (
            &podman,
            format!("crun/{ID}/status"),
            Some(format!(
                r#"{{"pid":7,"process-start-time":50,"cgroup-path":"{podman}"}}"#
            )),
        ),
        (
            &podman,
            format!("{userdata}/config.json"),
            Some(bundle(&podman)),
        ),
        (
            &scope,
            format!("{SHIM}/k8s.io/{ID}/config.json"),
            Some(of_systemd),
        ),
    ] {
        // With another user's systemd it would be in that user's tree.
        if user() != 0 && cgroup == &scope {
            continue;
        }
        let root = host(&[cgroup, &forged(cgroup)]);
        assert_eq!(confirm(root.path(), cgroup), None);
        let is_runc = text.is_none();
        let text = text.unwrap_or_else(|| directory(&root, cgroup));
        record(&root, &path, &text);
        assert_confirms(&root, cgroup, None);
        // The process, too, where the record has it and it is still there.
        process(&root, 7, cgroup, 50);
        let has_process = is_runc || path.ends_with("status");
        assert_confirms(&root, cgroup, has_process.then_some(7));
        process(&root, 7, cgroup, 51);
        assert_confirms(&root, cgroup, None);
    }
}

#[test]
fn the_process_of_a_record_says_where_it_is() {
    // systemd in a container: its paths are below that one's.
    let cgroup = format!("/sd/system.slice/docker-{ID}.scope");
    let root = host(&[&cgroup]);
    let path = format!("{SHIM}/moby/{ID}");
    let config = format!(r#"{{"linux":{{"cgroupsPath":"system.slice:docker:{ID}"}}}}"#);
    record(&root, &format!("{path}/config.json"), &config);
    assert_eq!(confirm(root.path(), &cgroup), None);
    record(&root, &format!("{path}/init.pid"), "7");
    process(&root, 7, &format!("{cgroup}/below"), 50);
    assert_confirms(&root, &cgroup, Some(7));
    // A process that is elsewhere, or started after the record was written, has taken over the pid.
    process(&root, 7, "/elsewhere", 50);
    assert_eq!(confirm(root.path(), &cgroup), None);
    process(&root, 7, &cgroup, u64::from(u32::MAX));
    assert_eq!(confirm(root.path(), &cgroup), None);
}

// Only root's systemd has machines.
#[test]
#[ignore = "needs root"]
fn machines() {
    let cgroup = "/machine.slice/systemd-nspawn@web.service";
    let root = host(&[cgroup]);
    record(&root, "systemd/machines/web", "NAME=web\nLEADER=7\n");
    process(&root, 7, &format!("{cgroup}/payload"), 50);
    assert_confirms(&root, cgroup, Some(7));
    let cgroup = "/lxc.payload.web";
    add(root.path(), &[("var/lib/lxc/web/config", "")]);
    assert_confirms(&root, cgroup, None);
}

// An ordinary user's record is for none of root's cgroups.
#[test]
#[ignore = "needs root"]
fn our_own_state() {
    let cgroup = "/slice/agent/web";
    let root = host(&[cgroup]);
    let path = "agent-containers/web";
    let state = |cgroup: &str, status: &str| {
        format!(
            r#"{{"name":"web","image":"busybox","cgroup":"{cgroup}","supervisor":1,"status":{status},"created":"",
            "detached":false,"remove":true,"change_root":"pivot","network":"none"}}"#
        )
    };
    let running = r#"{"running":{"pid":7}}"#;
    record(
        &root,
        &format!("{path}/state.json"),
        &state(cgroup, running),
    );
    let limits = r#"{"ociVersion":"1.2.0","linux":{"resources":{"pids":{"limit":50}}}}"#;
    record(&root, &format!("{path}/config.json"), limits);
    assert_confirms(&root, cgroup, Some(7));
    let confirmation = confirm(root.path(), cgroup).unwrap();
    assert_eq!(confirmation.named.unwrap().image, "busybox");
    assert_eq!(confirmation.intended.unwrap().limits.len(), 1);
    // An agent whose container has another path in another hierarchy lists each path.
    let both = state("/agent/web", running).replacen(
        '{',
        &format!(r#"{{"cgroups":{{"pids":"{cgroup}"}},"#),
        1,
    );
    record(&root, &format!("{path}/state.json"), &both);
    let confirmation = confirm(root.path(), cgroup).unwrap();
    assert_eq!(confirmation.cgroups, [cgroup, "/agent/web"]);
    for state in [
        state("/agent/web", running),
        state(cgroup, r#"{"exited":{"code":0}}"#),
        "{".to_owned(),
    ] {
        record(&root, &format!("{path}/state.json"), &state);
        assert_eq!(confirm(root.path(), cgroup), None, "{state}");
    }
}

#[test]
fn of_many_cgroups_that_a_record_names_few_are_looked_at() {
    let cgroup = "/user.slice/agent/web";
    let root = host(&[cgroup]);
    let many: Vec<String> = (0..5000)
        .map(|it| format!(r#""{it}":"/many/{it}""#))
        .collect();
    let text = format!(
        r#"{{"name":"web","image":"busybox","cgroup":"{cgroup}","cgroups":{{{}}},"supervisor":1,
            "status":{{"running":{{"pid":4321}}}},"created":"","detached":true,"remove":false,
            "change_root":"pivot","network":"none"}}"#,
        many.join(",")
    );
    record(&root, "agent-containers/web/state.json", &text);
    let confirmation = confirm(root.path(), cgroup).expect("it names the cgroup too");
    assert!(confirmation.cgroups.len() < 100);
}

#[test]
fn what_others_may_have_written_is_not_believed() {
    let cgroup = format!("/docker/{ID}");
    let root = host(&[&cgroup]);
    let path = format!("crun/{ID}/status");
    let text = format!(r#"{{"pid":7,"cgroup-path":"{cgroup}"}}"#);
    let file = root.path().join(in_run(&path));
    record(&root, &path, &text);
    assert!(confirm(root.path(), &cgroup).is_some());
    // Anybody may write to it.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(confirm(root.path(), &cgroup), None);
    // A link, a FIFO that nobody writes to, a file that is too long.
    let elsewhere = root.path().join("elsewhere");
    fs::write(&elsewhere, &text).unwrap();
    fs::remove_file(&file).unwrap();
    symlink(&elsewhere, &file).unwrap();
    assert_eq!(confirm(root.path(), &cgroup), None);
    fs::remove_file(&file).unwrap();
    mknodat(CWD, &file, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert_eq!(confirm(root.path(), &cgroup), None);
    fs::remove_file(&file).unwrap();
    fs::write(&file, text + &" ".repeat(2 << 20)).unwrap();
    assert_eq!(confirm(root.path(), &cgroup), None);
}

// Only root can give files to others.
#[test]
#[ignore = "needs root"]
fn a_users_record_confirms_only_what_is_delegated_to_that_user() {
    const USER: u32 = 4711;
    let path = format!("/user.slice/libpod-{ID}.scope");
    let root = host(&[&path]);
    let directory = root.path().join(format!("sys/fs/cgroup{path}"));
    let status = format!("run/user/{USER}/crun/{ID}/status");
    let text = format!(r#"{{"pid":7,"cgroup-path":"{path}"}}"#);
    add(root.path(), &[(&*status, &*text)]);
    let file = root.path().join(&status);
    let run = root.path().join(format!("run/user/{USER}"));
    let give = |path: &Path, user| {
        std::os::unix::fs::chown(path, Some(user), Some(user)).unwrap();
    };
    give(&run, USER);
    give(&file, USER);
    // The cgroup is root's.
    assert_eq!(confirm(root.path(), &path), None);
    give(&directory, USER);
    assert!(confirm(root.path(), &path).is_some());
    // Another user's cgroup, and another user's file.
    give(&directory, USER + 1);
    assert_eq!(confirm(root.path(), &path), None);
    give(&directory, USER);
    give(&file, USER + 1);
    assert_eq!(confirm(root.path(), &path), None);
}

// Only root can give files to others.
#[test]
#[ignore = "needs root"]
fn a_users_record_makes_nobody_elses_cgroup_part_of_the_users_container() {
    const USER: u32 = 4711;
    let (theirs, roots) = ("/user.slice/agent/web", "/agent/web");
    let root = host(&[theirs, roots]);
    let store = format!("run/user/{USER}/agent-containers/web/state.json");
    let text = format!(
        r#"{{"name":"web","image":"busybox","cgroup":"{theirs}","cgroups":{{"pids":"{roots}"}},"supervisor":1,
        "status":"creating","created":"","detached":false,"remove":true,"change_root":"pivot","network":"none"}}"#
    );
    add(root.path(), &[(&*store, &*text)]);
    let directory = format!("sys/fs/cgroup{theirs}");
    for path in [&format!("run/user/{USER}"), &store, &directory] {
        std::os::unix::fs::chown(root.path().join(path), Some(USER), Some(USER)).unwrap();
    }
    assert_eq!(confirm(root.path(), theirs).unwrap().cgroups, [theirs]);
    assert_eq!(confirm(root.path(), roots), None);
}

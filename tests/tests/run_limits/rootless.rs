//! The containers of an ordinary user.

use std::fs;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tests::alone;
use tests::rootless::{Delegated, Everybodys, USER, limit_memory, wait_until_dead};
use tests::run::{output, text};
use tests::wait::{PATIENCE, poll, wait_for};

use super::refused;

#[test]
#[ignore = "needs root"]
fn without_a_cgroup_it_runs_without_limits_and_says_so() {
    let files = Everybodys::new();
    let ended = output(&mut files.run(&[], &["id", "-u"]));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}");
    assert_eq!(ended.stdout, b"0\n");
    assert!(said.contains("without limits"), "{said}");
    let refused = output(&mut files.run(&["--pids-limit=5"], &["true"]));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(125), "{said}");
    assert!(said.contains("--pids-limit needs a cgroup"), "{said}");
}

/// The one line that is no note.
fn why(said: &str) -> &str {
    let mut lines = said
        .lines()
        .filter(|line| !line.starts_with("agent: note: "));
    let why = lines.next().expect("a line");
    assert_eq!(lines.next(), None, "{said}");
    why
}

/// Without a cgroup only a pid namespace of its own tells what runs in a container, and ends with it.
#[test]
#[ignore = "needs root"]
fn without_a_cgroup_it_has_its_own_processes() {
    let files = Everybodys::new();
    for flag in ["--pid=host", "--pid=ns:/proc/self/ns/pid"] {
        let said = refused(&mut files.run(&[flag], &["true"]), 125);
        let why = why(&said);
        assert!(why.contains("a shared --pid needs a cgroup"), "{said}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_map_that_the_kernel_refuses_is_one_line() {
    let files = Everybodys::new();
    // In the user's namespace there is no such id.
    let said = refused(&mut files.run(&["--uid-map=0:7:1"], &["true"]), 125);
    let why = why(&said);
    assert!(
        why.contains("--uid-map") && why.contains("not permitted"),
        "{said}"
    );
}

/// Enters a user namespace in which there is room for no other, and becomes a command.
const NO_ROOM: &str = r#"
    sub put { open FILE, ">", $_[0] and syswrite FILE, $_[1] or die "$_[0]: $!"; close FILE }
    # CLONE_NEWUSER
    syscall(272, 0x10000000) == 0 or die "unshare: $!";
    put("/proc/self/uid_map", "$< $< 1");
    put("/proc/sys/user/max_user_namespaces", "0");
    exec @ARGV;
"#;

#[test]
#[ignore = "needs root"]
fn without_user_namespaces_it_says_so() {
    let files = Everybodys::new();
    let run = files.run(&[], &["true"]);
    let mut call = Command::new("perl");
    call.args(["-e", NO_ROOM])
        .arg(run.get_program())
        .args(run.get_args());
    call.env("XDG_RUNTIME_DIR", files.path("state"))
        .current_dir("/");
    let said = refused(call.uid(USER).gid(USER).stdin(Stdio::null()), 125);
    let why = why(&said);
    assert!(
        why.starts_with("agent: an ordinary user needs a user namespace"),
        "{said}"
    );
    assert!(why.contains("user.max_user_namespaces"), "{said}");
}

#[test]
#[ignore = "needs root"]
fn in_a_delegated_cgroup_limits_hold() {
    let _alone = alone();
    let files = Everybodys::new();
    let delegated = Delegated::new("limits-delegated", &files);
    let root = files.path("root");
    let in_it = |flags: &[&str], script: &str| {
        let words = [&["run", "--rootfs", root.to_str().expect("UTF-8")], flags].concat();
        let words = [&words[..], &["sh", "-c", script]].concat();
        output(&mut delegated.agent(&files, &words))
    };
    let script = "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done";
    let ended = in_it(&["--pids-limit=5", "--memory=50m"], script);
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("delegated"), "{said}");
    assert!(said.contains("Resource temporarily unavailable"), "{said}");
    let ended = in_it(&["--pids-limit=5", "--memory=50m"], "id -u");
    assert_eq!(
        ended.stdout,
        b"0\n",
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    delegated.assert_empty();
}

/// A limit of the caller's own cgroup, though a cgroup above is delegated too.
#[test]
#[ignore = "needs root"]
fn a_container_stays_under_the_limits_of_its_caller() {
    let _alone = alone();
    let files = Everybodys::new();
    let delegated = Delegated::new("limits-caller", &files);
    limit_memory(&delegated.inner, 40 << 20);
    let root = files.path("root");
    let root = root.to_str().expect("UTF-8");
    let allocate = [
        "busybox",
        "dd",
        "if=/dev/zero",
        "of=/dev/null",
        "bs=100M",
        "count=1",
    ];
    for flags in [&["-m", "200m"][..], &[]] {
        let words = [&["run", "--rootfs", root], flags, &allocate].concat();
        let ended = output(&mut delegated.agent(&files, &words));
        assert_eq!(ended.status.code(), Some(137), "{flags:?}: {ended:?}");
    }
    delegated.assert_empty();
    // The verdict is about what holds.
    let words = ["verify", "-m", "200m", "--rootfs", root, "--output", "json"];
    let words = [&words[..], &allocate].concat();
    let ended = output(&mut delegated.agent(&files, &words));
    let said = String::from_utf8_lossy(&ended.stdout);
    assert_eq!(ended.status.code(), Some(1), "{said} {ended:?}");
    assert!(said.contains(&*delegated.inner.path()), "{said}");
    delegated.assert_empty();
}

/// From a cgroup that is not the user's, as a login shell's.
#[test]
#[ignore = "needs root"]
fn a_detached_container_is_reached_from_elsewhere() {
    let _alone = alone();
    let files = Everybodys::new();
    let delegated = Delegated::new("limits-reached", &files);
    let root = files.path("root");
    let deaf = "trap '' TERM; while :; do sleep 1; done";
    let words = [
        "run",
        "-d",
        "--name",
        "web",
        "-m",
        "50m",
        "--rootfs",
        root.to_str().expect("UTF-8"),
    ];
    let words = [&words[..], &["sh", "-c", deaf]].concat();
    text(&mut delegated.agent(&files, &words));
    let state = files.state("web");
    let path = format!("{}/agent/web", delegated.inner.path());
    assert_eq!(state["cgroup"], *path);
    assert!(!delegated.left().is_empty());
    text(&mut files.agent(&["stop", "-t", "1", "web"]));
    assert_eq!(text(&mut files.agent(&["wait", "web"])), "137\n");
    text(&mut files.agent(&["rm", "web"]));
    delegated.assert_empty();
    // And when its supervisor was killed.
    text(&mut delegated.agent(&files, &words));
    files.kill_supervisor("web");
    output(&mut files.agent(&["wait", "nobody"]));
    delegated.assert_empty();
}

#[test]
#[ignore = "needs root"]
fn without_a_cgroup_a_detached_container_is_reached() {
    let files = Everybodys::new();
    let deaf = "trap '' TERM; while :; do sleep 1; done";
    for end in [&["stop", "-t", "1", "web"][..], &["rm", "-f", "web"]] {
        text(&mut files.run(&["-d", "--name", "web"], &["sh", "-c", deaf]));
        assert_eq!(files.state("web")["cgroup"], "");
        assert_eq!(text(&mut files.agent(&["exec", "web", "id", "-u"])), "0\n");
        text(&mut files.agent(end));
        if end[0] == "stop" {
            assert_eq!(text(&mut files.agent(&["wait", "web"])), "137\n");
            text(&mut files.agent(&["rm", "web"]));
        }
        assert!(!files.path("state/agent-containers/web").exists());
    }
}

#[test]
#[ignore = "needs root"]
fn without_a_cgroup_the_third_wish_is_the_last() {
    let files = Everybodys::new();
    let deaf = "trap '' INT; echo deaf; while :; do sleep 1; done";
    let mut run = files.run(&[], &["sh", "-c", deaf]);
    let mut run = run.stdout(Stdio::piped()).spawn().expect("a command");
    let mut said = [0; 5];
    let output = run.stdout.as_mut().expect("a pipe");
    output.read_exact(&mut said).expect("it says so");
    let pid = Pid::from_child(&run);
    let status = poll(PATIENCE, || {
        // Two that come at once are one.
        let _ = kill_process(pid, Signal::INT);
        run.try_wait().expect("a child")
    });
    // Where it is deaf to that.
    run.kill().expect("a child");
    let status = status.expect("it ends");
    assert_eq!(status.code(), Some(137));
}

/// The program asks not to be killed with its parent, and its supervisor is killed.
#[test]
#[ignore = "needs root"]
fn without_a_cgroup_nothing_outlives_its_supervisor() {
    let files = Everybodys::new();
    // prctl(PR_SET_PDEATHSIG, 0)
    let outlive = "syscall(157, 1, 0); print STDERR 1; sleep 1000";
    let mut run = files.agent(&["run", "-d", "--name", "web", "--rootfs", "host"]);
    text(run.args(["perl", "-e", outlive]));
    wait_for("the program has asked", PATIENCE, || {
        let log = output(&mut files.agent(&["logs", "web"]));
        (log.stderr == b"1").then_some(())
    });
    let pid = files.state("web")["status"]["running"]["pid"].clone();
    let process = PathBuf::from(format!("/proc/{pid}"));
    files.kill_supervisor("web");
    output(&mut files.agent(&["wait", "nobody"]));
    wait_until_dead(&process);
    assert!(!files.path("state/agent-containers/web").exists());
}

/// Where another user has made the directory in /tmp in which this user's containers would be.
#[test]
#[ignore = "needs root"]
fn a_planted_directory_locks_nobody_out() {
    let files = Everybodys::new();
    let user = 60_000 + std::process::id() % 5000;
    let planted = PathBuf::from(format!("/tmp/agent-{user}"));
    fs::create_dir(&planted).expect("a directory");
    let as_user = |words: &[&str]| {
        let mut agent = Command::new(files.path("agent"));
        agent
            .args(words)
            .env_remove("XDG_RUNTIME_DIR")
            .current_dir("/");
        agent.uid(user).gid(user).stdin(Stdio::null());
        agent
    };
    let root = files.path("root");
    let root = root.to_str().expect("UTF-8");
    let ran = output(&mut as_user(&[
        "run", "-d", "--name", "web", "--rootfs", root, "sleep", "1000",
    ]));
    let removed = output(&mut as_user(&["rm", "-f", "web"]));
    let entries = fs::read_dir("/tmp").expect("/tmp").flatten();
    let beginning = format!("agent-{user}-");
    let own: Vec<_> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&beginning))
        .map(|entry| entry.path())
        .collect();
    for path in own.iter().chain([&planted]) {
        fs::remove_dir_all(path).expect("a directory");
    }
    assert!(ran.status.success(), "{ran:?}");
    assert!(removed.status.success(), "{removed:?}");
    assert_eq!(own.len(), 1, "{own:?}");
}

//! The containers of an ordinary user.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tests::agent::binary;
use tests::cgroup::{Cgroup, roots};
use tests::program;
use tests::run::{output, rootfs};
use tests::{alone, root};

use super::refused;

/// Nobody's, who has no ranges of other ids.
const USER: u32 = 65_534;

/// The program and a root file system where everybody can read them.
struct Everybodys {
    directory: tempfile::TempDir,
}

impl Everybodys {
    fn new() -> Self {
        let directory = tempfile::tempdir_in("/tmp").expect("a directory");
        let path = directory.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("permissions");
        program::copy(binary(), &path.join("agent"));
        let state = path.join("state");
        fs::create_dir(&state).expect("a directory");
        chown(&state, Some(USER), Some(USER)).expect("root");
        let mut copy = Command::new("cp");
        let copied = copy.arg("-a").arg(rootfs()).arg(path.join("root")).status();
        assert!(copied.is_ok_and(|status| status.success()));
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `agent run`, as that user.
    fn run(&self, flags: &[&str], command: &[&str]) -> Command {
        let mut run = Command::new(self.path("agent"));
        run.args(["run", "--rootfs"])
            .arg(self.path("root"))
            .args(flags)
            .args(command);
        run.env("XDG_RUNTIME_DIR", self.path("state"))
            .current_dir("/");
        run.uid(USER).gid(USER).stdin(Stdio::null());
        run
    }
}

#[test]
fn without_a_cgroup_it_runs_without_limits_and_says_so() {
    if !root() {
        return;
    }
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
fn without_a_cgroup_it_has_its_own_processes() {
    if !root() {
        return;
    }
    let files = Everybodys::new();
    for flag in ["--pid=host", "--pid=ns:/proc/self/ns/pid"] {
        let said = refused(&mut files.run(&[flag], &["true"]), 125);
        let why = why(&said);
        assert!(why.contains("a shared --pid needs a cgroup"), "{said}");
    }
}

#[test]
fn a_map_that_the_kernel_refuses_is_one_line() {
    if !root() {
        return;
    }
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
fn without_user_namespaces_it_says_so() {
    if !root() {
        return;
    }
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
fn in_a_delegated_cgroup_limits_hold() {
    if !root() {
        return;
    }
    let _alone = alone();
    let files = Everybodys::new();
    let delegated = Cgroup::new("limits-delegated");
    // Who is in a cgroup of v2 keeps it from giving controllers to those below.
    let inner = delegated.child("inner");
    for cgroup in [&delegated, &inner] {
        roots().for_each(|root| delegate(&root.join(cgroup.path().trim_start_matches('/'))));
    }
    let script = "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done";
    let in_it = |flags: &[&str], script: &str| {
        // Into the cgroup as root, then the user.
        let mut enter = inner.command("perl");
        let become_user = format!("$( = $) = '{USER} {USER}'; $< = $> = {USER}; exec @ARGV");
        enter.args(["-e", &become_user]).arg(files.path("agent"));
        enter
            .args(["run", "--rootfs"])
            .arg(files.path("root"))
            .args(flags);
        enter.args(["sh", "-c", script]);
        enter
            .env("XDG_RUNTIME_DIR", files.path("state"))
            .current_dir("/")
            .stdin(Stdio::null());
        output(&mut enter)
    };
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
    for root in roots() {
        let left = root
            .join(delegated.path().trim_start_matches('/'))
            .join("agent");
        assert!(!left.exists(), "{}", left.display());
    }
}

/// Gives a cgroup to the user, as systemd's Delegate= does.
fn delegate(directory: &Path) {
    for name in [
        "",
        "cgroup.procs",
        "cgroup.subtree_control",
        "tasks",
        "cgroup.threads",
    ] {
        let path = directory.join(name);
        if path.exists() {
            chown(&path, Some(USER), Some(USER)).expect("root");
        }
    }
}

//! Processes that are in no container.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tests::agent::binary;
use tests::container::inode;
use tests::process::{kill, wait_until_it_is};
use tests::program::{copy, program};
use tests::run::rootfs;

use crate::{NOBODY, TYPES, alone, gap, gaps, inspect, namespace};

/// A process that waits. Dropping it kills it.
struct Waiting(Child);

impl Waiting {
    fn start(command: &mut Command, becomes: &str) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::null());
        let waiting = Self(command.spawn().expect("it can be run"));
        wait_until_it_is(waiting.0.id(), becomes);
        waiting
    }

    fn report(&self) -> Value {
        alone(&self.0.id().to_string())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        kill(&mut self.0);
    }
}

#[test]
#[ignore = "needs root"]
fn a_process_of_the_host_shares_all_with_it() {
    let own = std::process::id().to_string();
    let report = alone(&own);
    assert_eq!(report["container"], Value::Null);
    for kind in TYPES {
        assert_eq!(namespace(&report, kind)["host"], true, "{kind}");
    }
    assert_eq!(
        report["root"]["value"],
        json!({"how": "unchanged", "path": "/"})
    );
    let told = gaps(&report);
    for about in [
        "mnt",
        "net",
        "pid",
        "root",
        "uid",
        "capabilities",
        "seccomp",
    ] {
        assert!(told.contains(&about), "{about}: {report}");
    }
    // All mounts are the host's own.
    assert!(!told.contains(&"mounts"), "{report}");
    let page = inspect(Path::new(NOBODY), &own, &[]);
    assert!(page.contains("none: on the host"), "{page}");
}

#[test]
#[ignore = "needs root"]
fn a_root_is_told_by_how_it_was_changed() {
    let mut chroot = Command::new(program("chroot"));
    let chroot = chroot.arg(rootfs()).args(["sleep", "1000"]);
    let report = Waiting::start(chroot, "sleep").report();
    let root = json!({"how": "chroot", "path": rootfs()});
    assert_eq!(report["root"]["value"], root, "{report}");
    assert_eq!(namespace(&report, "mnt")["host"], true);

    // A mount namespace of its own alone shows the host's files as before.
    let mut unshare = Command::new(program("unshare"));
    let unshare = unshare.args(["--mount", "cat"]);
    let report = Waiting::start(unshare, "cat").report();
    assert_eq!(namespace(&report, "mnt")["host"], false);
    assert_eq!(report["root"]["value"]["how"], "unchanged", "{report}");
    assert_eq!(gap(&report, "root"), "root is the host's");
}

#[test]
#[ignore = "needs root"]
fn a_name_cannot_reach_the_terminal() {
    let directory = tempfile::tempdir().expect("a directory");
    let name = "a\x1b[31m\u{202e}b";
    let link = directory.path().join(name);
    symlink(program("cat"), &link).expect("a link");
    let waiting = Waiting::start(&mut Command::new(&link), name);
    let pid = waiting.0.id().to_string();
    assert_eq!(waiting.report()["comm"]["value"], name);
    for arguments in [&[][..], &["--output", "json"]] {
        let text = inspect(Path::new(NOBODY), &pid, arguments);
        assert!(!text.contains(['\x1b', '\u{202e}']), "{text:?}");
    }
}

#[test]
#[ignore = "needs root"]
fn what_is_closed_is_told_in_its_place() {
    // Closed to a root that lacks one of init's capabilities.
    let open = std::fs::read_link("/proc/1/root").is_ok();
    let report = alone("1");
    let root = &report["root"];
    assert_eq!(root["value"].is_object(), open, "{root}");
    assert_eq!(root["unreadable"].is_string(), !open, "{root}");
    assert!(report["no_new_privs"]["value"].is_boolean(), "{report}");
    let page = inspect(Path::new(NOBODY), "1", &[]);
    assert_eq!(
        page.contains("cannot be read: Permission denied"),
        !open,
        "{page}"
    );
}

#[test]
#[ignore = "needs root"]
fn colours_are_for_terminals() {
    let own = std::process::id();
    let line = format!(
        "{} inspect {own} --docker-socket off --socket {NOBODY}",
        tests::agent::binary().display()
    );
    for (no_color, coloured) in [("", true), ("1", false)] {
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        let script = script.env("TERM", "xterm").env("NO_COLOR", no_color);
        let output = script.stdin(Stdio::null()).output();
        let text = output.expect("script can be run").stdout;
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(text.contains("not isolated"), "{text:?}");
        assert_eq!(text.contains("\x1b[1mprocess\x1b[0m"), coloured, "{text:?}");
    }
}

/// The user nobody, who has no privileges.
const ORDINARY: u32 = 65534;

#[test]
#[ignore = "needs root"]
fn an_ordinary_user_sees_the_own_processes() {
    let place = tempfile::tempdir().expect("a directory");
    fs::set_permissions(place.path(), Permissions::from_mode(0o755)).expect("own directory");
    let program = place.path().join("agent");
    copy(binary(), &program);
    let by_user = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).args(["--socket", "off"]);
        command.uid(ORDINARY).gid(ORDINARY).current_dir("/");
        command.env_remove("XDG_RUNTIME_DIR");
        command.output().expect("agent can be run")
    };
    let mut sleep = Command::new("unshare");
    let sleep = sleep.args(["--user", "--net", "sleep", "1000"]);
    let own = Waiting::start(sleep.uid(ORDINARY).gid(ORDINARY), "sleep");
    let pid = own.0.id().to_string();
    let inspected = by_user(&["inspect", &pid, "--output", "json"]);
    let report: Value = serde_json::from_slice(&inspected.stdout)
        .unwrap_or_else(|error| panic!("{error}: {inspected:?}"));
    for kind in TYPES {
        let found = namespace(&report, kind);
        assert_eq!(found["inode"], inode(&format!("/proc/{pid}/ns/{kind}")));
        let is_own = ["user", "net"].contains(&kind);
        assert_eq!(found["host"], !is_own, "{found}");
    }
    assert_eq!(report["command"]["value"], json!(["sleep", "1000"]));
    let listed = by_user(&["ns", "--pid", &pid, "--type", "net", "--output", "json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout)
        .unwrap_or_else(|error| panic!("{error}: {listed:?}"));
    assert_eq!(listed[0]["owner"]["pid"], own.0.id(), "{listed}");
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    let all = by_user(&["ns"]);
    assert!(all.status.success(), "{all:?}");
    let said = String::from_utf8_lossy(&all.stderr);
    assert!(said.contains("only this user's processes"), "{said}");
    assert!(said.contains("sudo"), "{said}");
    // Another user's process is refused, with advice.
    let refused = by_user(&["inspect", &std::process::id().to_string()]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("sudo"), "{said}");
}

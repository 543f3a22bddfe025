//! Directories, and the host's tree.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Command;

use serde_json::json;
use tests::agent::agent;
use tests::mounts::{Mounts, compared};
use tests::program::{copy, program};

use crate::{Came, run};
use tests::archive::{saved, shell, write};

/// A directory with a shell.
pub fn small() -> tempfile::TempDir {
    let place = tempfile::tempdir().expect("a directory");
    let bin = place.path().join("bin");
    fs::create_dir(&bin).expect("a directory");
    copy(&program("busybox"), &bin.join("busybox"));
    for name in ["sh", "cat", "ls", "touch", "mknod", "dd"] {
        symlink("busybox", bin.join(name)).expect("a link");
    }
    place
}

#[test]
#[ignore = "needs root"]
fn a_directory_is_the_root() {
    let place = small();
    fs::write(place.path().join("mine"), "read").expect("a file");
    let root = place.path().to_str().expect("UTF-8");
    let script = "cat /mine; echo written >/mine; ls -d /home /usr 2>/dev/null; cat /mine";
    let said = run(&["--rootfs", root], &["sh", "-c", script]).well();
    assert_eq!(said, "readwritten\n");
    let written = fs::read_to_string(place.path().join("mine"));
    assert_eq!(written.expect("a file"), "written\n");
    let flags = ["--read-only", "--rootfs", root];
    let refused = run(&flags, &["sh", "-c", "echo more >/mine"]);
    assert_eq!(refused.status, Some(1), "{}", refused.err);
    assert!(refused.err.contains("Read-only"), "{}", refused.err);
}

#[test]
#[ignore = "needs root"]
fn a_link_to_a_directory_is_refused() {
    let place = small();
    let links = tempfile::tempdir().expect("a directory");
    let link = links.path().join("link");
    symlink(place.path(), &link).expect("a link");
    for end in ["", "/", "/."] {
        let named = format!("{}{end}", link.display());
        let said = run(&["--rootfs", &named], &["true"]).badly(125);
        assert!(said.contains("symbolic link"), "{said}");
    }
}

#[test]
#[ignore = "needs root"]
fn what_is_mounted_below_is_there_too() {
    let place = small();
    let below = place.path().join("below");
    fs::create_dir(&below).expect("a directory");
    let mounts = Mounts::new("tmpfs", &below);
    let mut touch = mounts.command("touch");
    assert!(
        touch
            .arg(below.join("mounted"))
            .status()
            .expect("touch")
            .success()
    );
    let mut command = mounts.command(tests::agent::binary());
    command
        .arg("run")
        .arg("--rootfs")
        .arg(place.path())
        .args(["ls", "/below"]);
    assert_eq!(Came::of(command).well(), "mounted\n");
}

#[test]
#[ignore = "needs root"]
fn no_device_of_a_directory_opens() {
    let place = small();
    let root = place.path().to_str().expect("UTF-8");
    let made = Command::new(program("mknod"))
        .arg(place.path().join("zero"))
        .args(["c", "1", "5"])
        .status();
    assert!(made.expect("mknod can be run").success());
    let read = "dd if=/zero bs=1 count=1 2>/dev/null || echo refused";
    assert_eq!(
        run(&["--rootfs", root], &["sh", "-c", read]).well(),
        "refused\n"
    );
    // The container's own /dev is another matter.
    let read = "dd if=/dev/zero bs=1 count=1 2>/dev/null | ls -d /dev/zero";
    assert_eq!(
        run(&["--rootfs", root], &["sh", "-c", read]).well(),
        "/dev/zero\n"
    );
}

#[test]
#[ignore = "needs root"]
fn the_hosts_tree_is_read_only() {
    let mine = tempfile::NamedTempFile::new_in("/var/tmp").expect("a file");
    let _ = mine;
    let script = "
        for place in / /etc /usr /root; do
            touch $place/agent-test 2>/dev/null && echo $place can be written to
        done
        for place in /tmp /var/tmp /run; do
            ls -A $place
            touch $place/own || echo $place cannot be written to
        done
        dd if=/dev/null of=/dev/null 2>/dev/null || echo no devices
        mount -o remount,rw / 2>/dev/null && echo remounted
        readlink /proc/self/exe | head -c 4
    ";
    let said = run(&["--rootfs", "host"], &["sh", "-c", script]).well();
    assert_eq!(said, "/usr");
    assert!(!fs::exists("/run/own").expect("a look") && !fs::exists("/tmp/own").expect("a look"));
}

#[test]
#[ignore = "needs root"]
fn the_hosts_services_are_out_of_reach() {
    let place = tempfile::Builder::new()
        .prefix("agent-test-")
        .tempdir_in("/run");
    let place = place.expect("a directory");
    let socket = place.path().join("socket");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    let script = format!("test -e {} && echo in reach", socket.display());
    let came = run(&["--rootfs", "host"], &["sh", "-c", &script]);
    assert_eq!(
        (came.status, came.out.as_str()),
        (Some(1), ""),
        "{}",
        came.err
    );
}

#[test]
#[ignore = "needs root"]
fn what_is_no_root_is_said() {
    let run = |root: &str| {
        let mut run = agent(["run", "--rootfs", root]);
        run.arg("true");
        Came::of(run).badly(125)
    };
    let said = run("/nowhere");
    assert!(
        said.contains("there is no /nowhere: --rootfs wants a directory"),
        "{said}"
    );
    let said = run("/etc/passwd");
    assert!(
        said.contains("/etc/passwd is not a directory; --image"),
        "{said}"
    );
}

#[test]
#[ignore = "needs root"]
fn no_mount_stays() {
    let place = small();
    let image = write(place.path(), "image.tar", &saved(&[shell()], &json!({})));
    let root = place.path().to_str().expect("UTF-8");
    for flags in [
        ["--rootfs", root],
        ["--rootfs", "host"],
        ["--bin", "bash"],
        ["--image", &image],
    ] {
        let shell = if flags[0] == "--bin" { "bash" } else { "sh" };
        let mut run = agent(["run"]);
        run.args(flags).args([shell, "-c", "echo ran"]);
        assert_eq!(Came::of(compared(&run)).well(), "ran\n", "{flags:?}");
    }
}

//! Mounts in a root: their places, which links may lead to, and their order.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::agent::{agent, binary};

use crate::trees::small;
use crate::{Came, run};

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A file of the host with this in it.
fn file(place: &TempDir, content: &str) -> String {
    let path = place.path().join("file");
    fs::write(&path, content).expect("a file");
    text(&path).to_owned()
}

#[test]
#[ignore = "needs root"]
fn what_a_link_leads_to_is_made_in_the_root() {
    let (root, host) = (small(), tempfile::tempdir().expect("a directory"));
    let file = file(&host, "mounted\n");
    let unique = format!("agent-{}", std::process::id());
    for directory in ["var", "etc", "run"] {
        fs::create_dir(root.path().join(directory)).expect("a directory");
    }
    let links = [
        ("var/run", "../run"),
        ("etc/resolv.conf", "../run/made/resolv.conf"),
        ("one", "/two"),
        ("two", "var/three"),
    ];
    for (name, target) in links {
        symlink(target, root.path().join(name)).expect("a link");
    }
    let targets = [
        (format!("/var/run/{unique}"), format!("/run/{unique}")),
        ("/etc/resolv.conf".into(), "/run/made/resolv.conf".into()),
        ("/one/deep/file".into(), "/var/three/deep/file".into()),
    ];
    for (target, real) in targets {
        let volume = format!("{file}:{target}");
        let flags = ["--rootfs", text(root.path()), "-v", &volume];
        let said = run(&flags, &["cat", &target, &real]).well();
        assert_eq!(said, "mounted\nmounted\n", "{target}");
        let made = root.path().join(real.trim_start_matches('/'));
        assert_eq!(fs::read(made).expect("a file"), b"", "{target}");
    }
    assert!(!Path::new("/run").join(&unique).exists());
}

#[test]
#[ignore = "needs root"]
fn a_mount_below_another_is_not_hidden() {
    let (root, host) = (small(), tempfile::tempdir().expect("a directory"));
    let volume = format!("{}:/data", host.path().display());
    let script = "echo lost >/data/sub/file; echo kept >/data/file; cat /data/sub/file";
    for flags in [
        ["-v", &volume, "--tmpfs", "/data/sub"],
        ["--tmpfs", "/data/sub", "-v", &volume],
    ] {
        let flags = [&["--rootfs", text(root.path())], &flags[..]].concat();
        assert_eq!(run(&flags, &["sh", "-c", script]).well(), "lost\n");
        assert!(host.path().join("file").exists());
        let sub = fs::read_dir(host.path().join("sub")).expect("the mount's place");
        assert_eq!(sub.count(), 0, "{flags:?}");
    }
    // The usual mounts: those of /dev are there, and none is made in a volume.
    let flags = ["--rootfs", text(root.path()), "--tmpfs", "/dev"];
    let said = run(
        &flags,
        &["sh", "-c", "ls -d /dev/pts/ptmx /dev/shm /dev/null"],
    )
    .well();
    assert_eq!(said, "/dev/null\n/dev/pts/ptmx\n/dev/shm\n");
    let sys = tempfile::tempdir().expect("a directory");
    let volume = format!("{}:/sys", sys.path().display());
    run(
        &["--rootfs", text(root.path()), "-v", &volume],
        &["ls", "/sys"],
    )
    .well();
    assert_eq!(fs::read_dir(sys.path()).expect("a directory").count(), 0);
    // A volume over a device of /dev.
    let volume = format!("{}:/dev/zero", file(&host, "own\n"));
    let said = run(
        &["--rootfs", text(root.path()), "-v", &volume],
        &["cat", "/dev/zero"],
    );
    assert_eq!(said.well(), "own\n");
}

/// Runs a bundle: what `--print-spec` gives for this root, changed.
fn bundle(place: &Path, root: &Path, command: &[&str], change: impl FnOnce(&mut Value)) -> Came {
    let mut print = agent(["run", "--print-spec", "--rootfs"]);
    let printed = Came::of({
        print.arg(root).args(command);
        print
    });
    let mut spec: Value = serde_json::from_str(&printed.well()).expect("JSON");
    change(&mut spec);
    fs::write(place.join("config.json"), spec.to_string()).expect("a file");
    run(&["--bundle", text(place)], &[])
}

fn add(spec: &mut Value, mount: &Value) {
    let mounts = spec["mounts"].as_array_mut().expect("mounts");
    mounts.push(mount.clone());
}

#[test]
#[ignore = "needs root"]
fn a_bundle_keeps_the_order_of_its_mounts_and_what_it_hides_in_them() {
    let (root, place) = (small(), tempfile::tempdir().expect("a directory"));
    let command = ["cat", "/sys/fs/cgroup/file"];
    let over = json!({"destination": "/sys/fs/cgroup", "type": "tmpfs", "source": "tmpfs"});
    fs::create_dir(place.path().join("own")).expect("a directory");
    fs::write(place.path().join("own/file"), "on top\n").expect("a file");
    // A relative source is the bundle's. What is mounted over the cgroups comes after them.
    let own = json!({"destination": "/sys/fs/cgroup", "source": "own", "options": ["bind"]});
    for last in [&own, &over] {
        let came = bundle(place.path(), root.path(), &command, |spec| add(spec, last));
        let seen = came.out.contains("on top");
        assert_eq!(seen, last == &own, "{}{}", came.out, came.err);
    }
    let count = |change: fn(&mut Value)| {
        let said = bundle(
            place.path(),
            root.path(),
            &["sh", "-c", "ls /sys/fs/cgroup"],
            change,
        );
        said.well().lines().count()
    };
    assert_ne!(count(|_| {}), 0);
    assert_eq!(
        count(|spec| spec["linux"]["maskedPaths"] = json!(["/sys/fs/cgroup"])),
        0
    );
}

#[test]
#[ignore = "needs root"]
fn an_overlay_of_a_bundle_is_of_the_hosts_directories() {
    let (root, place) = (small(), tempfile::tempdir().expect("a directory"));
    for layer in ["lower", "upper", "work"] {
        fs::create_dir(place.path().join(layer)).expect("a directory");
    }
    fs::write(place.path().join("lower/file"), "layered\n").expect("a file");
    let at = |name: &str| format!("{name}dir={}/{name}", place.path().display());
    let options = [at("lower"), at("upper"), at("work"), "ro".into()];
    let mount = json!({
        "destination": "/layered", "type": "overlay", "source": "overlay", "options": options
    });
    let command = ["cat", "/layered/file"];
    let came = bundle(place.path(), root.path(), &command, |spec| {
        add(spec, &mount)
    });
    assert_eq!(came.well(), "layered\n");
}

#[test]
#[ignore = "needs root"]
fn a_link_stands_in_for_no_root_of_a_bundle() {
    let (root, place) = (small(), tempfile::tempdir().expect("a directory"));
    let inside = root.path().join("inside");
    fs::create_dir(&inside).expect("a directory");
    symlink(root.path(), place.path().join("link")).expect("a link");
    symlink("/", place.path().join("host")).expect("a link");
    for refused in ["link", "link/", "link/inside", "host", "./link"] {
        let came = bundle(place.path(), root.path(), &["true"], |spec| {
            spec["root"]["path"] = refused.into();
        });
        let said = came.badly(125);
        assert!(said.contains("root.path is a symbolic link"), "{said}");
    }
    // The bundle itself may be named by a link.
    let other = tempfile::tempdir().expect("a directory");
    let named = other.path().join("named");
    symlink(place.path(), &named).expect("a link");
    let came = bundle(&named, root.path(), &["ls", "-d", "/bin"], |_| {});
    assert_eq!(came.well(), "/bin\n");
}

#[test]
#[ignore = "needs root"]
fn relative_paths_need_a_working_directory_that_is_there() {
    let root = small();
    fs::create_dir(root.path().join("etc")).expect("a directory");
    let mounted = "mkdir -p gone/etc && cd gone && mount -t tmpfs none ../gone && exec \"$@\"";
    let removed = "mkdir gone && cd gone && rmdir ../gone && exec \"$@\"";
    for script in [removed, mounted] {
        for flags in [
            &["-v", "./etc:/x", "--rootfs", text(root.path())][..],
            &["--rootfs", "etc"],
            &["--rootfs", "./"],
            &["--image", "etc/image.tar"],
            &["--bin", "./etc/program"],
            &["--bundle", "etc"],
        ] {
            let place = tempfile::tempdir().expect("a directory");
            let mut call = Command::new("unshare");
            call.args(["--mount", "sh", "-c", script, "sh"])
                .arg(binary());
            call.arg("run").args(flags).current_dir(place.path());
            if !flags.contains(&"--bundle") {
                call.args(["--", "ls", "/x"]);
            }
            let said = Came::of(call).badly(125);
            assert!(said.contains("the working directory"), "{flags:?}: {said}");
        }
    }
    // From the root on, paths lead where they say.
    let volume = format!("{}:/x", root.path().join("bin").display());
    let mut call = Command::new("unshare");
    call.args(["--mount", "sh", "-c", removed, "sh"])
        .arg(binary());
    call.args([
        "run",
        "-v",
        &volume,
        "--rootfs",
        text(root.path()),
        "ls",
        "/x/sh",
    ]);
    let place = tempfile::tempdir().expect("a directory");
    call.current_dir(place.path());
    assert_eq!(Came::of(call).well(), "/x/sh\n");
}

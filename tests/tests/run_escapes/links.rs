//! Links in a root file system where a launcher mounts, makes nodes, or masks (CVE-2019-19921, 2023-27561, 2025-31133,
//! 2025-52565, 2025-52881).

use std::fs;

use tests::rootfs::Rootfs;

use super::attacker::{careless, rootfs, run, said, works_unguarded};

const BAIT: &str = "bait";

/// A root file system, and outside of it a file that must stay as it is.
fn poisoned() -> Rootfs {
    let rootfs = rootfs();
    fs::write(rootfs.outside().join("file"), BAIT).expect("a file");
    rootfs
}

/// Nothing was made outside, and nothing changed.
fn assert_untouched(rootfs: &Rootfs, said: &str) {
    let entries = fs::read_dir(rootfs.outside()).expect("a directory");
    let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["file"], "{said}");
    let file = fs::read_to_string(rootfs.outside().join("file")).expect("a file");
    assert_eq!(file, BAIT, "{said}");
}

/// What runs with these flags in a root file system without a link does not reach outside in one with it.
fn assert_guarded(poisoned: &Rootfs, flags: &[&str]) {
    let clean = said(&mut run(&rootfs(), flags, &["/bin/attack", "sysctl"]));
    assert!(clean.contains("looked"), "{flags:?} {clean}");
    assert_stopped(poisoned, flags);
}

/// Refused, or a container with a real /proc whose files of the host are closed.
fn assert_stopped(rootfs: &Rootfs, flags: &[&str]) {
    let output = run(rootfs, flags, &["/bin/attack", "sysctl"])
        .output()
        .expect("timeout can be run");
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert_untouched(rootfs, &said);
    assert!(!said.contains("done /proc"), "{said}");
    if said.contains("looked") {
        // Unless that is what was asked for.
        let replaced = flags.contains(&"/proc");
        assert!(replaced || said.contains("proc Ok(9fa0)"), "{said}");
        assert!(replaced || said.contains("masked Ok(\"\")"), "{said}");
    } else {
        assert!(
            (125..=127).contains(&output.status.code().unwrap_or_default()),
            "{said}"
        );
        assert_eq!(
            said.lines().count(),
            1,
            "{flags:?} {said} {}",
            output.status
        );
    }
}

fn assert_careless(rootfs: &Rootfs, attack: &str, script: &str) {
    let output = careless(rootfs, script)
        .output()
        .expect("unshare can be run");
    assert!(output.status.success(), "{attack}: {output:?}");
    works_unguarded(attack);
}

#[test]
#[ignore = "needs root"]
fn proc_is_a_link() {
    let rootfs = poisoned();
    rootfs.link("proc", rootfs.outside());
    let script = "mount -t proc proc \"$1/proc\"; test -e \"$2/self\"";
    assert_careless(&rootfs, "CVE-2019-19921, CVE-2023-27561", script);
    assert_guarded(&rootfs, &[]);

    // Into the root itself, where the container can write.
    let rootfs = poisoned();
    fs::create_dir_all(rootfs.path().join("fake/sys/kernel")).expect("a directory");
    rootfs.link("proc", "/fake");
    assert_guarded(&rootfs, &[]);
}

#[test]
#[ignore = "needs root"]
fn dev_is_a_link() {
    let rootfs = poisoned();
    rootfs.link("dev", rootfs.outside());
    let script = "mount -t tmpfs none \"$1/dev\"; mknod \"$1/dev/null\" c 1 3; test -c \"$2/null\"";
    assert_careless(&rootfs, "a link at /dev", script);
    assert_guarded(&rootfs, &[]);
    assert_guarded(&rootfs, &["-t"]);
}

#[test]
#[ignore = "needs root"]
fn console_is_a_link() {
    let rootfs = poisoned();
    rootfs.link("dev/console", rootfs.outside().join("file"));
    let script = "mount --bind /dev/zero \"$1/dev/console\"; test -c \"$2/file\"";
    assert_careless(&rootfs, "CVE-2025-52565", script);
    assert_guarded(&rootfs, &["-t"]);
    let rootfs = poisoned();
    rootfs.link("dev/pts", rootfs.outside());
    assert_guarded(&rootfs, &["-t"]);
}

#[test]
#[ignore = "needs root"]
fn what_masks_is_a_link() {
    let rootfs = poisoned();
    rootfs.link("dev/null", "/proc/sys/kernel/core_pattern");
    let script = "mount -t proc proc \"$1/proc\"
        mount --bind \"$1/dev/null\" \"$1/proc/keys\"
        test \"$(cat \"$1/proc/keys\")\" = \"$(cat /proc/sys/kernel/core_pattern)\"";
    assert_careless(&rootfs, "CVE-2025-31133", script);
    assert_guarded(&rootfs, &[]);

    let rootfs = poisoned();
    rootfs.link("dev/null", rootfs.outside().join("file"));
    assert_guarded(&rootfs, &[]);
    for path in ["sys/firmware", "dev/shm", "dev/mqueue", "sys", "etc"] {
        let rootfs = poisoned();
        rootfs.link(path, rootfs.outside());
        assert_guarded(&rootfs, &[]);
    }
}

#[test]
#[ignore = "needs root"]
fn a_mount_target_is_a_link() {
    let rootfs = poisoned();
    rootfs.link("data", rootfs.outside());
    let script = "mkdir -p \"$1/data/deep\"; test -d \"$2/deep\"; rmdir \"$2/deep\"";
    assert_careless(&rootfs, "a link at a mount's target", script);
    let volume = |target: &str| format!("/tmp:{target}");
    for target in ["/data", "/data/deep", "/data/file"] {
        assert_guarded(&rootfs, &["-v", &volume(target)]);
        assert_guarded(&rootfs, &["--tmpfs", target]);
    }
    let upwards = "/data/../../new";
    assert_stopped(&rootfs, &["-v", &volume(upwards)]);
    assert_stopped(&rootfs, &["--tmpfs", upwards]);
}

#[test]
#[ignore = "needs root"]
fn writes_to_proc_are_led_elsewhere() {
    let setting = "net/ipv4/ip_unprivileged_port_start";
    let poisoned = || {
        let rootfs = poisoned();
        rootfs.link(&format!("fake/{setting}"), rootfs.outside().join("file"));
        rootfs
    };
    let rootfs = poisoned();
    let script = "mount -t proc proc \"$1/proc\"; mount --bind \"$1/fake\" \"$1/proc/sys\"
        echo 99 > \"$1/proc/sys/net/ipv4/ip_unprivileged_port_start\"
        test \"$(cat \"$2/file\")\" = 99";
    assert_careless(&rootfs, "CVE-2025-52881", script);
    let rootfs = poisoned();
    let fake = rootfs.path().join("fake");
    let volume = format!("{}:/proc/sys", fake.display());
    let sysctl = "net.ipv4.ip_unprivileged_port_start=99";
    assert_guarded(&rootfs, &["--sysctl", sysctl]);
    assert_guarded(&rootfs, &["--tmpfs", "/proc"]);
    // Here the mount itself is the attack.
    assert_stopped(&rootfs, &["-v", &volume, "--sysctl", sysctl]);
    assert_stopped(&rootfs, &["--tmpfs", "/proc/self/attr"]);
    assert_stopped(&rootfs, &["--tmpfs", "/proc", "--sysctl", sysctl]);
}

//! CVE-2019-5736: a container makes its launcher run itself inside, and overwrites its program on the host.

use std::fs;
use std::path::Path;

use tests::agent::binary;
use tests::program::{copy, script};
use tests::rootfs::Rootfs;
use tests::wait::{PATIENCE, poll, wait_for};

use super::attacker::{attack, careless, limited, name, said, works_unguarded};

/// What is run in the container is whatever runs it.
fn lure(rootfs: &Rootfs) {
    let path = rootfs.path().join("bin/lure");
    script(&path, "#!/proc/self/exe\n");
}

/// A copy, so that what is overwritten is nobody's.
fn victim(of: &Path, rootfs: &Rootfs) -> std::path::PathBuf {
    let victim = rootfs.outside().join("victim-launcher");
    copy(of, &victim);
    victim
}

#[test]
#[ignore = "needs root"]
fn the_program_of_the_launcher_stays_as_it_is() {
    unguarded();
    let rootfs = Rootfs::new(&[("attack", &attack()), ("agent", binary())]);
    fs::remove_file(rootfs.path().join("bin/agent")).expect("only its libraries are needed");
    lure(&rootfs);
    let victim = victim(binary(), &rootfs);
    let before = fs::read(&victim).expect("the launcher");
    let name = name();
    let agent = |words: &[&str]| said(limited().arg(&victim).args(words));
    let directory = rootfs.path();
    let directory = directory.to_str().expect("a path");
    let started = agent(&[
        "run",
        "-d",
        "--name",
        &name,
        "--rootfs",
        directory,
        "--",
        "/bin/attack",
        "hunt",
        "victim,agent,memfd",
        "8",
    ]);
    wait_for(&format!("the hunter runs: {started}"), PATIENCE, || {
        agent(&["logs", &name]).contains("hunting").then_some(())
    });
    // Whether it looks while the program is there is a matter of luck.
    wait_for("a program of ours is caught", PATIENCE, || {
        agent(&["exec", &name, "/bin/lure"]);
        agent(&["exec", &name, "/bin/true"]);
        agent(&["logs", &name]).contains("caught").then_some(())
    });
    let mut log = String::new();
    let ended = poll(PATIENCE, || {
        log = agent(&["logs", &name]);
        log.contains("over\n").then_some(())
    });
    agent(&["rm", "-f", &name]);
    assert!(ended.is_some(), "the hunter's end: {log}");
    assert!(log.contains("refused overwriting"), "{log}");
    assert!(!log.contains("done overwriting"), "{log}");
    assert!(fs::read(&victim).expect("the launcher") == before, "{log}");
    // As the command itself, too.
    let lured = said(limited().arg(&victim).args([
        "run",
        "--rm",
        "--rootfs",
        directory,
        "--",
        "/bin/lure",
    ]));
    assert!(
        fs::read(&victim).expect("the launcher") == before,
        "{lured}"
    );
}

fn unguarded() {
    let rootfs = Rootfs::new(&[("attack", &attack())]);
    lure(&rootfs);
    let victim = victim(&attack(), &rootfs);
    let log = said(&mut careless(
        &rootfs,
        "mount -t proc proc \"$1/proc\"
        chroot \"$1\" /bin/attack hunt victim 5 &
        for i in 1 2 3 4 5; do \"$2/victim-launcher\" enter \"$1\" /bin/lure || true; done
        wait",
    ));
    assert!(log.contains("done overwriting"), "{log}");
    assert_eq!(fs::read(&victim).expect("a file"), b"overwritten\n");
    works_unguarded("CVE-2019-5736");
}

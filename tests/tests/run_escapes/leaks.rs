//! CVE-2024-21626: descriptors and a working directory of the host that a container gets from its launcher.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::process::Command;

use rustix::io::{FdFlags, fcntl_setfd};
use tests::agent::agent;
use tests::run::{Container, text};
use tests::slow::some;

use super::attacker::{attack, rootfs, run, said, works_unguarded};

const SECRET: &str = "of-the-host";

#[test]
#[ignore = "needs root"]
fn no_descriptor_and_no_directory_of_the_host_comes_in() {
    let rootfs = rootfs();
    fs::write(rootfs.outside().join("secret"), SECRET).expect("a file");
    let leak = File::open(rootfs.outside()).expect("a directory");
    // Of this process's children, only those of this test should have it, but to the others it does no harm.
    fcntl_setfd(&leak, FdFlags::empty()).expect("a descriptor");
    let number = leak.as_raw_fd().to_string();

    let enter = |words: &[&str]| {
        let mut call = Command::new(attack());
        call.arg("enter").arg(rootfs.path()).args(words);
        said(&mut call)
    };
    let stolen = format!("stolen {SECRET}");
    let said_there = enter(&["/bin/attack", "leaks", "secret"]);
    assert!(said_there.contains(&stolen), "{said_there}");
    let said_there = enter(&["at", &number, "/bin/busybox", "cat", "secret"]);
    assert!(said_there.contains(SECRET), "{said_there}");
    works_unguarded("CVE-2024-21626");

    let here = said(&mut run(&rootfs, &[], &["/bin/attack", "leaks", "secret"]));
    assert!(here.contains("looked"), "{here}");
    assert!(!here.contains("open") && !here.contains(SECRET), "{here}");
    let container = Container::new("leaks");
    let mut start = agent(["run", "-d", "--name", &container.name, "--rootfs"]);
    text(start.arg(rootfs.path()).args(["/bin/sleep", "1000"]));
    let command = ["/bin/attack", "leaks", "secret"];
    let exec = |flags: &[&str]| said(&mut container.agent("exec", flags, &command));
    let here = exec(&[]);
    assert!(here.contains("looked"), "{here}");
    assert!(!here.contains("open") && !here.contains(SECRET), "{here}");
    for number in some(3..20, 5) {
        for directory in [
            format!("/proc/self/fd/{number}"),
            format!("/proc/self/fd/{number}/../../../../.."),
            format!("/proc/1/fd/{number}"),
        ] {
            let here = said(&mut run(&rootfs, &["-w", &directory], &command));
            assert!(!here.contains(SECRET), "-w {directory}: {here}");
            let here = exec(&["-w", &directory]);
            assert!(!here.contains(SECRET), "exec -w {directory}: {here}");
        }
    }
}

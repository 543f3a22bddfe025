//! CVE-2022-0492: the release agent of a hierarchy of cgroups of v1 runs on the host.

use std::fs;
use std::process::Command;

use tests::program::script;
use tests::wait::{PATIENCE, poll, wait_for};

use super::attacker::{attack, careless, name, rootfs, run, said, works_unguarded};

#[test]
#[ignore = "needs root"]
fn no_release_agent_is_set() {
    let rootfs = rootfs();
    let (agent, mark) = (
        rootfs.outside().join("agent"),
        rootfs.outside().join("mark"),
    );
    script(&agent, &format!("#!/bin/sh\n: > {}\n", mark.display()));
    let agent = agent.to_str().expect("a path");

    let named = format!("none,name={}", name());
    let script = format!("\"$3\" release-agent {named} \"$2/agent\"");
    let there = said(&mut careless(&rootfs, &script));
    wait_for(&format!("the release agent ran: {there}"), PATIENCE, || {
        mark.exists().then_some(())
    });
    fs::remove_file(&mark).expect("a file");
    works_unguarded("CVE-2022-0492");

    for hierarchy in [format!("none,name={}", name()), "memory".to_owned()] {
        for flags in [&[][..], &["--security-opt", "seccomp=unconfined"]] {
            let command = ["/bin/attack", "release-agent", &hierarchy, agent];
            let here = said(&mut run(&rootfs, flags, &command));
            assert!(here.contains("looked"), "{here}");
            assert!(!here.contains("done release_agent"), "{flags:?} {here}");
            assert!(!here.contains("done mount\n"), "{flags:?} {here}");
            let unshared = here.contains("done unshare");
            assert!(!unshared || !flags.is_empty(), "{here}");
        }
    }
    let written = "for f in /sys/fs/cgroup/*/release_agent /sys/fs/cgroup/release_agent; do [ -e $f ] && echo x > $f && echo open $f; done; echo looked";
    let here = said(&mut run(&rootfs, &[], &["/bin/sh", "-c", written]));
    assert!(
        here.contains("looked") && !here.contains("open /"),
        "{here}"
    );
    let ran = poll(std::time::Duration::from_millis(300), || {
        mark.exists().then_some(())
    });
    assert!(ran.is_none(), "a release agent ran on the host");
    assert!(Command::new(attack()).status().is_ok());
}

//! A fork bomb.

use std::process::Command;

use super::attacker::{attack, rootfs, run, said, works_unguarded};

#[test]
#[ignore = "needs root"]
fn a_fork_bomb_ends_at_its_limit() {
    let there = said(Command::new(attack()).args(["bomb", "300"]));
    assert!(there.contains("started 300"), "{there}");
    works_unguarded("a fork bomb");

    let rootfs = rootfs();
    let command = ["/bin/attack", "bomb", "300"];
    let here = said(&mut run(&rootfs, &["--pids-limit", "40"], &command));
    assert!(here.contains("started 39"), "{here}");
    assert!(
        here.contains(&format!("refused fork: {}", libc::EAGAIN)),
        "{here}"
    );

    // What is left when the first process ends is killed: the command does not hang, and nothing stays.
    let script = "for i in 1 2 3 4 5 6 7 8 9; do (sleep 1000; sleep 1000) & done; echo over";
    let mut call = run(&rootfs, &["--pids-limit", "40"], &["/bin/sh", "-c", script]);
    let status = call.output().expect("timeout can be run");
    assert!(status.status.success(), "{status:?}");
}

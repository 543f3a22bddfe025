//! A container that puts words into its user's terminal (TIOCSTI).

use std::process::Command;

use tests::agent::binary;
use tests::program::program;

use super::attacker::{attack, name, rootfs, said, works_unguarded};

/// A command with a terminal of its own for standard input: what is in the terminal's input afterwards.
fn pushed(command: &str) -> String {
    let script = format!("{command}; stty -icanon min 0 time 5; echo; echo \"left:$(cat)\"");
    let mut call = Command::new(program("setsid"));
    call.args(["--wait"]).arg(program("script"));
    call.args([
        "--quiet",
        "--echo",
        "never",
        "--command",
        &script,
        "/dev/null",
    ]);
    said(call.stdin(std::process::Stdio::null()))
}

#[test]
#[ignore = "needs root"]
fn nothing_is_put_into_the_callers_terminal() {
    let rootfs = rootfs();
    let there = pushed(&format!("{} push WORDS", attack().display()));
    assert!(there.contains("done push"), "{there}");
    assert!(there.contains("left:WORDS"), "{there}");
    works_unguarded("TIOCSTI");

    for flags in ["", "-i", "-it", "--security-opt seccomp=unconfined -i"] {
        let here = pushed(&format!(
            "{} run --rm --name {} {flags} --rootfs {} -- /bin/attack push WORDS",
            binary().display(),
            name(),
            rootfs.path().display()
        ));
        assert!(here.contains(" push"), "{flags}: {here}");
        // A terminal of the container's own takes what it is given.
        assert!(
            flags == "-it" || here.contains("refused push"),
            "{flags}: {here}"
        );
        assert!(
            here.contains("left:") && !here.contains("left:W"),
            "{flags}: {here}"
        );
    }
}

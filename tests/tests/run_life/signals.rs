//! Signals that `agent kill` and `agent stop` send.

use tests::run::{Container, output, text};
use tests::wait::{PATIENCE, wait_for};

/// Starts a shell that handles signals as `traps` says, and waits until it does.
fn start(name: &str, traps: &str) -> Container {
    let container = Container::new(name);
    let script = format!("{traps}; echo ready; while :; do sleep 0.02; done");
    container.start(&[], &["sh", "-c", &script]);
    wait_until_it_said(&container, "ready");
    container
}

fn wait_until_it_said(container: &Container, word: &str) {
    wait_for("the container wrote it", PATIENCE, || {
        let said = text(&mut container.agent("logs", &[], &[]));
        said.contains(word).then_some(())
    });
}

#[test]
#[ignore = "needs root"]
fn kill_sends_any_signal() {
    let container = start("signals", "trap 'echo hup' HUP; trap 'echo usr2' USR2");
    for (signal, word) in [("HUP", "hup"), ("SIGUSR2", "usr2"), ("1", "hup\nusr2\nhup")] {
        text(&mut container.agent("kill", &["-s", signal], &[]));
        wait_until_it_said(&container, word);
    }
    let pid = container.pid();
    // Without -s: SIGKILL, of all processes.
    text(&mut container.agent("kill", &[], &[]));
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(text(&mut container.agent("wait", &[], &[])), "137\n");
    let ended = output(&mut container.agent("kill", &[], &[]));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(
        said.contains("is not running") && said.contains("agent rm"),
        "{said}"
    );
    let refused = output(&mut container.agent("kill", &["-s", "SIGNONE"], &[]));
    assert_eq!(refused.status.code(), Some(64), "{refused:?}");
}

#[test]
#[ignore = "needs root"]
fn stop_sends_the_signal_that_it_is_given() {
    let container = start("stop-signal", "trap 'exit 7' USR1; trap 'exit 8' TERM");
    text(&mut container.agent("stop", &["-s", "USR1"], &[]));
    assert_eq!(text(&mut container.agent("wait", &[], &[])), "7\n");
    let container = start("stop-signal", "trap 'exit 7' USR1; trap 'exit 8' TERM");
    text(&mut container.agent("stop", &[], &[]));
    assert_eq!(text(&mut container.agent("wait", &[], &[])), "8\n");
}

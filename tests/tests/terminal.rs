//! Colours are for a terminal whose user wants them: not for pipes, and not with NO_COLOR.

use std::process::{Command, Stdio};

use tests::agent::binary;
use tests::cgroup::Cgroup;
use tests::process::wait_for_end;
use tests::serve::Serve;
use tests::wait::{PATIENCE, wait_for};

/// The human lines of a watcher for the start of a container: what `launch` makes of its command line, run by sh.
fn watched(serve: &Serve, launch: impl Fn(&str) -> Command) -> String {
    let cgroup = Cgroup::new("colour");
    let watch = format!(
        "{} watch --kind container --container {} --limit 1 --socket {}",
        binary().display(),
        cgroup.name(),
        serve.socket().display()
    );
    let before = serve.watchers();
    let mut command = launch(&watch);
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("a command can be run");
    wait_for("agent watch is connected", PATIENCE, || {
        (serve.watchers() > before).then_some(())
    });
    let status = cgroup.command("true").status();
    assert!(status.expect("true can be run").success());
    let status = wait_for_end(&mut child, "agent watch ends");
    assert!(status.success(), "{status}");
    let output = child.wait_with_output().expect("what it wrote");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.contains(cgroup.name()), "{text}");
    text
}

/// Runs it on a terminal of its own, as script(1) makes one.
fn on_terminal(line: &str) -> Command {
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", line, "/dev/null"]);
    script.env("TERM", "xterm").env_remove("NO_COLOR");
    script
}

fn in_pipe(line: &str) -> Command {
    let mut sh = Command::new("sh");
    sh.args(["-c", line])
        .env("TERM", "xterm")
        .env_remove("NO_COLOR");
    sh
}

#[test]
#[ignore = "needs root"]
fn colours_are_for_terminals_without_no_color() {
    let serve = Serve::start(&[]);
    let coloured = watched(&serve, on_terminal);
    assert!(coloured.contains("\x1b["), "{coloured:?}");
    let plain = watched(&serve, |line| {
        let mut script = on_terminal(line);
        script.env("NO_COLOR", "1");
        script
    });
    assert!(!plain.contains('\x1b'), "{plain:?}");
    let plain = watched(&serve, |line| {
        let mut script = on_terminal(line);
        script.env("TERM", "dumb");
        script
    });
    assert!(!plain.contains('\x1b'), "{plain:?}");
    let plain = watched(&serve, in_pipe);
    assert!(!plain.contains('\x1b'), "{plain:?}");
    assert!(!serve.log().contains('\x1b'), "{:?}", serve.log());
    serve.stop();
}

//! A container's terminal goes on when the container has closed it for a while, or hung it up.

use tests::process::wait_for_end;
use tests::program::program;
use tests::run::{Container, output, text};

/// Scripts that have nothing of the terminal open for a second, and write to it again.
const CLOSED: [(&str, &str); 2] = [
    (
        "closed",
        "echo before; exec 0<&- 1>&- 2>&-; sleep 1; echo after >/dev/console; sleep 1; echo last >/dev/pts/0",
    ),
    // Who leads a session hangs its terminal up at its end.
    (
        "hung up",
        "trap '' HUP; echo before; busybox setsid -c true; exec 0<&- 1>&- 2>&-; sleep 1; echo after >/dev/console; \
         sleep 1; echo last >/dev/pts/0",
    ),
];

#[test]
#[ignore = "needs root"]
fn what_is_written_to_a_terminal_that_was_closed_arrives() {
    for (name, script) in CLOSED {
        let script = ["sh", "-c", script];
        let container = Container::new("closed");
        let flags = ["-t", "--cap-add", "SYS_ADMIN"];
        let came = output(&mut container.run(&flags, &script));
        let wrote = String::from_utf8_lossy(&came.stdout).into_owned();
        assert_eq!(
            (came.status.code(), &*wrote),
            (Some(0), "before\r\nafter\r\nlast\r\n"),
            "{name}"
        );
        container.assert_gone();

        let container = Container::new("closed-logged");
        container.start(&flags, &script);
        text(&mut container.agent("wait", &[], &[]));
        let logged = text(&mut container.agent("logs", &[], &[]));
        assert_eq!(logged, "before\r\nafter\r\nlast\r\n", "{name}");
        text(&mut container.agent("rm", &[], &[]));
        container.assert_gone();

        let container = Container::new("closed-exec");
        container.start(&[], &["sleep", "1000"]);
        let script = script[2]
            .replace("/dev/console", "/dev/tty")
            .replace("/dev/pts/0", "/dev/tty");
        if name == "closed" {
            let wrote = text(&mut container.agent("exec", &["-t"], &["sh", "-c", &script]));
            assert_eq!(wrote, "before\r\nafter\r\nlast\r\n", "{name}");
        }
        text(&mut container.agent("rm", &["-f"], &[]));
        container.assert_gone();
    }
}

#[test]
#[ignore = "needs root"]
fn input_reaches_a_terminal_that_was_hung_up() {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::process::Stdio;

    let container = Container::new("typed");
    // script(1) gives the agent a terminal.
    let mut run = container.run(
        &["-it", "--cap-add", "SYS_ADMIN"],
        &["sh", "-c", "trap '' HUP; busybox setsid -c true; exec </dev/pts/0 >/dev/pts/0; echo ready; read line; echo got $line"],
    );
    let words = [run.get_program()].into_iter().chain(run.get_args());
    let line: Vec<_> = words
        .map(|word| format!("'{}'", word.to_str().expect("UTF-8").replace('\'', "'\\''")))
        .collect();
    run = std::process::Command::new(program("script"));
    run.args(["-qec", &line.join(" "), "/dev/null"]);
    run.stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut run = run.spawn().expect("script can be run");
    let mut input = run.stdin.take().expect("a pipe");
    let lines = BufReader::new(run.stdout.take().expect("a pipe")).lines();
    let mut all = String::new();
    for line in lines {
        let line = line.expect("text");
        if line.contains("ready") {
            input.write_all(b"word\n").expect("it reads");
        }
        all += &line;
    }
    assert!(all.contains("got word"), "{all}");
    assert!(wait_for_end(&mut run, "it ends").success());
    container.assert_gone();
}

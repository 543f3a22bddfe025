//! Containers that a command waits for.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use tests::process::{Lines, kill, wait_for_end};
use tests::run::{Container, output, status, text, wait_until_it_runs};
use tests::wait::PATIENCE;

/// Says `ready`, and ends with 9 at a SIGTERM and 8 at a SIGUSR1.
const OBEDIENT: &str =
    "trap 'exit 9' TERM; trap 'exit 8' USR1; echo ready; while :; do sleep 0.02; done";

#[test]
#[ignore = "needs root"]
fn exit_statuses_are_dockers() {
    let container = Container::new("status");
    for (command, wanted) in [
        (&["true"][..], 0),
        (&["false"], 1),
        (&["sh", "-c", "exit 77"], 77),
        (&["nothing-of-this-name"], 127),
        (&["/bin/nothing"], 127),
        (&["/bin/data"], 126),
        (&["/bin"], 126),
    ] {
        let ended = output(&mut container.run(&[], command));
        assert_eq!(ended.status.code(), Some(wanted), "{command:?}: {ended:?}");
        // What fails before the command says so in a line.
        let lines = String::from_utf8_lossy(&ended.stderr).lines().count();
        assert_eq!(lines, usize::from(wanted > 100), "{command:?}: {ended:?}");
        container.assert_gone();
    }
    // In a pid namespace of its own, a first process is deaf to its own signals.
    let killed = ["sh", "-c", "kill -9 $$"];
    assert_eq!(status(&mut container.run(&["--pid", "host"], &killed)), 137);
    for flags in [&["--memory", "much"][..], &["--no-such-flag"], &["-v", "x"]] {
        assert_eq!(
            status(&mut container.run(flags, &["true"])),
            125,
            "{flags:?}"
        );
    }
    container.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn streams_are_untouched() {
    let container = Container::new("streams");
    // All bytes, and more than a pipe holds.
    let bytes: Vec<u8> = (0..1 << 20).map(|n: u32| (n ^ (n >> 8)) as u8).collect();
    let mut cat = container.run(&["-i"], &["sh", "-c", "cat; echo errors >&2"]);
    cat.stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut cat = cat.spawn().expect("the program can be run");
    let mut input = cat.stdin.take().expect("a pipe");
    let written = bytes.clone();
    // The end of the input is the end of cat.
    let writer = thread::spawn(move || input.write_all(&written));
    let output = cat.wait_with_output().expect("its output");
    writer.join().expect("a thread").expect("a reader");
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout == bytes, "{} bytes", output.stdout.len());
    assert_eq!(output.stderr, b"errors\n");
    container.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn input_is_there_on_request_only() {
    let container = Container::new("input");
    let mut cat = container.run(&[], &["cat"]);
    // It stays open, and has something to read.
    cat.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut cat = cat.spawn().expect("the program can be run");
    let mut input = cat.stdin.take().expect("a pipe");
    // Its reader may have ended already.
    let _ = input.write_all(b"secret");
    let ended = wait_for_end(&mut cat, "cat has nothing to read");
    assert!(ended.success(), "{ended}");
    let mut read = String::new();
    let mut output = cat.stdout.take().expect("a pipe");
    output.read_to_string(&mut read).expect("text");
    assert_eq!(read, "");
    drop(input);
    container.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn a_reader_that_goes_is_noticed() {
    let container = Container::new("reader");
    let mut yes = container.run(&[], &["yes"]);
    yes.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut yes = yes.spawn().expect("the program can be run");
    let mut output = yes.stdout.take().expect("a pipe");
    let mut first = [0; 2];
    output.read_exact(&mut first).expect("a line");
    assert_eq!(&first, b"y\n");
    drop(output);
    wait_for_end(&mut yes, "yes writes to nobody");
    container.assert_gone();
}

/// A command whose first line is `ready`.
fn ready(mut command: Command) -> (Child, Lines) {
    let command = command.stdout(Stdio::piped());
    let mut child = command.spawn().expect("the program can be run");
    let lines = Lines::of(child.stdout.take().expect("a pipe"));
    assert_eq!(lines.next(PATIENCE).as_deref(), Some("ready"));
    (child, lines)
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a pid"), signal).expect("a child that runs");
}

#[test]
#[ignore = "needs root"]
fn signals_are_passed_on() {
    let container = Container::new("signals");
    for flags in [&[][..], &["--init"]] {
        for (sent, wanted) in [(Signal::TERM, 9), (Signal::USR1, 8)] {
            let (mut agent, _lines) = ready(container.run(flags, &["sh", "-c", OBEDIENT]));
            signal(&agent, sent);
            let ended = wait_for_end(&mut agent, "the container obeys");
            assert_eq!(ended.code(), Some(wanted), "{flags:?} {sent:?}");
            container.assert_gone();
        }
    }
}

/// systemd in a container wants RTMIN+3, which is 37.
#[test]
#[ignore = "needs root"]
fn a_real_time_signal_is_passed_on() {
    let container = Container::new("real-time");
    let obedient = "trap 'exit 9' 37; echo ready; while :; do sleep 0.1; done";
    for flags in [&[][..], &["--init"]] {
        let (mut agent, _lines) = ready(container.run(flags, &["sh", "-c", obedient]));
        let kill = format!("kill -37 {}", agent.id());
        let sent = Command::new("sh").args(["-c", &kill]).status();
        assert!(sent.is_ok_and(|it| it.success()), "{flags:?}");
        let ended = wait_for_end(&mut agent, "the container obeys");
        assert_eq!(ended.code(), Some(9), "{flags:?}");
        container.assert_gone();
    }
}

#[test]
#[ignore = "needs root"]
fn the_third_wish_for_an_end_kills() {
    let container = Container::new("impatient");
    let deaf = "trap '' INT; echo ready; while :; do sleep 1; done";
    let (mut agent, _lines) = ready(container.run(&[], &["sh", "-c", deaf]));
    for n in 0..3 {
        assert!(
            agent.try_wait().expect("a child").is_none(),
            "ended after {n}"
        );
        signal(&agent, Signal::INT);
        if n < 2 {
            // Two that wait together are one.
            tests::wait::wait_for("a signal is taken", PATIENCE, || {
                let status =
                    std::fs::read_to_string(format!("/proc/{}/status", agent.id())).ok()?;
                let pending = status
                    .lines()
                    .find_map(|line| line.strip_prefix("ShdPnd:"))?;
                (u64::from_str_radix(pending.trim(), 16) == Ok(0)).then_some(())
            });
        }
    }
    let ended = wait_for_end(&mut agent, "it is killed");
    assert_eq!(ended.code(), Some(137));
    container.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn a_name_is_one_containers() {
    let container = Container::new("name");
    let mut first = container.run(&[], &["sleep", "1000"]);
    let mut first = first.spawn().expect("the program can be run");
    wait_until_it_runs(&container);
    let second = output(&mut container.run(&[], &["true"]));
    assert_eq!(second.status.code(), Some(125), "{second:?}");
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("in use"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(status(&mut container.agent("rm", &[], &[])), 1);
    text(&mut container.agent("rm", &["-f"], &[]));
    let ended = wait_for_end(&mut first, "it is killed");
    assert_eq!(ended.code(), Some(137));
    kill(&mut first);
    container.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn processes_that_stay_behind_end_with_the_first() {
    let container = Container::new("behind");
    // With the host's pids, no namespace ends them; they have the output open, and nothing is lost of it.
    let command = "(trap '' TERM HUP; echo behind; sleep 1000) & sleep 0.1; echo first";
    let said = text(&mut container.run(&["--pid", "host"], &["sh", "-c", command]));
    assert_eq!(said, "behind\nfirst\n");
    container.assert_gone();
}

/// All that docker passes on, but for SIGQUIT: as the third wish for an end it is the last.
#[test]
#[ignore = "needs root"]
fn every_signal_is_passed_on_that_docker_passes_on() {
    const KEPT: [i32; 8] = [
        libc::SIGQUIT,
        libc::SIGKILL,
        libc::SIGSTOP,
        libc::SIGCHLD,
        libc::SIGPIPE,
        libc::SIGURG,
        libc::SIGTTIN,
        libc::SIGTTOU,
    ];
    let sent = (1..=31).chain([34, 64]).filter(|it| !KEPT.contains(it));
    let container = Container::new("signals");
    let script = "i=1; while [ $i -le 64 ]; do trap \"echo got $i\" $i; i=$((i+1)); done 2>&-; \
                  echo ready; while :; do sleep 0.02; done";
    let mut run = container.run(&[], &["sh", "-c", script]);
    let mut agent = run.stdout(Stdio::piped()).spawn().expect("the agent");
    let lines = Lines::of(agent.stdout.take().expect("a pipe"));
    assert_eq!(lines.next(PATIENCE).as_deref(), Some("ready"));
    for number in sent {
        let pid = agent.id().to_string();
        let killed = Command::new("kill")
            .arg(format!("-{number}"))
            .arg(pid)
            .status();
        assert!(killed.expect("kill can be run").success(), "{number}");
        // The shell's own children end too.
        let got = std::iter::from_fn(|| lines.next(PATIENCE)).find(|line| line != "got 17");
        assert_eq!(got, Some(format!("got {number}")));
    }
    kill(&mut agent);
    tests::run::next_command();
    container.assert_gone();
}

//! What readers and writers at both sides see of each other.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _, pipe};
use std::process::Stdio;

use rustix::io::ioctl_fionread;
use tests::process::{Lines, wait_for_end};
use tests::run::{Container, output, text, wait_until_it_runs};
use tests::wait::{PATIENCE, wait_for};

/// Nothing that the container has open is what its caller gave.
#[test]
#[ignore = "needs root"]
fn descriptors_are_the_containers_own() {
    let container = Container::new("own");
    let (from, to) = pipe().expect("a pipe");
    let link = |descriptor: &dyn std::os::fd::AsRawFd| {
        let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
        fs::read_link(path).expect("a link").display().to_string()
    };
    let ours = [link(&from), link(&to)];
    let script = "for fd in 0 1 2; do readlink /proc/self/fd/$fd; done >/tmp/fds; cat /tmp/fds";
    let mut shown = Vec::new();
    let mut run = container.run(&["-i", "--tmpfs", "/tmp"], &["sh", "-c", script]);
    shown.push(text(run.stdin(from.try_clone().expect("a pipe"))));
    container.start(&["--tmpfs", "/tmp"], &["sleep", "1000"]);
    let mut exec = container.agent("exec", &["-i"], &["sh", "-c", script]);
    shown.push(text(exec.stdin(from)));
    text(&mut container.agent("rm", &["-f"], &[]));
    container.start(&["--tmpfs", "/tmp"], &["sh", "-c", script]);
    text(&mut container.agent("wait", &[], &[]));
    shown.push(text(&mut container.agent("logs", &[], &[])));
    text(&mut container.agent("rm", &["-f"], &[]));
    for shown in shown {
        let links: Vec<_> = shown.lines().collect();
        assert_eq!(links.len(), 3, "{shown}");
        for link in links {
            let own = link.starts_with("pipe:") || link == "/dev/null" || link == "/tmp/fds";
            assert!(own && !ours.iter().any(|it| it == link), "{shown}");
        }
    }
    container.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn without_i_not_a_byte_is_read() {
    let container = Container::new("unread");
    let (from, to) = pipe().expect("a pipe");
    (&to).write_all(b"secret").expect("a pipe");
    for flags in [&[][..], &["-t"]] {
        let mut cat = container.run(flags, &["sh", "-c", "test ! -t 0 && cat; true"]);
        let ended = output(cat.stdin(from.try_clone().expect("a descriptor")));
        assert!(ended.status.success(), "{ended:?}");
        assert_eq!(ioctl_fionread(&from).expect("a pipe"), 6, "{flags:?}");
    }
    container.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn a_slow_reader_stops_the_container() {
    const BYTES: usize = 16 << 20;
    let container = Container::new("slow");
    let count = (BYTES >> 16).to_string();
    let script = format!("exec /bin/busybox dd if=/dev/zero bs=64k count={count}");
    let mut dd = container.run(&[], &["sh", "-c", &script]);
    dd.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut dd = dd.spawn().expect("agent");
    let pid = wait_until_it_runs(&container);
    let written = || {
        let io = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
        let line = io.lines().find_map(|line| line.strip_prefix("wchar: "))?;
        line.parse::<usize>().ok()
    };
    // write(2) to descriptor 1.
    let waits = || {
        let call = fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
        call.starts_with("1 0x1 ").then_some(())
    };
    let mut before = None;
    let mut still = 0;
    let written = wait_for("the container waits for its reader", PATIENCE, || {
        let now = waits().and_then(|()| written());
        still = if now.is_some() && now == before {
            still + 1
        } else {
            0
        };
        before = now;
        now.filter(|_| still > 20)
    });
    assert!(written < 2 << 20, "{written} bytes are on the way");
    let mut all = Vec::new();
    let mut output = dd.stdout.take().expect("a pipe");
    output.read_to_end(&mut all).expect("bytes");
    assert_eq!(all.len(), BYTES);
    assert!(wait_for_end(&mut dd, "dd ends").success());
    container.assert_gone();
}

/// What is in the pipes when the container ends arrives however late it is read.
#[test]
#[ignore = "needs root"]
fn nothing_is_lost_at_the_end() {
    let container = Container::new("late");
    let script = "/bin/busybox seq 1 8000; echo end >&2";
    for flags in [&[][..], &["-t"]] {
        let mut seq = container.run(flags, &["sh", "-c", script]);
        seq.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut seq = seq.spawn().expect("agent");
        if flags.is_empty() {
            // It has ended before anything of it is read.
            let errors = Lines::of(seq.stderr.take().expect("a pipe"));
            assert_eq!(errors.next(PATIENCE).as_deref(), Some("end"));
        }
        let mut all = String::new();
        let mut output = seq.stdout.take().expect("a pipe");
        output.read_to_string(&mut all).expect("text");
        let numbers: Vec<_> = all
            .lines()
            .filter_map(|it| it.parse::<u32>().ok())
            .collect();
        assert_eq!(numbers, (1..=8000).collect::<Vec<_>>(), "{flags:?}");
        assert!(wait_for_end(&mut seq, "it ends").success());
    }
    container.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn a_reader_that_has_gone_is_a_broken_pipe() {
    let container = Container::new("gone");
    // Each write is a small one: no pipe is full.
    let script = "trap '' PIPE; echo ready; while echo x 2>/dev/null; do sleep 0.02; done; exit 9";
    let mut echo = container.run(&[], &["sh", "-c", script]);
    let mut echo = echo.stdout(Stdio::piped()).spawn().expect("agent");
    let mut output = echo.stdout.take().expect("a pipe");
    output.read_exact(&mut [0; 6]).expect("a line");
    drop(output);
    let ended = wait_for_end(&mut echo, "the container sees that its reader has gone");
    assert_eq!(ended.code(), Some(9));
    container.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn what_the_container_closes_is_closed_for_its_caller() {
    let container = Container::new("closes");
    let script = "echo last; exec <&- >&- ; echo closed >&2; exec sleep 1000";
    let mut run = container.run(&["-i"], &["sh", "-c", script]);
    run.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut run = run.stderr(Stdio::piped()).spawn().expect("agent");
    let errors = Lines::of(run.stderr.take().expect("a pipe"));
    assert_eq!(errors.next(PATIENCE).as_deref(), Some("closed"));
    let output = Lines::of(run.stdout.take().expect("a pipe"));
    assert_eq!(output.next(PATIENCE).as_deref(), Some("last"));
    assert_eq!(output.next(PATIENCE), None);
    let mut input = run.stdin.take().expect("a pipe");
    let refused = wait_for("nobody reads the input", PATIENCE, || {
        input.write_all(b"more\n").err()
    });
    assert_eq!(refused.kind(), ErrorKind::BrokenPipe);
    assert!(run.try_wait().expect("a child").is_none(), "it runs");
    text(&mut container.agent("rm", &["-f"], &[]));
    assert_eq!(wait_for_end(&mut run, "it is killed").code(), Some(137));
    container.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn output_that_cannot_be_written_is_told() {
    let container = Container::new("devfull");
    let full = || {
        File::options()
            .write(true)
            .open("/dev/full")
            .expect("a device")
    };
    for (command, wanted) in [("echo lost", 125), ("echo lost; exit 7", 7), ("true", 0)] {
        let mut run = container.run(&[], &["sh", "-c", command]);
        let ended = run.stdout(full()).stderr(Stdio::piped()).output();
        let ended = ended.expect("agent");
        assert_eq!(ended.status.code(), Some(wanted), "{command}: {ended:?}");
        let said = String::from_utf8_lossy(&ended.stderr);
        let lines = usize::from(command != "true");
        assert_eq!(said.lines().count(), lines, "{said}");
        assert!(lines == 0 || said.contains("No space left"), "{said}");
    }
    container.assert_gone();
}

//! Containers that nobody waits for.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tests::process::{Lines, wait_for_end};
use tests::run::{Container, output, status, text};
use tests::wait::{PATIENCE, wait_for};

#[test]
#[ignore = "needs root"]
fn output_is_logged_and_the_end_remembered() {
    let container = Container::new("logged");
    let command = "printf 'a\\0\\377b'; echo errors >&2; cat; exit 5";
    container.start(&[], &["sh", "-c", command]);
    assert_eq!(text(&mut container.agent("wait", &[], &[])), "5\n");
    // Its end is known as long as its state.
    assert_eq!(text(&mut container.agent("wait", &[], &[])), "5\n");
    let log = output(&mut container.agent("logs", &[], &[]));
    assert_eq!(log.stdout, b"a\0\xffb");
    assert_eq!(log.stderr, b"errors\n");
    let again = output(&mut container.run(&[], &["true"]));
    assert_eq!(again.status.code(), Some(125), "{again:?}");
    text(&mut container.agent("rm", &[], &[]));
    container.assert_gone();
    assert_eq!(status(&mut container.agent("logs", &[], &[])), 1);
}

/// Between clone and exec nothing may wait for a thread that is not there.
#[test]
#[ignore = "needs root"]
fn a_supervisor_has_one_thread() {
    for flags in [&[][..], &["-t"], &["--net", "veth"]] {
        let container = Container::new("thread");
        container.start(flags, &["sleep", "1000"]);
        let status = format!("/proc/{}/status", container.state()["supervisor"]);
        let status = fs::read_to_string(status).expect("a supervisor");
        assert!(status.contains("\nThreads:\t1\n"), "{flags:?}: {status}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_log_is_followed_to_the_end() {
    let container = Container::new("followed");
    let command = "trap 'echo last; exit 0' TERM; echo first; while :; do sleep 0.02; done";
    container.start(&["--rm"], &["sh", "-c", command]);
    let mut logs = container.agent("logs", &["-f"], &[]);
    let mut logs = logs
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program can be run");
    let lines = Lines::of(logs.stdout.take().expect("a pipe"));
    assert_eq!(lines.next(PATIENCE).as_deref(), Some("first"));
    let mut wait = container.agent("wait", &[], &[]);
    let mut wait = wait
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program can be run");
    let ended = Lines::of(wait.stdout.take().expect("a pipe"));
    let number = wait.id();
    wait_for("agent wait waits", PATIENCE, || {
        // For the supervisor, of which it has a descriptor.
        let files = fs::read_dir(format!("/proc/{number}/fd")).ok()?.flatten();
        let mut links = files.filter_map(|file| fs::read_link(file.path()).ok());
        let is_process = |link: std::path::PathBuf| link.to_string_lossy().contains("pidfd");
        links.any(is_process).then_some(())
    });
    text(&mut container.agent("stop", &[], &[]));
    assert_eq!(lines.next(PATIENCE).as_deref(), Some("last"));
    assert_eq!(lines.next(PATIENCE), None);
    assert_eq!(ended.next(PATIENCE).as_deref(), Some("0"));
    assert!(wait_for_end(&mut logs, "logs end").success());
    assert!(wait_for_end(&mut wait, "wait ends").success());
    container.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn who_does_not_obey_is_killed() {
    let container = Container::new("deaf");
    container.start(&[], &["sh", "-c", "sleep 1000 & sleep 1000 & wait"]);
    let began = Instant::now();
    text(&mut container.agent("stop", &["-t", "1"], &[]));
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(1), "{took:?}");
    assert!(took < Duration::from_secs(9), "{took:?}");
    assert_eq!(text(&mut container.agent("wait", &[], &[])), "137\n");
    // It has ended: nothing to do.
    text(&mut container.agent("stop", &[], &[]));
    text(&mut container.agent("rm", &[], &[]));
    container.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn a_failed_start_is_told_and_leaves_nothing() {
    let container = Container::new("failed");
    for (command, wanted) in [("nothing-of-this-name", 127), ("/bin/data", 126)] {
        let ended = output(&mut container.run(&["-d"], &[command]));
        assert_eq!(ended.status.code(), Some(wanted), "{ended:?}");
        assert_eq!(ended.stdout, b"");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(said.lines().count(), 1, "{said}");
        container.assert_gone();
    }
}

#[test]
#[ignore = "needs root"]
fn a_command_joins_a_container() {
    let container = Container::new("joined");
    container.start(&["--memory", "64m"], &["sleep", "1000"]);
    let first = container.pid();
    let kinds = ["pid", "mnt", "net", "ipc", "uts", "cgroup", "user", "time"];
    let script = "for kind; do readlink /proc/self/ns/$kind; done";
    let mut command = vec!["sh", "-c", script, "sh"];
    command.extend(kinds);
    let joined = text(&mut container.agent("exec", &[], &command));
    for (kind, joined) in kinds.iter().zip(joined.lines()) {
        let own = fs::read_link(format!("/proc/{first}/ns/{kind}")).expect("a namespace");
        assert_eq!(joined, own.to_string_lossy(), "{kind}");
    }
    assert_eq!(joined.lines().count(), kinds.len());
    // The same privileges and system calls, but for what counts how many filters there are.
    let privileges = |text: &str| -> Vec<String> {
        let kept = ["Cap", "NoNewPrivs", "Seccomp:"];
        let lines = text
            .lines()
            .filter(|line| kept.iter().any(|it| line.starts_with(it)));
        lines.map(str::to_owned).collect()
    };
    let of_first = fs::read_to_string(format!("/proc/{first}/status")).expect("a status");
    let of_joined = text(&mut container.agent("exec", &[], &["cat", "/proc/self/status"]));
    assert_eq!(privileges(&of_joined), privileges(&of_first));
    assert_eq!(privileges(&of_joined).len(), 7, "{of_joined}");
    // The same cgroups.
    let of_first = fs::read_to_string(format!("/proc/{first}/cgroup")).expect("cgroups");
    let mut sleep = container.agent("exec", &[], &["sleep", "2000"]);
    let mut sleep = sleep.spawn().expect("the program can be run");
    let second = wait_for("it runs", PATIENCE, || {
        let listed = text(&mut container.agent("exec", &[], &["ps", "-o", "pid,args"]));
        listed.contains("sleep 2000").then_some(())?;
        let roots = tests::cgroup::roots();
        let mut procs = roots.map(|root| {
            root.join("agent")
                .join(&container.name)
                .join("cgroup.procs")
        });
        let procs = procs.find_map(|path| fs::read_to_string(path).ok())?;
        let mut numbers = procs.lines().filter_map(|line| line.parse::<u32>().ok());
        numbers.find(|pid| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            command == b"sleep\x002000\0"
        })
    });
    let of_second = fs::read_to_string(format!("/proc/{second}/cgroup")).expect("cgroups");
    assert_eq!(of_second, of_first);
    text(&mut container.agent("rm", &["-f"], &[]));
    assert_eq!(
        wait_for_end(&mut sleep, "it dies with the container").code(),
        Some(137)
    );
    container.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn what_is_asked_of_a_command() {
    let container = Container::new("asked");
    container.start(&["-e", "A=first", "-e", "B=kept"], &["sleep", "1000"]);
    let script = "pwd; echo $A $B; id -u; id -g; exit 3";
    let flags = ["-w", "/tmp", "-e", "A=second", "-u", "12:34"];
    let ended = output(&mut container.agent("exec", &flags, &["sh", "-c", script]));
    assert_eq!(ended.status.code(), Some(3), "{ended:?}");
    let said = String::from_utf8_lossy(&ended.stdout);
    assert_eq!(said, "/tmp\nsecond kept\n12\n34\n", "{ended:?}");
    for (command, wanted) in [
        ("nothing-of-this-name", 127),
        ("/bin/data", 126),
        ("false", 1),
    ] {
        let ended = status(&mut container.agent("exec", &[], &[command]));
        assert_eq!(ended, wanted, "{command}");
    }
    let mut cat = container.agent("exec", &["-i"], &["cat"]);
    let input = tests::run::rootfs().join("bin/data");
    cat.stdin(fs::File::open(input).expect("a file"));
    assert_eq!(text(&mut cat), "no program");
    text(&mut container.agent("rm", &["-f"], &[]));
    assert_eq!(status(&mut container.agent("exec", &[], &["true"])), 125);
    container.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn names_are_no_paths() {
    // A link where a directory of state would be, to one that looks like one.
    let elsewhere = tempfile::tempdir().expect("a directory");
    fs::write(elsewhere.path().join("lock"), "").expect("a file");
    let link = format!("/tmp/agent-names-{}", std::process::id());
    symlink(elsewhere.path(), &link).expect("a link");
    for name in ["..", ".", "", "../../../tmp", &format!("../../..{link}")] {
        for command in ["rm", "stop", "wait", "logs"] {
            let mut call = tests::agent::agent([command, name]);
            let ended = output(call.stdin(Stdio::null()));
            assert_eq!(
                ended.status.code(),
                Some(1),
                "{command} {name:?}: {ended:?}"
            );
        }
    }
    fs::remove_file(link).expect("the link");
    assert!(elsewhere.path().join("lock").exists());
}

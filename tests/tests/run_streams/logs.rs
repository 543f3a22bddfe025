//! Logs of detached containers: on a disk, bounded, and gone with the container.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::SystemTime;

use rustix::process::{Pid, Signal, kill_process};
use tests::process::wait_for_end;
use tests::run::{Container, STATE, next_command, output, text};
use tests::wait::{PATIENCE, wait_for};

/// Where the logs are of the containers that root starts.
const LOGS: &str = "/var/lib/agent/logs";

fn directory(container: &Container) -> PathBuf {
    Path::new(LOGS).join(&container.name)
}

/// All files of a log, and how long they are.
fn files(container: &Container) -> Vec<(String, u64)> {
    let entries = fs::read_dir(directory(container)).expect("a directory");
    let files = entries.map(|entry| {
        let entry = entry.expect("a file");
        let found = entry.metadata().expect("a file");
        assert_eq!(found.permissions().mode() & 0o777, 0o600);
        (
            entry.file_name().to_string_lossy().into_owned(),
            found.len(),
        )
    });
    let mut files: Vec<_> = files.collect();
    files.sort();
    files
}

#[test]
#[ignore = "needs root"]
fn a_log_is_bounded_and_goes_with_its_container() {
    const BOUND: u64 = 64 << 10;
    let container = Container::new("bounded");
    let flags = ["--log-opt", "max-size=64k", "--log-opt", "max-file=3"];
    container.start(&flags, &["/bin/busybox", "seq", "1", "100000"]);
    assert_eq!(text(&mut container.agent("wait", &[], &[])), "0\n");
    let mode = fs::metadata(directory(&container)).expect("a directory");
    assert_eq!(mode.permissions().mode() & 0o777, 0o700);
    let files = files(&container);
    let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["log", "log.1", "log.2"]);
    assert!(
        files.iter().all(|(_, length)| *length <= BOUND),
        "{files:?}"
    );
    let said = text(&mut container.agent("logs", &[], &[]));
    // It begins in the middle of a line.
    let numbers: Vec<u32> = said
        .lines()
        .skip(1)
        .map(|it| it.parse().expect("a number"))
        .collect();
    let first = *numbers.first().expect("a number");
    assert!(numbers.iter().copied().eq(first..=100_000), "{first}");
    assert!(said.len() as u64 > BOUND, "{}", said.len());
    text(&mut container.agent("rm", &[], &[]));
    assert!(!directory(&container).exists());
    container.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn a_log_is_followed_over_its_files() {
    let container = Container::new("rotated");
    let flags = ["--log-opt", "max-size=64k", "--log-opt", "max-file=1000"];
    let script = "while test ! -e /tmp/go; do sleep 0.02; done; exec /bin/busybox seq 1 60000";
    container.start(
        &[&flags[..], &["--rm", "--tmpfs", "/tmp"]].concat(),
        &["sh", "-c", script],
    );
    let mut logs = container.agent("logs", &["-f"], &[]);
    let mut logs = logs
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("agent");
    let mut said = logs.stdout.take().expect("a pipe");
    let reader = std::thread::spawn(move || {
        let mut all = String::new();
        std::io::Read::read_to_string(&mut said, &mut all).map(|_| all)
    });
    // It has opened the log before any other file of it is there.
    let number = logs.id();
    let log = directory(&container).join("log");
    wait_for("the log is read", PATIENCE, || {
        let links = fs::read_dir(format!("/proc/{number}/fd")).ok()?.flatten();
        let mut links = links.filter_map(|link| fs::read_link(link.path()).ok());
        links.any(|link| link == log).then_some(())
    });
    text(&mut container.agent("exec", &[], &["touch", "/tmp/go"]));
    assert!(wait_for_end(&mut logs, "the log's end").success());
    let all = reader.join().expect("a thread").expect("text");
    let numbers = all
        .lines()
        .map(|line| line.parse::<u32>().expect("a number"));
    assert!(numbers.eq(1..=60_000), "{} bytes", all.len());
    container.assert_gone();
    let entries = fs::read_dir(LOGS).expect("a directory").flatten();
    let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    assert!(
        !names.any(|name| name.contains(&container.name)),
        "its log is gone"
    );
}

#[test]
#[ignore = "needs root"]
fn a_log_goes_with_a_supervisor_that_is_killed() {
    let container = Container::new("orphan");
    container.start(&[], &["sh", "-c", "echo said; exec sleep 1000"]);
    assert!(directory(&container).exists());
    let supervisor = container.state()["supervisor"].as_i64().expect("a pid");
    let supervisor = i32::try_from(supervisor).ok().and_then(Pid::from_raw);
    kill_process(supervisor.expect("a pid"), Signal::KILL).expect("a process");
    next_command();
    container.assert_gone();
    assert!(!directory(&container).exists());
}

#[test]
#[ignore = "needs root"]
fn a_log_without_a_container_goes() {
    // As after a restart of the host, whose state was in memory.
    let container = Container::new("stray");
    let elsewhere = tempfile::tempdir().expect("a directory");
    fs::write(elsewhere.path().join("kept"), "").expect("a file");
    fs::create_dir_all(directory(&container)).expect("a directory");
    fs::write(directory(&container).join("log"), "").expect("a file");
    let link = directory(&container).join("log.1");
    std::os::unix::fs::symlink(elsewhere.path(), link).expect("a link");
    next_command();
    // It may be another one's, whose state is not seen from here.
    assert!(directory(&container).exists());
    let opened = fs::File::open(directory(&container)).expect("a directory");
    opened.set_modified(SystemTime::UNIX_EPOCH).expect("a time");
    next_command();
    assert!(!directory(&container).exists());
    assert!(elsewhere.path().join("kept").exists());
}

/// Agents of before wrote the log beside the state.
#[test]
#[ignore = "needs root"]
fn an_older_log_is_read() {
    let container = Container::new("older");
    container.start(&[], &["true"]);
    text(&mut container.agent("wait", &[], &[]));
    let state = Path::new(STATE).join(&container.name);
    let mut record = container.state();
    record.as_object_mut().expect("an object").remove("log");
    // At once: without a whole record it would be what a killed supervisor left.
    fs::write(state.join("state.new"), record.to_string()).expect("a file");
    fs::rename(state.join("state.new"), state.join("state.json")).expect("a file");
    fs::remove_dir_all(directory(&container)).expect("a log");
    fs::write(state.join("log.1"), b"\x01\0\0\0\0\0\0\x06older\n").expect("a file");
    fs::write(state.join("log"), b"\x02\0\0\0\0\0\0\x06newer\n").expect("a file");
    let said = output(&mut container.agent("logs", &[], &[]));
    assert_eq!(said.stdout, b"older\n", "{said:?}");
    assert_eq!(said.stderr, b"newer\n", "{said:?}");
    text(&mut container.agent("rm", &[], &[]));
    container.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn what_is_kept_is_checked() {
    let container = Container::new("options");
    for option in [
        "max-size=-1",
        "max-size=63k",
        "max-size=2t",
        "max-size=much",
        "max-file=0",
        "max-file=1001",
        "max-file=-1",
        "max-file",
        "compress=true",
        "",
    ] {
        let refused = output(&mut container.run(&["-d", "--log-opt", option], &["true"]));
        assert_eq!(refused.status.code(), Some(125), "{option}: {refused:?}");
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(
            said.contains("--log-opt") && said.contains("max-"),
            "{said}"
        );
    }
    container.assert_gone();
}

//! Lines of a log that are chosen by their number and their times.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tests::run::{Container, STATE, output, text};

/// Starts a container whose command writes three lines, and waits for its end.
fn three_lines(name: &str) -> Container {
    let container = Container::new(name);
    container.start(&[], &["sh", "-c", "echo one; echo two; printf three"]);
    text(&mut container.agent("wait", &[], &[]));
    container
}

fn logs(container: &Container, flags: &[&str]) -> String {
    text(&mut container.agent("logs", flags, &[]))
}

#[test]
#[ignore = "needs root"]
fn lines_are_chosen_as_docker_does() {
    let container = three_lines("tail");
    for (flags, wanted) in [
        (&["--tail", "2"][..], "two\nthree"),
        (&["-n", "1"], "three"),
        (&["--tail", "0"], ""),
        (&["--tail", "all"], "one\ntwo\nthree"),
        (&["--tail", "1000"], "one\ntwo\nthree"),
        (&["--since", "1h"], "one\ntwo\nthree"),
        (&["--since", "2999-01-01"], ""),
        (&["--until", "2999-01-01T00:00:00Z"], "one\ntwo\nthree"),
        (&["--until", "1"], ""),
        (&["--since", "1h", "--tail", "1"], "three"),
    ] {
        assert_eq!(logs(&container, flags), wanted, "{flags:?}");
    }
    for (flag, value) in [("--tail", "-1"), ("--tail", "x"), ("--since", "yesterday")] {
        let refused = output(&mut container.agent("logs", &[flag, value], &[]));
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(64), "{said}");
        assert!(said.contains(flag) && said.contains("want"), "{said}");
    }
}

#[test]
#[ignore = "needs root"]
fn each_line_has_the_time_at_which_it_was_written() {
    let before = SystemTime::now();
    let container = three_lines("times");
    let after = SystemTime::now();
    let said = logs(&container, &["-t"]);
    let lines: Vec<_> = said.lines().filter_map(|it| it.split_once(' ')).collect();
    let texts: Vec<_> = lines.iter().map(|(_, text)| *text).collect();
    assert_eq!(texts, ["one", "two", "three"], "{said}");
    let date = |time: SystemTime| {
        let seconds = time.duration_since(SystemTime::UNIX_EPOCH).expect("a time");
        format!("@{}", seconds.as_secs())
    };
    for (time, _) in lines {
        // date(1) reads what people and other programs would.
        let seconds = text(std::process::Command::new("date").args(["-d", time, "+@%s"]));
        let seconds = seconds.trim_end().to_owned();
        assert!(date(before) <= seconds && seconds <= date(after), "{time}");
        assert!(time.ends_with('Z'), "{time}");
    }
    // The times are those of the log: the command chooses by the same.
    let moment = after + Duration::from_secs(1);
    let since = date(moment).replace('@', "");
    assert_eq!(logs(&container, &["--since", &since]), "");
}

#[test]
#[ignore = "needs root"]
fn a_follower_ends_at_the_time_until_which_it_is_wanted() {
    let container = Container::new("until");
    container.start(&[], &["sh", "-c", "echo said; exec sleep 1000"]);
    // The container still runs.
    assert_eq!(logs(&container, &["-f", "--until", "1"]), "");
    container.pid();
}

/// Agents of before wrote no times.
#[test]
#[ignore = "needs root"]
fn a_log_without_times_is_read() {
    let container = three_lines("timeless");
    let log = container.state()["log"].as_str().map(str::to_owned);
    let log = log.expect("a log's directory");
    assert!(!log.starts_with(STATE), "{log}");
    let path = Path::new(&log).join("log");
    fs::write(path, b"\x01\0\0\0\0\0\0\x06older\n").expect("a file");
    assert_eq!(logs(&container, &[]), "older\n");
    assert_eq!(logs(&container, &["-t"]), "- older\n");
    assert_eq!(logs(&container, &["--tail", "1"]), "older\n");
    let since = output(&mut container.agent("logs", &["--since", "1h"], &[]));
    assert_eq!(since.stdout, b"", "{since:?}");
    let said = String::from_utf8_lossy(&since.stderr);
    assert!(said.contains("without a time"), "{said}");
}

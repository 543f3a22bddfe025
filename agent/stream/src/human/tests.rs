//! Lines and their columns.

mod details;

use proptest::prelude::*;
use unicode_width::UnicodeWidthStr;

use super::*;
use crate::samples;
use crate::stream_event::Joined;

fn stop() -> EventDetails {
    let exit = Exit {
        code: 0,
        signal: 9,
        oom_killed: true,
        duration_ms: 1_250,
    };
    EventDetails::Container {
        action: ContainerAction::Stop,
        exit: Some(exit),
        result: None,
    }
}

fn clone(result: &str) -> EventDetails {
    let call = samples::call(&["pid", "net"], &[("net", 1, 2), ("pid", 3, 4)], result);
    let mut child = samples::subject(1235, "sh", None);
    child.process.ns_pid = 1;
    EventDetails::Clone { call, child }
}

fn setns() -> EventDetails {
    let call = samples::call(&["net"], &[("net", 4_026_531_840, 4_026_532_201)], "0");
    EventDetails::Setns {
        call,
        joined: Some(Joined::Container(samples::web())),
    }
}

fn one_of_each() -> Vec<StreamEvent> {
    let mut unknown = samples::by(77, "a rather long n", None, clone("EPERM"));
    if let Some(caller) = &mut unknown.caller {
        caller.container_unknown = true;
    }
    vec![
        samples::unshare(),
        samples::by(1_234_567, "runc:[1:CHILD]", None, clone("0")),
        unknown,
        samples::by(1240, "nsenter", Some(samples::service()), setns()),
        samples::oom(),
        samples::by(1300, "日本日本\x1b", Some(samples::web()), stop()),
        samples::lost(),
    ]
}

fn screen(columns: usize, colour: bool) -> Vec<String> {
    let mut lines = vec![header(columns, colour)];
    lines.extend(one_of_each().iter().map(|it| line(it, columns, colour)));
    lines
}

#[test]
fn lines_on_a_screen_of_80_columns() {
    assert_eq!(
        screen(80, false),
        [
            "TIME (UTC)   EVENT     CONTAINER    PROCESS         DETAILS",
            "10:11:12.345 unshare   web-1        unshare(1234)   net: 4026531840 → 4026532201",
            "10:11:12.345 clone     host         runc:…(1234567) pid,net → child 1235 (pid 1…",
            "10:11:12.345 clone     ?            a rather l…(77) pid,net → child 1235 (pid 1…",
            "10:11:12.345 setns     cron.service nsenter(1240)   net of web-1: 4026531840 → …",
            "10:11:12.345 oom       web-1        stress-n…(4712) killed stress-ng(4711) rss …",
            "10:11:12.345 container web-1        日本日本…(1300) stop exit 137 (SIGKILL, OOM…",
            "10:11:12.345 lost      -            -               12 clone, 3 oom since 10:11…",
        ]
    );
}

#[test]
fn lines_on_narrow_screens() {
    let [head, first, ..] = &screen(40, false)[..] else {
        panic!("lines")
    };
    assert_eq!(head, "EVENT     CONTAINER    DETAILS");
    assert_eq!(first, "unshare   web-1        net: 4026531840 …");
    let first = &screen(60, false)[1];
    assert_eq!(
        first,
        "10:11:12.345 unshare   web-1        net: 4026531840 → 40265…"
    );
}

#[test]
fn lines_on_a_wide_screen() {
    let padded = |container: &str, process: &str| format!("{container:24} {process:24}");
    let lines = screen(160, false);
    for (line, (kind, names, details)) in lines[1..].iter().zip([
        (
            "unshare  ",
            padded("web-1", "unshare(1234)"),
            "net: 4026531840 → 4026532201",
        ),
        (
            "clone    ",
            padded("host", "runc:[1:CHILD](1234567)"),
            "pid,net → child 1235 (pid 1 inside): net 1 → 2, pid 3 → 4",
        ),
        (
            "clone    ",
            padded("?", "a rather long n(77)"),
            "pid,net → child 1235 (pid 1 inside) failed: EPERM",
        ),
        (
            "setns    ",
            padded("cron.service", "nsenter(1240)"),
            "net of web-1: 4026531840 → 4026532201",
        ),
        (
            "oom      ",
            padded("web-1", "stress-ng-vm(4712)"),
            "killed stress-ng(4711) rss 49.8M, limit 50.0M of /parent hit",
        ),
        (
            "container",
            format!("{:24} 日本日本\\x1b(1300)      ", "web-1"),
            "stop exit 137 (SIGKILL, OOM) after 1.2s",
        ),
        (
            "lost     ",
            padded("-", "-"),
            "12 clone, 3 oom since 10:11:10.000",
        ),
    ]) {
        assert_eq!(*line, format!("10:11:12.345 {kind} {names} {details}"));
    }
}

#[test]
fn a_container_cannot_pass_for_the_host() {
    let impostor = Container {
        name: "host".into(),
        ..Container::clone(&samples::web())
    };
    let event = samples::unshare().details;
    let line = line(
        &samples::by(1, "sh", Some(impostor.into()), event),
        80,
        false,
    );
    assert!(
        line.starts_with("10:11:12.345 unshare   \"host\"       sh(1) "),
        "{line}"
    );
}

#[test]
fn colours_say_what_matters() {
    let lines = screen(80, true);
    for (line, colour) in lines
        .iter()
        .zip([DIM, CALL, CALL, WARNING, CALL, ALARM, ALARM, WARNING])
    {
        assert!(line.contains(&format!("\x1b[{colour}m")), "{line}");
    }
}

/// `line` without the colours that this module sets.
fn without_colour(line: &str) -> String {
    let mut plain = line.replace("\x1b[0m", "");
    for colour in [DIM, NAME, CALL, LIFE, WARNING, ALARM] {
        plain = plain.replace(&format!("\x1b[{colour}m"), "");
    }
    plain
}

proptest! {
    #[test]
    fn no_record_leaves_its_line_or_sets_a_colour(event in samples::event(), columns in 0..200_usize) {
        let plain = line(&event, columns, false);
        prop_assert_eq!(&escape(&plain), &plain);
        prop_assert!(width(&plain) <= columns, "{}", plain);
        prop_assert!(plain.width() <= columns, "{}", plain);
        prop_assert_eq!(without_colour(&line(&event, columns, true)), plain);
    }

    #[test]
    fn columns_are_aligned(event in samples::event(), columns in 80..200_usize) {
        let plain = line(&event, columns, false);
        let head = header(columns, false);
        let details_at = head.find("DETAILS").unwrap();
        let mut used = 0;
        let before: String = plain.chars().take_while(|c| {
            let here = used < details_at;
            used += width(c.encode_utf8(&mut [0; 4]));
            here
        }).collect();
        prop_assert_eq!(width(&before), details_at, "{}", plain);
        prop_assert!(before.ends_with(' '), "{}", plain);
    }
}

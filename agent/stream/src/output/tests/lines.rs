//! The lines that the writing thread writes.

use std::sync::Arc;

use super::super::*;
use crate::samples;

const HUMAN: OutputFormat = OutputFormat::Human(HumanScreen {
    columns: || 80,
    colour: false,
    header: false,
});

fn write(
    format: OutputFormat,
    items: impl IntoIterator<Item = SourceItem>,
) -> (Result<OutputEnd, WriteError>, String) {
    let (sender, queue) = mpsc::channel(16);
    for item in items {
        sender.try_send(item).unwrap();
    }
    drop(sender);
    let mut out = Vec::new();
    let end = write_all(queue, &mut out, format, None);
    (end, String::from_utf8(out).unwrap())
}

#[test]
fn a_record_is_the_same_from_here_and_from_the_server() {
    for event in [samples::unshare(), samples::oom(), samples::lost()] {
        let json = serde_json::to_string(&event).unwrap();
        let human = human::line(&event, 80, false);
        for (format, text) in [(OutputFormat::Json, json.clone()), (HUMAN, human)] {
            let served = SourceItem::Lines((json.clone() + "\n").into());
            let own = SourceItem::Event(Arc::new(event.clone()));
            let (end, written) = write(format, [served, own]);
            assert_eq!(end.unwrap(), OutputEnd::Source);
            assert_eq!(written, format!("{text}\n{text}\n"));
        }
    }
}

#[test]
fn a_servers_json_is_passed_on_but_for_what_is_hidden() {
    for (line, written) in [
        (
            r#"{"kind":"later","new":[1.50]}"#,
            r#"{"kind":"later","new":[1.50]}"#,
        ),
        (
            "{\"kind\":\"\u{9b}2J\u{202e}\"}",
            r#"{"kind":"\u009b2J\u202e"}"#,
        ),
    ] {
        let (end, output) = write(
            OutputFormat::Json,
            [SourceItem::Lines((line.to_owned() + "\n").into())],
        );
        assert_eq!(end.unwrap(), OutputEnd::Source);
        assert_eq!(output, format!("{written}\n"));
    }
}

#[test]
fn a_line_that_is_no_event_is_told_after_those_before() {
    for (format, line) in [
        (HUMAN, &b"{\"kind\":\"later\",\"time\":\"\x1b[31m\"}"[..]),
        (HUMAN, b"{\"time\":\"\"}"),
        (OutputFormat::Json, b"{\"time\":\"\"}"),
        (OutputFormat::Json, b"not json"),
        (OutputFormat::Json, b"{\"kind\":\"\x1b[2J\"}"),
        (OutputFormat::Json, b"{\"kind\":\"exec\"}\x1b[2J{}"),
        (OutputFormat::Json, b"{\"kind\":\"exec\"}\r{}"),
        (OutputFormat::Json, b"{\"kind\":\"\xff\"}"),
    ] {
        let items = [
            SourceItem::Event(Arc::new(samples::lost())),
            SourceItem::Lines(line.into()),
        ];
        let (end, written) = write(format, items);
        assert_eq!(written.lines().count(), 1);
        let error = end.unwrap_err();
        assert!(matches!(error, WriteError::NotAnEvent { .. }), "{error:?}");
        assert_eq!(escape(&error.to_string()), error.to_string());
    }
}

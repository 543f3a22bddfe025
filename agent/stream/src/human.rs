//! An event as one line for people: aligned columns, no wider than the screen.

use std::collections::BTreeMap;

use agent_model::clock::Moment;
use agent_model::container::{Container, ContainerAction, ContainerKind, Exit};
use agent_model::names::{HOST, NONE, UNKNOWN, quoted};
use agent_model::text::{escape, fit, width};
use agent_model::units::{duration, signal_name, size};

use super::argv::Argv;
use super::filter::namespace_type;
use super::kind::EventKind;
use super::stream_event::{
    Caller, EventDetails, EventProcess, EventSubject, Joined, LimitOwner, NamespaceCall, Oom,
    StreamEvent,
};

/// The widths of all columns but the last, which takes the rest, by the least width of a screen. A column of width 0 is
/// left out: a narrow screen has no room for the process, a narrower one none for the time either.
const WIDTHS: [(usize, [usize; 4]); 4] = [
    (112, [12, 9, 24, 24]),
    (72, [12, 9, 12, 15]),
    (56, [12, 9, 12, 0]),
    (0, [0, 9, 12, 0]),
];
/// The space between two columns.
const GAP: usize = 1;

/// The colours of cells, as parameters of SGR (ECMA-48).
const PLAIN: &str = "";
const DIM: &str = "2";
const NAME: &str = "1";
const CALL: &str = "36";
const LIFE: &str = "32";
const WARNING: &str = "33";
const ALARM: &str = "1;31";

/// A cell of a line: text that is not escaped yet, and its colour.
struct LineCell {
    text: String,
    colour: &'static str,
}

impl LineCell {
    fn new(text: impl Into<String>, colour: &'static str) -> Self {
        Self {
            text: text.into(),
            colour,
        }
    }
}

/// The names of the columns of [`line()`], on a line of at most `columns` columns.
pub(crate) fn header(columns: usize, colour: bool) -> String {
    let names = ["TIME (UTC)", "EVENT", "CONTAINER", "PROCESS", "DETAILS"];
    render(&names.map(|name| LineCell::new(name, DIM)), columns, colour)
}

/// `event` on one line of at most `columns` columns, without a line end: time of day in UTC, kind, the caller's container,
/// the caller, details. The only control characters in the line are those that set its colours, and these only with
/// `colour`.
pub(crate) fn line(event: &StreamEvent, columns: usize, colour: bool) -> String {
    let caller = event.caller.as_ref();
    let cells = [
        LineCell::new(event.time.time_of_day(), DIM),
        LineCell::new(
            EventKind::of(&event.details).name(),
            kind_colour(&event.details),
        ),
        container(caller),
        LineCell::new(
            caller.map_or(NONE.into(), |it| process(&it.process, columns)),
            PLAIN,
        ),
        LineCell::new(details(event), details_colour(&event.details)),
    ];
    render(&cells, columns, colour)
}

/// The widths of all columns but the last, which takes the rest.
fn widths(columns: usize) -> [usize; 4] {
    let found = WIDTHS.iter().find(|(least, _)| *least <= columns);
    found.map_or([0; 4], |(_, widths)| *widths)
}

fn container(caller: Option<&Caller>) -> LineCell {
    match caller {
        None => LineCell::new(NONE, DIM),
        Some(Caller {
            container: Some(container),
            ..
        }) => LineCell::new(name(container), NAME),
        Some(Caller {
            container_unknown: true,
            ..
        }) => LineCell::new(UNKNOWN, WARNING),
        Some(_) => LineCell::new(HOST, DIM),
    }
}

/// `comm(pid)`, in which only the comm is cut.
fn process(process: &EventProcess, columns: usize) -> String {
    let [.., column] = widths(columns);
    let pid = format!("({})", process.pid);
    let comm = escape(&process.comm);
    format!("{}{pid}", fit(&comm, column.saturating_sub(pid.len())))
}

fn kind_colour(event: &EventDetails) -> &'static str {
    match event {
        EventDetails::Clone { .. } | EventDetails::Unshare { .. } | EventDetails::Setns { .. } => {
            CALL
        }
        EventDetails::Container { .. } => LIFE,
        EventDetails::Fork { .. } | EventDetails::Exec { .. } | EventDetails::Exit { .. } => PLAIN,
        EventDetails::Oom(_) | EventDetails::Escape { .. } => ALARM,
        EventDetails::Lost { .. } => WARNING,
    }
}

fn details_colour(event: &EventDetails) -> &'static str {
    match event {
        EventDetails::Clone { call, .. }
        | EventDetails::Unshare { call }
        | EventDetails::Setns { call, .. }
            if failed(call) =>
        {
            WARNING
        }
        EventDetails::Container {
            action: ContainerAction::Stop,
            exit: Some(exit),
            ..
        }
        | EventDetails::Exit { exit }
            if exit.oom_killed =>
        {
            ALARM
        }
        EventDetails::Container {
            result: Some(result),
            ..
        } => match &**result {
            "success" => PLAIN,
            "oom-kill" => ALARM,
            _ => WARNING,
        },
        EventDetails::Oom(_) | EventDetails::Escape { .. } => ALARM,
        EventDetails::Lost { .. } => WARNING,
        _ => PLAIN,
    }
}

/// Makes a line of cells. Text gets into a line only here: each cell is escaped, cut and padded.
fn render(cells: &[LineCell; 5], columns: usize, colour: bool) -> String {
    let [time, kind, container, process] = widths(columns);
    let widths = [time, kind, container, process, usize::MAX];
    let mut line = String::new();
    let mut left = columns;
    let cells = cells.iter().zip(widths);
    for (cell, column) in cells.filter(|(_, column)| *column > 0) {
        let text = escape(&cell.text);
        let text = fit(&text, column.min(left));
        let used = width(&text);
        if colour && cell.colour != PLAIN {
            line.push_str(&format!("\x1b[{}m{text}\x1b[0m", cell.colour));
        } else {
            line.push_str(&text);
        }
        let fill = column
            .saturating_sub(used)
            .saturating_add(GAP)
            .min(left - used);
        left -= used + fill;
        if left > 0 {
            line.extend(std::iter::repeat_n(' ', fill));
        }
    }
    line
}

/// The number of characters of an id that people use for the whole.
const SHORT_ID: usize = 12;

/// The details column. The most important comes first, since the line is cut at the screen's edge.
fn details(event: &StreamEvent) -> String {
    match &event.details {
        EventDetails::Clone { call, child } => clone(call, child),
        EventDetails::Unshare { call } => namespace_call(call, ""),
        EventDetails::Setns { call, joined } => setns(call, joined.as_ref()),
        EventDetails::Oom(oom) => oom_kill(oom, event.caller.as_ref()),
        EventDetails::Fork { child } => format!("child {}", born(child)),
        EventDetails::Exec {
            argv,
            argv_truncated,
        } => command(argv, *argv_truncated),
        EventDetails::Exit { exit } => ended(exit),
        EventDetails::Escape {
            namespace,
            inode,
            how,
        } => escaped(namespace, *inode, how),
        EventDetails::Container {
            action,
            exit,
            result,
        } => {
            let container = event.caller.as_ref().and_then(|it| it.container.as_deref());
            match action {
                ContainerAction::Start => start(container),
                ContainerAction::Stop => stop(exit.as_ref(), result.as_deref()),
            }
        }
        EventDetails::Lost { kinds, since } => lost(kinds, *since),
    }
}

/// A container's name, in quotes if it reads like the host, none or unknown.
fn name(container: &Container) -> String {
    quoted(&container.name)
}

/// Whether the call returned an errno.
fn failed(call: &NamespaceCall) -> bool {
    // Empty: the probe's mechanism does not see the result.
    !matches!(call.result.as_str(), "0" | "")
}

fn clone(call: &NamespaceCall, child: &EventSubject) -> String {
    namespace_call(call, &format!(" → child {}", born(child)))
}

/// A new process, as in `1235 (pid 7 inside)`.
fn born(child: &EventSubject) -> String {
    let EventProcess { pid, ns_pid, .. } = child.process;
    if ns_pid == pid {
        pid.to_string()
    } else {
        format!("{pid} (pid {ns_pid} inside)")
    }
}

/// The arguments as a shell would take them.
fn command(argv: &Argv, truncated: bool) -> String {
    let plain = |c: char| c.is_alphanumeric() || "%+,-./:=@_".contains(c);
    let words = argv.words().map(|word| {
        if !word.is_empty() && word.chars().all(plain) {
            word.into_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    let more = truncated.then(|| "…".to_owned());
    words.chain(more).collect::<Vec<_>>().join(" ")
}

fn escaped(namespace: &str, inode: u32, how: &str) -> String {
    let by = if how == "unseen" {
        ", seen later".to_owned()
    } else {
        format!(" by {how}")
    };
    format!("in the host's {namespace} namespace {inode}{by}")
}

fn setns(call: &NamespaceCall, joined: Option<&Joined>) -> String {
    match joined {
        None => namespace_call(call, ""),
        Some(Joined::Host(host)) => namespace_call(call, &format!(" of {host}")),
        Some(Joined::Container(it)) => namespace_call(call, &format!(" of {}", name(it))),
    }
}

/// A call, as in `net: 4026531840 → 4026532201`, with `target` after the types.
fn namespace_call(call: &NamespaceCall, target: &str) -> String {
    let types = types(call);
    if failed(call) {
        return format!("{types}{target} failed: {}", call.result);
    }
    format!("{types}{target}: {}", changes(call, &types))
}

/// The requested types, else those that changed, as in `pid,net`.
fn types(call: &NamespaceCall) -> String {
    if call.requested.is_empty() {
        let changed: Vec<_> = call.changed.keys().map(String::as_str).collect();
        return changed.join(",");
    }
    call.requested.join(",")
}

/// The changed namespaces, with their names unless `types` names the only one.
fn changes(call: &NamespaceCall, types: &str) -> String {
    if call.changed.is_empty() {
        return "unchanged".into();
    }
    let named = call.changed.len() > 1;
    let changes = call.changed.iter().map(|(entry, change)| {
        let inodes = format!("{} → {}", change.from, change.to);
        if !named && namespace_type(entry) == namespace_type(types) {
            inodes
        } else {
            format!("{entry} {inodes}")
        }
    });
    changes.collect::<Vec<_>>().join(", ")
}

fn oom_kill(oom: &Oom, caller: Option<&Caller>) -> String {
    let EventProcess { comm, pid, .. } = &oom.victim.process;
    let init = if oom.init_killed { "init " } else { "" };
    let elsewhere = oom.victim.container.as_ref() != caller.and_then(|it| it.container.as_ref());
    let whose = match (&oom.victim.container, elsewhere) {
        (_, false) => String::new(),
        (None, true) => format!(" of {HOST}"),
        (Some(container), true) => format!(" of {}", name(container)),
    };
    let rss = [oom.rss.anon_bytes, oom.rss.file_bytes, oom.rss.shmem_bytes];
    let rss = size(rss.into_iter().fold(0, u64::saturating_add));
    format!(
        "killed {init}{comm}({pid}){whose} rss {rss}, {}",
        shortage(oom)
    )
}

fn shortage(oom: &Oom) -> String {
    match (&oom.limit_owner, oom.constraint.as_str()) {
        (
            Some(LimitOwner {
                cgroup,
                limit_bytes: Some(limit),
                ..
            }),
            _,
        ) => {
            let limit = size(*limit);
            match &oom.victim.container {
                // The container column names it already, and the path may be long.
                Some(container) if container.cgroup == *cgroup => format!("its limit {limit} hit"),
                _ => format!("limit {limit} of {cgroup} hit"),
            }
        }
        (
            Some(LimitOwner {
                cgroup,
                usage_bytes,
                ..
            }),
            _,
        ) => {
            format!("{} used by {cgroup}", size(*usage_bytes))
        }
        (None, "none") => "the host is out of memory".into(),
        (None, constraint) => format!("out of memory by {constraint}"),
    }
}

fn start(container: Option<&Container>) -> String {
    let mut words = vec!["start".to_owned()];
    if let Some(it) = container.filter(|it| it.kind == ContainerKind::Container) {
        let is_claim = it.confirmed == Some(false);
        let (mark, digits) = if is_claim { ("?", 0) } else { ("", SHORT_ID) };
        let id = it.id.chars().take(digits).collect();
        words.extend(
            [format!("{}{mark}", it.runtime), it.image.clone(), id]
                .into_iter()
                .filter(|it| !it.is_empty()),
        );
    }
    if let Some(it) = container.filter(|it| it.kind == ContainerKind::Unit) {
        words.extend(
            it.labels
                .iter()
                .map(|(_, description)| description.to_owned()),
        );
    }
    words.join(" ")
}

fn stop(exit: Option<&Exit>, result: Option<&str>) -> String {
    let exit = exit.map(ended);
    let words = [Some("stop"), exit.as_deref(), result];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// The end of a process, as in `exit 137 (SIGKILL, OOM) after 1.2s`.
fn ended(exit: &Exit) -> String {
    let status = match exit.signal {
        0 => u16::from(exit.code),
        signal => 128 + u16::from(signal),
    };
    let mut reasons = Vec::new();
    if exit.signal != 0 {
        reasons.push(signal_name(exit.signal));
    }
    if exit.oom_killed {
        reasons.push("OOM".into());
    }
    let reasons = if reasons.is_empty() {
        String::new()
    } else {
        format!(" ({})", reasons.join(", "))
    };
    format!(
        "exit {status}{reasons} after {}",
        duration(exit.duration_ms)
    )
}

fn lost(kinds: &BTreeMap<String, u64>, since: Moment) -> String {
    let counts: Vec<_> = kinds
        .iter()
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    format!("{} since {}", counts.join(", "), since.time_of_day())
}

#[cfg(test)]
mod tests;

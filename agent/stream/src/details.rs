//! A record's details in a few words: what the last column of a human line says. The most
//! important comes first, since the line is cut at the screen's edge. Nothing is escaped here.

use std::collections::BTreeMap;

use agent_model::clock::Moment;
use agent_model::container::{Container, ContainerAction, ContainerKind, Exit};
use agent_model::names::{HOST, quoted};
use agent_model::units::{duration, signal_name, size};

use super::argv::Argv;
use super::stream_event::{
    Caller, EventDetails, EventProcess, EventSubject, Joined, LimitOwner, NamespaceCall, Oom,
    StreamEvent,
};
use super::filter::namespace_type;

/// The characters of an id that people use for the whole.
const SHORT_ID: usize = 12;

/// What happened, beside the kind.
pub fn details(record: &StreamEvent) -> String {
    match &record.event {
        EventDetails::Clone { call, child } => clone(call, child),
        EventDetails::Unshare { call } => namespace_call(call, ""),
        EventDetails::Setns { call, joined } => setns(call, joined.as_ref()),
        EventDetails::Oom(oom) => oom_kill(oom, record.caller.as_ref()),
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
        } => escape(namespace, *inode, how),
        EventDetails::Container { action, exit } => {
            let container = record
                .caller
                .as_ref()
                .and_then(|it| it.container.as_deref());
            match action {
                ContainerAction::Start => start(container),
                ContainerAction::Stop => stop(exit.as_ref()),
            }
        }
        EventDetails::Lost { kinds, since } => lost(kinds, *since),
    }
}

/// A container's name. One that reads like the host or nobody is in quotes.
pub fn name(container: &Container) -> String {
    quoted(&container.name)
}

/// Whether the call did not do what it was asked to.
pub fn failed(call: &NamespaceCall) -> bool {
    // Empty: the mechanism does not see the result.
    !matches!(call.result.as_str(), "0" | "")
}

fn clone(call: &NamespaceCall, child: &EventSubject) -> String {
    namespace_call(call, &format!(" → child {}", born(child)))
}

/// `1235 (pid 7 inside)`
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

fn escape(namespace: &str, inode: u32, how: &str) -> String {
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

/// `net: 4026531840 → 4026532201`, with `target` after the types.
fn namespace_call(call: &NamespaceCall, target: &str) -> String {
    let types = types(call);
    if failed(call) {
        return format!("{types}{target} failed: {}", call.result);
    }
    format!("{types}{target}: {}", changes(call, &types))
}

/// The types asked for, else those that changed: `pid,net`.
fn types(call: &NamespaceCall) -> String {
    if call.requested.is_empty() {
        let changed: Vec<_> = call.changed.keys().map(String::as_str).collect();
        return changed.join(",");
    }
    call.requested.join(",")
}

/// What changed, by name unless it is just the one that `types` says.
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
                // Whose path may be long: the container is named already.
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
    words.join(" ")
}

fn stop(exit: Option<&Exit>) -> String {
    exit.map_or("stop".into(), |exit| format!("stop {}", ended(exit)))
}

/// `exit 137 (SIGKILL, OOM) after 1.2s`
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

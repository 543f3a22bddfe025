//! The families of what the BPF programs counted. The events in cgroups below a container's own count for the
//! container. A removed cgroup keeps the series of rare events: OOM kills, escapes, and ends by a signal.

use agent_ebpf::{Call, Counts, Ending, NamespaceType};

use super::{Cgroup, Samples, Source};
use crate::catalogue;
use crate::text::Value;

pub const SOURCES: &[Source] = &[
    Source {
        metric: &catalogue::OOM_EVENTS,
        write: |cgroup, out| rare(cgroup, out, &[], cgroup.counts.map(|it| it.oom_kills)),
    },
    Source {
        metric: &catalogue::OOM_KILLS,
        write: oom_kills,
    },
    Source {
        metric: &catalogue::FORKS,
        write: |cgroup, out| out.number(count(cgroup, |it| it.forks)),
    },
    Source {
        metric: &catalogue::THREADS_CREATED,
        write: |cgroup, out| out.number(count(cgroup, |it| it.threads)),
    },
    Source {
        metric: &catalogue::EXECS,
        write: |cgroup, out| out.number(count(cgroup, |it| it.execs)),
    },
    Source {
        metric: &catalogue::EXITS,
        write: exits,
    },
    Source {
        metric: &catalogue::ESCAPES,
        write: escapes,
    },
    Source {
        metric: &catalogue::UNWATCHED,
        write: |cgroup, out| out.number(count(cgroup, |it| it.unwatched).filter(|it| *it > 0)),
    },
    Source {
        metric: &catalogue::NAMESPACE_CALLS,
        write: namespace_calls,
    },
    Source {
        metric: &catalogue::NAMESPACE_CALL_ERRORS,
        write: namespace_call_errors,
    },
];

/// Returns the counts of a cgroup that exists.
fn often(cgroup: &Cgroup) -> Option<&Counts> {
    cgroup.counts.as_ref().filter(|_| !cgroup.is_gone)
}

fn count(cgroup: &Cgroup, count: fn(&Counts) -> u64) -> Option<u64> {
    often(cgroup).map(count)
}

/// Writes the count of a rare event. A removed cgroup has the series only if the event happened.
fn rare(cgroup: &Cgroup, out: &mut Samples<'_, '_>, own: &[&str], count: Option<u64>) {
    if let Some(count) = count.filter(|count| *count > 0 || !cgroup.is_gone) {
        out.push(own, Value::Number(count));
    }
}

fn oom_kills(cgroup: &Cgroup, out: &mut Samples<'_, '_>) {
    let counts = cgroup.counts.as_ref();
    rare(cgroup, out, &["victim"], counts.map(|it| it.oom_kills));
    let owned = counts.map(|it| it.oom_limit_kills);
    rare(cgroup, out, &["limit_owner"], owned);
}

fn exits(cgroup: &Cgroup, out: &mut Samples<'_, '_>) {
    let exits = cgroup.counts.iter().flat_map(|it| &it.exits);
    for (ending, &count) in Ending::ALL.iter().zip(exits) {
        let is_rare = matches!(ending, Ending::Signal | Ending::OomKilled);
        if is_rare || !cgroup.is_gone {
            rare(cgroup, out, &[ending.name()], Some(count));
        }
    }
}

/// Writes the escapes. Processes can escape only from containers.
fn escapes(cgroup: &Cgroup, out: &mut Samples<'_, '_>) {
    let escapes = cgroup.counts.iter().flat_map(|it| &it.escapes);
    for (namespace, &count) in NamespaceType::ALL.iter().zip(escapes) {
        if cgroup.is_container || count > 0 {
            rare(cgroup, out, &[namespace.name()], Some(count));
        }
    }
}

/// Returns the counts of a container, or of another cgroup that had namespace calls. For thousands of other cgroups, 27
/// series of zeros each would be too many.
fn with_calls(cgroup: &Cgroup) -> Option<&Counts> {
    let has_calls = |counts: &&Counts| {
        let mut calls = counts.calls.iter().flatten().chain(&counts.failed);
        cgroup.is_main || calls.any(|&count| count > 0)
    };
    often(cgroup).filter(has_calls)
}

fn namespace_calls(cgroup: &Cgroup, out: &mut Samples<'_, '_>) {
    let calls = with_calls(cgroup).into_iter().flat_map(|it| &it.calls);
    for (call, by_type) in Call::ALL.iter().zip(calls) {
        for (asked, &count) in NamespaceType::ALL.iter().zip(by_type) {
            out.push(&[call.name(), asked.name()], Value::Number(count));
        }
    }
}

fn namespace_call_errors(cgroup: &Cgroup, out: &mut Samples<'_, '_>) {
    let failed = with_calls(cgroup).into_iter().flat_map(|it| &it.failed);
    for (call, &count) in Call::ALL.iter().zip(failed) {
        out.push(&[call.name()], Value::Number(count));
    }
}

//! What was counted in the kernel, of cgroups that are gone too.

use agent_ebpf::{Call, Counts, Ending, NamespaceType};

use super::{Cgroup, Samples, Source};
use crate::metrics::catalogue;
use crate::metrics::text::Value;

pub const SOURCES: &[Source] = &[
    Source {
        metric: &catalogue::OOM_EVENTS,
        write: |cgroup, out| out.number(Some(cgroup.counts.oom_kills)),
    },
    Source {
        metric: &catalogue::OOM_KILLS,
        write: oom_kills,
    },
    Source {
        metric: &catalogue::FORKS,
        write: |cgroup, out| out.number(Some(cgroup.counts.forks)),
    },
    Source {
        metric: &catalogue::THREADS_CREATED,
        write: |cgroup, out| out.number(Some(cgroup.counts.threads)),
    },
    Source {
        metric: &catalogue::EXECS,
        write: |cgroup, out| out.number(Some(cgroup.counts.execs)),
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
        write: |cgroup, out| out.number(Some(cgroup.counts.unwatched).filter(|it| *it > 0)),
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

fn oom_kills(cgroup: &Cgroup, out: &mut Samples<'_, '_>) {
    let Counts {
        oom_kills,
        oom_limit_kills,
        ..
    } = cgroup.counts;
    out.push(&["victim"], Value::Number(oom_kills));
    out.push(&["limit_owner"], Value::Number(oom_limit_kills));
}

fn exits(cgroup: &Cgroup, out: &mut Samples<'_, '_>) {
    for (ending, &count) in Ending::ALL.iter().zip(&cgroup.counts.exits) {
        out.push(&[ending.name()], Value::Number(count));
    }
}

/// Only a container can be escaped from, but also by what is in a cgroup below its own.
fn escapes(cgroup: &Cgroup, out: &mut Samples<'_, '_>) {
    for (namespace, &count) in NamespaceType::ALL.iter().zip(&cgroup.counts.escapes) {
        if cgroup.is_container || count > 0 {
            out.push(&[namespace.name()], Value::Number(count));
        }
    }
}

/// 27 series of zeros are too much for each of thousands of cgroups that are no containers.
fn has_calls(cgroup: &Cgroup) -> bool {
    let Counts { calls, failed, .. } = &cgroup.counts;
    cgroup.is_main || calls.iter().flatten().chain(failed).any(|&count| count > 0)
}

fn namespace_calls(cgroup: &Cgroup, out: &mut Samples<'_, '_>) {
    if !has_calls(cgroup) {
        return;
    }
    for (call, by_type) in Call::ALL.iter().zip(&cgroup.counts.calls) {
        for (asked, &count) in NamespaceType::ALL.iter().zip(by_type) {
            out.push(&[call.name(), asked.name()], Value::Number(count));
        }
    }
}

fn namespace_call_errors(cgroup: &Cgroup, out: &mut Samples<'_, '_>) {
    if !has_calls(cgroup) {
        return;
    }
    for (call, &count) in Call::ALL.iter().zip(&cgroup.counts.failed) {
        out.push(&[call.name()], Value::Number(count));
    }
}

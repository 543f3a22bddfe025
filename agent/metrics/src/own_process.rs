//! The families `process_*` of the agent itself, with the names that Prometheus' client libraries have.

use std::path::Path;
use std::time::UNIX_EPOCH;

use agent_host::kept::ReadErrors;
use agent_host::usage::OwnUsage;

use super::catalogue;
use super::text::{Value, Writer};

/// Reads what this process uses, and writes its families.
pub fn write(root: &Path, errors: &mut ReadErrors, out: &mut Writer) {
    let usage = errors.keep(OwnUsage::read(root));
    let number = |of: fn(&OwnUsage) -> u64| usage.as_ref().map(|usage| Value::Number(of(usage)));
    let started = usage.and_then(|it| it.started.duration_since(UNIX_EPOCH).ok());
    let limit = usage.and_then(|it| it.descriptors_limit);
    for (metric, value) in [
        (&catalogue::PROCESS_CPU, usage.map(|it| it.cpu.into())),
        (&catalogue::PROCESS_OPEN_FDS, number(|it| it.descriptors)),
        (&catalogue::PROCESS_MAX_FDS, limit.map(Value::Number)),
        (
            &catalogue::PROCESS_VIRTUAL_MEMORY,
            number(|it| it.virtual_memory),
        ),
        (
            &catalogue::PROCESS_RESIDENT_MEMORY,
            number(|it| it.resident_memory),
        ),
        (&catalogue::PROCESS_START_TIME, started.map(Value::from)),
        (&catalogue::PROCESS_THREADS, number(|it| it.threads)),
    ] {
        let mut family = out.family(metric);
        if let Some(value) = value {
            family.sample(&[], None, value);
        }
    }
}

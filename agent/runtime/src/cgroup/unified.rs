//! The limits for which OCI has no member but `linux.resources.unified`: names of v2's files, and the text of each.

use agent_host::cgroup_files::{CgroupFile, files_of};
use agent_model::hierarchy::Version;
use agent_model::limit::{Held, Kind, Limit, Value};

const LIMITS: [Kind; 2] = [Kind::MemoryHigh, Kind::CpuWeight];

/// The member for a limit; None where it is none of these, or the value is not of it.
pub(crate) fn member(kind: Kind, value: &Value) -> Option<(String, String)> {
    let file = file(kind)?;
    Some((file.name.to_owned(), file.write(kind, value)?))
}

/// The limit that a member of this name holds.
pub(crate) fn limit(name: &str) -> Option<Kind> {
    let mut limits = LIMITS.into_iter();
    limits.find(|kind| file(*kind).is_some_and(|file| file.name == name))
}

/// How much of it the text asks for.
pub(crate) fn value(kind: Kind, text: &str) -> Option<Value> {
    match (kind, file(kind)?.held(kind, text.as_bytes(), None)?) {
        (Kind::CpuWeight, Held::Amount(Limit::Value(weight))) => Some(Value::Weight(weight)),
        (_, Held::Amount(limit)) => Some(Value::Amount(limit)),
        _ => None,
    }
}

fn file(kind: Kind) -> Option<&'static CgroupFile> {
    let mut files = files_of(kind, Version::V2);
    files.next().filter(|_| LIMITS.contains(&kind))
}

//! Converts the limits for which OCI has no member but `linux.resources.unified`, a map from names of v2's files to
//! texts.

use agent_host::cgroup_files::{CgroupFile, files_of};
use agent_model::hierarchy::Version;
use agent_model::limit::{Held, Kind, Limit, Value};

const LIMITS: [Kind; 2] = [Kind::MemoryHigh, Kind::CpuWeight];

/// Returns the member for a limit; `None` where it is not one of [`LIMITS`], or the value does not fit it.
pub(crate) fn member(kind: Kind, value: &Value) -> Option<(String, String)> {
    let file = file(kind)?;
    Some((file.name.to_owned(), file.write(kind, value)?))
}

/// Returns the limit that a member of this name sets.
pub(crate) fn limit(name: &str) -> Option<Kind> {
    let mut limits = LIMITS.into_iter();
    limits.find(|kind| file(*kind).is_some_and(|file| file.name == name))
}

/// Parses the value of a limit from a member's text.
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

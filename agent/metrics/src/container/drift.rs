//! The family that tells where a container's limits differ from the intended ones.

use std::path::PathBuf;

use agent_host::reading::{Reading, Seen};
use agent_host::system::page_size;
use agent_limits::limit::Expected;
use agent_limits::limit::chain::{Chain, Drift, Missing};
use agent_model::hierarchy::Version;
use agent_model::limit::{Held, Kind, Link};

use super::effective::{BOUNDED, Bound};
use super::{Cgroup, Samples, Source};
use crate::catalogue;
use crate::text::Value;

pub const SOURCES: &[Source] = &[Source {
    metric: &catalogue::LIMIT_DRIFT,
    write: all,
}];

fn all(cgroup: &Cgroup, out: &mut Samples<'_, '_>) {
    // A cgroup that was removed while its files were read has no limits.
    let is_there = cgroup.live.is_some() && cgroup.reading != Reading::default();
    if !cgroup.is_container || !is_there {
        return;
    }
    let page = page_size();
    for (kind, bound) in BOUNDED.into_iter().zip(&cgroup.bounds) {
        one(cgroup, kind, bound, page, out);
    }
}

fn one(cgroup: &Cgroup, kind: Kind, bound: &Bound, page: u64, out: &mut Samples<'_, '_>) {
    // Where the kernel does not account swap, engines leave the limit on it out and warn the user.
    if bound.own == Seen::Unread || kind == Kind::MemorySwap && bound.own == Seen::Nothing {
        return;
    }
    let version = bound.version.unwrap_or(Version::V2);
    let intent = cgroup.intended.as_ref();
    // Without an intended limit there is no series, because 0 means that the limit is as intended.
    let intended = intent.and_then(|it| Expected::intended(it, kind, None, version, page));
    let Some(intended) = intended else {
        return;
    };
    let drift = chain(kind, version, bound).drift(Some(&intended));
    // An ancestor's limit that could not be read may be tighter than the own one.
    let is_limited = bound.own.held().is_some_and(|held| !held.is_none());
    if drift.is_none() && is_limited && bound.above == Seen::Unread {
        return;
    }
    let found = drift.as_ref().map(Drift::name);
    for name in Drift::NAMES {
        let value = Value::Number((found == Some(name)).into());
        out.push(&[kind.flag(), name], value);
    }
}

/// Makes a chain for [`Chain::drift`]. Its result does not depend on the paths, texts and reason, so these are empty.
fn chain(kind: Kind, version: Version, bound: &Bound) -> Chain {
    let link = |held: &Held| Link {
        cgroup: String::new(),
        file: PathBuf::new(),
        text: String::new(),
        held: held.clone(),
    };
    let own = bound.own.held().map(link);
    Chain {
        kind,
        device: None,
        version,
        own: own.ok_or_else(|| Missing::NoFile {
            file: kind.flag().to_owned(),
        }),
        above: bound.above.held().map(link).into_iter().collect(),
    }
}

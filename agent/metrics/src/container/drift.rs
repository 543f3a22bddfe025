//! The family that tells where the limits of a container or unit differ from the intended ones.

use std::path::PathBuf;

use agent_host::reading::{Reading, Seen};
use agent_host::system::page_size;
use agent_limits::limit::Expected;
use agent_limits::limit::chain::{Chain, Drift, Missing};
use agent_model::hierarchy::Version;
use agent_model::limit::{Held, Intent, Kind, Link};

use super::effective::{BOUNDED, Bound};
use super::{Cgroup, Samples, Source};
use crate::catalogue;
use crate::text::Value;

pub const SOURCES: &[Source] = &[Source {
    metric: &catalogue::LIMIT_DRIFT,
    write: all,
}];

fn all(cgroup: &Cgroup, out: &mut Samples<'_, '_>) {
    for (kind, drift) in drifts(cgroup) {
        let found = drift.as_ref().map(Drift::name);
        for name in Drift::NAMES {
            let value = Value::Number((found == Some(name)).into());
            out.push(&[kind.flag(), name], value);
        }
    }
}

/// Tells whether a limit is known not to be as intended.
pub fn is_drifting(cgroup: &Cgroup) -> bool {
    drifts(cgroup).any(|(_, drift)| drift.is_some())
}

/// Returns the limits of which it is known whether they are as intended, each with its drift.
fn drifts(cgroup: &Cgroup) -> impl Iterator<Item = (Kind, Option<Drift>)> + '_ {
    // A cgroup that was removed while its files were read has no limits.
    let is_there = cgroup.live.is_some() && cgroup.reading != Reading::default();
    let intent = cgroup.intended.as_deref().filter(|_| is_there);
    let bounds = BOUNDED.into_iter().zip(&cgroup.bounds);
    let all = intent.map(|intent| {
        bounds.filter_map(move |(kind, bound)| Some((kind, one(intent, kind, bound, page_size())?)))
    });
    all.into_iter().flatten()
}

fn one(intent: &Intent, kind: Kind, bound: &Bound, page: u64) -> Option<Option<Drift>> {
    // Where the kernel does not account swap, engines leave the limit on it out and warn the user.
    if bound.own == Seen::Unread || kind == Kind::MemorySwap && bound.own == Seen::Nothing {
        return None;
    }
    let version = bound.version.unwrap_or(Version::V2);
    // Without an intended limit there is no series, because 0 means that the limit is as intended.
    let intended = Expected::intended(intent, kind, None, version, page)?;
    let drift = chain(kind, version, bound).drift(Some(&intended));
    // An ancestor's limit that could not be read may be tighter than the own one.
    let is_limited = bound.own.held().is_some_and(|held| !held.is_none());
    if drift.is_none() && is_limited && bound.above == Seen::Unread {
        return None;
    }
    Some(drift)
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

//! A limit in the report of `agent inspect`: intended, set in the cgroup itself, and effective. This module does no
//! I/O.

use agent_limits::limit::Expected;
use agent_limits::limit::chain::{Chain, Drift, Missing};
use agent_model::limit::{Device, Held, Kind, Link};
use serde::Serialize;

use super::source;

/// A limit of the process's cgroup: the intended value, the value in the cgroup's file, and the effective limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimitReport {
    /// The name: the flag of `agent run` without its dashes.
    pub limit: &'static str,
    /// The block device of a rate, as `MAJOR:MINOR`; null for other limits.
    pub device: Option<String>,
    /// The value that the file should hold; null if it is not known.
    pub intended: Option<String>,
    /// The limit of the cgroup itself; null where the cgroup cannot have the limit.
    pub own: Option<Holds>,
    /// The effective limit; null if neither the cgroup nor an ancestor has one.
    pub effective: Option<Holds>,
    /// How the intended, own and effective values differ: `missing`, `written` or `shadowed`; null if they do not.
    pub drift: Option<&'static str>,
    /// Why the cgroup cannot have the limit.
    pub missing: Option<String>,
    /// What the user can do so that the cgroup can have the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// Why the limit's files cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
    /// The kind of the limit.
    #[serde(skip)]
    pub kind: Kind,
    /// The intended value, with its unit.
    #[serde(skip)]
    pub shown: Option<String>,
}

/// The limit of one cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holds {
    /// The value as the kernel writes it on v2: `max` means no limit, and a quota is followed by its period.
    pub value: String,
    /// The path of the cgroup.
    pub cgroup: String,
    /// The file that holds the limit.
    pub source: String,
    /// The value in the file.
    #[serde(skip)]
    pub held: Held,
    /// The value with its unit.
    #[serde(skip)]
    pub shown: String,
}

impl LimitReport {
    /// Makes the report of one limit. `intended` is the intended value, if it is known.
    pub fn of(chain: &Chain, intended: Option<&Expected>) -> Self {
        Self {
            intended: intended.map(|it| it.held.to_string()),
            shown: intended.map(|it| chain.quantity(&it.held).text),
            own: chain.own.as_ref().ok().map(|own| Holds::of(chain, own)),
            effective: chain.effective().map(|link| Holds::of(chain, &link)),
            drift: chain.drift(intended).as_ref().map(Drift::name),
            missing: chain.own.as_ref().err().map(ToString::to_string),
            advice: chain.own.as_ref().err().and_then(advice),
            ..Self::unknown(chain.kind, chain.device)
        }
    }

    /// Makes the report of a limit whose files cannot be read.
    pub fn unreadable(kind: Kind, device: Option<Device>, reason: String) -> Self {
        Self {
            unreadable: Some(reason),
            ..Self::unknown(kind, device)
        }
    }

    fn unknown(kind: Kind, device: Option<Device>) -> Self {
        Self {
            limit: kind.flag(),
            device: device.map(|it| it.to_string()),
            intended: None,
            own: None,
            effective: None,
            drift: None,
            missing: None,
            advice: None,
            unreadable: None,
            kind,
            shown: None,
        }
    }

    /// Tells whether the report lists the limit: it has a file, is in effect, or differs from the intended value. A
    /// rate is not listed only because it has a file.
    pub fn says_something(&self) -> bool {
        let has_file = self.own.is_some() && !self.kind.is_rate();
        has_file || self.effective.is_some() || self.drift.is_some()
    }

    /// Returns the effective limit, if an ancestor has it.
    pub fn shadow(&self) -> Option<&Holds> {
        let own = self.own.as_ref().map(|own| &own.cgroup);
        self.effective
            .as_ref()
            .filter(|effective| Some(&effective.cgroup) != own)
    }
}

fn advice(missing: &Missing) -> Option<String> {
    match missing {
        Missing::NotEnabled { advice, .. } => Some(advice.clone()),
        _ => None,
    }
}

impl Holds {
    fn of(chain: &Chain, link: &Link) -> Self {
        Self {
            shown: chain.quantity(&link.held).text,
            value: link.held.to_string(),
            cgroup: link.cgroup.clone(),
            source: source(&link.file),
            held: link.held.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use agent_model::hierarchy::Version;
    use agent_model::limit::Limit as Amount;

    use super::*;

    fn held(bytes: u64) -> Held {
        Held::Amount(Amount::Value(bytes))
    }

    fn link(cgroup: &str, held: Held) -> Link {
        Link {
            cgroup: cgroup.to_owned(),
            file: PathBuf::from(cgroup).join("memory.max"),
            text: held.to_string(),
            held,
        }
    }

    fn chain(own: Result<Link, Missing>) -> Chain {
        Chain {
            kind: Kind::Memory,
            version: Version::V2,
            device: None,
            own,
            above: vec![link("/a", held(100))],
        }
    }

    #[test]
    fn a_chain_in_words() {
        let shadowed =
            LimitReport::of(&chain(Ok(link("/a/b", held(150)))), Some(&held(150).into()));
        assert_eq!(
            (shadowed.limit, shadowed.drift),
            ("memory", Some("shadowed"))
        );
        let own = shadowed.own.as_ref().unwrap();
        assert_eq!((&*own.value, &*own.source), ("150", "/a/b/memory.max"));
        let shadow = shadowed.shadow().unwrap();
        assert_eq!((&*shadow.value, &*shadow.cgroup), ("100", "/a"));
        assert_eq!(shadowed.intended.as_deref(), Some("150"));

        let tighter = LimitReport::of(&chain(Ok(link("/a/b", held(50)))), Some(&held(60).into()));
        assert_eq!((tighter.shadow(), tighter.drift), (None, Some("written")));
    }

    #[test]
    fn what_is_missing_is_told_where_it_matters() {
        let missing = Missing::NoFile {
            file: "memory.max".to_owned(),
        };
        let bound = LimitReport::of(&chain(Err(missing.clone())), None);
        assert!(bound.says_something());
        assert!(bound.missing.as_ref().unwrap().contains("memory.max"));
        let free = Chain {
            above: vec![],
            ..chain(Err(missing))
        };
        assert!(!LimitReport::of(&free, None).says_something());
        assert!(LimitReport::of(&free, Some(&held(1).into())).says_something());
    }

    #[test]
    fn rates_are_told_where_they_limit() {
        let rate = |held: Held| Chain {
            kind: Kind::ReadBps,
            device: Some(Device { major: 8, minor: 0 }),
            above: vec![],
            ..chain(Ok(link("/a/b", held)))
        };
        let limited = LimitReport::of(&rate(held(5)), None);
        assert_eq!(limited.device.as_deref(), Some("8:0"));
        assert!(limited.says_something());
        let none = LimitReport::of(&rate(Held::Amount(Amount::Max)), None);
        assert!(!none.says_something());
    }
}

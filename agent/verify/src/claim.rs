//! A claim: a limit, its intended value, and who intended it.

use agent_host::system::page_size;
use agent_limits::limit::Expected;
use agent_limits::limit::chain::Chain;
use agent_model::hierarchy::Version;
use agent_model::limit::{Bound, Device, Kind, Quantity, Value};

/// A limit that is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitClaim {
    /// The kind of the limit.
    pub kind: Kind,
    /// Of a rate.
    pub device: Option<Device>,
    /// `None`: nobody says what was intended, and the cgroup's own file is taken at its word.
    pub intended: Option<Value>,
    /// Who says so, for people: `--memory`, `docker`, `--expect`. Where nobody does, what would.
    pub source: String,
    /// It follows from another limit, and was not asked for itself.
    pub by_default: bool,
    /// Where the caller is under it, and what is judged is to be under it too.
    pub bound: Option<Bound>,
}

impl LimitClaim {
    /// That `source` intended a value.
    pub fn new(kind: Kind, value: Value, source: impl Into<String>) -> Self {
        Self {
            kind,
            device: value.device(),
            intended: Some(value),
            source: source.into(),
            by_default: false,
            bound: None,
        }
    }

    /// That a cgroup's own limit is the one that holds; `ask` is what would tell whether that was intended.
    pub fn own(kind: Kind, device: Option<Device>, ask: &str) -> Self {
        Self {
            kind,
            device,
            intended: None,
            source: ask.to_owned(),
            by_default: false,
            bound: None,
        }
    }

    /// That what is judged is under a limit that its caller is under.
    pub fn of_caller(bound: &Bound) -> Self {
        Self {
            bound: Some(bound.clone()),
            ..Self::own(bound.kind, bound.device, "")
        }
    }

    /// Whether it is about the very cgroup that has the caller's limit, with all that is in it beside.
    pub fn is_where_the_caller_is(&self, chain: &Chain) -> bool {
        let cgroup = self.bound.as_ref().map(|bound| &*bound.link.cgroup);
        let own = chain.own.as_ref().ok().map(|own| &*own.cgroup);
        cgroup.is_some() && cgroup == own
    }

    /// What the files are to hold; `None` where nobody says, or this version has no such limit.
    pub fn held(&self, version: Version) -> Option<Expected> {
        Expected::of(self.kind, version, self.intended.as_ref()?, page_size())
    }

    /// What was intended, with its unit.
    pub fn intended(&self) -> Option<Quantity> {
        Some(Quantity::of_value(self.kind, self.intended.as_ref()?))
    }
}

//! A claim: a limit, its intended value, and who intended it.

use agent_host::system::page_size;
use agent_limits::limit::Expected;
use agent_limits::limit::chain::Chain;
use agent_model::hierarchy::Version;
use agent_model::limit::{Bound, Device, Kind, Quantity, Value};

/// A limit that must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitClaim {
    /// The kind of the limit.
    pub kind: Kind,
    /// The block device of a rate; `None` for other limits.
    pub device: Option<Device>,
    /// The intended value. `None` means that no source reports one; then the effective limit is compared with the value
    /// in the cgroup's own file.
    pub intended: Option<Value>,
    /// The source of the intended value: `--memory`, `docker`, `--expect`. Where no source reports one, a hint at what
    /// would.
    pub source: String,
    /// Whether the limit follows from another one, and was not requested itself.
    pub by_default: bool,
    /// The limit of the caller that must bind the subject too; `None` for other claims.
    pub bound: Option<Bound>,
}

impl LimitClaim {
    /// Makes the claim that `source` intended a value.
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

    /// Makes the claim that a cgroup's own limit is the effective one. `ask` is a hint at what would report the
    /// intended value.
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

    /// Makes the claim that a limit of the caller binds the subject too.
    pub fn of_caller(bound: &Bound) -> Self {
        Self {
            bound: Some(bound.clone()),
            ..Self::own(bound.kind, bound.device, "")
        }
    }

    /// Tells whether the subject's cgroup is the one that has the caller's limit. Other processes than the subject's
    /// may be in that cgroup.
    pub fn is_where_the_caller_is(&self, chain: &Chain) -> bool {
        let cgroup = self.bound.as_ref().map(|bound| &*bound.link.cgroup);
        let own = chain.own.as_ref().ok().map(|own| &*own.cgroup);
        cgroup.is_some() && cgroup == own
    }

    /// Returns what the files should hold; `None` where no source reports it, or this cgroup version has no such limit.
    pub fn held(&self, version: Version) -> Option<Expected> {
        Expected::of(self.kind, version, self.intended.as_ref()?, page_size())
    }

    /// Returns the intended value, with its unit.
    pub fn intended(&self) -> Option<Quantity> {
        Some(Quantity::of_value(self.kind, self.intended.as_ref()?))
    }
}

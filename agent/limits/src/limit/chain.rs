//! A limit of a cgroup and of its ancestors, the effective limit, and how that differs from the intended value.

use std::fmt;
use std::path::PathBuf;

use agent_host::cgroup_files::files_of;
use agent_model::hierarchy::Version;
use agent_model::limit::{Device, Held, Kind, Limit, Link, Quantity};

use super::Expected;

/// Why a cgroup cannot have a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// No mounted hierarchy has the controller.
    NoController { controller: String },
    /// The process, or container, is in no cgroup of the hierarchy that has the controller.
    NoCgroup { controller: String },
    /// v2: the `cgroup.subtree_control` of an ancestor does not enable the controller.
    NotEnabled {
        controller: String,
        file: PathBuf,
        /// What the user can do to enable the controller there.
        advice: String,
    },
    /// This cgroup version, or this kernel, does not have the file.
    NoFile { file: String },
}

/// One kind of limit, as a cgroup and its ancestors have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub kind: Kind,
    pub version: Version,
    /// The block device of a rate; `None` for the other kinds.
    pub device: Option<Device>,
    /// The cgroup's own limit, or why it cannot have one.
    pub own: Result<Link, Missing>,
    /// The limits of the ancestors, as far as they bind the cgroup too; the nearest ancestor first.
    pub above: Vec<Link>,
}

/// How the effective limit differs from the intended one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drift {
    /// The cgroup cannot have the limit.
    Missing(Missing),
    /// The cgroup's own file does not hold the intended value.
    Written,
    /// The cgroup's own limit is not the effective one: this limit of an ancestor is tighter.
    Shadowed(Link),
}

impl Drift {
    /// Every value that [`Drift::name`] returns.
    pub const NAMES: [&'static str; 3] = ["missing", "written", "shadowed"];

    /// Returns the drift as one word, for labels of metrics and for JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Missing(_) => "missing",
            Self::Written => "written",
            Self::Shadowed(_) => "shadowed",
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoController { controller } => {
                write!(f, "no mounted hierarchy has the controller {controller}")
            }
            Self::NoCgroup { controller } => {
                write!(
                    f,
                    "it is in no cgroup of the hierarchy that has {controller}"
                )
            }
            Self::NotEnabled {
                controller, file, ..
            } => {
                let file = file.display();
                write!(
                    f,
                    "{file} does not enable the {controller} controller for it"
                )
            }
            Self::NoFile { file } => write!(f, "this kernel has no {file} there"),
        }
    }
}

impl Chain {
    /// Returns a value of this limit, with its unit.
    pub fn quantity(&self, held: &Held) -> Quantity {
        Quantity::of_held(self.kind, self.version, held)
    }

    /// Returns the effective limit, with the cgroup that has it; the nearest one if several have the same limit. `None`
    /// means that neither the cgroup nor an ancestor has a limit.
    pub fn effective(&self) -> Option<Link> {
        let all = self.own.iter().chain(&self.above);
        all.filter(|link| !link.held.is_none())
            .cloned()
            .reduce(|tightest, link| {
                let held = tightest.held.clone().tighter(link.held.clone());
                if held == tightest.held {
                    tightest
                } else {
                    Link { held, ..link }
                }
            })
    }

    /// Tells whether a limit is set in the cgroup itself. A memory reservation of 0, which is the default of v2, does
    /// not count.
    pub fn has_own(&self) -> bool {
        let nothing = Held::Amount(Limit::Value(0));
        let unprotected = (self.kind == Kind::MemoryReservation).then_some(nothing);
        let own = self.own.as_ref();
        own.is_ok_and(|own| !own.held.is_none() && Some(&own.held) != unprotected.as_ref())
    }

    /// Returns the paths of the files that hold the cgroup's own limit.
    pub fn own_files(&self) -> impl Iterator<Item = PathBuf> {
        self.own.iter().flat_map(|own| {
            let files = files_of(self.kind, self.version);
            files.map(|file| own.file.with_file_name(file.name))
        })
    }

    /// Tells whether the cgroup's own limit is the same in both chains.
    pub fn has_same_own(&self, other: &Self) -> bool {
        match (&self.own, &other.own) {
            (Ok(own), Ok(other)) => own.held.is_same(&other.held),
            (own, other) => own.is_err() == other.is_err(),
        }
    }

    /// Tells whether both the effective limit and the cgroup's own limit are the same in both chains.
    pub fn is_same(&self, other: &Self) -> bool {
        let effective = match (self.effective(), other.effective()) {
            (Some(one), Some(other)) => one.held.is_same(&other.held),
            (one, other) => one.is_none() == other.is_none(),
        };
        effective && self.has_same_own(other)
    }

    /// Returns how the effective limit differs from the intended one; `None` means that it does not differ.
    ///
    /// `intended` is the value that the cgroup's own file should hold. If it is `None`, the effective limit is compared
    /// with the value that the own file does hold.
    pub fn drift(&self, intended: Option<&Expected>) -> Option<Drift> {
        let own = match &self.own {
            Ok(own) => own,
            Err(missing) => {
                let wanted = intended.is_some_and(|it| !it.held.is_none());
                return wanted.then(|| Drift::Missing(missing.clone()));
            }
        };
        if intended.is_some_and(|intended| !intended.allows(&own.held)) {
            return Some(Drift::Written);
        }
        let effective = self.effective()?;
        // An ancestor can shadow a limit only if the cgroup has one of its own.
        let shadowed = !own.held.is_none() && !effective.held.is_same(&own.held);
        shadowed.then_some(Drift::Shadowed(effective))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(limit: u64) -> Held {
        Held::Amount(Limit::Value(limit))
    }

    const NONE: Held = Held::Amount(Limit::Max);

    fn link(cgroup: &str, held: Held) -> Link {
        Link {
            cgroup: cgroup.to_owned(),
            file: PathBuf::new(),
            text: held.to_string(),
            held,
        }
    }

    fn chain(own: Held, above: [Held; 2]) -> Chain {
        let [parent, root] = above;
        Chain {
            kind: Kind::Memory,
            version: Version::V2,
            device: None,
            own: Ok(link("/a/b", own)),
            above: vec![link("/a", parent), link("/", root)],
        }
    }

    #[test]
    fn the_tightest_holds_and_of_equals_the_nearest() {
        for (own, above, wanted) in [
            (amount(5), [amount(7), NONE], Some(("/a/b", 5))),
            (amount(5), [amount(3), amount(4)], Some(("/a", 3))),
            (amount(5), [amount(5), amount(5)], Some(("/a/b", 5))),
            (NONE, [NONE, amount(4)], Some(("/", 4))),
            (NONE, [NONE, NONE], None),
        ] {
            let effective = chain(own, above).effective();
            let wanted = wanted.map(|(cgroup, held)| link(cgroup, amount(held)));
            let place = |link: Option<Link>| link.map(|it| (it.cgroup, it.held));
            assert_eq!(place(effective), place(wanted));
        }
    }

    #[test]
    fn drift_is_told_by_where_it_begins() {
        let held = Expected::from(amount(5));
        assert_eq!(chain(amount(5), [NONE, NONE]).drift(Some(&held)), None);
        assert_eq!(chain(NONE, [NONE, amount(9)]).drift(None), None);
        let written = chain(amount(6), [amount(1), NONE]).drift(Some(&held));
        assert_eq!(written, Some(Drift::Written));
        let shadowed = chain(amount(5), [NONE, amount(4)]);
        for intended in [None, Some(&held)] {
            let Some(Drift::Shadowed(link)) = shadowed.drift(intended) else {
                panic!("{intended:?}");
            };
            assert_eq!((&*link.cgroup, link.held), ("/", amount(4)));
        }
        let missing = Missing::NoFile {
            file: "memory.max".to_owned(),
        };
        let gone = Chain {
            own: Err(missing.clone()),
            ..chain(NONE, [NONE, NONE])
        };
        assert_eq!(
            gone.drift(Some(&held)),
            Some(Drift::Missing(missing.clone()))
        );
        assert_eq!(gone.drift(None), None);
        let all = [
            Some(Drift::Missing(missing.clone())),
            written,
            shadowed.drift(None),
        ];
        let names = all.map(|drift| drift.unwrap().name());
        assert_eq!(names, Drift::NAMES);
        assert_eq!(gone.drift(Some(&NONE.into())), None);
    }

    #[test]
    fn no_limit_and_no_protection_are_none_of_ones_own() {
        let of = |kind, own| Chain {
            kind,
            ..chain(own, [NONE, NONE])
        };
        for (kind, own, wanted) in [
            (Kind::Memory, amount(5), true),
            (Kind::Memory, NONE, false),
            (Kind::MemorySwap, amount(0), true),
            (Kind::MemoryReservation, amount(0), false),
            (Kind::MemoryReservation, amount(5), true),
        ] {
            assert_eq!(of(kind, own.clone()).has_own(), wanted, "{kind:?} {own:?}");
        }
        let none = Chain {
            own: Err(Missing::NoFile {
                file: "memory.low".to_owned(),
            }),
            ..of(Kind::MemoryReservation, NONE)
        };
        assert!(!none.has_own());
    }
}

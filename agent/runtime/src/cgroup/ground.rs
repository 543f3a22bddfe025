//! Where a caller's containers go: at or below the caller's own cgroup, so that they stay under the limits that the caller
//! is under. root's go to `/agent`, as those of an engine do.

use std::collections::BTreeMap;
use std::path::Path;

use agent_host::control::Control;
use agent_host::faults::{Guard, guarded};
use agent_host::hierarchy::{Hierarchies, Mounted};
use agent_host::launch;
use agent_host::membership::Membership;
use agent_limits::limits::bounds;
use agent_model::hierarchy::Version;
use agent_model::limit::Bounds;

use super::place::{AGENT, Place};
use super::scope::Scope;
use super::{Error, leaf, names};
use crate::cgroup::enable;

/// The cgroups below which a caller's containers are, one in each hierarchy that has one. It holds no descriptor: a
/// detached supervisor closes all that it has from its caller.
#[derive(Clone, Debug)]
pub struct Ground {
    /// The hierarchies of the host.
    pub hierarchies: Hierarchies,
    /// Empty where nothing is delegated to an ordinary user.
    bases: Vec<Base>,
    /// Whether the caller is an ordinary user.
    user: bool,
    /// The path in v2 of the cgroup that this process moved itself to, to be alone there.
    leaf: Option<String>,
    /// Why there is no base, or none of v2.
    why: Option<String>,
    /// Whether a cgroup is delegated to the caller, and others are in it.
    crowded: bool,
    /// The limits that the caller is under, and its containers are to be; `None` where they go where root, or
    /// `--cgroup-parent`, says.
    bounds: Option<Bounds>,
}

/// A cgroup that is there.
#[derive(Clone, Debug)]
struct Base {
    /// The hierarchy's id.
    hierarchy: u32,
    path: String,
    /// It is the caller's to do with as they please; else the root of the hierarchy.
    delegated: bool,
    /// As of [`Place`].
    populated: bool,
}

impl Ground {
    /// Finds it for containers whose cgroups are to be at `paths`, as `/agent/NAME`; `limited` is the name of a limit that
    /// one of them is to have. Where a caller is alone in a cgroup of v2, it moves itself to one below: the kernel gives controllers only
    /// to those below a cgroup without processes. To be called by a process of one thread, before it enters a user
    /// namespace and before it makes others that supervise.
    ///
    /// # Errors
    /// There is no place for a cgroup that the order needs.
    pub fn settle(
        hierarchies: Hierarchies,
        paths: &[String],
        limited: Option<String>,
    ) -> Result<Self, Error> {
        let mut ground = Self {
            user: is_user(),
            hierarchies,
            bases: Vec::new(),
            leaf: None,
            why: None,
            crowded: false,
            bounds: None,
        };
        if !ground.user {
            let all = ground.hierarchies.all().iter();
            ground.bases = all.map(Base::root).collect();
        } else if paths.iter().all(|path| is_usual(path)) {
            ground.settle_below_own(limited.is_some())?;
        } else {
            ground.settle_at(paths)?;
        }
        match limited {
            Some(name) if ground.bases.is_empty() => {
                let why = ground.why().to_owned();
                let subgroup = if ground.crowded { SUBGROUP } else { "" };
                Err(Error::NotDelegated {
                    name,
                    why,
                    subgroup,
                })
            }
            _ => Ok(ground),
        }
    }

    /// What an ordinary user should know of where their cgroups are.
    pub fn note(&self) -> Option<String> {
        if !self.user {
            return None;
        }
        let Some(base) = self.bases.last() else {
            let why = self.why.as_deref().unwrap_or(NOT_DELEGATED);
            return Some(format!("rootless, without limits: {why}"));
        };
        base.delegated.then(|| {
            let path = &base.path;
            format!("rootless, limits hold in the delegated cgroup {path}")
        })
    }

    /// Why there is no cgroup.
    pub fn why(&self) -> &str {
        self.why.as_deref().unwrap_or(NOT_DELEGATED)
    }

    /// The path in v2 of the cgroup in which this process is by itself.
    pub fn leaf(&self) -> Option<&str> {
        self.leaf.as_deref()
    }

    /// The limits that the caller is under, where its containers are to be under them too.
    pub fn bounds(&self) -> Option<&Bounds> {
        self.bounds.as_ref()
    }

    /// The cgroups of a container's first process when its command runs: it is born in its own of v2, joins those of v1
    /// that are at `path` below the bases, and stays where it is in the others.
    pub fn joined(&self, born: &Membership, path: &str) -> Membership {
        let joined = born.paths().map(|(id, found)| {
            let mut bases = self.bases.iter().filter(|base| base.hierarchy == id);
            let v1 = self.hierarchies.by_id(id);
            let v1 = v1.is_some_and(|mounted| mounted.version == Version::V1);
            let base = bases.next().filter(|_| v1);
            let own = base.map(|base| format!("{}{path}", base.path.trim_end_matches('/')));
            (id, own.unwrap_or_else(|| found.to_owned()))
        });
        joined.collect()
    }

    /// The path of a container's cgroup in each hierarchy, by the hierarchy's controllers.
    pub fn cgroups(&self, path: &str) -> BTreeMap<String, String> {
        let bases = self.bases.iter().filter_map(|base| {
            let mounted = self.hierarchies.by_id(base.hierarchy)?;
            let above = base.path.trim_end_matches('/');
            Some((tag(mounted), format!("{above}{path}")))
        });
        bases.collect()
    }

    /// The bases, to make cgroups below them.
    pub(super) fn places(&self) -> Result<Vec<Place>, Error> {
        let mut places = Vec::new();
        for base in &self.bases {
            if let Some(mounted) = self.hierarchies.by_id(base.hierarchy)
                && let Some(directory) = self.hierarchies.directory(mounted, &base.path)
            {
                let place = Place::at(mounted, &base.path, &directory.path)?;
                places.push(Place {
                    user: self.user,
                    delegated: base.delegated,
                    populated: base.populated,
                    ..place
                });
            }
        }
        Ok(places)
    }

    /// Undoes what [`Ground::settle`] did, where nobody else needs it. To be called when a container is removed, or the
    /// caller gives up.
    pub fn leave(&self) {
        if let Some(leaf) = &self.leaf {
            leaf::leave(&self.hierarchies, leaf);
        }
    }

    /// Below the caller's own cgroup.
    fn settle_below_own(&mut self, limited: bool) -> Result<(), Error> {
        let own = Membership::own(self.hierarchies.root())?;
        let bounds = self.bounds.insert(bounds(&self.hierarchies, &own)).clone();
        let mut v2 = None;
        for mounted in self.hierarchies.all() {
            let Some(path) = own.path(mounted) else {
                continue;
            };
            let path = if guarded(Guard::Placement) {
                path
            } else {
                path.rsplit_once('/').map_or("/", |(above, _)| above)
            };
            if mounted.version == Version::V2 {
                v2 = Some((mounted.clone(), path.to_owned()));
            } else if is_delegated(&self.hierarchies, mounted, path) {
                self.bases.push(Base::delegated(mounted, path));
            }
        }
        match v2 {
            Some((mounted, path)) => self.settle_v2(&mounted, &path, &bounds, limited),
            None => Ok(()),
        }
    }

    fn settle_v2(
        &mut self,
        mounted: &Mounted,
        own: &str,
        bounds: &Bounds,
        limited: bool,
    ) -> Result<(), Error> {
        if let Some(control) = delegated(&self.hierarchies, mounted, own) {
            if !enable::is_useful(&control) {
                self.bases.push(Base::delegated(mounted, own));
                return Ok(());
            }
            let others = leaf::others(&control).map_err(Error::io(&control.path))?;
            if others.is_empty() {
                self.leaf = Some(leaf::enter(&control, own)?);
            }
            if others.is_empty() || !limited {
                self.bases.push(Base {
                    populated: !others.is_empty(),
                    ..Base::delegated(mounted, own)
                });
                return Ok(());
            }
            let count = others.len() + 1;
            self.crowded = true;
            self.why = Some(format!(
                "{count} processes are in the delegated cgroup {own}, and the kernel gives controllers only to those \
                 below a cgroup without processes"
            ));
        }
        match Scope::ask(&self.hierarchies, mounted, bounds) {
            Ok(scope) => {
                let Some(control) = delegated(&self.hierarchies, mounted, &scope.path) else {
                    return Err(Error::Scope { path: scope.path });
                };
                self.leaf = Some(leaf::enter(&control, &scope.path)?);
                self.bases.push(Base::delegated(mounted, &scope.path));
            }
            Err(refusal) => {
                let why = self.why.as_deref().unwrap_or(NOT_DELEGATED);
                self.why = Some(format!("{why}; {refusal}"));
            }
        }
        Ok(())
    }

    /// Where `--cgroup-parent` says, as far as all of it is the user's.
    fn settle_at(&mut self, paths: &[String]) -> Result<(), Error> {
        let mut all: Vec<&Mounted> = self.hierarchies.all().iter().collect();
        for path in paths {
            let names = names(path)?;
            all.retain(|mounted| is_writable_at(mounted, &names));
            if all.is_empty() {
                let path = path.clone();
                return Err(Error::NotOwned { path });
            }
        }
        self.bases = all.into_iter().map(Base::root).collect();
        Ok(())
    }
}

/// Whether the cgroup with these names below one another, or the last of those above it that is there, is this user's.
fn is_writable_at(mounted: &Mounted, names: &[&str]) -> bool {
    let mut directory = mounted.mount.clone();
    for name in names {
        let below = directory.join(name);
        if !below.is_dir() {
            break;
        }
        directory = below;
    }
    let control = Control::open(mounted.version, &directory);
    control.is_ok_and(|control| control.is_writable())
}

/// For a unit with `Delegate=`.
const SUBGROUP: &str = "; in a unit, let agent run be its only process (ExecStart=), or give the unit DelegateSubgroup=NAME \
                        (systemd.resource-control(5)) and agent run the unit's cgroup as --cgroup-parent";

const NOT_DELEGATED: &str = "no cgroup is delegated to this user";

impl Base {
    fn root(mounted: &Mounted) -> Self {
        Self {
            hierarchy: mounted.id,
            path: mounted.root.clone(),
            delegated: false,
            populated: false,
        }
    }

    fn delegated(mounted: &Mounted, path: &str) -> Self {
        Self {
            hierarchy: mounted.id,
            path: path.to_owned(),
            delegated: true,
            populated: false,
        }
    }
}

/// Whether this process is an ordinary user's, or has root's number in a user namespace only.
pub(super) fn is_user() -> bool {
    !rustix::process::geteuid().is_root() || launch::is_in_user_namespace()
}

/// Whether it is where containers are unless `--cgroup-parent` says otherwise.
fn is_usual(path: &str) -> bool {
    Path::new(path).parent() == Some(&Path::new("/").join(AGENT))
}

/// What a hierarchy is called: its controllers, or its name; v2 has neither.
pub fn tag(mounted: &Mounted) -> String {
    match (&mounted.name, mounted.version) {
        (_, Version::V2) => String::new(),
        (Some(name), Version::V1) if mounted.controllers.is_empty() => format!("name={name}"),
        (_, Version::V1) => mounted.controllers.join(","),
    }
}

/// The cgroup at `path`, where it is this user's to do with as they please.
fn delegated(hierarchies: &Hierarchies, mounted: &Mounted, path: &str) -> Option<Control> {
    let directory = hierarchies.directory(mounted, path)?.path;
    let control = Control::open(mounted.version, &directory).ok()?;
    control.is_writable().then_some(control)
}

fn is_delegated(hierarchies: &Hierarchies, mounted: &Mounted, path: &str) -> bool {
    delegated(hierarchies, mounted, path).is_some()
}

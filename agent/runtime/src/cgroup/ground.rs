//! Decides where the cgroups of a caller's containers are made. The containers of an ordinary user go below the
//! caller's own cgroup, or into a scope, so that the caller's limits bind them too. The containers of root go to
//! `/agent`, like those of an engine.

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

/// The bases: the cgroups below which a caller's containers are made, at most one in each hierarchy. This type holds no
/// descriptor, because a detached supervisor closes all descriptors that it inherits.
#[derive(Clone, Debug)]
pub struct Ground {
    /// The hierarchies of the host.
    pub hierarchies: Hierarchies,
    /// Empty where nothing is delegated to an ordinary user.
    bases: Vec<Base>,
    /// Whether the caller is an ordinary user.
    user: bool,
    /// The path in v2 of the cgroup into which this process moved itself, so that the base has no processes.
    leaf: Option<String>,
    /// Why there is no base, or none in v2.
    why: Option<String>,
    /// Whether a cgroup is delegated to the caller, but has other processes too.
    crowded: bool,
    /// The limits that bind the caller and must bind its containers. `None` where the caller is root, or
    /// `--cgroup-parent` says where the containers go.
    bounds: Option<Bounds>,
}

/// An existing cgroup, below which containers' cgroups are made.
#[derive(Clone, Debug)]
struct Base {
    /// The hierarchy's id.
    hierarchy: u32,
    path: String,
    /// Whether the cgroup is delegated to the caller. Otherwise it is the root of the hierarchy.
    delegated: bool,
    /// Whether the cgroup has processes of its own, as in [`Place`].
    populated: bool,
}

impl Ground {
    /// Finds the bases for containers whose cgroups are to be at `paths`, as in `/agent/NAME`. `limited` is the name of
    /// a limit that one of the containers is to have. Where a caller is alone in a cgroup of v2, it moves itself to a
    /// cgroup below. The kernel gives controllers only to cgroups below one without processes.
    ///
    /// A process with one thread calls this, before it enters a user namespace and before it forks supervisors.
    ///
    /// # Errors
    /// A container is to have a limit, and no cgroup is delegated to the user; or `--cgroup-parent` is not below a
    /// delegated cgroup.
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

    /// Returns a note for an ordinary user about the place of the containers' cgroups.
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

    /// Returns why there is no base.
    pub fn why(&self) -> &str {
        self.why.as_deref().unwrap_or(NOT_DELEGATED)
    }

    /// Returns the path in v2 of the cgroup into which this process moved itself.
    pub fn leaf(&self) -> Option<&str> {
        self.leaf.as_deref()
    }

    /// Returns the limits that bind the caller, where they must bind its containers too.
    pub fn bounds(&self) -> Option<&Bounds> {
        self.bounds.as_ref()
    }

    /// Returns the cgroups of a container's init process at the time when its command runs. `born` are its cgroups
    /// right after clone(2), with the container's own in v2. In v1 it joins the cgroups at `path` below the bases; in
    /// other hierarchies it stays where it is.
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

    /// Returns the path of a container's cgroup in each hierarchy, by [`tag`] of the hierarchy.
    pub fn cgroups(&self, path: &str) -> BTreeMap<String, String> {
        let bases = self.bases.iter().filter_map(|base| {
            let mounted = self.hierarchies.by_id(base.hierarchy)?;
            let above = base.path.trim_end_matches('/');
            Some((tag(mounted), format!("{above}{path}")))
        });
        bases.collect()
    }

    /// Opens the bases, to make cgroups below them.
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

    /// Undoes the move of [`Ground::settle`], unless another process needs it. The caller does this when it removes a
    /// container, or gives up.
    pub fn leave(&self) {
        if let Some(leaf) = &self.leaf {
            leaf::leave(&self.hierarchies, leaf);
        }
    }

    /// Finds the bases at the caller's own cgroup, or in a scope.
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

    /// Takes the hierarchies in which the user may write at every path that `--cgroup-parent` names.
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

/// Whether this user may write to the cgroup with these nested names, or to the nearest existing cgroup above it.
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

/// The advice for a systemd unit with `Delegate=`.
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

/// Whether this process is an ordinary user's, or is root only in a user namespace.
pub(super) fn is_user() -> bool {
    !rustix::process::geteuid().is_root() || launch::is_in_user_namespace()
}

/// Whether `path` is the default path of a container's cgroup, without `--cgroup-parent`.
fn is_usual(path: &str) -> bool {
    Path::new(path).parent() == Some(&Path::new("/").join(AGENT))
}

/// Returns the key of a hierarchy in a container's record: its controllers with commas between them, or `name=NAME`.
/// For v2 it is empty.
pub fn tag(mounted: &Mounted) -> String {
    match (&mounted.name, mounted.version) {
        (_, Version::V2) => String::new(),
        (Some(name), Version::V1) if mounted.controllers.is_empty() => format!("name={name}"),
        (_, Version::V1) => mounted.controllers.join(","),
    }
}

/// Opens the cgroup at `path`, if it is delegated to this user.
fn delegated(hierarchies: &Hierarchies, mounted: &Mounted, path: &str) -> Option<Control> {
    let directory = hierarchies.directory(mounted, path)?.path;
    let control = Control::open(mounted.version, &directory).ok()?;
    control.is_writable().then_some(control)
}

fn is_delegated(hierarchies: &Hierarchies, mounted: &Mounted, path: &str) -> bool {
    delegated(hierarchies, mounted, path).is_some()
}

//! Reads the limits that bind a cgroup, from its own files and those of its ancestors.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::PathBuf;

use agent_host::Error;
use agent_host::cgroup::Directory;
use agent_host::cgroup_files::{CgroupFile, controller_of, files_of, tightest_of};
use agent_host::hierarchy::{Hierarchies, Mounted};
use agent_host::membership::Membership;
use agent_host::path::with_parents;
use agent_model::hierarchy::Version;
use agent_model::limit::{Device, Held, Kind, Link};

use crate::limit::chain::{Chain, Missing};

mod bounds;
mod files;
pub mod passing;

pub use bounds::bounds;
use files::{ABOVE_ROOT, is_apart, link};

/// Reads the limits of a cgroup. Each call reads the files again.
#[derive(Clone, Copy, Debug)]
pub struct Limits<'a> {
    pub hierarchies: &'a Hierarchies,
    pub membership: &'a Membership,
}

/// The hierarchy that has a limit's controller, and the cgroup's path in it.
struct Seat<'a> {
    mounted: &'a Mounted,
    path: &'a str,
}

impl<'a> Limits<'a> {
    /// Reads one limit of the cgroup and of its ancestors. `device` is the block device of a rate.
    ///
    /// # Errors
    /// A file exists and cannot be read or parsed. [`Error::Gone`] means that the cgroup does not exist any more.
    pub fn chain(&self, kind: Kind, device: Option<Device>) -> Result<Chain, Error> {
        let place = match self.place(kind) {
            Ok(place) => place,
            Err((version, missing)) => {
                return Ok(Chain {
                    kind,
                    version,
                    device,
                    own: Err(missing),
                    above: Vec::new(),
                });
            }
        };
        let version = place.mounted.version;
        let own = self.own(&place, kind, device)?;
        let above = if kind.is_inherited(version) {
            self.above(&place, kind, device)?
        } else {
            Vec::new()
        };
        let mut chain = Chain {
            kind,
            version,
            device,
            own,
            above,
        };
        let seen = chain.effective().map(|link| link.held);
        let told = self.told_by_the_kernel(&place, kind)?;
        chain
            .above
            .extend(told.filter(|told| told.is_tighter_than(seen.as_ref())));
        Ok(chain)
    }

    /// Returns each limit that the cgroup can have: every kind, and a rate once for each device that has a limit.
    pub fn all(&self) -> Vec<(Kind, Option<Device>)> {
        let of_kind = |kind: Kind| {
            if !kind.is_rate() {
                return vec![(kind, None)];
            }
            let devices = self.devices(kind).into_iter();
            devices.map(|device| (kind, Some(device))).collect()
        };
        Kind::ALL.into_iter().flat_map(of_kind).collect()
    }

    /// Returns the devices with a row in the files of a rate, of the cgroup or of an ancestor that binds it. This skips
    /// a file that cannot be read; [`Self::chain`] reports the error.
    fn devices(&self, kind: Kind) -> BTreeSet<Device> {
        let found = self.device_rows(kind).into_iter().flatten().flatten();
        found.collect()
    }

    /// Returns the same devices as [`Self::devices`], but does not skip a file that cannot be read.
    ///
    /// # Errors
    /// A file exists and cannot be read.
    fn known_devices(&self, kind: Kind) -> Result<BTreeSet<Device>, Error> {
        let rows: Result<Vec<_>, Error> = self.device_rows(kind).into_iter().collect();
        Ok(rows?.into_iter().flatten().collect())
    }

    /// Returns the devices that each file of `kind` has rows for, in the cgroup and in the ancestors that bind it.
    fn device_rows(&self, kind: Kind) -> Vec<Result<Vec<Device>, Error>> {
        let Ok(place) = self.place(kind) else {
            return Vec::new();
        };
        let version = place.mounted.version;
        let bound_by = if kind.is_inherited(version) {
            usize::MAX
        } else {
            1
        };
        let directories = with_parents(place.path)
            .take(bound_by)
            .filter_map(|path| self.hierarchies.directory(place.mounted, &path));
        let of = |directory: Directory| {
            files_of(kind, version).map(move |file| match directory.text(file.name) {
                Ok(text) => Ok(file.devices(text.as_bytes())),
                Err(Error::Gone { .. }) => Ok(Vec::new()),
                Err(error) => Err(error),
            })
        };
        directories.flat_map(of).collect()
    }

    /// Returns the cgroup's directory in the hierarchy that has the controller of `kind`. `None` means that no mounted
    /// hierarchy has the controller, that the membership has no path there, or that the mount does not show the path.
    pub fn directory(&self, kind: Kind) -> Option<Directory> {
        let place = self.place(kind).ok()?;
        self.hierarchies.directory(place.mounted, place.path)
    }

    fn place(&self, kind: Kind) -> Result<Seat<'a>, (Version, Missing)> {
        let of = |version| {
            let found = self.hierarchies.of_controller(controller_of(kind, version));
            found.filter(|mounted| mounted.version == version)
        };
        let name = |version| controller_of(kind, version).to_owned();
        let Some(mounted) = of(Version::V1).or_else(|| of(Version::V2)) else {
            let controller = name(Version::V2);
            return Err((Version::V2, Missing::NoController { controller }));
        };
        match self.membership.path(mounted) {
            Some(path) => Ok(Seat { mounted, path }),
            None => {
                let controller = name(mounted.version);
                Err((mounted.version, Missing::NoCgroup { controller }))
            }
        }
    }

    fn own(
        &self,
        place: &Seat<'_>,
        kind: Kind,
        device: Option<Device>,
    ) -> Result<Result<Link, Missing>, Error> {
        let Some(directory) = self.hierarchies.directory(place.mounted, place.path) else {
            let controller = controller_of(kind, place.mounted.version).to_owned();
            return Ok(Err(Missing::NoCgroup { controller }));
        };
        match link(&directory, place.path, kind, device, |file| file.name)? {
            Some(link) => Ok(Ok(link)),
            None if !directory.path.is_dir() => Err(Error::Gone {
                path: directory.path,
            }),
            None => Ok(Err(self.missing(place, kind))),
        }
    }

    fn missing(&self, place: &Seat<'_>, kind: Kind) -> Missing {
        const PASSED_ON: &str = "cgroup.subtree_control";
        let controller = controller_of(kind, Version::V2);
        let without = |path: &str| -> Option<PathBuf> {
            let directory = self.hierarchies.directory(place.mounted, path)?;
            let passed = directory.text(PASSED_ON).unwrap_or_default();
            let has = passed.split_whitespace().any(|name| name == controller);
            (!has).then(|| directory.path.join(PASSED_ON))
        };
        if place.mounted.version == Version::V2
            && let Some(file) = with_parents(place.path)
                .skip(1)
                .filter_map(|path| without(&path))
                .last()
        {
            let controller = controller.to_owned();
            let advice = passing::advice(&file, &controller);
            return Missing::NotEnabled {
                controller,
                file,
                advice,
            };
        }
        let file = files_of(kind, place.mounted.version).next();
        let file = file.map_or(kind.flag(), |file| file.name);
        Missing::NoFile {
            file: file.to_owned(),
        }
    }

    /// Reads the same limit of the ancestors, as far as it binds the cgroup.
    fn above(
        &self,
        place: &Seat<'_>,
        kind: Kind,
        device: Option<Device>,
    ) -> Result<Vec<Link>, Error> {
        // For a set, the effective CPUs or nodes of an ancestor bind its descendants, and not the requested ones.
        let in_effect = |file: &CgroupFile| file.in_effect.unwrap_or(file.name);
        let mut links = Vec::new();
        for path in with_parents(place.path).skip(1) {
            let Some(directory) = self.hierarchies.directory(place.mounted, &path) else {
                // The root of the mount is below this ancestor, so no file shows its limit.
                break;
            };
            if is_apart(&directory, kind) {
                break;
            }
            links.extend(link(&directory, &path, kind, device, in_effect)?);
        }
        Ok(links)
    }

    /// Reads the effective limit on memory that the kernel reports on v1 (`hierarchical_memory_limit` in
    /// `memory.stat`). It includes the limits of ancestors that no mount shows. The function attributes such a limit to
    /// the nearest of these ancestors.
    fn told_by_the_kernel(&self, place: &Seat<'_>, kind: Kind) -> Result<Option<Link>, Error> {
        let Some((file, field)) = tightest_of(kind, place.mounted.version) else {
            return Ok(None);
        };
        let seen = |path: &str| self.hierarchies.directory(place.mounted, path);
        let Some(directory) = seen(place.path) else {
            return Ok(None);
        };
        let reading = match directory.reading(file) {
            Err(Error::Gone { .. }) => return Ok(None),
            reading => reading?,
        };
        let Some(limit) = reading.limit(field) else {
            return Ok(None);
        };
        let hidden = with_parents(place.path).find(|path| seen(path).is_none());
        Ok(Some(Link {
            cgroup: hidden.map_or_else(|| ABOVE_ROOT.to_owned(), Cow::into_owned),
            file: directory.path.join(file.name),
            text: limit.to_string(),
            held: Held::Amount(limit),
        }))
    }
}

#[cfg(test)]
mod tests;

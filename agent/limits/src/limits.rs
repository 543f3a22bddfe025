//! The limits that hold for a cgroup: each one's own files, and those of the cgroups above.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::PathBuf;

use agent_host::Error;
use agent_host::cgroup::Directory;
use agent_host::hierarchy::{Hierarchies, Mounted, Version};
use agent_host::membership::Membership;
use agent_host::path::with_parents;

use crate::limit::chain::{Chain, Link, Missing};
use crate::limit::{Device, File, Form, Kind, TABLE};

mod bounds;
mod files;
pub mod passing;

pub use bounds::bounds;
use files::{ABOVE_ROOT, above_files, is_apart, link};

/// Reads limits; each time anew.
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
    /// The chain of a limit; of a rate, on `device`.
    ///
    /// # Errors
    /// A file that is there cannot be read, or says what no kernel says. [`Error::Gone`] where the cgroup is.
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

    /// All limits that there can be: of a rate, one on each device that it is limited on.
    pub fn all(&self) -> Vec<(Kind, Option<Device>)> {
        let of_kind = |kind: Kind| {
            if !kind.is_rate() {
                return vec![(kind, None)];
            }
            let devices = self.devices(kind).into_iter();
            devices.map(|device| (kind, Some(device))).collect()
        };
        TABLE.iter().flat_map(|row| of_kind(row.kind)).collect()
    }

    /// The devices that a rate can be limited on: those with rows in the files of the cgroup, or of one above that
    /// binds it. What cannot be read is told where the limit is.
    fn devices(&self, kind: Kind) -> BTreeSet<Device> {
        let found = self.device_rows(kind).into_iter().flatten().flatten();
        found.collect()
    }

    /// Likewise.
    ///
    /// # Errors
    /// A file that is there cannot be read.
    fn known_devices(&self, kind: Kind) -> Result<BTreeSet<Device>, Error> {
        let rows: Result<Vec<_>, Error> = self.device_rows(kind).into_iter().collect();
        Ok(rows?.into_iter().flatten().collect())
    }

    /// The devices that each file of `kind` has rows for, of the cgroup and of those above that bind it.
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
            let files = kind.files(version).iter();
            files.map(move |file| match directory.text(file.name) {
                Ok(text) => Ok(file.form.devices(&text)),
                Err(Error::Gone { .. }) => Ok(Vec::new()),
                Err(error) => Err(error),
            })
        };
        directories.flat_map(of).collect()
    }

    /// The cgroup's directory in the hierarchy that has the controller of `kind`, where both are there.
    pub fn directory(&self, kind: Kind) -> Option<Directory> {
        let place = self.place(kind).ok()?;
        self.hierarchies.directory(place.mounted, place.path)
    }

    fn place(&self, kind: Kind) -> Result<Seat<'a>, (Version, Missing)> {
        let controller = &kind.row().controller;
        let of = |version, name| {
            let found = self.hierarchies.of_controller(name);
            found.filter(|mounted| mounted.version == version)
        };
        let v1 = of(Version::V1, controller.v1);
        let Some(mounted) = v1.or_else(|| of(Version::V2, controller.v2)) else {
            let controller = controller.v2.to_owned();
            return Err((Version::V2, Missing::NoController { controller }));
        };
        match self.membership.path(mounted) {
            Some(path) => Ok(Seat { mounted, path }),
            None => {
                let controller = controller.v2.to_owned();
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
        let files = kind.files(place.mounted.version);
        let Some(directory) = self.hierarchies.directory(place.mounted, place.path) else {
            let controller = kind.row().controller.v2.to_owned();
            return Ok(Err(Missing::NoCgroup { controller }));
        };
        match link(&directory, place.path, files, device)? {
            Some(link) => Ok(Ok(link)),
            None if !directory.path.is_dir() => Err(Error::Gone {
                path: directory.path,
            }),
            None => Ok(Err(self.missing(place, kind, files))),
        }
    }

    fn missing(&self, place: &Seat<'_>, kind: Kind, files: &[File]) -> Missing {
        const PASSED_ON: &str = "cgroup.subtree_control";
        let controller = kind.row().controller.v2;
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
        let file = files.last().map_or(kind.flag(), |file| file.name);
        Missing::NoFile {
            file: file.to_owned(),
        }
    }

    /// The same limit of the cgroups above, as far as it binds those below.
    fn above(
        &self,
        place: &Seat<'_>,
        kind: Kind,
        device: Option<Device>,
    ) -> Result<Vec<Link>, Error> {
        let files = above_files(kind, place.mounted.version);
        let mut links = Vec::new();
        for path in with_parents(place.path).skip(1) {
            let Some(directory) = self.hierarchies.directory(place.mounted, &path) else {
                // The mount shows the hierarchy from further below on.
                break;
            };
            if is_apart(&directory, kind) {
                break;
            }
            links.extend(link(&directory, &path, &files, device)?);
        }
        Ok(links)
    }

    /// v1's kernel says which limit of memory holds in the end. A limit that is out of sight is counted to the nearest
    /// cgroup that is.
    fn told_by_the_kernel(&self, place: &Seat<'_>, kind: Kind) -> Result<Option<Link>, Error> {
        let row = match (kind, place.mounted.version) {
            (Kind::Memory, Version::V1) => "hierarchical_memory_limit ",
            (Kind::MemorySwap, Version::V1) => "hierarchical_memsw_limit ",
            _ => return Ok(None),
        };
        let seen = |path: &str| self.hierarchies.directory(place.mounted, path);
        let Some(directory) = seen(place.path) else {
            return Ok(None);
        };
        let stat = match directory.text(STAT) {
            Err(Error::Gone { .. }) => return Ok(None),
            stat => stat?,
        };
        let Some(text) = stat.lines().find_map(|line| line.strip_prefix(row)) else {
            return Ok(None);
        };
        let Some(held) = Form::Bytes.read(text, None) else {
            return Err(directory.odd(STAT, text));
        };
        let hidden = with_parents(place.path).find(|path| seen(path).is_none());
        Ok(Some(Link {
            cgroup: hidden.map_or_else(|| ABOVE_ROOT.to_owned(), Cow::into_owned),
            file: directory.path.join(STAT),
            text: text.to_owned(),
            held,
        }))
    }
}

const STAT: &str = "memory.stat";

#[cfg(test)]
mod tests;

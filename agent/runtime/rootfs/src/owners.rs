//! Maps the owners of files in the container to ids on this side of its user namespace.

use std::io;

use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder, Spec};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};

/// Maps the ids of a container's users and groups to those of this process's user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnerMap {
    users: Vec<LinuxIdMapping>,
    groups: Vec<LinuxIdMapping>,
}

impl OwnerMap {
    /// Returns the map of the user namespace that a spec asks for. Without one, the ids are the same on both sides.
    pub(crate) fn of(spec: &Spec) -> Self {
        let linux = spec.linux().as_ref();
        let users = linux.and_then(|linux| linux.uid_mappings().clone());
        let groups = linux.and_then(|linux| linux.gid_mappings().clone());
        Self {
            users: users.unwrap_or_default(),
            groups: groups.unwrap_or_default(),
        }
    }

    /// Returns the map for files that this process makes. An ordinary user, who cannot give files to others, is root in
    /// the container.
    pub(crate) fn of_caller() -> Self {
        let (user, group) = (geteuid(), getegid());
        if user.is_root() {
            return Self::default();
        }
        Self {
            users: root_is(user.as_raw()),
            groups: root_is(group.as_raw()),
        }
    }

    /// Maps a user of the container.
    ///
    /// # Errors
    /// EOVERFLOW where the container has no such user.
    pub(crate) fn user(&self, inside: u32) -> io::Result<u32> {
        outside(&self.users, inside)
    }

    /// Maps a group of the container.
    ///
    /// # Errors
    /// EOVERFLOW where the container has no such group.
    pub(crate) fn group(&self, inside: u32) -> io::Result<u32> {
        outside(&self.groups, inside)
    }
}

/// Maps the container's root alone, to `id`. The builder cannot fail, because every field has a default.
fn root_is(id: u32) -> Vec<LinuxIdMapping> {
    let mapping = LinuxIdMappingBuilder::default().container_id(0_u32);
    let mapping = mapping.host_id(id).size(1_u32).build();
    mapping.into_iter().collect()
}

fn outside(mappings: &[LinuxIdMapping], inside: u32) -> io::Result<u32> {
    if mappings.is_empty() {
        return Ok(inside);
    }
    let found = mappings.iter().find_map(|mapping| {
        let index = inside.checked_sub(mapping.container_id())?;
        (index < mapping.size()).then(|| mapping.host_id().checked_add(index))?
    });
    found.ok_or_else(|| Errno::OVERFLOW.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(inside: u32, outside: u32, size: u32) -> LinuxIdMapping {
        let builder = LinuxIdMappingBuilder::default();
        let builder = builder.container_id(inside).host_id(outside).size(size);
        builder.build().unwrap()
    }

    #[test]
    fn ids_are_mapped() {
        let owners = OwnerMap {
            users: vec![mapping(0, 1000, 1), mapping(1, 100_000, 10)],
            groups: Vec::new(),
        };
        let mapped = [0, 1, 10, 11].map(|id| owners.user(id).ok());
        assert_eq!(mapped, [Some(1000), Some(100_000), Some(100_009), None]);
        assert_eq!(owners.group(7).unwrap(), 7);
        let last = [mapping(5, u32::MAX, 2)];
        assert_eq!(outside(&last, 5).unwrap(), u32::MAX);
        assert!(outside(&last, 6).is_err());
    }
}

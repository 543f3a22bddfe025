//! Prepares the mounts of the cgroup hierarchies, as the container sees them from its cgroup namespace.

use std::ffi::{CStr, CString};
use std::path::Path;

use agent_host::hierarchy::Mounted;
use agent_model::hierarchy::Version;
use agent_sys::launch::MountAttributes;
use rustix::mount::{MountAttrFlags, MountFlags};

use super::{Fresh, Hierarchy, Mount, Options, OwnCgroup, Role, What};
use crate::launch::place::{LinkPolicy, NodeKind};
use crate::launch::plan::namespaces::Namespaces;
use crate::launch::plan::{path_text, text};
use crate::launch::{Cgroups, Error};

type Settings = Vec<(CString, Option<CString>)>;

/// Returns one mount where the host has only v2, or else a directory with a mount for each hierarchy. In a container
/// that stays in the host's cgroup namespace, a new mount would show all cgroups of the host. Such a container gets a
/// bind mount of its own cgroup instead.
pub(super) fn mounts(
    mount: &oci_spec::runtime::Mount,
    namespaces: &Namespaces,
    cgroups: &Cgroups<'_>,
) -> Result<Vec<Mount>, Error> {
    let hierarchies = cgroups.hierarchies;
    let destination = mount.destination();
    let options = Options::parse(mount.options().as_deref().unwrap_or_default())?;
    let attributes = MountAttrFlags::from_bits_retain(options.attributes.set as u32);
    let cgroup =
        |place: &Path, kind, settings| one(place, kind, settings, attributes, Role::Cgroup);
    let sees_all =
        !namespaces.has(libc::CLONE_NEWCGROUP) && !namespaces.joins(libc::CLONE_NEWCGROUP);
    let own = |hierarchy: &Mounted| match cgroups.directory(hierarchy).filter(|_| sees_all) {
        None => Ok(None),
        Some(directory) => path_text(&directory).map(|directory| {
            let attributes = MountAttributes {
                propagation: libc::MS_PRIVATE,
                ..options.attributes
            };
            Some(OwnCgroup {
                directory,
                attributes,
            })
        }),
    };
    if let [only] = hierarchies.all()
        && only.version == Version::V2
    {
        let mut mount = cgroup(destination, c"cgroup2", Vec::new())?;
        if let Some(own) = own(only)? {
            mount.what = What::Cgroup(own);
        }
        return Ok(vec![mount]);
    }
    let writable = attributes - MountAttrFlags::MOUNT_ATTR_RDONLY;
    let mode = vec![(c"mode".to_owned(), Some(c"755".to_owned()))];
    let mut mounts = vec![one(
        destination,
        c"tmpfs",
        mode,
        writable,
        Role::Hierarchies,
    )?];
    for hierarchy in hierarchies.all() {
        let Some(name) = hierarchy.mount.file_name() else {
            continue;
        };
        let place = destination.join(name);
        let (kind, settings) = match hierarchy.version {
            Version::V2 => (c"cgroup2", Vec::new()),
            Version::V1 => (c"cgroup", which(hierarchy)?),
        };
        let own = own(hierarchy)?;
        let hierarchy = Hierarchy {
            name: path_text(Path::new(name))?,
            options: in_one(&settings)?,
            flags: flags(attributes),
        };
        let mut mount = Mount {
            hierarchy: Some(hierarchy),
            ..cgroup(&place, kind, settings)?
        };
        if let Some(own) = own {
            mount.what = What::Cgroup(own);
        }
        mounts.push(mount);
    }
    Ok(mounts)
}

/// Returns the mount options that select a v1 hierarchy: its controllers, or its name.
fn which(hierarchy: &Mounted) -> Result<Settings, Error> {
    let mut settings = Vec::new();
    for controller in &hierarchy.controllers {
        settings.push((text(controller)?, None));
    }
    if let Some(name) = &hierarchy.name {
        settings.push((c"none".to_owned(), None));
        settings.push((c"name".to_owned(), Some(text(name)?)));
    }
    Ok(settings)
}

/// Joins options by commas, as mount(2) takes them.
fn in_one(settings: &Settings) -> Result<CString, Error> {
    let text = |(name, value): &(CString, Option<CString>)| match value {
        None => name.to_bytes().to_vec(),
        Some(value) => [name.to_bytes(), value.to_bytes()].join(&b'='),
    };
    let all: Vec<_> = settings.iter().map(text).collect();
    self::text(all.join(&b','))
}

/// Converts attributes of a mount to the flags of mount(2).
fn flags(attributes: MountAttrFlags) -> MountFlags {
    let known = [
        (MountAttrFlags::MOUNT_ATTR_RDONLY, MountFlags::RDONLY),
        (MountAttrFlags::MOUNT_ATTR_NOSUID, MountFlags::NOSUID),
        (MountAttrFlags::MOUNT_ATTR_NODEV, MountFlags::NODEV),
        (MountAttrFlags::MOUNT_ATTR_NOEXEC, MountFlags::NOEXEC),
        (MountAttrFlags::MOUNT_ATTR_NOATIME, MountFlags::NOATIME),
        (
            MountAttrFlags::MOUNT_ATTR_STRICTATIME,
            MountFlags::STRICTATIME,
        ),
        (
            MountAttrFlags::MOUNT_ATTR_NODIRATIME,
            MountFlags::NODIRATIME,
        ),
        (
            MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW,
            MountFlags::NOSYMFOLLOW,
        ),
    ];
    let has = |(attribute, _): &&(MountAttrFlags, MountFlags)| attributes.contains(*attribute);
    let flags = known.iter().filter(has).map(|(_, flag)| *flag);
    flags.collect()
}

fn one(
    place: &Path,
    kind: &CStr,
    options: Settings,
    attributes: MountAttrFlags,
    role: Role,
) -> Result<Mount, Error> {
    Ok(Mount {
        target: path_text(place)?,
        kind: NodeKind::Directory,
        links: LinkPolicy::Refuse,
        what: What::Fresh(Fresh {
            made: None,
            kind: kind.to_owned(),
            source: kind.to_owned(),
            options,
            attributes,
            propagation: 0,
            role,
            instead: None,
        }),
        late: false,
        hierarchy: None,
    })
}

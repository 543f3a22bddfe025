//! Prepares the mounts of a container: opens their sources, and translates their options for the kernel.

mod cgroups;
mod nodes;
mod options;
mod pids;

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use agent_host::interrupts::Interrupts;
use agent_sys::launch::{MountAttributes, set_mount};
use oci_spec::runtime::Spec;
use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountFlags, OpenTreeFlags, open_tree};

pub(crate) use self::nodes::Node;
use self::nodes::nodes;
use self::options::Options;
use super::namespaces::Namespaces;
use super::{path_text, text};
use crate::launch::place::{LinkPolicy, NodeKind};
use crate::launch::{Cgroups, Error, timed_lookup};

const STEP: &str = "mount";

#[derive(Debug)]
pub(crate) struct Mounts {
    pub all: Vec<Mount>,
    pub nodes: Vec<Node>,
}

#[derive(Debug)]
pub(crate) struct Mount {
    /// The mount point: an absolute path without `..`.
    pub target: CString,
    pub kind: NodeKind,
    pub links: LinkPolicy,
    pub what: What,
    /// Whether it is mounted only once the process is in its cgroup namespace. True for a mount that shows that
    /// namespace, and for mounts at or below its mount point.
    pub late: bool,
    /// The cgroup hierarchy, where it is mounted in the directory of hierarchies ([`Role::Hierarchies`]).
    pub hierarchy: Option<Hierarchy>,
}

/// A cgroup hierarchy as mount(2) takes it. A launch on v1 may have nine of them to mount, and mount(2) needs one call
/// for each.
#[derive(Debug)]
pub(crate) struct Hierarchy {
    /// The name of its directory.
    pub name: CString,
    pub options: CString,
    pub flags: MountFlags,
}

#[derive(Debug)]
pub(crate) enum What {
    /// A new instance of a file system, made by the new process in its namespaces.
    Fresh(Fresh),
    /// A bind mount: a detached copy of a part of the host's file tree.
    Bind(OwnedFd),
    /// A bind mount of the container's cgroup in a hierarchy. The container sees nothing above that cgroup.
    Cgroup(OwnCgroup),
}

/// The directory of a cgroup in the host's file tree. In a v1 hierarchy it is certain to exist only after the step
/// `wait`.
#[derive(Debug)]
pub(crate) struct OwnCgroup {
    pub directory: CString,
    pub attributes: MountAttributes,
}

#[derive(Debug)]
pub(crate) struct Fresh {
    pub kind: CString,
    pub source: CString,
    pub options: Vec<(CString, Option<CString>)>,
    pub attributes: MountAttrFlags,
    /// `MS_SHARED`, `MS_SLAVE` and so on, or 0 where the spec asks for no propagation type.
    pub propagation: u64,
    pub role: Role,
    /// A copy of the host's mount, which is used where the kernel refuses a new instance (EPERM). The kernel does so
    /// where the user namespace does not own the namespace that the instance would show.
    pub instead: Option<OwnedFd>,
    /// The instance itself, where the launcher has made it already.
    pub made: Option<OwnedFd>,
}

/// What the new process does with a file system besides mounting it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Plain,
    /// `/proc`: kernel settings are written through it.
    Proc,
    /// `/dev`: it gets device nodes and links.
    Dev,
    /// `/dev/pts`: the container's terminal is opened there.
    Terminals,
    /// A cgroup hierarchy, which is mounted once the process is in its cgroup namespace.
    Cgroup,
    /// The directory in which cgroup hierarchies are mounted. It becomes read-only once they are.
    Hierarchies,
}

impl Mount {
    #[must_use]
    pub(crate) fn role(&self) -> Role {
        match &self.what {
            What::Fresh(fresh) => fresh.role,
            What::Bind(_) => Role::Plain,
            What::Cgroup(_) => Role::Cgroup,
        }
    }

    #[must_use]
    pub(crate) fn is_proc(&self) -> bool {
        self.role() == Role::Proc
    }
}

impl Mounts {
    pub(crate) fn new(
        spec: &Spec,
        namespaces: &Namespaces,
        cgroups: &Cgroups<'_>,
        interrupts: &mut dyn Interrupts,
    ) -> Result<Self, Error> {
        let mut all = Vec::new();
        for mount in spec.mounts().as_deref().unwrap_or_default() {
            match mount.typ().as_deref() {
                Some("cgroup" | "cgroup2") => {
                    all.extend(cgroups::mounts(mount, namespaces, cgroups)?);
                }
                _ => all.push(Mount::new(mount, namespaces, interrupts)?),
            }
        }
        put_off(&mut all);
        let has_dev = all.iter().any(|mount| mount.role() == Role::Dev);
        let nodes = match has_dev {
            true => nodes(spec.linux().as_ref(), namespaces)?,
            false => nodes::none(spec.linux().as_ref())?,
        };
        Ok(Self { all, nodes })
    }

    /// Tells whether a late mount is at, above or below a path.
    #[must_use]
    pub(crate) fn is_late(&self, path: &Path) -> bool {
        let mut late = self.all.iter().filter(|mount| mount.late);
        late.any(|mount| {
            let target = mount.target_path();
            path.starts_with(target) || target.starts_with(path)
        })
    }
}

/// Marks mounts that show the cgroup namespace as late, and later mounts at or below their mount points. The order
/// among late mounts stays the same.
fn put_off(mounts: &mut [Mount]) {
    let mut late: Vec<PathBuf> = Vec::new();
    for mount in mounts {
        let target = mount.target_path();
        if mount.role() == Role::Cgroup || late.iter().any(|late| target.starts_with(late)) {
            late.push(target.to_owned());
            mount.late = true;
        }
    }
}

impl Mount {
    fn target_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.target.to_bytes()))
    }

    fn new(
        mount: &oci_spec::runtime::Mount,
        namespaces: &Namespaces,
        interrupts: &mut dyn Interrupts,
    ) -> Result<Self, Error> {
        let destination = mount.destination();
        let absolute = destination.is_absolute();
        if !absolute
            || destination
                .components()
                .any(|part| part == Component::ParentDir)
        {
            let destination = destination.display();
            return Err(Error::invalid(format!(
                "mount at {destination}: wanted an absolute path without `..`"
            )));
        }
        let options = Options::parse(mount.options().as_deref().unwrap_or_default())?;
        let kind = mount.typ().as_deref().unwrap_or("none");
        let (what, kind) = if options.bind || kind == "bind" {
            bind(mount, &options, interrupts)?
        } else {
            let fresh = fresh(mount, kind, options, namespaces, interrupts)?;
            (What::Fresh(fresh), NodeKind::Directory)
        };
        // The kernel's file systems must be at the paths where programs look for them, so no link of the root may lead
        // elsewhere.
        let links = match &what {
            What::Fresh(Fresh {
                role: Role::Plain, ..
            })
            | What::Bind(_)
            | What::Cgroup(_)
                if !is_kernels(destination) =>
            {
                LinkPolicy::Follow
            }
            _ => LinkPolicy::Refuse,
        };
        Ok(Self {
            target: path_text(destination)?,
            kind,
            links,
            what,
            late: false,
            hierarchy: None,
        })
    }
}

fn is_kernels(path: &Path) -> bool {
    ["/proc", "/sys", "/dev"]
        .iter()
        .any(|tree| path.starts_with(tree))
}

fn bind(
    mount: &oci_spec::runtime::Mount,
    options: &Options,
    interrupts: &mut dyn Interrupts,
) -> Result<(What, NodeKind), Error> {
    let destination = mount.destination().display();
    let Some(source) = mount.source() else {
        return Err(Error::invalid(format!(
            "mount at {destination}: a bind mount needs a source"
        )));
    };
    if let Some(other) = options.data.first() {
        let other = other.0.to_string_lossy();
        return Err(Error::invalid(format!(
            "mount at {destination}: {other:?}: no option of a bind mount"
        )));
    }
    let subject = || source.display().to_string();
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if options.recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let cut_out = || open_tree(CWD, source.as_path(), flags);
    let tree = match timed_lookup::is_at_hand(source) {
        true => cut_out(),
        false => timed_lookup::open(&mut timed_lookup::wait_for(interrupts, source), cut_out)?,
    };
    let tree = tree.map_err(|errno| Error::step(STEP, subject(), errno))?;
    let attributes = MountAttributes {
        propagation: options.propagation.unwrap_or(libc::MS_PRIVATE),
        ..options.attributes
    };
    set_mount(tree.as_fd(), &attributes, true)
        .map_err(|errno| Error::step(STEP, subject(), errno))?;
    // The type of a file never changes, so the server of the file system is not asked.
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let stat = statx(&tree, c"", flags, StatxFlags::TYPE)
        .map_err(|errno| Error::step(STEP, subject(), errno))?;
    let kind = match FileType::from_raw_mode(u32::from(stat.stx_mode)) {
        FileType::Directory => NodeKind::Directory,
        _ => NodeKind::File,
    };
    Ok((What::Bind(tree), kind))
}

fn fresh(
    mount: &oci_spec::runtime::Mount,
    kind: &str,
    options: Options,
    namespaces: &Namespaces,
    interrupts: &mut dyn Interrupts,
) -> Result<Fresh, Error> {
    let source = mount.source().as_deref().unwrap_or(Path::new(kind));
    let role = match kind {
        "proc" if mount.destination() == Path::new("/proc") => Role::Proc,
        "tmpfs" if mount.destination() == Path::new("/dev") => Role::Dev,
        "devpts" => Role::Terminals,
        _ => Role::Plain,
    };
    let mut data = options.data;
    if namespaces.other_users() && !maps(&namespaces.gid_map, TTY_GROUP) {
        // The user namespace does not map the group of terminals, and the kernel would refuse the option.
        data.retain(|(name, _)| role != Role::Terminals || name.as_c_str() != c"gid");
    }
    let made = match namespaces.joined_through(libc::CLONE_NEWPID) {
        Some(join) if kind == "proc" => {
            Some(pids::proc(join, &data, options.attributes, interrupts)?)
        }
        _ => None,
    };
    Ok(Fresh {
        made,
        kind: text(kind)?,
        source: path_text(source)?,
        options: data,
        attributes: MountAttrFlags::from_bits_retain(options.attributes.set as u32),
        propagation: options.propagation.unwrap_or(0),
        role,
        instead: instead(kind, options.attributes, namespaces)?,
    })
}

const TTY_GROUP: u32 = 5;

/// Tells whether a map has an id outside for this id of the container.
fn maps(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line
            .split(' ')
            .map(|number| number.parse::<u64>().unwrap_or(0));
        let (first, _, size) = (numbers.next(), numbers.next(), numbers.next());
        let (first, size) = (first.unwrap_or(0), size.unwrap_or(0));
        (first..first + size).contains(&u64::from(id))
    })
}

/// File systems that show a namespace: the name, the type of namespace, and where the host has one mounted.
const SHOWING: [(&str, i32, &str); 3] = [
    ("proc", libc::CLONE_NEWPID, "/proc"),
    ("sysfs", libc::CLONE_NEWNET, "/sys"),
    ("mqueue", libc::CLONE_NEWIPC, "/dev/mqueue"),
];

/// Returns a copy of the host's mount for a container that may not mount a new instance. A user namespace has no right
/// over a namespace that it does not own.
fn instead(
    kind: &str,
    attributes: MountAttributes,
    namespaces: &Namespaces,
) -> Result<Option<OwnedFd>, Error> {
    let shown = SHOWING.iter().find(|(name, ..)| *name == kind);
    let Some((_, flag, path)) = shown else {
        return Ok(None);
    };
    if !namespaces.other_users()
        || namespaces.has(*flag)
        || namespaces.joins(*flag) && *flag == libc::CLONE_NEWPID
    {
        return Ok(None);
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = match open_tree(CWD, *path, flags) {
        // An ordinary user may not copy a mount without the mounts below it, because that would uncover what they hide.
        Err(Errno::INVAL) => open_tree(CWD, *path, flags | OpenTreeFlags::AT_RECURSIVE),
        done => done,
    };
    let tree = tree.map_err(|errno| Error::step(STEP, *path, errno))?;
    let attributes = MountAttributes {
        propagation: libc::MS_PRIVATE,
        ..attributes
    };
    set_mount(tree.as_fd(), &attributes, true).map_err(|errno| Error::step(STEP, *path, errno))?;
    Ok(Some(tree))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_in_a_map_or_not() {
        assert!(maps("0 100000 65536\n", 5));
        assert!(!maps("0 1000 1\n", 5));
    }
}

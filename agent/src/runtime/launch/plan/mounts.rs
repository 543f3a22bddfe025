//! Mounts of a container: sources opened, options as the kernel takes them.

mod cgroups;
mod pids;

use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Component, Path};

use oci_spec::runtime::{Linux, LinuxDevice, Spec};
use rustix::fs::{CWD, FileType, Mode, fstat};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};

use super::namespaces::Namespaces;
use super::{path_text, text};
use crate::host::hierarchy::Hierarchies;
use crate::runtime::launch::Error;
use crate::runtime::launch::place::{Kind, Links};
use crate::sys::launch::{MountAttributes, set_mount};

const STEP: &str = "mount";

#[derive(Debug)]
pub struct Mounts {
    pub all: Vec<Mount>,
    pub nodes: Vec<Node>,
}

#[derive(Debug)]
pub struct Mount {
    /// Absolute, without `..`.
    pub target: CString,
    pub kind: Kind,
    pub links: Links,
    pub what: What,
}

#[derive(Debug)]
pub enum What {
    /// A new instance of a file system, made by the new process in its namespaces.
    Fresh(Fresh),
    /// A part of the host's tree, cut out already.
    Bind(OwnedFd),
}

#[derive(Debug)]
pub struct Fresh {
    pub kind: CString,
    pub source: CString,
    pub options: Vec<(CString, Option<CString>)>,
    pub attributes: MountAttrFlags,
    /// `MS_SHARED` …; 0 where nothing is asked.
    pub propagation: u64,
    pub role: Role,
    /// What stands in where the kernel refuses (EPERM) a new instance, because the namespace that it would show is not the
    /// user namespace's.
    pub instead: Option<OwnedFd>,
    /// The instance itself, where the launcher has made it.
    pub made: Option<OwnedFd>,
}

/// What else the launcher does with a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Plain,
    /// `/proc`: kernel settings are made through it.
    Proc,
    /// `/dev`: has device nodes and links.
    Dev,
    /// `/dev/pts`: the container's terminal is from there.
    Terminals,
    /// Waits for the cgroup namespace.
    Cgroup,
    /// The directory that cgroup hierarchies are mounted in: read-only, once they are.
    Hierarchies,
}

/// A device node in `/dev`.
#[derive(Debug)]
pub struct Node {
    /// Below `/dev`.
    pub path: CString,
    pub mode: Mode,
    pub file_type: FileType,
    pub device: u64,
    pub owner: Option<(u32, u32)>,
    /// The host's, where the container's user namespace may make none.
    pub bind: Option<OwnedFd>,
}

impl Mount {
    #[must_use]
    pub fn role(&self) -> Role {
        match &self.what {
            What::Fresh(fresh) => fresh.role,
            What::Bind(_) => Role::Plain,
        }
    }

    #[must_use]
    pub fn is_proc(&self) -> bool {
        self.role() == Role::Proc
    }
}

impl Mounts {
    pub fn new(
        spec: &Spec,
        namespaces: &Namespaces,
        hierarchies: &Hierarchies,
    ) -> Result<Self, Error> {
        let mut all = Vec::new();
        for mount in spec.mounts().as_deref().unwrap_or_default() {
            match mount.typ().as_deref() {
                Some("cgroup" | "cgroup2") => all.extend(cgroups::mounts(mount, hierarchies)?),
                _ => all.push(Mount::new(mount, namespaces)?),
            }
        }
        let has_dev = all.iter().any(|mount| mount.role() == Role::Dev);
        let nodes = if has_dev {
            nodes(spec.linux().as_ref(), namespaces)?
        } else {
            Vec::new()
        };
        Ok(Self { all, nodes })
    }
}

impl Mount {
    fn new(mount: &oci_spec::runtime::Mount, namespaces: &Namespaces) -> Result<Self, Error> {
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
            bind(mount, &options)?
        } else {
            let fresh = fresh(mount, kind, options, namespaces)?;
            (What::Fresh(fresh), Kind::Directory)
        };
        // The kernel's own file systems are where they are looked for, whatever links the root has.
        let links = match &what {
            What::Fresh(Fresh {
                role: Role::Plain, ..
            })
            | What::Bind(_)
                if !is_kernels(destination) =>
            {
                Links::Follow
            }
            _ => Links::Refuse,
        };
        Ok(Self {
            target: path_text(destination)?,
            kind,
            links,
            what,
        })
    }
}

fn is_kernels(path: &Path) -> bool {
    ["/proc", "/sys", "/dev"]
        .iter()
        .any(|tree| path.starts_with(tree))
}

fn bind(mount: &oci_spec::runtime::Mount, options: &Options) -> Result<(What, Kind), Error> {
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
    let tree = open_tree(CWD, source.as_path(), flags)
        .map_err(|errno| Error::step(STEP, subject(), errno))?;
    let attributes = MountAttributes {
        propagation: options.propagation.unwrap_or(libc::MS_PRIVATE),
        ..options.attributes
    };
    set_mount(tree.as_fd(), &attributes, true)
        .map_err(|errno| Error::step(STEP, subject(), errno))?;
    let stat = fstat(&tree).map_err(|errno| Error::step(STEP, subject(), errno))?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Kind::Directory,
        _ => Kind::File,
    };
    Ok((What::Bind(tree), kind))
}

fn fresh(
    mount: &oci_spec::runtime::Mount,
    kind: &str,
    options: Options,
    namespaces: &Namespaces,
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
        // The group of terminals is not there, and the kernel would refuse it.
        data.retain(|(name, _)| role != Role::Terminals || name.as_c_str() != c"gid");
    }
    let made = match namespaces.joined_through(libc::CLONE_NEWPID) {
        Some(join) if kind == "proc" => Some(pids::proc(join, &data, options.attributes)?),
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

/// Whether an id of the container has one outside.
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

/// File systems that show a namespace, and where the host has them.
const SHOWING: [(&str, i32, &str); 3] = [
    ("proc", libc::CLONE_NEWPID, "/proc"),
    ("sysfs", libc::CLONE_NEWNET, "/sys"),
    ("mqueue", libc::CLONE_NEWIPC, "/dev/mqueue"),
];

/// A new user namespace has no right over a namespace that is not its own, so that the host's mount of it must do.
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
        // An ordinary user may not uncover what is below its mounts, and gets them too.
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

/// Options of a mount, sorted by who understands them.
#[derive(Debug, Default)]
struct Options {
    bind: bool,
    recursive: bool,
    attributes: MountAttributes,
    propagation: Option<u64>,
    /// The file system's own.
    data: Vec<(CString, Option<CString>)>,
}

/// Options that are a mount's attributes: the bits set, and those cleared. mount(8) tells them.
const ATTRIBUTES: [(&str, u64, u64); 16] = [
    ("ro", libc::MOUNT_ATTR_RDONLY, 0),
    ("rro", libc::MOUNT_ATTR_RDONLY, 0),
    ("rw", 0, libc::MOUNT_ATTR_RDONLY),
    ("nosuid", libc::MOUNT_ATTR_NOSUID, 0),
    ("suid", 0, libc::MOUNT_ATTR_NOSUID),
    ("nodev", libc::MOUNT_ATTR_NODEV, 0),
    ("dev", 0, libc::MOUNT_ATTR_NODEV),
    ("noexec", libc::MOUNT_ATTR_NOEXEC, 0),
    ("exec", 0, libc::MOUNT_ATTR_NOEXEC),
    ("noatime", libc::MOUNT_ATTR_NOATIME, libc::MOUNT_ATTR__ATIME),
    (
        "relatime",
        libc::MOUNT_ATTR_RELATIME,
        libc::MOUNT_ATTR__ATIME,
    ),
    (
        "strictatime",
        libc::MOUNT_ATTR_STRICTATIME,
        libc::MOUNT_ATTR__ATIME,
    ),
    ("nodiratime", libc::MOUNT_ATTR_NODIRATIME, 0),
    ("diratime", 0, libc::MOUNT_ATTR_NODIRATIME),
    ("nosymfollow", libc::MOUNT_ATTR_NOSYMFOLLOW, 0),
    ("defaults", 0, 0),
];

const PROPAGATIONS: [(&str, u64); 8] = [
    ("private", libc::MS_PRIVATE),
    ("rprivate", libc::MS_PRIVATE),
    ("shared", libc::MS_SHARED),
    ("rshared", libc::MS_SHARED),
    ("slave", libc::MS_SLAVE),
    ("rslave", libc::MS_SLAVE),
    ("unbindable", libc::MS_UNBINDABLE),
    ("runbindable", libc::MS_UNBINDABLE),
];

impl Options {
    fn parse(options: &[String]) -> Result<Self, Error> {
        let mut parsed = Self::default();
        for option in options {
            let option = option.as_str();
            if let Some((_, set, clear)) = ATTRIBUTES.iter().find(|(name, ..)| *name == option) {
                parsed.attributes.set = parsed.attributes.set & !clear | set;
                parsed.attributes.clear = parsed.attributes.clear & !set | clear;
            } else if let Some((_, kind)) = PROPAGATIONS.iter().find(|(name, _)| *name == option) {
                parsed.propagation = Some(*kind);
            } else if option == "bind" || option == "rbind" {
                parsed.bind = true;
                parsed.recursive = option == "rbind";
            } else {
                let (name, value) = match option.split_once('=') {
                    Some((name, value)) => (name, Some(text(value)?)),
                    None => (option, None),
                };
                parsed.data.push((text(name)?, value));
            }
        }
        Ok(parsed)
    }
}

/// What every container finds in `/dev`: name, major and minor number.
const STANDARD_NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

fn nodes(linux: Option<&Linux>, namespaces: &Namespaces) -> Result<Vec<Node>, Error> {
    let must_bind = namespaces.other_users() || namespaces.is_unprivileged();
    let mut nodes = Vec::new();
    for (name, major, minor) in STANDARD_NODES {
        nodes.push(Node {
            path: text(name)?,
            mode: Mode::from_raw_mode(0o666),
            file_type: FileType::CharacterDevice,
            device: rustix::fs::makedev(major, minor),
            owner: None,
            bind: None,
        });
    }
    let more = linux.and_then(|linux| linux.devices().as_deref());
    for device in more.unwrap_or_default() {
        let node = node(device)?;
        if !nodes.iter().any(|standard| standard.path == node.path) {
            nodes.push(node);
        }
    }
    if must_bind {
        for node in &mut nodes {
            node.bind = Some(host_node(node)?);
        }
    }
    Ok(nodes)
}

fn node(device: &LinuxDevice) -> Result<Node, Error> {
    use oci_spec::runtime::LinuxDeviceType as Type;
    let shown = device.path().display();
    let Ok(path) = device.path().strip_prefix("/dev") else {
        return Err(Error::invalid(format!("device {shown}: not below /dev")));
    };
    if path
        .components()
        .any(|part| !matches!(part, Component::Normal(_)))
    {
        return Err(Error::invalid(format!("device {shown}: has `..` in it")));
    }
    let file_type = match device.typ() {
        Type::B => FileType::BlockDevice,
        Type::C | Type::U => FileType::CharacterDevice,
        Type::P => FileType::Fifo,
        Type::A => {
            return Err(Error::invalid(format!(
                "device {shown}: wanted type b, c, u or p"
            )));
        }
    };
    let number = |number: i64| {
        u32::try_from(number)
            .map_err(|_| Error::invalid(format!("device {shown}: number {number} is out of range")))
    };
    Ok(Node {
        path: path_text(path)?,
        mode: Mode::from_raw_mode(device.file_mode().unwrap_or(0o666)),
        file_type,
        device: rustix::fs::makedev(number(device.major())?, number(device.minor())?),
        owner: device.uid().zip(device.gid()),
        bind: None,
    })
}

/// The host's node of that name, if it is that device.
fn host_node(node: &Node) -> Result<OwnedFd, Error> {
    let subject = format!("/dev/{}", node.path.to_string_lossy());
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, subject.as_str(), flags)
        .map_err(|errno| Error::step(STEP, &subject, errno))?;
    let stat = fstat(&tree).map_err(|errno| Error::step(STEP, &subject, errno))?;
    let is_it = FileType::from_raw_mode(stat.st_mode) == node.file_type
        && (node.file_type == FileType::Fifo || stat.st_rdev == node.device);
    if is_it {
        Ok(tree)
    } else {
        Err(Error::invalid(format!(
            "{subject}: the host has another device there; wanted {}:{}",
            rustix::fs::major(node.device),
            rustix::fs::minor(node.device),
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_go_to_who_understands_them() {
        let options: Vec<String> = ["nosuid", "ro", "rw", "size=64m", "newinstance", "rslave"]
            .map(str::to_owned)
            .into();
        let parsed = Options::parse(&options).unwrap();
        assert_eq!(parsed.attributes.set, libc::MOUNT_ATTR_NOSUID);
        assert_eq!(parsed.attributes.clear, libc::MOUNT_ATTR_RDONLY);
        assert_eq!(parsed.propagation, Some(libc::MS_SLAVE));
        let names: Vec<_> = parsed
            .data
            .iter()
            .map(|(name, _)| name.to_str().unwrap())
            .collect();
        assert_eq!(names, ["size", "newinstance"]);
    }

    #[test]
    fn ids_are_in_a_map_or_not() {
        assert!(maps("0 100000 65536\n", 5));
        assert!(!maps("0 1000 1\n", 5));
    }
}

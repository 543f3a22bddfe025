//! Prepares device nodes.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Component;

use oci_spec::runtime::{Linux, LinuxDevice};
use rustix::fs::{CWD, FileType, Mode, fstat};
use rustix::mount::{OpenTreeFlags, open_tree};

use super::super::namespaces::Namespaces;
use super::{STEP, path_text, text};
use crate::launch::Error;

/// A device node in `/dev`.
#[derive(Debug)]
pub(crate) struct Node {
    /// The path below `/dev`.
    pub path: CString,
    pub mode: Mode,
    pub file_type: FileType,
    pub device: u64,
    pub owner: Option<(u32, u32)>,
    /// A copy of the host's node, where the container's user namespace may not make device nodes.
    pub bind: Option<OwnedFd>,
}

/// The devices that every container has in `/dev`: name, major and minor number.
const STANDARD_NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

pub(super) fn nodes(linux: Option<&Linux>, namespaces: &Namespaces) -> Result<Vec<Node>, Error> {
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
        // The spec may give a standard device another mode or owner.
        nodes.retain(|other| other.path != node.path);
        nodes.push(node);
    }
    if must_bind {
        for node in &mut nodes {
            node.bind = Some(host_node(node)?);
        }
    }
    Ok(nodes)
}

/// Refuses devices for a container without a new `/dev`. The file system of its root may belong to somebody else, and
/// no device on it can be opened.
pub(super) fn none(linux: Option<&Linux>) -> Result<Vec<Node>, Error> {
    let wanted = linux.and_then(|linux| linux.devices().as_deref());
    match wanted.unwrap_or_default().first() {
        None => Ok(Vec::new()),
        Some(device) => Err(Error::invalid(format!(
            "device {}: there is no /dev of the container's own to make it in; mount a tmpfs at /dev",
            device.path().display()
        ))),
    }
}

fn node(device: &LinuxDevice) -> Result<Node, Error> {
    use oci_spec::runtime::LinuxDeviceType as Type;
    let shown = device.path().display();
    let Ok(path) = device.path().strip_prefix("/dev") else {
        return Err(Error::invalid(format!("device {shown}: not below /dev")));
    };
    if path.as_os_str().is_empty() {
        return Err(Error::invalid(format!(
            "device {shown}: wanted a path below /dev"
        )));
    }
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

/// Copies the host's node of the same path, and checks that it is the same device.
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

//! The names and numbers of block devices, and the device nodes of a directory.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::File;

/// Names by major and minor number, each looked up once.
pub struct Devices {
    root: PathBuf,
    names: HashMap<(u32, u32), Arc<str>>,
}

impl Devices {
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            names: HashMap::new(),
        }
    }

    /// Returns `/dev/NAME`; empty where the device is gone.
    pub fn name(&mut self, major: u32, minor: u32) -> Arc<str> {
        let name = self.names.entry((major, minor)).or_insert_with(|| {
            let path = format!("sys/dev/block/{major}:{minor}/uevent");
            let file = File::read(self.root.join(path));
            file.map_or_else(|_| "".into(), |file| device_name(&file))
        });
        Arc::clone(name)
    }
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceNode {
    /// The path below the directory in which it was found. Empty where its own path was given.
    pub below: PathBuf,
    pub is_block: bool,
    pub major: u32,
    pub minor: u32,
    /// The permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// Directories and nodes that are not searched for and not returned: a container has its own.
const OWN: [&str; 9] = [
    "pts",
    "shm",
    "mqueue",
    "fd",
    ".lxc",
    ".lxd-mounts",
    ".udev",
    "console",
    "ptmx",
];

/// The most device nodes of a directory.
const NODES_AT_MOST: usize = 4096;

/// Returns the device node that `path` leads to, or the nodes in and below that directory, in the order of their paths.
/// Directories that cannot be read are left out.
///
/// # Errors
/// Nothing is there, or more than 4096 nodes.
pub fn nodes(path: &Path) -> io::Result<Vec<DeviceNode>> {
    let found = path.metadata()?;
    if !found.is_dir() {
        return Ok(node(Path::new(""), &found).into_iter().collect());
    }
    let mut nodes = Vec::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        let entries = std::fs::read_dir(path.join(&directory));
        let entries = entries.into_iter().flatten().flatten();
        for entry in entries.filter(|entry| !OWN.iter().any(|own| entry.file_name() == *own)) {
            let below = directory.join(entry.file_name());
            match entry.metadata() {
                Ok(found) if found.is_dir() => directories.push(below),
                Ok(found) => nodes.extend(node(&below, &found)),
                // It was removed meanwhile.
                Err(_) => {}
            }
        }
        if nodes.len() > NODES_AT_MOST {
            return Err(io::Error::other(format!(
                "more than {NODES_AT_MOST} device nodes"
            )));
        }
    }
    nodes.sort_by(|a, b| a.below.cmp(&b.below));
    Ok(nodes)
}

fn node(below: &Path, found: &std::fs::Metadata) -> Option<DeviceNode> {
    let kind = found.file_type();
    let number = found.rdev();
    let node = DeviceNode {
        below: below.to_owned(),
        is_block: kind.is_block_device(),
        major: rustix::fs::major(number),
        minor: rustix::fs::minor(number),
        mode: found.mode() & 0o777,
        uid: found.uid(),
        gid: found.gid(),
    };
    (node.is_block || kind.is_char_device()).then_some(node)
}

/// Returns the major and minor number of the block device at `path`.
pub fn block_device(path: &Path) -> Option<(u32, u32)> {
    let found = path.metadata().ok()?;
    let number = found.rdev();
    let numbers = (rustix::fs::major(number), rustix::fs::minor(number));
    found.file_type().is_block_device().then_some(numbers)
}

/// Returns how many bytes were written to a block device since the kernel has it (`stat` below `/sys/dev/block`,
/// Documentation/block/stat.rst).
pub fn written(root: &Path, major: u32, minor: u32) -> Option<u64> {
    /// The bytes of a sector there, whatever the device's own sectors are.
    const SECTOR: u64 = 512;
    let file = File::read(root.join(format!("sys/dev/block/{major}:{minor}/stat"))).ok()?;
    let sectors = file
        .string()
        .ok()?
        .split_whitespace()
        .nth(6)?
        .parse::<u64>();
    sectors.ok()?.checked_mul(SECTOR)
}

/// Returns the path of the whole block device that holds the files of a directory. Returns `None` where there is no
/// single device, as with overlayfs and btrfs.
pub fn disk_below(root: &Path, directory: &Path) -> Option<String> {
    let number = directory.metadata().ok()?.dev();
    let numbers = (rustix::fs::major(number), rustix::fs::minor(number));
    let device = |path: &Path| {
        File::read(path.join("uevent"))
            .ok()
            .map(|it| device_name(&it))
    };
    let path = root.join(format!("sys/dev/block/{}:{}", numbers.0, numbers.1));
    let path = path.canonicalize().ok()?;
    let disk = match path.join("partition").exists() {
        true => path.parent()?,
        false => &path,
    };
    let name = device(disk)?;
    (!name.is_empty()).then(|| name.to_string())
}

/// Returns the name in the row `DEVNAME=NAME`; empty without that row.
fn device_name(uevent: &File) -> Arc<str> {
    let name = uevent
        .lines()
        .find_map(|line| line.strip_prefix(b"DEVNAME="));
    name.map_or_else(
        || "".into(),
        |name| format!("/dev/{}", String::from_utf8_lossy(name)).into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::tree;

    #[test]
    fn names() {
        let uevent = "MAJOR=253\nMINOR=0\nDEVNAME=vda\nDEVTYPE=disk\n";
        let root = tree(&[("sys/dev/block/253:0/uevent", uevent)]);
        let mut devices = Devices::new(root.path());
        assert_eq!(&*devices.name(253, 0), "/dev/vda");
        assert_eq!(&*devices.name(253, 1), "");
    }

    #[test]
    fn sectors_are_of_512_bytes() {
        let stat = "  11 0 88 4  5 6 2048 7 0 8 9\n";
        let root = tree(&[("sys/dev/block/7:0/stat", stat)]);
        assert_eq!(written(root.path(), 7, 0), Some(1 << 20));
        assert_eq!(written(root.path(), 7, 1), None);
    }

    #[test]
    fn nodes_of_a_path_and_of_a_directory() {
        let [null] = &nodes(Path::new("/dev/null")).unwrap()[..] else {
            panic!("one node")
        };
        assert_eq!((null.is_block, null.major, null.minor), (false, 1, 3));
        assert_eq!(null.below, Path::new(""));
        let all = nodes(Path::new("/dev")).unwrap();
        let null = all.iter().find(|it| it.below == Path::new("null"));
        assert_eq!(null.map(|it| it.minor), Some(3));
        let own = |node: &DeviceNode| node.below.starts_with("pts") || node.below.ends_with("ptmx");
        assert!(!all.iter().any(own), "{all:?}");
        let root = tree(&[("file", "")]);
        assert_eq!(nodes(&root.path().join("file")).unwrap(), []);
        assert!(nodes(&root.path().join("none")).is_err());
    }

    #[test]
    fn only_block_devices_have_numbers() {
        let root = tree(&[("file", "")]);
        for path in ["/dev/null", "/nowhere"] {
            assert_eq!(block_device(Path::new(path)), None, "{path}");
        }
        assert_eq!(block_device(&root.path().join("file")), None);
    }
}

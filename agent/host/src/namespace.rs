//! What the kernel reports about a namespace (ioctl_ns(2)), and where namespaces are mounted.

use std::fs;
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::fs::fstat;

use super::file::{File, number};
use super::mount::Mounts;
use super::{Error, path};

/// A namespace that is bind-mounted, as `ip netns add` and engines do. The mount keeps the namespace when no process is
/// in it any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// `net`, as in the names of `/proc/PID/ns`.
    pub kind: String,
    pub inode: u32,
    /// The mount point, as [`path::to_text`] writes paths.
    pub point: String,
}

/// Returns all namespaces that are mounted in the mount namespace of this process.
///
/// # Errors
/// `/proc/self/mountinfo` cannot be read.
pub fn mounted(root: &Path) -> Result<Vec<Mounted>, Error> {
    mounted_at(&root.join("proc/self/mountinfo"))
}

/// Returns the namespaces that a `mountinfo` file lists.
pub(super) fn mounted_at(mountinfo: &Path) -> Result<Vec<Mounted>, Error> {
    let mountinfo = File::read(mountinfo.to_owned())?;
    let mounts = Mounts::parse(&mountinfo)?;
    let namespaces = mounts.of_kind(b"nsfs").filter_map(|mount| {
        let (kind, inode) = parse(&mount.root)?;
        let point = path::to_text(&mount.point);
        Some(Mounted { kind, inode, point })
    });
    Ok(namespaces.collect())
}

/// Reads `net:[4026532281]`.
pub(super) fn parse(name: &[u8]) -> Option<(String, u32)> {
    let (kind, inode) = str::from_utf8(name).ok()?.split_once(":[")?;
    let inode = number(inode.strip_suffix(']')?.as_bytes())?;
    Some((kind.to_owned(), inode))
}

/// Returns the inode of the user namespace that owns the namespace `name` of a process. The owner of a user namespace
/// is its parent. Returns `None` where the process is gone or no longer in the namespace `inode`. Returns `None`, too,
/// where this process may not see the namespace or its owner.
pub fn owner(root: &Path, pid: u32, name: &str, inode: u32) -> Option<u32> {
    let namespace = fs::File::open(root.join(format!("proc/{pid}/ns/{name}"))).ok()?;
    if fstat(&namespace).ok()?.st_ino != u64::from(inode) {
        return None;
    }
    let owner = agent_sys::user_namespace_of(namespace.as_fd()).ok()?;
    u32::try_from(fstat(&owner).ok()?.st_ino).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::fixture::tree;

    #[test]
    fn mounts_hold_namespaces() {
        let mountinfo = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
95 27 0:24 / /run rw - tmpfs tmpfs rw
98 95 0:4 net:[4026532281] /run/netns/a\\040b rw shared:7 - nsfs nsfs rw
99 95 0:4 mnt:[4026532282] /run/held rw - nsfs nsfs rw
";
        let root = tree(&[("proc/self/mountinfo", mountinfo)]);
        let mounted = mounted(root.path()).unwrap();
        let all: Vec<_> = mounted
            .iter()
            .map(|it| (&*it.kind, it.inode, &*it.point))
            .collect();
        let wanted = [
            ("net", 4_026_532_281, "/run/netns/a b"),
            ("mnt", 4_026_532_282, "/run/held"),
        ];
        assert_eq!(all, wanted);
        assert_eq!(parse(b"/"), None);
        assert_eq!(parse(b"net:[x]"), None);
    }

    #[test]
    fn an_own_namespace_has_an_owner() {
        let root = Path::new("/");
        let inode = |name: &str| {
            let inode = fs::metadata(format!("/proc/self/ns/{name}")).unwrap().ino();
            u32::try_from(inode).unwrap()
        };
        let own = std::process::id();
        assert_eq!(owner(root, own, "uts", inode("uts")), Some(inode("user")));
        assert_eq!(owner(root, own, "uts", inode("ipc")), None);
        assert_eq!(owner(root, 0, "uts", inode("uts")), None);
    }
}

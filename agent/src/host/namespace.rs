//! What the kernel tells of a namespace itself (ioctl_ns(2)).

use std::{fs, os::fd::AsFd as _, path::Path};

use rustix::fs::fstat;

use crate::sys;

/// The inode of the user namespace that owns the namespace `name` of a process; of a user namespace
/// that is the one above it. `None` where it is not told: the process is gone, or in another
/// namespace than `inode` by now, or its namespaces are closed to this one, or none is above.
pub fn owner(root: &Path, pid: u32, name: &str, inode: u32) -> Option<u32> {
    let namespace = fs::File::open(root.join(format!("proc/{pid}/ns/{name}"))).ok()?;
    if fstat(&namespace).ok()?.st_ino != u64::from(inode) {
        return None;
    }
    let owner = sys::user_namespace_of(namespace.as_fd()).ok()?;
    u32::try_from(fstat(&owner).ok()?.st_ino).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

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

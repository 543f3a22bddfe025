//! Finds all cgroups of a hierarchy.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, Stat, fstat, openat, statat};
use rustix::io::Errno;

use super::hierarchy::Mounted;
use super::{Error, path};

/// The most cgroups that are visited. The kernel allows no more with the memory controller (`MEM_CGROUP_ID_MAX`,
/// `include/linux/memcontrol.h`).
pub const MAX_CGROUPS: usize = 65_536;

/// Space for the entries of most cgroups in one call: about 50 entries of 40 bytes.
const ENTRIES_BYTES: usize = 8192;

/// A cgroup of a hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dir {
    /// Its id in the hierarchy: the inode of its directory (`kernfs_node.id`).
    pub id: u64,
    /// Its path in the hierarchy, as [`path::to_text`] writes it: "/" or "/a/b".
    pub path: String,
    /// The oldest time of its directory and of its `cgroup.procs`, as the kernel keeps no birth time. It sets these
    /// times when the file is first looked up, which is right after the cgroup is made. It sets them again after it had
    /// to drop the inode, and sometimes a directory's when a cgroup is made in it.
    pub created: SystemTime,
}

/// The result of a walk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// The number of cgroups passed to `visit`.
    pub visited: usize,
    /// The number of cgroups that were seen and not visited: beyond [`MAX_CGROUPS`], or with a path longer than the
    /// kernel looks up (4,095 bytes). Cgroups below them are not counted.
    pub left_out: usize,
}

/// Visits every cgroup that `mounted` shows, level by level, so that a deep tree that somebody makes does not keep out
/// the others. A cgroup that is removed meanwhile is skipped.
///
/// # Errors
/// [`Error::Gone`] where the hierarchy is not mounted any more. [`Error::Io`] where a directory cannot be read; the
/// cgroups before it have been visited.
pub fn walk(mounted: &Mounted, visit: impl FnMut(Dir)) -> Result<Walked, Error> {
    walk_at_most(mounted, MAX_CGROUPS, visit)
}

fn walk_at_most(
    mounted: &Mounted,
    most: usize,
    mut visit: impl FnMut(Dir),
) -> Result<Walked, Error> {
    let root_path = path::to_bytes(&mounted.root);
    let root_path = root_path.strip_suffix(b"/").unwrap_or(&root_path);
    let failed = |below: &[u8], errno: Errno| {
        let path = mounted.mount.join(OsStr::from_bytes(below));
        Error::new(path, errno.into())
    };
    let root = openat(CWD, &mounted.mount, DIRECTORY, Mode::empty()).map_err(|e| failed(b"", e))?;

    let mut walked = Walked::default();
    // Paths below the mount, without a leading slash. The first is the mount itself.
    let mut waiting = VecDeque::from([Vec::new()]);
    while let Some(below) = waiting.pop_front() {
        let mut children = Vec::new();
        match read(&root, &below, &mut children) {
            Ok(found) => {
                walked.visited += 1;
                visit(Dir {
                    id: found.id,
                    path: path_in_hierarchy(root_path, &below),
                    created: found.created,
                });
            }
            Err(Errno::NAMETOOLONG) => walked.left_out += 1,
            Err(Errno::NOENT | Errno::NODEV | Errno::NOTDIR) if !below.is_empty() => {}
            Err(errno) => return Err(failed(&below, errno)),
        }
        for child in children {
            if walked.visited + waiting.len() < most {
                waiting.push_back(child);
            } else {
                walked.left_out += 1;
            }
        }
    }
    Ok(walked)
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

struct Found {
    id: u64,
    created: SystemTime,
}

/// Reads the directory at `below`, and appends the paths of its subdirectories to `children`.
fn read(root: &OwnedFd, below: &[u8], children: &mut Vec<Vec<u8>>) -> Result<Found, Errno> {
    let name = if below.is_empty() { b"." } else { below };
    let directory = openat(root, name, DIRECTORY, Mode::empty())?;
    let found = found(&directory)?;
    let mut buffer = [MaybeUninit::uninit(); ENTRIES_BYTES];
    let mut entries = RawDir::new(&directory, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if entry.file_type() == FileType::Directory && name != b"." && name != b".." {
            children.push(join(below, name));
        }
    }
    Ok(found)
}

fn found(directory: &OwnedFd) -> Result<Found, Errno> {
    let stat = fstat(directory)?;
    let procs = statat(directory.as_fd(), "cgroup.procs", AtFlags::SYMLINK_NOFOLLOW);
    let procs = procs.as_ref().map_or(SystemTime::now(), oldest_time);
    Ok(Found {
        id: stat.st_ino,
        created: oldest_time(&stat).min(procs),
    })
}

fn oldest_time(stat: &Stat) -> SystemTime {
    let time = |seconds: i64, ns: u64| {
        let whole = Duration::from_secs(seconds.try_into().unwrap_or(0));
        UNIX_EPOCH + whole + Duration::from_nanos(ns)
    };
    let modified = time(stat.st_mtime, stat.st_mtime_nsec);
    modified.min(time(stat.st_ctime, stat.st_ctime_nsec))
}

fn join(below: &[u8], name: &[u8]) -> Vec<u8> {
    match below {
        [] => name.to_vec(),
        below => [below, name].join(&b'/'),
    }
}

fn path_in_hierarchy(root: &[u8], below: &[u8]) -> String {
    match (root, below) {
        ([], []) => "/".to_owned(),
        (root, []) => path::to_text(root),
        (root, below) => path::to_text(&[root, below].join(&b'/')),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::Path;

    use agent_model::hierarchy::Version;

    use super::*;
    use crate::fixture::tree;

    fn mounted(mount: &Path, root: &str) -> Mounted {
        Mounted {
            id: 4,
            version: Version::V1,
            controllers: vec!["memory".into()],
            name: None,
            mount: mount.into(),
            root: root.into(),
        }
    }

    fn found(mounted: &Mounted, most: usize) -> (Walked, Vec<Dir>) {
        let mut found = Vec::new();
        let walked = walk_at_most(mounted, most, |dir| found.push(dir)).unwrap();
        (walked, found)
    }

    fn paths(found: &[Dir]) -> Vec<&str> {
        let mut paths: Vec<_> = found.iter().map(|dir| dir.path.as_str()).collect();
        paths.sort_unstable();
        paths
    }

    #[test]
    fn finds_every_cgroup_with_its_inode() {
        let host = tree(&[
            ("a/cgroup.procs", ""),
            ("a/b/c/", ""),
            ("d/tasks", ""),
            ("x", ""),
        ]);
        symlink("a", host.path().join("link")).unwrap();
        let (walked, found) = found(&mounted(host.path(), "/"), MAX_CGROUPS);
        assert_eq!(paths(&found), ["/", "/a", "/a/b", "/a/b/c", "/d"]);
        assert_eq!((walked.visited, walked.left_out), (5, 0));
        for dir in &found {
            let path = host.path().join(&dir.path[1..]);
            let inode = fs::symlink_metadata(path).unwrap().ino();
            assert_eq!(dir.id, inode, "{}", dir.path);
        }
    }

    #[test]
    fn created_is_the_oldest_time() {
        let host = tree(&[("a/cgroup.procs", "")]);
        let old = UNIX_EPOCH + Duration::new(1_700_000_000, 5);
        let procs = fs::File::open(host.path().join("a/cgroup.procs")).unwrap();
        procs.set_modified(old).unwrap();
        let (_, found) = found(&mounted(host.path(), "/"), MAX_CGROUPS);
        let created: BTreeMap<_, _> = found.iter().map(|d| (&*d.path, d.created)).collect();
        assert_eq!(created["/a"], old);
        let modified = fs::metadata(host.path()).unwrap().modified().unwrap();
        assert_eq!(created["/"], modified);
    }

    #[test]
    fn a_bound_leaves_out_the_deepest() {
        let host = tree(&[("a/b/c/", ""), ("d/", ""), ("e/", "")]);
        let (walked, found) = found(&mounted(host.path(), "/"), 4);
        assert_eq!(paths(&found), ["/", "/a", "/d", "/e"]);
        assert_eq!((walked.visited, walked.left_out), (4, 1));
    }

    #[test]
    fn a_path_too_long_is_left_out() {
        let host = tree(&[("z/", "")]);
        let name = "n".repeat(250);
        let mut directory = fs::File::open(host.path()).map(OwnedFd::from).unwrap();
        for _ in 0..17 {
            rustix::fs::mkdirat(&directory, &name, Mode::RWXU).unwrap();
            directory = openat(&directory, &name, DIRECTORY, Mode::empty()).unwrap();
        }
        let (walked, found) = found(&mounted(host.path(), "/"), MAX_CGROUPS);
        assert_eq!((walked.visited, walked.left_out), (18, 1));
        assert!(found.iter().any(|dir| dir.path == "/z"));
    }

    #[test]
    fn paths_are_of_the_hierarchy() {
        let host = tree(&[("a/", "")]);
        let odd = OsStr::from_bytes(b"\xffb");
        fs::create_dir(host.path().join(odd)).unwrap();
        let (_, found) = found(&mounted(host.path(), "/docker/1"), MAX_CGROUPS);
        let wanted = ["//docker/1/\\xffb", "/docker/1", "/docker/1/a"];
        assert_eq!(paths(&found), wanted);
    }

    #[test]
    fn those_removed_meanwhile_are_passed_over() {
        let host = tree(&[("a/", ""), ("b/", ""), ("c/", "")]);
        let mut seen = Vec::new();
        let walked = walk(&mounted(host.path(), "/"), |dir| {
            if dir.path == "/" {
                fs::remove_dir(host.path().join("b")).unwrap();
            }
            seen.push(dir.path);
        });
        seen.sort_unstable();
        assert_eq!(seen, ["/", "/a", "/c"]);
        assert_eq!(walked.unwrap().visited, 3);
    }

    #[test]
    fn no_mount_is_an_error() {
        let host = tree(&[("file", "")]);
        let error = walk(&mounted(&host.path().join("no"), "/"), |_| {}).unwrap_err();
        assert!(matches!(error, Error::Gone { .. }), "{error}");
        let error = walk(&mounted(&host.path().join("file"), "/"), |_| {}).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
    }
}

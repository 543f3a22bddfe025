//! Follows a path of this host, and lists each symbolic link on it. A copy of the file needs the same links.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;

/// The most symbolic links on a path, as in the kernel (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// A link or a file. The directories in its path are no symbolic links.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PathEntry {
    Link { path: PathBuf, target: PathBuf },
    File { path: PathBuf },
}

enum PathStep {
    Down(OsString),
    Up,
}

/// Returns the links that the absolute `path` leads through, and the file at its end.
///
/// # Errors
/// The path leads to nothing, or to a directory.
pub(super) fn follow(path: &Path) -> io::Result<Vec<PathEntry>> {
    let mut pieces = Vec::new();
    let mut steps: VecDeque<PathStep> = steps(path).collect();
    let mut at = PathBuf::from("/");
    let mut links = 0;
    while let Some(step) = steps.pop_front() {
        let PathStep::Down(name) = step else {
            at.pop();
            continue;
        };
        let next = at.join(name);
        let found = std::fs::symlink_metadata(&next)?;
        if found.is_dir() {
            at = next;
        } else if found.is_symlink() {
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno::LOOP.into());
            }
            let target = std::fs::read_link(&next)?;
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            for step in self::steps(&target).rev() {
                steps.push_front(step);
            }
            pieces.push(PathEntry::Link { path: next, target });
        } else if steps.is_empty() {
            pieces.push(PathEntry::File { path: next });
            return Ok(pieces);
        } else {
            return Err(Errno::NOTDIR.into());
        }
    }
    Err(Errno::ISDIR.into())
}

fn steps(path: &Path) -> impl DoubleEndedIterator<Item = PathStep> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(PathStep::Down(name.to_owned())),
        Component::ParentDir => Some(PathStep::Up),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn link(path: &Path, target: &str) -> PathEntry {
        PathEntry::Link {
            path: path.to_owned(),
            target: target.into(),
        }
    }

    #[test]
    fn every_link_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("usr/lib/deep")).unwrap();
        fs::write(root.join("usr/lib/deep/a.so.1.2"), "").unwrap();
        symlink("usr/lib", root.join("lib")).unwrap();
        symlink("deep/../deep/a.so.1.2", root.join("usr/lib/a.so.1")).unwrap();
        let found = follow(&root.join("lib/a.so.1")).unwrap();
        let wanted = [
            link(&root.join("lib"), "usr/lib"),
            link(&root.join("usr/lib/a.so.1"), "deep/../deep/a.so.1.2"),
            PathEntry::File {
                path: root.join("usr/lib/deep/a.so.1.2"),
            },
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn links_in_circles_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        symlink("a", &path).unwrap();
        let error = follow(&path).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
        assert!(follow(directory.path()).is_err());
        assert!(follow(&directory.path().join("b")).is_err());
    }
}

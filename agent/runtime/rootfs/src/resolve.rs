//! Resolves a directory in a root file system that may be hostile.
//!
//! This module follows each link inside the root, one name after the other. So it finds out the real path of the
//! directory, and the cost of the look-up.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2, readlinkat};
use rustix::io::Errno;

use super::budget::{LONGEST_PATH, MOST_NAMES};
use crate::lookup;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// The most links on one path, as in the kernel.
const MOST_LINKS: usize = 40;

/// The most names on one path, including those of all links on it.
const MOST_STEPS: u64 = 4096;

/// The place of a directory, which may not exist yet.
#[derive(Debug)]
pub(crate) struct ResolvedDirectory {
    /// The last existing directory on the path.
    pub directory: OwnedFd,
    /// The whole path, without links.
    pub real: PathBuf,
    /// The names at the end of the path that do not exist.
    pub missing: Vec<OsString>,
}

/// Resolves the directory at `path`, which has no `..`. If the path has links, or its end does not exist, names are
/// looked up one by one. Their number is added to `steps`.
///
/// # Errors
/// A file on the path is not a directory; a link on it leads to nothing (EEXIST); or all links together lead too far.
pub(crate) fn find(
    root: BorrowedFd<'_>,
    path: &Path,
    steps: &mut u64,
) -> io::Result<ResolvedDirectory> {
    let is_root = path.as_os_str().is_empty();
    let plain = if is_root { Path::new(".") } else { path };
    let inside = lookup::inside(ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS);
    match openat2(root, plain, DIRECTORY, Mode::empty(), inside) {
        Ok(directory) => Ok(ResolvedDirectory {
            directory,
            real: path.to_owned(),
            missing: Vec::new(),
        }),
        Err(Errno::NOENT | Errno::LOOP) => {
            let mut walk = Walk::new(root);
            let way = walk.to(path);
            *steps += walk.steps;
            way
        }
        Err(errno) => Err(errno.into()),
    }
}

struct Walk<'root> {
    root: BorrowedFd<'root>,
    /// The open directories from the root on, with their names.
    open: Vec<(OsString, OwnedFd)>,
    /// The names that are still to be looked up; the next one is the last element.
    ahead: Vec<PendingName>,
    links: usize,
    steps: u64,
}

struct PendingName {
    name: OsString,
    is_of_link: bool,
}

impl<'root> Walk<'root> {
    fn new(root: BorrowedFd<'root>) -> Self {
        Self {
            root,
            open: Vec::new(),
            ahead: Vec::new(),
            links: 0,
            steps: 0,
        }
    }

    fn to(&mut self, path: &Path) -> io::Result<ResolvedDirectory> {
        self.add(path, false);
        while let Some(next) = self.ahead.pop() {
            self.steps += 1;
            if self.steps > MOST_STEPS {
                return Err(too_far());
            }
            if next.name == ".." {
                self.open.pop();
                continue;
            }
            let only = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
            match openat2(self.at(), &next.name, DIRECTORY, Mode::empty(), only) {
                Ok(directory) => self.open.push((next.name, directory)),
                Err(Errno::LOOP) => self.follow(&next.name)?,
                Err(Errno::NOENT) => return self.ends_before(next),
                Err(errno) => return Err(errno.into()),
            }
            if self.open.len() >= MOST_NAMES {
                return Err(too_far());
            }
        }
        self.way(Vec::new())
    }

    fn at(&self) -> BorrowedFd<'_> {
        self.open.last().map_or(self.root, |(_, it)| it.as_fd())
    }

    fn add(&mut self, path: &Path, is_of_link: bool) {
        let names = path.components().rev().filter_map(|component| {
            let name = match component {
                Component::Normal(name) => name,
                Component::ParentDir => OsStr::new(".."),
                _ => return None,
            };
            Some(PendingName {
                name: name.to_owned(),
                is_of_link,
            })
        });
        self.ahead.extend(names);
    }

    fn follow(&mut self, link: &OsStr) -> io::Result<()> {
        self.links += 1;
        if self.links > MOST_LINKS {
            return Err(Errno::LOOP.into());
        }
        let target = readlinkat(self.at(), link, Vec::new())?.into_bytes();
        let target = PathBuf::from(OsString::from_vec(target));
        if target.is_absolute() {
            self.open.clear();
        }
        self.add(&target, true);
        Ok(())
    }

    fn ends_before(&mut self, missing: PendingName) -> io::Result<ResolvedDirectory> {
        let missing = std::iter::once(missing).chain(self.ahead.drain(..).rev());
        let missing: Vec<PendingName> = missing.collect();
        if missing.iter().any(|it| it.is_of_link) {
            // A dangling link stays as it is.
            return Err(Errno::EXIST.into());
        }
        self.way(missing.into_iter().map(|it| it.name).collect())
    }

    fn way(&mut self, missing: Vec<OsString>) -> io::Result<ResolvedDirectory> {
        let names = self.open.iter().map(|(name, _)| name).chain(&missing);
        let real: PathBuf = names.collect();
        let depth = self.open.len() + missing.len();
        if depth >= MOST_NAMES || real.as_os_str().len() > LONGEST_PATH {
            return Err(too_far());
        }
        let directory = match self.open.pop() {
            Some((_, directory)) => directory,
            None => openat2(
                self.root,
                ".",
                DIRECTORY,
                Mode::empty(),
                ResolveFlags::empty(),
            )?,
        };
        Ok(ResolvedDirectory {
            directory,
            real,
            missing,
        })
    }
}

fn too_far() -> io::Error {
    io::Error::other(format!(
        "links lead to more than {MOST_NAMES} nested directories, or through more than {MOST_STEPS} names"
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn found(root: &Path, path: &str) -> io::Result<(String, Vec<OsString>, u64)> {
        let root = fs::File::open(root).unwrap();
        let mut steps = 0;
        let way = find(root.as_fd(), Path::new(path), &mut steps)?;
        Ok((way.real.to_str().unwrap().to_owned(), way.missing, steps))
    }

    #[test]
    fn links_are_followed_inside() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path();
        fs::create_dir_all(root.join("usr/lib/x")).unwrap();
        fs::write(root.join("file"), "").unwrap();
        for (name, target) in [
            ("lib", "usr/lib"),
            ("out", "../../../../usr"),
            ("absolute", "/usr/lib/../lib"),
            ("nowhere", "not/there"),
            ("circle", "circle"),
        ] {
            symlink(target, root.join(name)).unwrap();
        }
        for (path, real, missing) in [
            ("", "", &[][..]),
            ("usr/lib", "usr/lib", &[]),
            ("lib/x", "usr/lib/x", &[]),
            ("out/lib", "usr/lib", &[]),
            ("absolute/x", "usr/lib/x", &[]),
            ("absolute/y/z", "usr/lib/y/z", &["y", "z"]),
        ] {
            let (found, rest, _) = found(root, path).unwrap();
            assert_eq!(
                (&*found, &*rest),
                (
                    real,
                    &*missing.iter().map(OsString::from).collect::<Vec<_>>()
                ),
                "{path}"
            );
        }
        for (path, errno) in [
            ("nowhere", Errno::EXIST),
            ("nowhere/x", Errno::EXIST),
            ("circle/x", Errno::LOOP),
            ("file/x", Errno::NOTDIR),
        ] {
            let error = found(root, path).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(errno.raw_os_error()), "{path}");
        }
    }

    #[test]
    fn links_lead_no_deeper_than_names_do() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path();
        let deep = |names: usize| ["a"].repeat(names).join("/");
        fs::create_dir_all(root.join(deep(200))).unwrap();
        symlink(deep(200), root.join("once")).unwrap();
        let (real, _, steps) = found(root, "once").unwrap();
        assert_eq!((real, steps), (deep(200), 201));
        for path in [
            format!("once/{}", deep(100)),
            format!("once/{}", "b/".repeat(60)),
        ] {
            let error = found(root, &path).unwrap_err();
            assert!(
                error.to_string().contains("links lead to more than 256"),
                "{error}"
            );
        }
        // These links lead up and down in one place.
        symlink("a/../".repeat(600), root.join("1")).unwrap();
        for link in 2..10 {
            symlink(
                format!("{}/../{}/..", link - 1, link - 1),
                root.join(link.to_string()),
            )
            .unwrap();
        }
        let error = found(root, "9/a").unwrap_err();
        assert!(
            error.to_string().contains("through more than 4096 names"),
            "{error}"
        );
    }
}

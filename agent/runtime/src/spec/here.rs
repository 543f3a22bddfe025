//! Resolves relative paths of flags from the working directory.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::io::Errno;
use rustix::process::getcwd;

use super::Error;

/// The path of the working directory, or why no path leads to it.
#[derive(Clone, Debug)]
pub struct Here(Result<PathBuf, &'static str>);

impl Here {
    #[cfg(test)]
    pub fn at(path: &str) -> Self {
        Self(Ok(path.into()))
    }

    /// Looks up the working directory of this process.
    pub fn look() -> Self {
        Self(path_of_working_directory())
    }

    /// Returns the absolute form of a path that the user gave to `flag`.
    ///
    /// # Errors
    /// The path is relative, and no path leads to the working directory: the result would be another file.
    pub fn absolute(&self, flag: &'static str, path: &Path) -> Result<PathBuf, Error> {
        if path.is_absolute() {
            return Ok(path.to_owned());
        }
        match &self.0 {
            Ok(here) => Ok(here.join(path)),
            Err(reason) => Err(Error::flag(flag, &path.display().to_string(), reason)),
        }
    }
}

fn path_of_working_directory() -> Result<PathBuf, &'static str> {
    const REMOVED: &str = "relative to the working directory, which was removed; change to another, or give an absolute path";
    const ELSEWHERE: &str = "relative to the working directory, to which no path leads from here; change to another, or give an absolute path";
    let path = match getcwd(Vec::new()) {
        Ok(path) => PathBuf::from(OsString::from_vec(path.into_bytes())),
        Err(Errno::NOENT) => return Err(REMOVED),
        Err(_) => return Err(ELSEWHERE),
    };
    // getcwd(2) returns `(unreachable)/…` for a directory outside of this process's root.
    let leads_here = path.is_absolute()
        && identity(&path).is_some_and(|it| Some(it) == identity(Path::new(".")));
    if leads_here { Ok(path) } else { Err(ELSEWHERE) }
}

/// Returns the device, the inode and the mount id of a path.
fn identity(path: &Path) -> Option<(u32, u32, u64, u64)> {
    let wanted = StatxFlags::INO | StatxFlags::MNT_ID;
    let found = statx(CWD, path, AtFlags::empty(), wanted).ok()?;
    Some((
        found.stx_dev_major,
        found.stx_dev_minor,
        found.stx_ino,
        found.stx_mnt_id,
    ))
}

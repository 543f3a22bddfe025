//! Opens files that an untrusted user may have named or made: only regular files are opened, and no call blocks.
//!
//! open(2) of a FIFO waits for a writer, and a read of a device may never end. So a file is opened with O_NONBLOCK, and
//! its type is checked before anything is read or written.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, statat,
};
use rustix::io::Errno;

/// How symbolic links in a path are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Links are followed. For a path that the user names.
    Followed,
    /// A link as the last part of the path is refused. For a file that only this program writes, in a directory that
    /// others cannot change.
    Refused,
    /// No part of the path may be a link, and the path may not leave the directory. Without `mounts` it may not cross a
    /// mount point either (`RESOLVE_NO_XDEV` of openat2(2)).
    Nowhere { mounts: bool },
}

/// Opens a regular file for reading.
///
/// # Errors
/// The file is not a regular one: the error names its type. Otherwise those of open(2).
pub fn open(path: &Path, links: Links) -> io::Result<File> {
    open_at(CWD, path, OFlags::RDONLY, links)
}

/// Opens a regular file in `directory`, with the access mode and flags in `access`. A file that is created has mode
/// 0600.
///
/// # Errors
/// As of [`open`].
pub fn open_at(
    directory: impl AsFd,
    path: impl AsRef<Path>,
    access: OFlags,
    links: Links,
) -> io::Result<File> {
    regular(open_any_at(
        directory.as_fd(),
        path.as_ref(),
        access,
        links,
    )?)
}

/// Opens a file of any type for reading, and does not block. The caller passes it to [`regular`].
///
/// # Errors
/// Those of open(2).
pub fn open_any(path: &Path, links: Links) -> io::Result<File> {
    open_any_at(CWD, path, OFlags::RDONLY, links)
}

fn open_any_at(
    directory: impl AsFd,
    path: &Path,
    access: OFlags,
    links: Links,
) -> io::Result<File> {
    let flags = access | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mode = match access.contains(OFlags::CREATE) {
        true => Mode::RUSR | Mode::WUSR,
        false => Mode::empty(),
    };
    let opened = match links {
        Links::Followed => openat(&directory, path, flags, mode),
        Links::Refused => openat(&directory, path, flags | OFlags::NOFOLLOW, mode),
        Links::Nowhere { mounts } => {
            let mut within =
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            within.set(ResolveFlags::NO_XDEV, !mounts);
            openat2(&directory, path, flags, mode, within)
        }
    };
    match opened {
        Ok(file) => Ok(file.into()),
        Err(Errno::LOOP) if links == Links::Refused => Err(other(FileType::Symlink)),
        // ENXIO: the file is a socket, or a FIFO that is opened for writing and has no reader.
        Err(errno @ Errno::NXIO) => Err(statat(&directory, path, AtFlags::empty())
            .map(|found| FileType::from_raw_mode(found.st_mode))
            .map_or(errno.into(), other)),
        Err(Errno::ISDIR) => Err(other(FileType::Directory)),
        Err(errno) => Err(errno.into()),
    }
}

/// Returns the file, if it is a regular one.
///
/// # Errors
/// The file is not a regular one: the error names its type.
pub fn regular(file: File) -> io::Result<File> {
    match kind(&file)? {
        FileType::RegularFile => Ok(file),
        found => Err(other(found)),
    }
}

/// Returns whether the error means that the file is not a regular one.
pub fn is_other(error: &io::Error) -> bool {
    let error = error.get_ref();
    error.and_then(|it| it.downcast_ref::<Other>()).is_some()
}

/// Returns the type of an open file.
///
/// # Errors
/// fstat(2)'s.
pub fn kind(file: &File) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(fstat(file)?.st_mode))
}

/// Reads a regular file of at most `most` bytes.
///
/// # Errors
/// As of [`open`]; the file is larger.
pub fn read(path: &Path, links: Links, most: u64) -> io::Result<Vec<u8>> {
    let file = open(path, links)?;
    let size = file.metadata()?.len();
    let too_large = |size| {
        let text = format!("{size} bytes or more; wanted at most {most}");
        io::Error::new(io::ErrorKind::FileTooLarge, text)
    };
    if size > most {
        return Err(too_large(size));
    }
    let mut bytes = Vec::new();
    // The file may grow meanwhile, and files of /proc report a size of 0.
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 {
        read if read > most => Err(too_large(read)),
        _ => Ok(bytes),
    }
}

/// The error for a file that is not a regular one.
#[derive(Debug)]
struct Other(FileType);

impl std::error::Error for Other {}

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; wanted a regular file", name(self.0))
    }
}

fn other(found: FileType) -> io::Error {
    io::Error::other(Other(found))
}

/// Returns the name of a file type, with its article.
pub const fn name(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Unknown => "a file of a kind that is not known",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn nothing_but_regular_files() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("file"), "text").unwrap();
        symlink("file", at("link")).unwrap();
        rustix::fs::mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let _listener = UnixListener::bind(at("socket")).unwrap();
        assert_eq!(read(&at("file"), Links::Refused, 4).unwrap(), b"text");
        assert_eq!(read(&at("link"), Links::Followed, 4).unwrap(), b"text");
        let said = |path: &Path, links| open(path, links).unwrap_err().to_string();
        for (path, wanted) in [
            (at("fifo"), "a FIFO; wanted a regular file"),
            (at("socket"), "a socket; wanted a regular file"),
            (at("link"), "a symbolic link; wanted a regular file"),
            (
                directory.path().to_owned(),
                "a directory; wanted a regular file",
            ),
            (
                "/dev/zero".into(),
                "a character device; wanted a regular file",
            ),
        ] {
            assert_eq!(said(&path, Links::Refused), wanted);
        }
        assert_eq!(
            said(&at("fifo"), Links::Followed),
            "a FIFO; wanted a regular file"
        );
    }

    /// A name that is a trap is refused, for writing too, and nothing is made through it.
    #[test]
    fn in_a_directory_and_for_writing() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        symlink("target", at("link")).unwrap();
        rustix::fs::mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        fs::create_dir(at("below")).unwrap();
        symlink("below", at("other")).unwrap();
        fs::write(at("below/file"), "").unwrap();
        let opened = File::open(directory.path()).unwrap();
        let access = OFlags::WRONLY | OFlags::CREATE;
        for name in ["link", "fifo", "below"] {
            let error = open_at(&opened, name, access, Links::Refused).unwrap_err();
            assert!(is_other(&error), "{name}: {error}");
        }
        assert!(!at("target").exists());
        open_at(&opened, "new", access, Links::Refused).unwrap();
        let nowhere = Links::Nowhere { mounts: false };
        let read = |name: &str, links| open_at(&opened, name, OFlags::RDONLY, links);
        read("below/file", nowhere).unwrap();
        read("other/file", Links::Refused).unwrap();
        for name in ["other/file", "../etc", "/etc/passwd"] {
            let error = read(name, nowhere).unwrap_err();
            assert!(!is_other(&error), "{name}: {error}");
        }
    }

    #[test]
    fn nothing_larger_than_wanted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("large");
        fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let error = read(&path, Links::Followed, 10).unwrap_err();
        assert_eq!(
            error.to_string(),
            "1099511627776 bytes or more; wanted at most 10"
        );
    }
}

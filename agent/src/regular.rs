//! Opening files that anybody may have named or put there: nothing but a regular file is read, and nothing blocks.
//!
//! open(2) of a FIFO waits for a writer, and reading a device may never end. A file is opened without blocking, and its
//! kind is looked at before anything is read.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat, stat};
use rustix::io::Errno;

/// What a symbolic link at the end of a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// What the user names may be a link.
    Followed,
    /// What only this program writes is none.
    Refused,
}

/// Opens a regular file for reading.
///
/// # Errors
/// It is something else, which the error names; those of open(2).
pub fn open(path: &Path, links: Links) -> io::Result<File> {
    regular(open_any(path, links)?)
}

/// Opens whatever is there for reading, without waiting for anybody: [`regular`] is to look at it.
///
/// # Errors
/// Those of open(2).
pub fn open_any(path: &Path, links: Links) -> io::Result<File> {
    let mut flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    if links == Links::Refused {
        flags |= OFlags::NOFOLLOW;
    }
    match openat(CWD, path, flags, Mode::empty()) {
        Ok(file) => Ok(file.into()),
        Err(Errno::LOOP) if links == Links::Refused => Err(other(FileType::Symlink)),
        // A socket cannot be opened.
        Err(errno @ Errno::NXIO) => Err(stat(path)
            .map(|found| FileType::from_raw_mode(found.st_mode))
            .map_or(errno.into(), other)),
        Err(errno) => Err(errno.into()),
    }
}

/// The same file, where it is a regular one.
///
/// # Errors
/// It is something else, which the error names.
pub fn regular(file: File) -> io::Result<File> {
    match kind(&file)? {
        FileType::RegularFile => Ok(file),
        found => Err(other(found)),
    }
}

/// What a file is.
///
/// # Errors
/// fstat(2)'s.
pub fn kind(file: &File) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(fstat(file)?.st_mode))
}

/// Reads a regular file of at most `most` bytes.
///
/// # Errors
/// As of [`open`]; it is larger.
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
    // It may grow meanwhile, and those of /proc say that they are empty.
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 {
        read if read > most => Err(too_large(read)),
        _ => Ok(bytes),
    }
}

fn other(found: FileType) -> io::Error {
    io::Error::other(format!("{}; wanted a regular file", name(found)))
}

/// What a file of this kind is called.
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

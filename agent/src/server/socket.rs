//! Binds the unix socket, which one server holds at a time.

use std::fs::{DirBuilder, File, Metadata, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use agent_host::owner::Owner;
use agent_host::regular;
use agent_host::regular::Links;
use rustix::fs::{CWD, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// Why the server cannot bind the socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    #[error("--socket {}: held by the agent with pid {pid}; stop that one, or pass another path", path.display())]
    Held { path: PathBuf, pid: String },
    #[error("--socket {}: {} is not a file of this user's; remove it, or pass another path", socket.display(), path.display())]
    Foreign { socket: PathBuf, path: PathBuf },
    #[error("--socket {}: cannot be made; pass a path in a directory that you may write to", path.display())]
    Make {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The bound socket. Dropping it removes its file.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    listener: UnixListener,
    _lock: Lock,
}

impl Socket {
    /// Binds `path` with mode 0600. Replaces the socket that a killed agent left there.
    ///
    /// # Errors
    /// Another agent holds the socket, or this process cannot make it.
    pub(crate) fn bind(path: &Path) -> Result<Self, SocketError> {
        let make = |source| SocketError::Make {
            path: path.to_owned(),
            source,
        };
        let lock = Lock::take(path)?;
        remove_stale(path).map_err(make)?;
        // bind(2) makes the file with the mode that the umask leaves, so no other user can connect at any time.
        let umask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
        let bound = UnixListener::bind(path);
        rustix::process::umask(umask);
        let listener = bound.map_err(make)?;
        listener.set_nonblocking(true).map_err(make)?;
        Ok(Self {
            path: path.to_owned(),
            listener,
            _lock: lock,
        })
    }

    /// Duplicates the listening socket.
    ///
    /// # Errors
    /// The process has too many open descriptors.
    pub(crate) fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // No other agent makes the file while this one holds the lock. It is no error if the file does not exist any
        // more.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The right to bind the path: a lock on a file beside it. The kernel releases the lock when its holder ends, however
/// that happens. Dropping it removes the file, and the directories that were made for it.
#[derive(Debug)]
struct Lock {
    file: File,
    path: PathBuf,
    _made: Made,
}

impl Lock {
    fn take(socket: &Path) -> Result<Self, SocketError> {
        let make = |source| SocketError::Make {
            path: socket.to_owned(),
            source,
        };
        let made = Made::parent_of(socket).map_err(make)?;
        let mut path = socket.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let foreign = || SocketError::Foreign {
            socket: socket.to_owned(),
            path: path.clone(),
        };
        loop {
            // In a directory that other users may write to, one of them may have made a link or another file of that
            // name.
            let access = OFlags::WRONLY | OFlags::CREATE;
            let file = match regular::open_at(CWD, &path, access, Links::Refused) {
                Ok(file) if is_ours(&file) => file,
                Ok(_) => return Err(foreign()),
                Err(error) if regular::is_other(&error) || is_foreign(&path) => {
                    return Err(foreign());
                }
                Err(error) => return Err(make(error)),
            };
            match file.try_lock() {
                // The last holder may have removed the file after it was opened here and before it was locked.
                Ok(()) if !is_at(&file, &path) => {}
                Ok(()) => {
                    return Ok(Self {
                        file,
                        path,
                        _made: made,
                    });
                }
                Err(TryLockError::Error(error)) => return Err(make(error)),
                Err(TryLockError::WouldBlock) => {
                    return Err(SocketError::Held {
                        path: socket.to_owned(),
                        pid: holder(socket).unwrap_or_else(|| "unknown".to_owned()),
                    });
                }
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if is_at(&self.file, &self.path) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The directories that were made for the socket, the deepest first. Dropping it removes those that are empty.
#[derive(Debug)]
struct Made(Vec<PathBuf>);

impl Made {
    /// Makes the directory of the socket, and its parents.
    fn parent_of(socket: &Path) -> io::Result<Self> {
        let parents = socket.ancestors().skip(1);
        let missing = parents.take_while(|parent| *parent != Path::new("") && !parent.exists());
        let made = Self(missing.map(Path::to_owned).collect());
        if let Some(parent) = made.0.first() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(parent)?;
        }
        Ok(made)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for directory in &self.0 {
            // A directory with other files stays.
            let _ = std::fs::remove_dir(directory);
        }
    }
}

fn is_ours(file: &File) -> bool {
    file.metadata().is_ok_and(|found| is_own_file(&found))
}

/// Tells whether a file exists that cannot be the lock of an agent of this user.
fn is_foreign(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| !is_own_file(&found))
}

fn is_own_file(found: &Metadata) -> bool {
    found.is_file() && Owner::caller().has(found)
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// The pid of the process that listens on the socket (`SO_PEERCRED`, unix(7)).
fn holder(path: &Path) -> Option<String> {
    // With a full queue, as of a stopped process, connect(2) fails instead of waiting.
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).ok()?;
    connect(&stream, &SocketAddrUnix::new(path).ok()?).ok()?;
    let credentials = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    Some(credentials.pid.as_raw_nonzero().to_string())
}

/// Removes the file of a socket. Another type of file stays, and is an error.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is no socket is there",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn one_holds_it_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/newer/agent.sock");
        let held = Socket::bind(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let error = Socket::bind(&path).unwrap_err().to_string();
        assert!(
            error.contains(&format!("pid {};", std::process::id())),
            "{error}"
        );
        drop(held);
        assert!(!directory.path().join("new").exists());
        Socket::bind(&path).unwrap();
    }

    #[test]
    fn what_a_killed_one_left_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        drop(UnixListener::bind(&path).unwrap());
        std::fs::write(directory.path().join("agent.sock.lock"), "").unwrap();
        Socket::bind(&path).unwrap();
    }

    #[test]
    fn what_stands_in_the_way_is_named_and_stays() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        let lock = directory.path().join("agent.sock.lock");
        let target = directory.path().join("target");
        type Make<'a> = &'a dyn Fn(&Path);
        let make: [(&str, Make<'_>); 4] = [
            ("pipe", &|at| {
                mknodat(CWD, at, FileType::Fifo, Mode::RUSR, 0).unwrap()
            }),
            ("directory", &|at| std::fs::create_dir(at).unwrap()),
            ("link", &|at| {
                std::os::unix::fs::symlink(&target, at).unwrap()
            }),
            ("socket", &|at| drop(UnixListener::bind(at).unwrap())),
        ];
        for (what, make) in make {
            for at in [&lock, &path] {
                make(at);
                let bound = Socket::bind(&path);
                // A killed agent leaves a socket on which no process listens.
                assert_eq!(bound.is_ok(), what == "socket" && at == &path, "{what}");
                if at == &lock {
                    let error = bound.unwrap_err().to_string();
                    let wanted = format!("{} is not a file of this user's", lock.display());
                    assert!(error.contains(&wanted), "{what}: {error}");
                } else {
                    drop(bound);
                }
                assert!(!target.exists());
                let _ = std::fs::remove_file(at);
                let _ = std::fs::remove_dir(at);
            }
        }
    }

    #[test]
    fn what_is_no_socket_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("precious");
        std::fs::write(&path, "data").unwrap();
        Socket::bind(&path).unwrap_err();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}

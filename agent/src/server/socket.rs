//! The unix socket: one server holds it at a time.

use std::{
    io,
    os::unix::{
        fs::{DirBuilderExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

/// Where the socket is unless told otherwise.
pub const DEFAULT: &str = "/run/agent/agent.sock";

/// Why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("--socket {}: held by the agent with pid {pid}; stop that one, or pass another path", path.display())]
    Held { path: PathBuf, pid: String },
    #[error("--socket {}: cannot be made; pass a path in a directory that you may write to", path.display())]
    Make {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The bound socket. Dropping it removes its file.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    listener: UnixListener,
    /// Holds the lock that says who has the path, until it is closed.
    _lock: std::fs::File,
}

impl Socket {
    /// Binds `path`, for this user alone. What a killed agent left there is replaced.
    ///
    /// # Errors
    /// Where another one holds it, or the path is not writable.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let make = |source| SocketError::Make {
            path: path.to_owned(),
            source,
        };
        if let Some(directory) = path
            .parent()
            .filter(|directory| !directory.as_os_str().is_empty())
        {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .map_err(make)?;
        }
        let lock = lock(path)?;
        remove_stale(path).map_err(make)?;
        // The file is made with the umask's mode: none but this user may connect before it is 0600.
        let umask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
        let bound = UnixListener::bind(path);
        rustix::process::umask(umask);
        let listener = bound.map_err(make)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(make)?;
        listener.set_nonblocking(true).map_err(make)?;
        Ok(Self {
            path: path.to_owned(),
            listener,
            _lock: lock,
        })
    }

    /// Another descriptor of the listening socket.
    ///
    /// # Errors
    /// Where there are too many descriptors.
    pub fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Nobody else makes it while the lock is held; if it is gone, so much the better.
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_file(lock_path(&self.path));
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

/// Takes the lock beside the socket, which the kernel releases whichever way its holder ends.
fn lock(path: &Path) -> Result<std::fs::File, SocketError> {
    let make = |source| SocketError::Make {
        path: path.to_owned(),
        source,
    };
    loop {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(lock_path(path))
            .map_err(make)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                let pid = holder(path).unwrap_or_else(|| "unknown".to_owned());
                return Err(SocketError::Held {
                    path: path.to_owned(),
                    pid,
                });
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(make(error)),
        }
        // Its last holder may have removed the file between open and lock.
        if is_at(&file, &lock_path(path)) {
            return Ok(file);
        }
    }
}

fn is_at(file: &std::fs::File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// The pid of the process that listens on the socket (`SO_PEERCRED`, unix(7)).
fn holder(path: &Path) -> Option<String> {
    let stream = UnixStream::connect(path).ok()?;
    let credentials = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    Some(credentials.pid.as_raw_nonzero().to_string())
}

/// Removes a socket; anything else that is there stays, and is an error.
fn remove_stale(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
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

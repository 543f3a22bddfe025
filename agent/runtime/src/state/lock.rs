//! Locks the state of a container. The supervisor holds the lock while it lives. A command that cleans up after a dead
//! supervisor takes the lock first.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use oci_spec::runtime::Spec;
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;
use rustix::process::{Flock, FlockType, fcntl_getlk};

use super::files::{self, replace};
use super::{
    CONFIG, DIRECTORY, Error, LARGEST, LockHolder, ProcessCondition, RECORD, Record, Status, Store,
    is_name, room,
};

const LOCK: &str = "lock";

/// The lock that a process holds while it makes a container's directory and lock, or takes over a lock that nobody
/// holds. No container can have this name.
const MAKING: &str = ".lock";

/// The lock that a process holds while it makes or removes bridges. No container can have this name.
const BRIDGES: &str = ".bridges.lock";

/// The prefix of a container's directory while it is removed.
const GONE: &str = ".gone.";

/// How long this process waits for a lock that another one holds.
const PATIENCE: Duration = Duration::from_secs(10);

/// The time between two attempts to take a lock.
const PAUSE: Duration = Duration::from_micros(500);

/// The time between two checks whether a supervisor has ended.
const LOOK: Duration = Duration::from_secs(1);

/// The right to change the state of a container, which only this process has. The process must not open and close the
/// lock's file again, because that releases the lock (fcntl_locking(2)).
#[derive(Debug)]
pub struct NameClaim {
    name: String,
    directory: PathBuf,
    lock: File,
}

impl NameClaim {
    /// Returns the name of the container.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the directory of the container.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Reads the record of the container. Returns none where no holder has written one, or it cannot be read.
    pub fn record(&self) -> Option<Record> {
        serde_json::from_slice(&files::read(&self.directory.join(RECORD)).ok()?).ok()
    }

    /// Writes the record of the container. The last record of a detached container fills the reserved space.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn write(&self, record: &Record) -> Result<(), Error> {
        let path = self.directory.join(RECORD);
        let text = readable(&path, serde_json::to_vec_pretty(record))?;
        if matches!(record.status, Status::Exited { .. }) && room::is_there(&path) {
            return room::fill(&path, &text);
        }
        replace(&path, &text)?;
        match record.status {
            Status::Creating if record.stays() => room::reserve(&path, &text),
            _ => Ok(()),
        }
    }

    /// Writes the spec by which the container is made.
    ///
    /// # Errors
    /// The spec cannot be written.
    pub fn write_spec(&self, spec: &Spec) -> Result<(), Error> {
        let path = self.directory.join(CONFIG);
        replace(&path, &readable(&path, serde_json::to_vec(spec))?)
    }

    /// Tells whether the container has ended properly. Its record says so, or its supervisor wrote the exit status into
    /// the lock and could not write the record.
    fn stays(&self) -> bool {
        self.record().is_some_and(|record| {
            let ended = matches!(record.status, Status::Exited { .. });
            let has_word = || left_word(&self.lock).is_ok_and(|word| word.is_some());
            ended || (record.stays() && has_word())
        })
    }

    /// Writes the exit status into the lock's file for processes that wait for the container. They have the file open,
    /// and can read it even after its removal.
    /// # Errors
    /// The file cannot be written.
    pub fn leave_word(&self, code: u8) -> Result<(), Error> {
        let written = self.lock.write_all_at(word(Some(code)).as_bytes(), 0);
        written.map_err(Error::io(&self.directory))
    }

    /// Removes the state of the container.
    /// # Errors
    /// Something cannot be removed.
    pub fn remove(self) -> Result<(), Error> {
        // The rename frees the name and takes the lock away in one step. The next process that claims the name makes a
        // new lock.
        let gone = format!("{GONE}{}.{}", self.name, std::process::id());
        let gone = self.directory.with_file_name(gone);
        fs::rename(&self.directory, &gone).map_err(Error::io(&self.directory))?;
        for file in [RECORD, CONFIG, LOCK] {
            // The directory is removed recursively below if anything is left.
            let _ = fs::remove_file(gone.join(file));
        }
        if fs::remove_dir(&gone).is_ok() {
            return Ok(());
        }
        match fs::remove_dir_all(&gone) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(&gone)(error)),
            _ => Ok(()),
        }
    }
}

/// Returns the encoded text for the file at `path`, and refuses a text that is longer than its readers accept.
fn readable(path: &Path, text: serde_json::Result<Vec<u8>>) -> Result<Vec<u8>, Error> {
    let path = path.to_owned();
    match text {
        Ok(text) if text.len() as u64 <= LARGEST => Ok(text),
        Ok(text) => Err(Error::TooLarge {
            path,
            bytes: text.len() as u64,
        }),
        Err(source) => Err(Error::Malformed { path, source }),
    }
}

/// Waits for the end of a container.
#[derive(Debug)]
pub struct Waiter {
    name: String,
    lock: File,
}

impl Waiter {
    /// Tells whether the container's supervisor, or a command that cleans up after it, holds the lock.
    pub fn is_held(&self) -> bool {
        self.holder().is_some()
    }

    /// Returns the process that holds the lock: the supervisor, or a command that cleans up after it.
    pub fn holder(&self) -> Option<LockHolder> {
        holder(&self.lock)
    }

    /// Waits until the supervisor has ended, and returns the exit status of the container. Returns none where the
    /// supervisor was killed. Calls `stopped` once, if it finds that a signal or a debugger has stopped the supervisor.
    ///
    /// # Errors
    /// The lock cannot be read.
    pub fn wait(self, mut stopped: impl FnMut(LockHolder)) -> Result<Option<u8>, Error> {
        let mut told = false;
        while let Some(holder) = self.holder() {
            if !told
                && matches!(
                    holder.condition(),
                    ProcessCondition::Stopped | ProcessCondition::Traced
                )
            {
                stopped(holder);
                told = true;
            }
            holder.wait(LOOK);
        }
        left_word(&self.lock).map_err(Error::io(Path::new(&self.name)))
    }
}

impl Store {
    /// Claims a name that no container has. The caller must have cleaned up what dead supervisors left
    /// ([`Self::abandoned`]), because their names count as taken.
    ///
    /// # Errors
    /// [`Error::Running`] and [`Error::Ended`] where another container has the name.
    pub fn claim(&self, name: &str) -> Result<NameClaim, Error> {
        let directory = self.directory(name)?;
        self.make()?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let making = self.lock_making()?;
            match fs::DirBuilder::new().mode(0o700).create(&directory) {
                Ok(()) => return self.lock_new(name, directory),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io(&directory)(error)),
            }
            let record = self.read(name);
            let held_by = self.waiter(name).map(|it| it.holder());
            drop(making);
            match (record, held_by) {
                // A holder that is not the recorded supervisor cleans up, and is about to remove the directory.
                (Ok(record), Ok(Some(holder))) if record.supervisor != holder.pid() => {
                    if Instant::now() > deadline {
                        return Err(locked(directory.join(LOCK), holder));
                    }
                    sleep(PAUSE);
                }
                // Where nobody holds the lock, the container has ended, even if what it left could not be removed.
                (Ok(_), Ok(None)) => return Err(Error::Ended { name: name.into() }),
                (Ok(record), Err(_)) if matches!(record.status, Status::Exited { .. }) => {
                    return Err(Error::Ended { name: name.into() });
                }
                _ => return Err(Error::Running { name: name.into() }),
            }
        }
    }

    /// Takes over a container that has ended, or whose supervisor was killed. Returns none where there is no such
    /// container, or another process holds its lock.
    ///
    /// # Errors
    /// The lock cannot be read.
    pub fn take_over(&self, name: &str) -> Result<Option<NameClaim>, Error> {
        let directory = self.directory(name)?;
        let path = directory.join(LOCK);
        let making = match self.lock_making() {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            other => other?,
        };
        let lock = match files::open(&path) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                if !directory.is_dir() {
                    return Ok(None);
                }
                // The process that made the directory was killed before it made the lock.
                return self.lock_new(name, directory).map(Some);
            }
            other => other?,
        };
        match fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::AGAIN | Errno::ACCESS) => return Ok(None),
            Err(errno) => return Err(Error::io(&path)(errno.into())),
        }
        // Another process may have removed the file before this one locked it.
        let found = fs::symlink_metadata(&path).map(|it| it.ino());
        if found.ok() != lock.metadata().map(|it| it.ino()).ok() {
            return Ok(None);
        }
        drop(making);
        Ok(Some(NameClaim {
            name: name.into(),
            directory,
            lock,
        }))
    }

    /// Takes over the containers that killed supervisors left. Also removes directories whose removal was interrupted.
    pub fn abandoned(&self) -> Vec<NameClaim> {
        if self.check().is_err() {
            return Vec::new();
        }
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let entries = entries.filter(|entry| !remove_if_gone(entry));
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let names = names.filter(|name| is_name(name));
        let left = names.filter(|name| {
            let held = self.waiter(name).is_ok_and(|lock| lock.is_held());
            let ended = |record: &Record| matches!(record.status, Status::Exited { .. });
            !held && !self.read(name).is_ok_and(|record| ended(&record))
        });
        let claims = left.map(|name| self.take_over(&name));
        let claims = claims.filter_map(|claim| claim.ok().flatten());
        // A container may have ended properly after it was read above.
        claims.filter(|claim| !claim.stays()).collect()
    }

    /// Opens the lock of a container, to wait for its end.
    ///
    /// # Errors
    /// [`Error::Unknown`] where there is no such container.
    pub fn waiter(&self, name: &str) -> Result<Waiter, Error> {
        let path = self.directory(name)?.join(LOCK);
        let lock = files::open(&path).map_err(|error| match error {
            Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Error::Unknown { name: name.into() }
            }
            error => error,
        })?;
        Ok(Waiter {
            name: name.into(),
            lock,
        })
    }

    /// Makes and takes the lock of a container whose directory is new.
    fn lock_new(&self, name: &str, directory: PathBuf) -> Result<NameClaim, Error> {
        let path = directory.join(LOCK);
        let lock = files::open_or_create(&path)?;
        let locked = fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive);
        locked.map_err(|errno| Error::io(&path)(errno.into()))?;
        // The blanks reserve the bytes of the exit status. The supervisor can then write it even when the file system
        // is full.
        let written = lock.write_all_at(word(None).as_bytes(), 0);
        written.map_err(Error::io(&path))?;
        Ok(NameClaim {
            name: name.into(),
            directory,
            lock,
        })
    }

    /// Takes the lock under which containers are made. The lock is held until the file is closed.
    pub(super) fn lock_making(&self) -> Result<File, Error> {
        debug_assert!(!is_name(MAKING));
        lock_file(self.path.join(MAKING))
    }

    /// Takes the lock of bridges. The lock is held until the file is closed.
    ///
    /// # Errors
    /// Another process holds the lock for too long.
    pub fn lock_bridges() -> io::Result<File> {
        let store = Self::at(DIRECTORY);
        let locked = store
            .make()
            .and_then(|()| lock_file(store.path.join(BRIDGES)));
        locked.map_err(io::Error::other)
    }
}

/// Removes a directory whose removal another process began, and returns whether the entry is such a directory. Two
/// processes may remove the same one at once.
fn remove_if_gone(entry: &fs::DirEntry) -> bool {
    let name = entry.file_name();
    let is_gone = name.as_encoded_bytes().starts_with(GONE.as_bytes());
    if is_gone {
        let _ = fs::remove_dir_all(entry.path());
    }
    is_gone
}

/// Takes the lock at `path`, and makes the file where it does not exist.
fn lock_file(path: PathBuf) -> Result<File, Error> {
    let lock = files::open_or_create(&path)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(lock),
            Err(Errno::AGAIN | Errno::ACCESS) => {}
            Err(errno) => return Err(Error::io(&path)(errno.into())),
        }
        if let Some(holder) = holder(&lock).filter(|_| Instant::now() > deadline) {
            return Err(locked(path, holder));
        }
        sleep(PAUSE);
    }
}

/// Reads the exit status that a supervisor wrote into the lock's file, if it wrote one.
fn left_word(lock: &File) -> io::Result<Option<u8>> {
    let mut word = [0; 16];
    let length = lock.read_at(&mut word, 0)?;
    let word = str::from_utf8(&word[..length]).unwrap_or_default();
    Ok(word.trim_matches(['\0', ' ', '\n']).parse().ok())
}

/// Encodes an exit status in a fixed length. None gives as many blanks.
fn word(code: Option<u8>) -> String {
    let code = code.map(|code| code.to_string()).unwrap_or_default();
    format!("{code:3}\n")
}

fn locked(path: PathBuf, holder: LockHolder) -> Error {
    let seconds = PATIENCE.as_secs();
    Error::Locked {
        path,
        seconds,
        holder,
    }
}

/// Returns the process that holds a lock for writing.
fn holder(lock: &File) -> Option<LockHolder> {
    let held = fcntl_getlk(lock, &Flock::from(FlockType::ReadLock)).ok()??;
    Some(LockHolder::new(held.pid))
}

//! The state of containers: a directory for each container below `/run/agent-containers`.
//!
//! The directory is not `/run/agent`, where the server's socket is. A service manager may own that directory, and
//! removes it whenever the server stops (`RuntimeDirectory=` of systemd.exec(5)).
//!
//! | file | content |
//! |---|---|
//! | `lock` | the supervisor's write lock while it lives; later the exit status of the container |
//! | `state.json` | a [`Record`], written before the cgroup is made |
//! | `config.json` | the OCI spec that is carried out, for `agent exec` |
//! | `state.room` | space that is reserved for the last record of a detached container |
//!
//! `state/logs.rs` describes where the output of a detached container is.
//!
//! The lock is a record lock of fcntl(2). It belongs to the process, so no child inherits it, and the kernel releases
//! it however the process ends. A directory whose lock is free and whose record does not say `exited` was left by a
//! supervisor that was killed.

use std::collections::BTreeMap;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::{fs, io};

use agent_host::owner::Owner;
use agent_host::user_directory::{self, UserDirectory};
use agent_model::limit::Bounds;
use agent_model::text::note;
use agent_model::units::Signal;
use agent_network::Network;
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use super::order::ChangeRoot;

mod files;
mod former;
mod holder;
mod lock;
pub(crate) mod logs;
mod room;

pub use holder::{LockHolder, ProcessCondition, ends};
pub use lock::{NameClaim, Waiter};

/// The directory with the state of root's containers.
pub const DIRECTORY: &str = "/run/agent-containers";

/// The name of the file with a [`Record`].
pub const RECORD: &str = "state.json";
/// The name of the file with the spec.
pub const CONFIG: &str = "config.json";

/// Returns the directories that may hold the state of a user's containers, on a host whose root is `root`. Commands of
/// other users look there. The user's own commands use [`Store::of_user`].
pub fn directories_of(root: &Path, user: u32) -> Vec<PathBuf> {
    let (runtime, shared) = match user {
        0 => (root.join("run"), Vec::new()),
        _ => (
            root.join(format!("run/user/{user}")),
            user_directory::all_of(&root.join("tmp"), user),
        ),
    };
    let own = ["agent-containers", "agent/containers"].map(|path| runtime.join(path));
    let shared = shared.into_iter().map(|path| path.join("containers"));
    own.into_iter().chain(shared).collect()
}

/// The most bytes of a record or a spec. The agent writes none that is longer.
pub const LARGEST: u64 = 1 << 20;

const _: () = assert!(agent_rootfs::MOST_CONFIG_BYTES as u64 <= LARGEST / 2);

/// The most bytes of a name.
const LONGEST_NAME: usize = 63;

/// The record of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The name of the container.
    pub name: String,
    /// The name of the root file system: an image, a directory, `host`, or the programs that it consists of.
    pub image: String,
    /// The path of the cgroup in v2, or else in the first hierarchy of v1 that has it. Empty where the container has no
    /// cgroup.
    pub cgroup: PathBuf,
    /// The path of the cgroup in each hierarchy, by the hierarchy's controllers. The key of v2 is the empty string.
    /// None where an older agent made the cgroup at `cgroup` in every hierarchy.
    #[serde(default)]
    pub cgroups: Option<BTreeMap<String, String>>,
    /// The cgroup of v2 that holds only the supervisor, where the agent made one.
    #[serde(default)]
    pub leaf: Option<PathBuf>,
    /// The start of the init process in clock ticks since boot. It is set only for a container without a cgroup, where
    /// it identifies the init process.
    #[serde(default)]
    pub born: Option<u64>,
    /// The limits of the caller's cgroups, which hold for the container too. Empty where root or the user chose the
    /// container's cgroup. None where an older agent wrote the record.
    #[serde(default)]
    pub bounds: Option<Bounds>,
    /// The pid of the supervisor.
    pub supervisor: i32,
    /// How far the container has come.
    pub status: Status,
    /// The time of creation, as in RFC 3339.
    pub created: String,
    /// Whether the caller left once the container had started.
    pub detached: bool,
    /// Whether the state is removed when the container ends.
    pub remove: bool,
    /// The system call that changed the root.
    pub change_root: ChangeRoot,
    /// The interfaces of the container's network namespace.
    pub network: Network,
    /// The signal that asks the command to end. None stands for SIGTERM.
    #[serde(default)]
    pub stop_signal: Option<Signal>,
    /// Whether the user chose the limit of memory and swap. False where that limit follows from the limit of memory.
    #[serde(default)]
    pub swap_asked: bool,
    /// The labels: the annotations of the spec.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The directory of the log. None where the log is in the directory of the state.
    #[serde(default)]
    pub log: Option<PathBuf>,
}

impl Record {
    /// Tells whether the state remains when the container has ended.
    pub const fn stays(&self) -> bool {
        self.detached && !self.remove
    }
}

/// How far a container has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The command does not run yet.
    Creating,
    /// The command runs.
    Running {
        /// The pid of the init process in the host's pid namespace.
        pid: i32,
    },
    /// The command has ended.
    Exited {
        /// The exit status, or 128 plus the number of the signal that killed the init process.
        code: u8,
    },
}

/// An error of reading, making or changing the state.
#[allow(
    missing_docs,
    reason = "the messages document the variants and their fields"
)]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "{name:?} is not a name for a container: wanted are at most {LONGEST_NAME} letters, digits, \
         '_', '.' and '-', beginning with a letter or digit"
    )]
    Name { name: String },
    #[error("there is no container {name:?}; agent ps shows those that run")]
    Unknown { name: String },
    #[error(
        "the name {name:?} is in use by a container that runs; take another, or agent rm -f {name}"
    )]
    Running { name: String },
    #[error("the name {name:?} is in use by a container that has ended; agent rm {name} frees it")]
    Ended { name: String },
    #[error(
        "{}: user {owner}'s, mode {mode:04o}; wanted is a directory of {wanted} that nobody else may write to: what is \
         below it says what is killed and removed (chown, chmod go-w)", path.display()
    )]
    Unsafe {
        path: PathBuf,
        owner: u32,
        mode: u32,
        wanted: &'static str,
    },
    #[error("{}: its name is that of a newer container; agent rm {name} lets it be found again", path.display())]
    Taken { path: PathBuf, name: String },
    #[error("{} is no regular file, so agent run did not write it; move it away", path.display())]
    NoFile { path: PathBuf },
    #[error("waited {seconds} s for {}, which is locked: {holder}", path.display())]
    Locked {
        path: PathBuf,
        seconds: u64,
        holder: LockHolder,
    },
    #[error("{}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{} would have {bytes} bytes; wanted at most {LARGEST}: give fewer or shorter arguments, variables, mounts and \
         rules of --security-opt seccomp", path.display()
    )]
    TooLarge { path: PathBuf, bytes: u64 },
    #[error("{} is not what this agent writes; if another version of it did, use that one, else move the file away", path.display())]
    Malformed {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

impl Error {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Io { path, source }
    }
}

/// The directory with the state of all containers of a user.
#[derive(Clone, Debug)]
pub struct Store {
    path: PathBuf,
    /// The directory in which older agents kept the state of the same containers.
    former: Option<PathBuf>,
}

impl Store {
    /// Returns the caller's store. The caller must call this before it enters a user namespace, where its user id is
    /// another.
    pub fn of_user() -> Self {
        let user = rustix::process::geteuid();
        if user.is_root() {
            return Self {
                path: DIRECTORY.into(),
                former: Some(former::DIRECTORY.into()),
            };
        }
        let runtime = match user_directory::variable("XDG_RUNTIME_DIR") {
            Some(directory) => Some(directory),
            None => match Self::in_use_below_tmp(user.as_raw()) {
                Some(store) => return store,
                None => user_directory::runtime_of(user.as_raw()),
            },
        };
        let found = user_directory::of_user(runtime.as_deref());
        if let Ok(UserDirectory { path, .. }) = &found
            && runtime.is_some_and(|runtime| *path == runtime.join("agent"))
        {
            return Self {
                path: path.with_file_name("agent-containers"),
                former: Some(path.join("containers")),
            };
        }
        let parent = match found {
            Ok(UserDirectory { path, instead_of }) => {
                if let Some(planted) = instead_of {
                    say_instead(&planted, &path);
                }
                path
            }
            // The error is reported when the store is made there.
            Err(_) => format!("/tmp/agent-{}", user.as_raw()).into(),
        };
        Self::at(parent.join("containers"))
    }

    /// Returns the store in /tmp, if it holds a container. A user without XDG_RUNTIME_DIR may have made containers
    /// there earlier.
    fn in_use_below_tmp(user: u32) -> Option<Self> {
        let places = user_directory::all_of(Path::new("/tmp"), user).into_iter();
        let mut stores = places.map(|path| Self::at(path.join("containers")));
        stores.find(|store| !store.names().is_empty())
    }

    /// Returns the store at `path`. The first container makes the directory.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            former: None,
        }
    }

    /// Returns the directory of the store.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the names of all containers, in no order.
    pub fn names(&self) -> Vec<String> {
        if self.check().is_err() {
            return Vec::new();
        }
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| is_name(name)).collect()
    }

    /// Reads the record of a container.
    ///
    /// # Errors
    /// [`Error::Unknown`] where the container has no record, also where its supervisor has not written one yet. Other
    /// errors where the record cannot be read.
    pub fn read(&self, name: &str) -> Result<Record, Error> {
        self.parse(name, RECORD)
    }

    /// Reads the spec by which a container was made.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn spec(&self, name: &str) -> Result<Spec, Error> {
        self.parse(name, CONFIG)
    }

    /// Reads the records of all containers, and leaves out those that cannot be read.
    pub fn records(&self) -> Vec<Record> {
        let names = self.names();
        names.iter().filter_map(|it| self.read(it).ok()).collect()
    }

    fn parse<T: for<'de> Deserialize<'de>>(&self, name: &str, file: &str) -> Result<T, Error> {
        let path = self.directory(name)?.join(file);
        let bytes = files::read(&path).map_err(|error| match error {
            Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Error::Unknown { name: name.into() }
            }
            error => error,
        })?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Malformed { path, source })
    }

    /// Returns the directory of a container, which may not exist.
    ///
    /// # Errors
    /// No container can have this name, or others may write to the store.
    pub fn directory(&self, name: &str) -> Result<PathBuf, Error> {
        if !is_name(name) {
            return Err(Error::Name { name: name.into() });
        }
        self.check()?;
        Ok(self.path.join(name))
    }

    /// Checks that the store belongs to this user alone. A record names what the agent kills and removes, and any user
    /// may have made a directory in /tmp first.
    fn check(&self) -> Result<(), Error> {
        let parent = self.path.parent().unwrap_or(&self.path);
        type IsSafe = fn(Owner, &fs::Metadata) -> bool;
        for (path, is_safe, wanted) in [
            (parent, Owner::is_safe_in as IsSafe, "root's or this user's"),
            (&self.path, Owner::alone_has_directory, "this user's"),
        ] {
            match fs::symlink_metadata(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Ok(found) if is_safe(Owner::caller(), &found) => {}
                Ok(found) => {
                    return Err(Error::Unsafe {
                        path: path.into(),
                        owner: found.uid(),
                        mode: found.mode() & 0o7777,
                        wanted,
                    });
                }
                Err(error) => return Err(Error::io(path)(error)),
            }
        }
        Ok(())
    }

    /// Makes the directory of the store and its parent where they do not exist. Only this user may write to a directory
    /// that is made here.
    fn make(&self) -> Result<(), Error> {
        let parent = self.path.parent().unwrap_or(&self.path);
        for path in [parent, &self.path] {
            match fs::DirBuilder::new().mode(0o700).create(path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(Error::io(path)(error));
                }
                _ => {}
            }
        }
        self.check()
    }
}

/// Prints a note once on standard error.
fn say_instead(planted: &Path, used: &Path) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        let (planted, used) = (planted.display(), used.display());
        note(&format!(
            "{planted} is not a directory of this user's alone; {used} is used instead"
        ));
    });
}

/// Tells whether a container can have this name, which is also the name of its directory.
pub fn is_name(name: &str) -> bool {
    let taken = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    name.len() <= LONGEST_NAME
        && name.bytes().all(taken)
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests;

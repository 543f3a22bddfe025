//! The state that `agent run` keeps of a container, for cgroups that tests make as it does.
//!
//! It is what confirms that `/agent/NAME` is a container. As a supervisor does, the test holds the lock as long as the
//! container is there; where the test is killed, the next command of the agent removes what it left.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FlockOperation, fcntl_lock};
use serde_json::json;

/// Where the state of root's containers is.
pub const DIRECTORY: &str = "/run/agent-containers";

/// What is known of one container. Dropping it removes that.
#[derive(Debug)]
pub struct State {
    directory: PathBuf,
    _lock: File,
}

impl State {
    /// The container `name` has the cgroup at `path`.
    ///
    /// # Panics
    /// Where the state cannot be written, or there is one of that name.
    pub fn write(name: &str, path: &str) -> Self {
        // The kernel lets a process's lock go with any descriptor of the file.
        static MAKING: Mutex<()> = Mutex::new(());
        let making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        let store = Path::new(DIRECTORY);
        match DirBuilder::new().mode(0o700).create(store) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                panic!("{DIRECTORY}: {error}")
            }
            _ => {}
        }
        let sweepers = lock(&store.join(".lock"));
        let directory = store.join(name);
        let made = DirBuilder::new().mode(0o700).create(&directory);
        made.unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        let held = lock(&directory.join("lock"));
        drop(sweepers);
        drop(making);
        let record = json!({
            "name": name,
            "image": "unknown",
            "cgroup": path,
            "supervisor": std::process::id(),
            "status": "creating",
            "created": "2026-11-29T00:00:00Z",
            "detached": false,
            "remove": true,
            "change_root": "pivot",
            "network": "none",
        });
        let new = directory.join("state.new");
        fs::write(&new, record.to_string()).expect("a record");
        fs::rename(&new, directory.join("state.json")).expect("a record");
        Self {
            directory,
            _lock: held,
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // A test may have removed it.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn lock(path: &Path) -> File {
    let mut options = OpenOptions::new();
    let opened = options.read(true).write(true).create(true).truncate(false);
    let file = opened.open(path).expect("a lock");
    fcntl_lock(&file, FlockOperation::LockExclusive).expect("the lock is had");
    file
}

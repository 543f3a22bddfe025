//! Reports to which files somebody wrote (inotify(7)), even where a file's content stays the same. It watches files and
//! not their directories, since every process that is started in a cgroup is written to a file beside the limits.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use agent_sys::awaited;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use tokio::io::unix::AsyncFd;

/// Space for some 60 events; more are read in turn.
const BUFFER_BYTES: usize = 2 << 10;

/// The files that are watched.
#[derive(Debug)]
pub struct Writes {
    inotify: Option<AsyncFd<OwnedFd>>,
    watched: HashMap<i32, PathBuf>,
}

impl Writes {
    /// Begins without files. Watches nothing where the kernel refuses an inotify instance. Needs a tokio runtime.
    pub fn begin() -> Self {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        Self {
            inotify: inotify.ok().and_then(|fd| awaited(fd).ok()),
            watched: HashMap::new(),
        }
    }

    /// Watches a file from now on, if it exists.
    pub fn watch(&mut self, file: &Path) {
        if let Some(inotify) = &self.inotify
            && let Ok(watch) = inotify::add_watch(inotify.get_ref(), file, WatchFlags::MODIFY)
        {
            self.watched.insert(watch, file.to_owned());
        }
    }

    /// Waits until somebody has written to one of the files. The future may be dropped, and the method called again.
    pub async fn any(&self) {
        let Some(inotify) = &self.inotify else {
            return std::future::pending().await;
        };
        if let Ok(mut ready) = inotify.readable().await {
            // An event that comes from now on makes it ready again.
            ready.clear_ready();
        }
    }

    /// Returns the files that somebody wrote to since the last call.
    pub fn take(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let Some(inotify) = &self.inotify else {
            return files;
        };
        let mut buffer = [const { MaybeUninit::uninit() }; BUFFER_BYTES];
        let mut events = Reader::new(inotify.get_ref(), &mut buffer);
        // `next` fails with EAGAIN when no event is left.
        while let Ok(event) = events.next() {
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                files.extend(self.watched.values().cloned());
            }
            // The removal of a file is an event too, and no write.
            if event.events().contains(ReadFlags::MODIFY) {
                files.extend(self.watched.get(&event.wd()).cloned());
            }
        }
        files
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_write_is_told_also_of_what_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        let mut writes = Writes::begin();
        for name in ["memory.max", "pids.max"] {
            fs::write(file(name), "1").unwrap();
            writes.watch(&file(name));
        }
        writes.watch(&file("none"));
        let short = Duration::from_millis(20);
        assert!(timeout(short, writes.any()).await.is_err());
        assert!(writes.take().is_empty());
        fs::write(file("cgroup.procs"), "7").unwrap();
        assert!(writes.take().is_empty());
        fs::write(file("pids.max"), "1").unwrap();
        writes.any().await;
        let files = writes.take();
        assert!(!files.is_empty() && files.iter().all(|it| *it == file("pids.max")));
        fs::remove_file(file("memory.max")).unwrap();
        assert!(writes.take().is_empty());
    }
}

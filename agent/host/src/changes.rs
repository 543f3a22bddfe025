//! Reports in which directories somebody wrote to a file (inotify(7)). Only a write changes a cgroup's limits, so
//! limits that were read stay valid until one is reported.

use std::collections::HashMap;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use agent_ebpf::CgroupKey;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use super::file::File;

/// The file of v2 that lists the controllers of the cgroups below. A write to it makes and removes files there, and
/// inotify reports neither.
const CONTROLLERS_BELOW: &[u8] = b"cgroup.subtree_control";

/// Space for some 200 events.
const BUFFER_BYTES: usize = 8 << 10;

/// The directories that are watched.
#[derive(Debug, Default)]
pub struct Changes {
    inotify: Option<OwnedFd>,
    limit: usize,
    watched: HashMap<i32, CgroupKey>,
}

/// Where something has changed since the last call.
#[derive(Debug, PartialEq, Eq)]
pub enum Changed {
    In(Vec<CgroupKey>),
    /// The kernel's queue overflowed, or files may have appeared or gone.
    Everywhere,
}

/// A watched directory. [`Changes::forget`] ends the watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch(i32);

/// Returns how many directories may be watched: half of the user's limit (`fs.inotify.max_user_watches`), as other
/// programs of that user watch files too.
pub fn watches_allowed(root: &Path) -> usize {
    let file = File::read(root.join("proc/sys/fs/inotify/max_user_watches"));
    // A kernel without the file has no inotify.
    let all = file.and_then(|file| file.number()).unwrap_or_default();
    usize::try_from(all / 2).unwrap_or(usize::MAX)
}

impl Changes {
    /// Watches at most `limit` directories. Watches none where the kernel refuses an inotify instance.
    pub fn new(limit: usize) -> Self {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        Self {
            inotify: inotify.ok(),
            limit,
            watched: HashMap::new(),
        }
    }

    /// How many directories are watched.
    pub fn watched(&self) -> usize {
        self.watched.len()
    }

    /// Watches a directory from now on. Returns None where the limit is reached or the directory is gone.
    pub fn watch(&mut self, directory: &Path, key: CgroupKey) -> Option<Watch> {
        if self.watched.len() >= self.limit {
            return None;
        }
        let flags = WatchFlags::MODIFY | WatchFlags::ONLYDIR;
        let watch = inotify::add_watch(self.inotify.as_ref()?, directory, flags).ok()?;
        self.watched.insert(watch, key);
        Some(Watch(watch))
    }

    pub fn forget(&mut self, Watch(watch): Watch) {
        if let Some(inotify) = &self.inotify
            && self.watched.remove(&watch).is_some()
        {
            // The kernel has removed the watch where the directory is gone.
            let _ = inotify::remove_watch(inotify, watch);
        }
    }

    /// Returns what has changed since the last call.
    pub fn take(&mut self) -> Changed {
        let mut keys = Vec::new();
        let Some(inotify) = &self.inotify else {
            return Changed::In(keys);
        };
        let mut buffer = [const { MaybeUninit::uninit() }; BUFFER_BYTES];
        let mut events = Reader::new(inotify, &mut buffer);
        let mut everywhere = false;
        // `next` fails with EAGAIN when no event is left.
        while let Ok(event) = events.next() {
            everywhere |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
            let name = event.file_name().map(CStr::to_bytes);
            everywhere |= name == Some(CONTROLLERS_BELOW);
            keys.extend(self.watched.get(&event.wd()));
        }
        if everywhere {
            return Changed::Everywhere;
        }
        Changed::In(keys)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_write_is_told_once_where_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let key = |id| CgroupKey {
            id,
            hierarchy: 1,
            zero: 0,
        };
        let mut changes = Changes::new(2);
        let mut watches = Vec::new();
        for id in 1..=2 {
            let path = directory.path().join(id.to_string());
            fs::create_dir(&path).unwrap();
            fs::write(path.join("memory.max"), "1").unwrap();
            watches.push(changes.watch(&path, key(id)).unwrap());
        }
        assert_eq!(changes.take(), Changed::In(vec![]));
        assert_eq!(
            changes.watch(directory.path(), key(3)),
            None,
            "two are enough"
        );
        let write = |id: u64| {
            let path = directory.path().join(format!("{id}/memory.max"));
            fs::write(path, "2").unwrap();
        };
        write(2);
        let Changed::In(keys) = changes.take() else {
            panic!("one write is too much");
        };
        assert!(
            !keys.is_empty() && keys.iter().all(|found| *found == key(2)),
            "{keys:?}"
        );
        assert_eq!(changes.take(), Changed::In(vec![]));
        changes.forget(watches[1]);
        write(2);
        assert_eq!(
            (changes.take(), changes.watched()),
            (Changed::In(vec![]), 1)
        );
        fs::write(directory.path().join("1/cgroup.subtree_control"), "+memory").unwrap();
        assert_eq!(changes.take(), Changed::Everywhere);
    }
}

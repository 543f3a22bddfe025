//! Tells in which directories a file was written to (inotify(7)). A cgroup's limits change by a
//! write and by nothing else, so that what was read of them holds until then.

use std::collections::HashMap;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use agent_ebpf::CgroupKey;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use super::file::File;

/// Where v2 says which controllers there are in the cgroups below: a write makes and removes files
/// there, and nobody tells of that.
const CONTROLLERS_BELOW: &[u8] = b"cgroup.subtree_control";

/// Room for some 200 events.
const BUFFER_BYTES: usize = 8 << 10;

/// The directories that are watched.
#[derive(Debug, Default)]
pub struct Changes {
    inotify: Option<OwnedFd>,
    limit: usize,
    watched: HashMap<i32, CgroupKey>,
}

/// Where something changed since the last time.
#[derive(Debug, PartialEq, Eq)]
pub enum Changed {
    In(Vec<CgroupKey>),
    /// More than the kernel keeps, or which files there are.
    Everywhere,
}

/// A directory that is watched, until it is given to [`Changes::forget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch(i32);

/// How many directories may be watched: half of what a user may have
/// (`fs.inotify.max_user_watches`), as others of that user watch too.
pub fn watches_allowed(root: &Path) -> usize {
    let file = File::read(root.join("proc/sys/fs/inotify/max_user_watches"));
    // A kernel without the file has no inotify.
    let all = file.and_then(|file| file.number()).unwrap_or_default();
    usize::try_from(all / 2).unwrap_or(usize::MAX)
}

impl Changes {
    /// Watches at most `limit` directories, and none where the kernel gives no instance.
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

    /// Watches a directory from now on. None: there are enough, or it is gone.
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
            // With the directory it went away of itself.
            let _ = inotify::remove_watch(inotify, watch);
        }
    }

    /// What changed since the last call.
    pub fn take(&mut self) -> Changed {
        let mut keys = Vec::new();
        let Some(inotify) = &self.inotify else {
            return Changed::In(keys);
        };
        let mut buffer = [const { MaybeUninit::uninit() }; BUFFER_BYTES];
        let mut events = Reader::new(inotify, &mut buffer);
        let mut everywhere = false;
        // It ends with EAGAIN.
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

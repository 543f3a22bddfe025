//! Tells in which directories a file was written to (inotify(7)). A cgroup's limits change by a
//! write and by nothing else, so that what was read of them holds until then.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use agent_ebpf::CgroupKey;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

/// Room for some 200 events.
const BUFFER_BYTES: usize = 8 << 10;

/// The directories that are watched.
#[derive(Debug, Default)]
pub struct Changes {
    inotify: Option<OwnedFd>,
    watched: HashMap<i32, CgroupKey>,
}

/// Where something changed since the last time.
#[derive(Debug, PartialEq, Eq)]
pub enum Changed {
    In(Vec<CgroupKey>),
    /// More than the kernel keeps.
    Everywhere,
}

/// A directory that is watched, until it is given to [`Changes::forget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch(i32);

impl Changes {
    /// Nothing is watched where the kernel gives no instance.
    pub fn new() -> Self {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        Self {
            inotify: inotify.ok(),
            watched: HashMap::new(),
        }
    }

    /// Watches a directory from now on. None: the kernel allows no more
    /// (`fs.inotify.max_user_watches`), or it is gone.
    pub fn watch(&mut self, directory: &Path, key: CgroupKey) -> Option<Watch> {
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
        let mut overflow = false;
        // It ends with EAGAIN.
        while let Ok(event) = events.next() {
            overflow |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
            keys.extend(self.watched.get(&event.wd()));
        }
        if overflow {
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
        let mut changes = Changes::new();
        let mut watches = Vec::new();
        for id in 1..=2 {
            let path = directory.path().join(id.to_string());
            fs::create_dir(&path).unwrap();
            fs::write(path.join("memory.max"), "1").unwrap();
            watches.push(changes.watch(&path, key(id)).unwrap());
        }
        assert_eq!(changes.take(), Changed::In(vec![]));
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
        assert_eq!(changes.take(), Changed::In(vec![]));
    }
}

//! Reads the files of cgroups, on one of several threads, and leaves files open that are to be kept.

use std::mem;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use agent_model::hierarchy::Version;
use rustix::fs::{Access, AtFlags, Mode, OFlags, accessat, openat};
use rustix::io::{Errno, pread};

use super::{Directory, Entry, Job, Kept, Last, Plan, ReadErrors, Slot};
use crate::Error;
use crate::cgroup_files::FILES;
use crate::hierarchy::Hierarchies;
use crate::reading::{Field, Reading};

/// Holds the usual file. The longest files have counts for each block device: some 150 bytes a device.
const BUFFER_BYTES: usize = 64 << 10;

/// No file that is read here is nearly as long.
const BUFFER_BYTES_AT_MOST: usize = 32 << 20;

/// Every so many readings, missing files are looked for again.
const LOOK_AGAIN: u32 = 16;

/// The state that the reading threads share.
pub(super) struct Reader<'a> {
    hierarchies: &'a Hierarchies,
    plans: &'a [Plan],
    /// Whether the descriptors of each of [`FILES`] are kept.
    keep: Vec<bool>,
    limit: usize,
    look_again: bool,
    pub open: AtomicUsize,
    pub reads: Vec<AtomicU32>,
}

impl<'a> Reader<'a> {
    pub fn new(kept: &'a Kept, hierarchies: &'a Hierarchies) -> Self {
        let mut room = kept.limit;
        let keep = kept.reads.iter().map(|&reads| {
            let keep = room > 0;
            room = room.saturating_sub(reads as usize);
            keep
        });
        Self {
            hierarchies,
            plans: &kept.plans,
            keep: keep.collect(),
            limit: kept.limit,
            look_again: kept.round.is_multiple_of(LOOK_AGAIN),
            open: AtomicUsize::new(kept.open),
            reads: FILES.iter().map(|_| AtomicU32::new(0)).collect(),
        }
    }

    pub fn read_all(&self, jobs: &mut [Job<'_>]) -> ReadErrors {
        let mut errors = ReadErrors::default();
        let mut buffer = vec![0; BUFFER_BYTES];
        for job in jobs {
            let Job {
                directories,
                entries,
                reading,
            } = job;
            for (directory, entry) in directories.iter().zip(entries) {
                let plan = self.plans.iter().find(|plan| plan.has(directory));
                let Some(plan) = plan else { continue };
                let Entry { watch, slots, last } = entry;
                for (&index, slot) in plan.files.iter().zip(slots) {
                    let source = Source {
                        plan,
                        directory,
                        index,
                    };
                    // The file is closed even if it is not read this time: another file needs the descriptor more.
                    if !self.keep[index] {
                        self.close(slot);
                    }
                    if is_unchanged(&source, last.as_deref(), reading) {
                        continue;
                    }
                    let is_watched = watch.is_some();
                    let read = self.read_into(&source, is_watched, slot, &mut buffer, reading);
                    if read.is_err() {
                        reading.set_unread(&FILES[index].all_fields());
                        errors.keep(read);
                    } else if let Some(with) = FILES[index].moves_with {
                        let said = reading.take(FILES[index].fields);
                        *last = reading.number(with).map(|at| Box::new(Last { at, said }));
                    }
                }
                if plan.mounted.version == Version::V2 && &*directory.path == "/" {
                    errors.keep(self.read_host(plan, reading));
                }
            }
        }
        errors
    }

    fn read_into(
        &self,
        source: &Source<'_>,
        is_watched: bool,
        slot: &mut Slot,
        buffer: &mut Vec<u8>,
        reading: &mut Reading,
    ) -> Result<(), Error> {
        let file = &FILES[source.index];
        if !(file.needed)(reading) {
            return Ok(());
        }
        if let Slot::Known(values) = slot {
            reading.put(file.fields, *values);
            return Ok(());
        }
        let Some(text) = self.read_file(source, slot, buffer)? else {
            return Ok(());
        };
        let parsed = file.parse(text, reading);
        parsed.map_err(|wanted| Error::malformed(source.path(), text, wanted))?;
        if is_watched && (file.settled)(reading) {
            self.close(slot);
            *slot = Slot::Known(reading.take(file.fields));
        }
        Ok(())
    }

    /// Returns the file's text; None where there is no such file.
    fn read_file<'b>(
        &self,
        source: &Source<'_>,
        slot: &mut Slot,
        buffer: &'b mut Vec<u8>,
    ) -> Result<Option<&'b [u8]>, Error> {
        let kept = match mem::take(slot) {
            Slot::Open(descriptor) => Some(descriptor),
            Slot::Missing if !self.look_again => {
                *slot = Slot::Missing;
                return Ok(None);
            }
            _ => None,
        };
        let was_kept = kept.is_some();
        let opened = kept.map_or_else(|| source.open(), Ok);
        let read = opened.and_then(|descriptor| Ok((read_whole(&descriptor, buffer)?, descriptor)));
        match read {
            Ok((length, descriptor)) => {
                self.reads[source.index].fetch_add(1, Ordering::Relaxed);
                if was_kept || self.keep[source.index] && self.take_room() {
                    *slot = Slot::Open(descriptor);
                }
                Ok(Some(&buffer[..length]))
            }
            Err(errno) => {
                if was_kept {
                    self.open.fetch_sub(1, Ordering::Relaxed);
                }
                match errno {
                    // OPNOTSUPP: a file of pressure, where the kernel was told not to measure it.
                    Errno::NOENT | Errno::OPNOTSUPP if source.has_directory() => {
                        *slot = Slot::Missing;
                        Ok(None)
                    }
                    errno => Err(Error::new(source.path(), errno.into())),
                }
            }
        }
    }

    /// Closes the file, where it is open.
    fn close(&self, slot: &mut Slot) {
        if let Slot::Open(_) = slot {
            *slot = Slot::Closed;
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether one more descriptor may be kept.
    fn take_room(&self) -> bool {
        let took = self.open.fetch_add(1, Ordering::Relaxed) < self.limit;
        if !took {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
        took
    }

    /// Reads the memory of v2's root cgroup, which has no memory files, from the host's.
    fn read_host(&self, plan: &Plan, reading: &mut Reading) -> Result<(), Error> {
        let directory = self.hierarchies.directory(&plan.mounted, "/");
        let has_memory = plan.mounted.controllers.iter().any(|name| name == "memory");
        if let Some(directory) = directory.filter(|_| has_memory) {
            let memory = directory.memory()?;
            reading.set(Field::MemoryUsage, memory.usage);
            let inactive = memory.usage - memory.working_set;
            reading.set(Field::InactiveFile, inactive);
        }
        Ok(())
    }
}

/// Reads a file in one call, so that all of it is of one moment. Returns its length. The buffer grows until the file
/// fits.
fn read_whole(descriptor: &OwnedFd, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
    loop {
        let length = pread(descriptor, &mut **buffer, 0)?;
        if length < buffer.len() {
            return Ok(length);
        }
        if length >= BUFFER_BYTES_AT_MOST {
            return Err(Errno::FBIG);
        }
        buffer.resize(length * 2, 0);
    }
}

/// Whether the file is unchanged since it was read last. If so, its values are put into `reading`.
fn is_unchanged(source: &Source<'_>, last: Option<&Last>, reading: &mut Reading) -> bool {
    let file = &FILES[source.index];
    let (Some(with), Some(last)) = (file.moves_with, last) else {
        return false;
    };
    let is_same = reading.number(with) == Some(last.at);
    if is_same {
        reading.put(file.fields, last.said);
    }
    is_same
}

/// A file of a cgroup.
struct Source<'a> {
    plan: &'a Plan,
    directory: &'a Directory,
    /// An index of [`FILES`].
    index: usize,
}

impl Source<'_> {
    fn open(&self) -> Result<OwnedFd, Errno> {
        let below = self.plan.mounted.below_root(&self.directory.path);
        let mut path = below.ok_or(Errno::NOENT)?;
        path.push(FILES[self.index].name);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        openat(
            &self.plan.mount,
            path.as_os_str().as_bytes(),
            flags,
            Mode::empty(),
        )
    }

    /// Whether the cgroup is still there.
    fn has_directory(&self) -> bool {
        let below = self.plan.mounted.below_root(&self.directory.path);
        below.is_some_and(|mut path| {
            // The path of the mount itself is empty, which accessat(2) refuses.
            path.push(".");
            accessat(&self.plan.mount, &path, Access::EXISTS, AtFlags::empty()).is_ok()
        })
    }

    /// The path, for errors.
    fn path(&self) -> PathBuf {
        let mut path = self.plan.path(self.directory).unwrap_or_default();
        path.push(FILES[self.index].name);
        path
    }
}

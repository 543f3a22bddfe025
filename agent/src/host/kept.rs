//! Reads the files of all cgroups, again and again, and keeps them open in between: a `pread` costs
//! a fifth of looking a file up. What cannot be kept, for want of descriptors, is opened each time.

use std::collections::HashMap;
use std::mem;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;

use agent_ebpf::CgroupKey;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, pread};

use super::Error;
use super::files::FILES;
use super::hierarchy::{Hierarchies, Mounted, Version};
use super::reading::{Field, Reading};

/// No file read here comes near; what is longer is cut.
const BUFFER_BYTES: usize = 64 << 10;

/// Files that were missing are looked for again at every such reading.
const LOOK_AGAIN: u32 = 16;

/// Fewer cgroups than this are not worth another thread.
const CGROUPS_A_THREAD: usize = 128;

/// Threads that read at most: the kernel's own locks allow for few.
const THREADS_AT_MOST: usize = 2;

/// A cgroup's directory in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    pub key: CgroupKey,
    /// As [`path::to_text`](super::path::to_text) writes it.
    pub path: Arc<str>,
}

/// Files that could not be read, those of cgroups removed meanwhile excepted.
#[derive(Debug, Default)]
#[must_use]
pub struct ReadErrors {
    pub count: u64,
    /// One for the log.
    pub first: Option<Error>,
}

impl ReadErrors {
    /// The value, if there is one; counts an error that is worth it.
    pub fn keep<T>(&mut self, read: Result<T, Error>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(Error::Gone { .. }) => None,
            Err(error) => {
                self.count += 1;
                self.first.get_or_insert(error);
                None
            }
        }
    }

    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.first = self.first.take().or(other.first);
    }
}

/// The descriptors kept, and what decides which.
#[derive(Debug, Default)]
pub struct Kept {
    limit: usize,
    plans: Vec<Plan>,
    slots: HashMap<CgroupKey, Box<[Slot]>>,
    /// How many cgroups each of [`FILES`] was read of, the last time.
    reads: Vec<u32>,
    open: usize,
    round: u32,
}

/// What to read of a cgroup in one hierarchy.
#[derive(Debug)]
struct Plan {
    mounted: Mounted,
    mount: OwnedFd,
    /// Indexes of [`FILES`].
    files: Vec<usize>,
}

/// A file of one cgroup.
#[derive(Debug, Default)]
enum Slot {
    #[default]
    Closed,
    /// It is not there.
    Missing,
    Open(OwnedFd),
}

/// A cgroup being read.
struct Job<'a> {
    directories: &'a [Directory],
    /// By directory, and by file of the hierarchy's plan.
    slots: Vec<Box<[Slot]>>,
    reading: Reading,
}

impl Kept {
    /// Keeps at most `limit` descriptors.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    /// How many descriptors are kept, and how many may be.
    pub fn sizes(&self) -> (usize, usize) {
        (self.open, self.limit)
    }

    /// Reads all files of each cgroup. Those of cgroups that are not among them are closed.
    pub fn read(
        &mut self,
        hierarchies: &Hierarchies,
        cgroups: &[Vec<Directory>],
    ) -> (Vec<Reading>, ReadErrors) {
        let mut errors = ReadErrors::default();
        if self.plans.is_empty() {
            self.plans = plans(hierarchies, &mut errors);
            self.reads = vec![0; FILES.len()];
        }
        let mut jobs = self.jobs(cgroups);
        let reader = Reader::new(self, hierarchies);
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let threads = threads
            .min(THREADS_AT_MOST)
            .min(jobs.len().div_ceil(CGROUPS_A_THREAD));
        let share = jobs.len().div_ceil(threads.max(1)).max(1);
        thread::scope(|scope| {
            let mut parts = jobs.chunks_mut(share);
            let first = parts.next();
            let others: Vec<_> = parts
                .map(|part| scope.spawn(|| reader.read_all(part)))
                .collect();
            errors.add(reader.read_all(first.unwrap_or_default()));
            for other in others {
                // A panic there was printed already.
                errors.add(other.join().unwrap_or_default());
            }
        });
        let Reader { reads, open, .. } = reader;
        self.reads = reads.into_iter().map(AtomicU32::into_inner).collect();
        self.open = open.into_inner();
        self.round = self.round.wrapping_add(1);
        let mut readings = Vec::with_capacity(jobs.len());
        for job in jobs {
            let keys = job.directories.iter().map(|directory| directory.key);
            self.slots.extend(keys.zip(job.slots));
            readings.push(job.reading);
        }
        (readings, errors)
    }

    /// Hands the slots to the cgroups whose they are, and closes all others.
    fn jobs<'a>(&mut self, cgroups: &'a [Vec<Directory>]) -> Vec<Job<'a>> {
        let mut before = mem::take(&mut self.slots);
        let mut open = self.open;
        let jobs = cgroups.iter().map(|directories| {
            let slots = directories.iter().map(|directory| {
                before.remove(&directory.key).unwrap_or_else(|| {
                    let plan = self.plans.iter().find(|plan| plan.has(directory));
                    for &file in plan.map_or(&[][..], |plan| &plan.files) {
                        self.reads[file] += 1;
                    }
                    let files = plan.map_or(0, |plan| plan.files.len());
                    (0..files).map(|_| Slot::Closed).collect()
                })
            });
            Job {
                directories,
                slots: slots.collect(),
                reading: Reading::default(),
            }
        });
        let jobs = jobs.collect();
        let gone = before.values().flatten();
        open -= gone.filter(|slot| matches!(slot, Slot::Open(_))).count();
        self.open = open;
        jobs
    }
}

fn plans(hierarchies: &Hierarchies, errors: &mut ReadErrors) -> Vec<Plan> {
    let plans = hierarchies.all().iter().filter_map(|mounted| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mount = openat(CWD, &mounted.mount, flags, Mode::empty());
        let mount = mount.map_err(|errno| Error::new(mounted.mount.clone(), errno.into()));
        let files = FILES.iter().enumerate();
        let files = files.filter(|(_, file)| file.is_in(mounted, hierarchies));
        Some(Plan {
            mount: errors.keep(mount)?,
            mounted: mounted.clone(),
            files: files.map(|(index, _)| index).collect(),
        })
    });
    plans.collect()
}

impl Plan {
    fn has(&self, directory: &Directory) -> bool {
        self.mounted.id == directory.key.hierarchy
    }
}

/// What threads that read share.
struct Reader<'a> {
    hierarchies: &'a Hierarchies,
    plans: &'a [Plan],
    /// By index of [`FILES`]: whether its descriptors are kept.
    keep: Vec<bool>,
    limit: usize,
    look_again: bool,
    open: AtomicUsize,
    reads: Vec<AtomicU32>,
}

impl<'a> Reader<'a> {
    fn new(kept: &'a Kept, hierarchies: &'a Hierarchies) -> Self {
        let mut room = kept.limit;
        let keep = kept.reads.iter().map(|&reads| {
            let fits = room.checked_sub(reads as usize);
            room = fits.unwrap_or(0);
            fits.is_some()
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

    fn read_all(&self, jobs: &mut [Job<'_>]) -> ReadErrors {
        let mut errors = ReadErrors::default();
        let mut buffer = vec![0; BUFFER_BYTES];
        for job in jobs {
            let Job {
                directories,
                slots,
                reading,
            } = job;
            for (directory, slots) in directories.iter().zip(slots) {
                let plan = self.plans.iter().find(|plan| plan.has(directory));
                let Some(plan) = plan else { continue };
                for (&index, slot) in plan.files.iter().zip(slots) {
                    if !(FILES[index].needed)(reading) {
                        continue;
                    }
                    let source = Source {
                        plan,
                        directory,
                        index,
                    };
                    let read = self.read_file(&source, slot, &mut buffer);
                    let parsed = read.and_then(|text| source.parse(text, reading));
                    errors.keep(parsed);
                }
                if plan.mounted.version == Version::V2 && &*directory.path == "/" {
                    errors.keep(self.read_host(plan, reading));
                }
            }
        }
        errors
    }

    /// What the file holds; None where there is none.
    fn read_file<'b>(
        &self,
        source: &Source<'_>,
        slot: &mut Slot,
        buffer: &'b mut [u8],
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
        let read =
            opened.and_then(|descriptor| Ok((pread(&descriptor, &mut *buffer, 0)?, descriptor)));
        self.reads[source.index].fetch_add(1, Ordering::Relaxed);
        match read {
            Ok((length, descriptor)) => {
                let keep = self.keep[source.index] && (was_kept || self.take_room());
                if keep {
                    *slot = Slot::Open(descriptor);
                } else if was_kept {
                    self.open.fetch_sub(1, Ordering::Relaxed);
                }
                Ok(Some(&buffer[..length]))
            }
            Err(errno) => {
                if was_kept {
                    self.open.fetch_sub(1, Ordering::Relaxed);
                } else {
                    *slot = Slot::Missing;
                }
                match errno {
                    // Pressure, where the kernel was told not to measure it.
                    Errno::OPNOTSUPP => Ok(None),
                    errno => Err(Error::new(source.path(), errno.into())),
                }
            }
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

    /// v2's root has no files of memory: it is the host's.
    fn read_host(&self, plan: &Plan, reading: &mut Reading) -> Result<(), Error> {
        let directory = self.hierarchies.directory(&plan.mounted, "/");
        let has_memory = plan.mounted.controllers.iter().any(|name| name == "memory");
        if let Some(directory) = directory.filter(|_| has_memory) {
            let memory = directory.memory()?;
            reading.set(Field::MemoryUsage, memory.usage);
            let inactive = memory.usage - memory.working_set;
            reading.set(Field::InactiveFile, inactive);
            reading.set_limit(Field::MemoryLimit, memory.limit);
        }
        Ok(())
    }
}

/// A file of a cgroup.
struct Source<'a> {
    plan: &'a Plan,
    directory: &'a Directory,
    /// In [`FILES`].
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

    /// For errors.
    fn path(&self) -> PathBuf {
        let mount = &self.plan.mounted.mount;
        let below = self.plan.mounted.below_root(&self.directory.path);
        let mut path = mount.join(below.unwrap_or_default());
        path.push(FILES[self.index].name);
        path
    }

    fn parse(&self, text: Option<&[u8]>, reading: &mut Reading) -> Result<(), Error> {
        let Some(text) = text else { return Ok(()) };
        let parsed = FILES[self.index].form.parse(text, reading);
        parsed.map_err(|wanted| Error::malformed(self.path(), text, wanted))
    }
}

#[cfg(test)]
mod tests;

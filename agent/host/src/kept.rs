//! Reads the files of all cgroups repeatedly, and keeps them open in between: a `pread` costs a fifth of a path lookup.
//! A file for which no descriptor is left is opened each time. Settings are remembered until somebody writes to one.

mod reader;

use std::collections::{HashMap, HashSet};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::{mem, thread};

use agent_ebpf::CgroupKey;
use reader::Reader;
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::Error;
use super::cgroup_files::{CgroupFile, FILES};
use super::changes::{Changed, Changes, Watch};
use super::hierarchy::{Hierarchies, Mounted};
use super::reading::{REMEMBERED_A_FILE, Reading};

/// Fewer cgroups than this are not worth another thread.
const CGROUPS_A_THREAD: usize = 128;

/// The most threads that read: the kernel's own locks allow for few.
const THREADS_AT_MOST: usize = 2;

/// A cgroup's directory in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    pub key: CgroupKey,
    /// The path, as [`path::to_text`](super::path::to_text) writes it.
    pub path: Arc<str>,
}

/// The errors of files that could not be read, without those of cgroups that were removed meanwhile.
#[derive(Debug, Default)]
#[must_use]
pub struct ReadErrors {
    pub count: u64,
    /// The first error, for the log.
    pub first: Option<Error>,
    /// The errors after the first, at most 31.
    pub others: Vec<Error>,
}

/// The most errors that are kept beside the first.
const OTHERS_AT_MOST: usize = 31;

impl ReadErrors {
    /// Returns the value, if there is one. Counts and keeps an error, unless it is [`Error::Gone`].
    pub fn keep<T>(&mut self, read: Result<T, Error>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(Error::Gone { .. }) => None,
            Err(error) => {
                self.count += 1;
                self.put(error);
                None
            }
        }
    }

    /// All errors that were kept.
    pub fn into_kept(self) -> impl Iterator<Item = Error> {
        self.first.into_iter().chain(self.others)
    }

    fn put(&mut self, error: Error) {
        match self.first {
            None => self.first = Some(error),
            Some(_) if self.others.len() < OTHERS_AT_MOST => self.others.push(error),
            Some(_) => {}
        }
    }

    /// Adds the errors of other files.
    pub fn add(&mut self, other: Self) {
        self.count += other.count;
        other.into_kept().for_each(|error| self.put(error));
    }
}

/// The numbers of open descriptors and watched directories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    pub descriptors: usize,
    pub descriptors_limit: usize,
    /// Directories whose settings are remembered.
    pub watched: usize,
    /// Directories whose settings are read each time.
    pub unwatched: usize,
}

/// The open descriptors, the remembered settings, and what decides which are kept.
#[derive(Debug, Default)]
pub struct Kept {
    limit: usize,
    plans: Vec<Plan>,
    entries: HashMap<CgroupKey, Entry>,
    changes: Changes,
    /// In how many cgroups each of [`FILES`] was read the last time.
    reads: Vec<u32>,
    open: usize,
    round: u32,
    /// Whether files with a number for each CPU are read.
    each_cpu: bool,
}

/// The files to read of each cgroup in one hierarchy.
#[derive(Debug)]
struct Plan {
    mounted: Mounted,
    mount: OwnedFd,
    /// Indexes of [`FILES`].
    files: Vec<usize>,
    has_settings: bool,
}

/// The files of one cgroup in one hierarchy.
#[derive(Debug)]
struct Entry {
    /// None: writes in the directory are not reported, and nothing is remembered.
    watch: Option<Watch>,
    /// One for each file of the hierarchy's plan.
    slots: Box<[Slot]>,
    /// For the hierarchy's file with `moves_with`, which few hierarchies have.
    last: Option<Box<Last>>,
}

/// The values of the file that changes with one field only.
#[derive(Clone, Copy, Debug)]
struct Last {
    /// The field's value when the file was read.
    at: u64,
    said: [u64; REMEMBERED_A_FILE],
}

/// A file of one cgroup.
#[derive(Debug, Default)]
enum Slot {
    #[default]
    Closed,
    /// The file does not exist.
    Missing,
    Open(OwnedFd),
    /// The values, which hold until somebody writes to the file.
    Known([u64; REMEMBERED_A_FILE]),
}

/// A cgroup that is being read.
struct Job<'a> {
    directories: &'a [Directory],
    /// One for each directory.
    entries: Vec<Entry>,
    reading: Reading,
}

impl Kept {
    /// Keeps at most `limit` descriptors, and watches at most `watches` directories.
    pub fn new(limit: usize, watches: usize) -> Self {
        Self {
            limit,
            changes: Changes::new(watches),
            ..Self::default()
        }
    }

    /// Reads the files that have a number for each CPU, too. Each costs 1 µs, and 0.1 µs for each CPU.
    #[must_use]
    pub fn with_each_cpu(self, each_cpu: bool) -> Self {
        Self { each_cpu, ..self }
    }

    pub fn sizes(&self) -> Sizes {
        let with_settings = self.entries.keys().filter(|key| {
            let mut plans = self.plans.iter();
            plans.any(|plan| plan.mounted.id == key.hierarchy && plan.has_settings)
        });
        let watched = self.changes.watched();
        Sizes {
            descriptors: self.open,
            descriptors_limit: self.limit,
            watched,
            unwatched: with_settings.count().saturating_sub(watched),
        }
    }

    /// Reads all files of each cgroup. Closes the files of cgroups that are not in `cgroups`.
    pub fn read(
        &mut self,
        hierarchies: &Hierarchies,
        cgroups: &[Vec<Directory>],
    ) -> (Vec<Reading>, ReadErrors) {
        let mut errors = ReadErrors::default();
        if self.plans.is_empty() {
            self.plans = plans(hierarchies, self.each_cpu, &mut errors);
            self.reads = vec![0; FILES.len()];
        }
        self.forget_changed();
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
                // The thread has printed its panic.
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
            let entries = keys.zip(job.entries);
            // Half of v1's hierarchies have no file to read.
            self.entries
                .extend(entries.filter(|(_, entry)| !entry.slots.is_empty()));
            readings.push(job.reading);
        }
        (readings, errors)
    }

    /// Forgets the settings and the missing files of directories in which somebody has written.
    fn forget_changed(&mut self) {
        let forget = |entry: &mut Entry| {
            let known = |slot: &&mut Slot| matches!(slot, Slot::Known(_) | Slot::Missing);
            entry
                .slots
                .iter_mut()
                .filter(known)
                .for_each(|slot| *slot = Slot::Closed);
        };
        match self.changes.take() {
            Changed::Everywhere => self.entries.values_mut().for_each(forget),
            Changed::In(keys) => {
                for key in keys {
                    self.entries.get_mut(&key).map(forget);
                }
            }
        }
    }

    /// Moves each cgroup's entries into its job.
    fn jobs<'a>(&mut self, cgroups: &'a [Vec<Directory>]) -> Vec<Job<'a>> {
        // This comes before new watches: the kernel may give the same watch for a path that is used again.
        self.close_others(cgroups);
        let mut before = mem::take(&mut self.entries);
        let jobs = cgroups.iter().map(|directories| {
            let entries = directories.iter().map(|directory| {
                let kept = before.remove(&directory.key);
                let mut entry = kept.unwrap_or_else(|| self.new_entry(directory));
                entry.watch = entry.watch.or_else(|| self.watch(directory));
                entry
            });
            Job {
                directories,
                entries: entries.collect(),
                reading: Reading::default(),
            }
        });
        jobs.collect()
    }

    /// Closes the files of all cgroups but these.
    fn close_others(&mut self, cgroups: &[Vec<Directory>]) {
        let directories = cgroups.iter().flatten();
        let stay: HashSet<CgroupKey> = directories.map(|directory| directory.key).collect();
        for (_, entry) in self.entries.extract_if(|key, _| !stay.contains(key)) {
            let slots = entry.slots.iter();
            self.open -= slots.filter(|slot| matches!(slot, Slot::Open(_))).count();
            if let Some(watch) = entry.watch {
                self.changes.forget(watch);
            }
        }
    }

    fn new_entry(&mut self, directory: &Directory) -> Entry {
        let plan = self.plans.iter().find(|plan| plan.has(directory));
        let files = plan.map_or(&[][..], |plan| &plan.files);
        for &file in files {
            // The reader expects this file to be open in one more cgroup.
            self.reads[file] += u32::from(!is_settings(file));
        }
        Entry {
            watch: None,
            slots: files.iter().map(|_| Slot::Closed).collect(),
            last: None,
        }
    }

    fn watch(&mut self, directory: &Directory) -> Option<Watch> {
        let mut plans = self.plans.iter().filter(|plan| plan.has_settings);
        let path = plans.find(|plan| plan.has(directory))?.path(directory)?;
        self.changes.watch(&path, directory.key)
    }
}

fn is_settings(file: usize) -> bool {
    FILES[file].is_of_settings()
}

fn plans(hierarchies: &Hierarchies, each_cpu: bool, errors: &mut ReadErrors) -> Vec<Plan> {
    let plans = hierarchies.all().iter().filter_map(|mounted| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mount = openat(CWD, &mounted.mount, flags, Mode::empty());
        let mount = mount.map_err(|errno| Error::new(mounted.mount.clone(), errno.into()));
        let files = FILES.iter().enumerate();
        let is_wanted =
            |file: &CgroupFile| file.has_metrics() && (each_cpu || !file.is_on_request());
        let files = files.filter(|(_, file)| is_wanted(file) && file.is_in(mounted, hierarchies));
        let files: Vec<usize> = files.map(|(index, _)| index).collect();
        Some(Plan {
            mount: errors.keep(mount)?,
            mounted: mounted.clone(),
            has_settings: files.iter().any(|&file| is_settings(file)),
            files,
        })
    });
    plans.collect()
}

impl Plan {
    fn has(&self, directory: &Directory) -> bool {
        self.mounted.id == directory.key.hierarchy
    }

    /// None where the mount does not show the directory.
    fn path(&self, directory: &Directory) -> Option<PathBuf> {
        let below = self.mounted.below_root(&directory.path)?;
        Some(self.mounted.mount.join(below))
    }
}

#[cfg(test)]
mod tests;

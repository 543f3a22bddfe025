//! Which files of cgroups a scrape stands on, as the kernel itself tells, and the cost of reading just these without
//! having kept anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::mem::MaybeUninit;
use std::path::PathBuf;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tests::cgroup;

use crate::agent;
use crate::cgroups::{Sleeper, Sleepers};

/// How many cgroups are looked at: the kernel's queue has room for 16,384 reads.
const LOOKED_AT: usize = 100;

pub type Files = BTreeSet<PathBuf>;

/// A file of a cgroup: in which of its directories, and its name.
type Place = (usize, String);

/// The files that an agent without memory has to read for the same answer: those of these cgroups and of their processes
/// that the first scrape of a new agent reads. Later ones leave out what they know. A file that is empty is not seen.
///
/// # Panics
/// Where there are none.
pub fn read_by_a_first_scrape(sleepers: &Sleepers) -> Files {
    let some = &sleepers.all()[..sleepers.all().len().min(LOOKED_AT)];
    let directories: Vec<Vec<PathBuf>> = some.iter().map(directories_of).collect();
    let read = read_in(&directories);
    let places = read.into_iter().reduce(|some, others| &some & &others);
    let places = places.unwrap_or_default();
    assert!(!places.is_empty(), "a scrape reads no files");
    let files = sleepers.all().iter().flat_map(|sleeper| {
        let directories = directories_of(sleeper);
        let file = |(index, name): &Place| directories[*index].join(name);
        places.iter().map(file).collect::<Vec<_>>()
    });
    files.collect()
}

/// Where files can be that tell of a cgroup.
fn directories_of(sleeper: &Sleeper) -> Vec<PathBuf> {
    let path = sleeper.cgroup.path();
    let below = |root: &std::path::Path| root.join(path.trim_start_matches('/'));
    let process = PathBuf::from(format!("/proc/{}", sleeper.pid()));
    let of_process = [process.join("net"), process];
    cgroup::roots().map(below).chain(of_process).collect()
}

/// What the first scrape of a new agent reads, by cgroup.
fn read_in(directories: &[Vec<PathBuf>]) -> Vec<BTreeSet<Place>> {
    let serve = agent::start();
    let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).expect("inotify");
    let mut watched = BTreeMap::new();
    for (cgroup, directories) in directories.iter().enumerate() {
        for (index, directory) in directories.iter().enumerate() {
            let watch = inotify::add_watch(&events, directory, WatchFlags::ACCESS);
            watched.insert(watch.expect("a watch of a directory"), (cgroup, index));
        }
    }
    serve.metrics();
    let mut read = vec![BTreeSet::new(); directories.len()];
    let mut buffer = [MaybeUninit::uninit(); 1 << 16];
    let mut reader = Reader::new(&events, &mut buffer);
    loop {
        match reader.next() {
            Ok(event) => {
                let overflow = event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                assert!(
                    !overflow,
                    "more is read than the kernel's queue has room for"
                );
                let name = event.file_name().map(|name| name.to_string_lossy());
                if let (Some((cgroup, index)), Some(name)) = (watched.get(&event.wd()), name) {
                    read[*cgroup].insert((*index, name.into_owned()));
                }
            }
            Err(Errno::AGAIN) => break,
            Err(error) => panic!("inotify: {error}"),
        }
    }
    serve.stop();
    read
}

/// Reads these files, each opened anew: how many bytes they have.
///
/// # Panics
/// Where one cannot be read.
pub fn sweep(files: &Files) -> usize {
    let mut text = Vec::new();
    let read = |path: &PathBuf| {
        text.clear();
        let bytes = File::open(path).and_then(|mut file| file.read_to_end(&mut text));
        bytes.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    files.iter().map(read).sum()
}

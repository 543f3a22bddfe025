//! Which files a scrape reads of cgroups, as the kernel itself tells, and the cost of reading just these without having
//! kept anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::mem::MaybeUninit;
use std::path::PathBuf;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tests::cgroup;
use tests::serve::Serve;

use crate::cgroups::{Sleeper, Sleepers};

/// How often is looked. What others read meanwhile, they hardly read each time.
const LOOKS: u32 = 3;

/// How many cgroups are looked at at once: the kernel's queue has room for 16,384 reads.
const AT_ONCE: usize = 200;

pub type Files = BTreeSet<PathBuf>;

/// The files of these cgroups, and of their processes, that every scrape reads. One that is empty is not seen.
///
/// # Panics
/// Where there are none.
pub fn read_by_a_scrape(serve: &Serve, sleepers: &Sleepers) -> Files {
    let mut files = Files::new();
    for some in sleepers.all().chunks(AT_ONCE) {
        let directories: Vec<PathBuf> = some.iter().flat_map(directories_of).collect();
        let looks = (0..LOOKS).map(|_| look(serve, &directories));
        files.extend(
            looks
                .reduce(|some, others| &some & &others)
                .unwrap_or_default(),
        );
    }
    assert!(!files.is_empty(), "a scrape reads no files");
    files
}

/// Where files can be that tell of a cgroup.
fn directories_of(sleeper: &Sleeper) -> Vec<PathBuf> {
    let path = sleeper.cgroup.path();
    let below = |root: &std::path::Path| root.join(path.trim_start_matches('/'));
    let process = PathBuf::from(format!("/proc/{}", sleeper.pid()));
    let of_process = [process.join("net"), process];
    cgroup::roots().map(below).chain(of_process).collect()
}

/// The files in these directories that are read during one scrape.
fn look(serve: &Serve, directories: &[PathBuf]) -> Files {
    let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).expect("inotify");
    let mut watched = BTreeMap::new();
    for directory in directories {
        let watch = inotify::add_watch(&events, directory, WatchFlags::ACCESS);
        watched.insert(watch.expect("a watch of a directory"), directory);
    }
    serve.metrics();
    let mut buffer = [MaybeUninit::uninit(); 1 << 16];
    let mut reader = Reader::new(&events, &mut buffer);
    let mut files = Files::new();
    loop {
        match reader.next() {
            Ok(event) => {
                let overflow = event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                assert!(
                    !overflow,
                    "more is read than the kernel's queue has room for"
                );
                let name = event
                    .file_name()
                    .map(|name| name.to_string_lossy().into_owned());
                let directory = watched.get(&event.wd());
                files.extend(
                    directory
                        .zip(name)
                        .map(|(directory, name)| directory.join(name)),
                );
            }
            Err(Errno::AGAIN) => return files,
            Err(error) => panic!("inotify: {error}"),
        }
    }
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

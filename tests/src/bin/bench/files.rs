//! Which files of cgroups a scrape reads, as the kernel itself tells, and the cost of reading just these without having
//! kept anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tests::cgroup::{self, Cgroup};
use tests::serve::Serve;

/// How often is looked. What others read meanwhile, they hardly read each time.
const LOOKS: u32 = 3;

/// Files of a cgroup: where its hierarchy is mounted, and the name.
pub type Files = BTreeSet<(PathBuf, String)>;

/// The files of `cgroup` that a scrape reads.
///
/// # Panics
/// Where there are none.
pub fn read_by_a_scrape(serve: &Serve, cgroup: &Cgroup) -> Files {
    let looks = (0..LOOKS).map(|_| look(serve, cgroup));
    let common = looks.reduce(|some, others| &some & &others);
    let files = common.unwrap_or_default();
    assert!(!files.is_empty(), "a scrape reads no file of {cgroup:?}");
    files
}

/// The files of `cgroup` that are read during one scrape.
fn look(serve: &Serve, cgroup: &Cgroup) -> Files {
    let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).expect("inotify");
    let mut roots = BTreeMap::new();
    for root in cgroup::roots() {
        let directory = below(root, cgroup);
        let watch = inotify::add_watch(&events, &directory, WatchFlags::ACCESS);
        roots.insert(watch.expect("a watch of a cgroup"), root);
    }
    serve.metrics();
    let mut buffer = [MaybeUninit::uninit(); 1 << 16];
    let mut reader = Reader::new(&events, &mut buffer);
    let mut files = Files::new();
    loop {
        match reader.next() {
            Ok(event) => {
                assert!(!event.events().contains(ReadFlags::QUEUE_OVERFLOW));
                let name = event
                    .file_name()
                    .map(|name| name.to_string_lossy().into_owned());
                let root = roots.get(&event.wd());
                files.extend(
                    root.zip(name)
                        .map(|(root, name)| (root.to_path_buf(), name)),
                );
            }
            Err(Errno::AGAIN) => return files,
            Err(error) => panic!("inotify: {error}"),
        }
    }
}

/// Reads these files of all `cgroups`, each opened anew: how many bytes they have.
///
/// # Panics
/// Where one cannot be read.
pub fn sweep<'a>(files: &Files, cgroups: impl Iterator<Item = &'a Cgroup>) -> usize {
    let mut text = Vec::new();
    let mut bytes = 0;
    for cgroup in cgroups {
        for (root, name) in files {
            text.clear();
            let path = below(root, cgroup).join(name);
            let file = File::open(&path).and_then(|mut file| file.read_to_end(&mut text));
            bytes += file.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }
    bytes
}

fn below(root: &Path, cgroup: &Cgroup) -> PathBuf {
    root.join(cgroup.path().trim_start_matches('/'))
}

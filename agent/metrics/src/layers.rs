//! The thread that measures the writable layers of containers. A scrape tells it the containers, and takes what it has
//! measured so far, so that no scrape waits for a disk.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, park_timeout};
use std::time::{Duration, Instant};

use agent_host::filesystems::Filesystem;
use agent_host::layer::{self, LayerSize, Measured};
use agent_model::lock::lock;

/// The time from the end of one round of all layers to the begin of the next. It is that of cAdvisor.
const INTERVAL: Duration = Duration::from_secs(60);

/// How often the thread looks for containers that are new since the round.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The init process of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Init {
    pub pid: u32,
    pub start_time: u64,
}

/// The measured layers of the containers that a scrape told.
#[derive(Debug, Default)]
struct MeasuredLayers {
    stop: AtomicBool,
    /// `None`: not measured yet, or not to be measured.
    layers: Mutex<HashMap<Init, Option<Filesystem>>>,
}

/// The thread. Dropping it ends the thread.
#[derive(Debug)]
pub struct Layers {
    shared: Arc<MeasuredLayers>,
    thread: Option<JoinHandle<()>>,
}

impl Layers {
    /// Starts the thread, with the lowest priority.
    ///
    /// # Errors
    /// The kernel refuses a thread.
    pub fn start() -> io::Result<Self> {
        let shared = Arc::new(MeasuredLayers::default());
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new().name("layers".to_owned());
        let thread = thread.spawn(move || {
            // A thread of this priority also has the lowest one of the disk.
            let _ = rustix::process::setpriority_process(None, 19);
            of_thread.serve();
        })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Returns the layers of these containers that have been measured. Forgets those of others.
    pub fn take(&self, inits: &[Init]) -> HashMap<Init, Filesystem> {
        let mut layers = lock(&self.shared.layers);
        let known = inits
            .iter()
            .map(|init| (*init, layers.remove(init).flatten()));
        let known: HashMap<_, _> = known.collect();
        *layers = known;
        let measured = layers.iter();
        let measured = measured.filter_map(|(init, layer)| Some((*init, layer.clone()?)));
        measured.collect()
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // The panic hook has printed a panic of the thread.
            let _ = thread.join();
        }
    }
}

impl MeasuredLayers {
    fn serve(&self) {
        let root = Path::new("/");
        let mut round: VecDeque<Init> = VecDeque::new();
        let mut seen: HashMap<Init, Instant> = HashMap::new();
        while !self.is_stopped() {
            if let Some(init) = round.pop_front() {
                seen.insert(init, Instant::now());
                self.put(init, measure(root, init, &|| self.is_stopped()));
                continue;
            }
            let inits: Vec<Init> = lock(&self.layers).keys().copied().collect();
            seen.retain(|init, _| inits.contains(init));
            let is_due = |init: &Init| seen.get(init).is_none_or(|at| at.elapsed() >= INTERVAL);
            round.extend(inits.into_iter().filter(is_due));
            if round.is_empty() {
                park_timeout(LOOK_EVERY);
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Keeps a result, if the container is still wanted.
    fn put(&self, init: Init, measured: Option<Filesystem>) {
        if let Some(layer) = lock(&self.layers).get_mut(&init) {
            *layer = measured;
        }
    }
}

/// Measures the layer of a container. Returns `None` where it has none, or more than is looked at.
fn measure(root: &Path, init: Init, stop: &dyn Fn() -> bool) -> Option<Filesystem> {
    let path: PathBuf = layer::of_process(root, init.pid, init.start_time).ok()??;
    let Measured {
        device,
        limit,
        size,
    } = layer::measure(root, &path, stop).ok()?;
    let LayerSize { bytes, inodes } = size?;
    Some(Filesystem {
        device: device.into(),
        size: limit,
        used: bytes,
        inodes,
        inodes_free: None,
        io: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn init(pid: u32) -> Init {
        Init { pid, start_time: 0 }
    }

    #[test]
    fn a_container_that_is_not_asked_for_is_forgotten() {
        let layer = Filesystem {
            device: "/dev/vda".into(),
            size: 4096,
            used: 512,
            inodes: 1,
            inodes_free: None,
            io: None,
        };
        let layers = Layers {
            shared: Arc::default(),
            thread: None,
        };
        assert_eq!(layers.take(&[init(1), init(2)]), HashMap::new());
        layers.shared.put(init(1), Some(layer.clone()));
        layers.shared.put(init(3), Some(layer.clone()));
        let wanted = HashMap::from([(init(1), layer)]);
        assert_eq!(layers.take(&[init(1), init(2), init(3)]), wanted);
        assert_eq!(layers.take(&[init(2)]), HashMap::new());
        assert_eq!(layers.take(&[init(1)]), HashMap::new());
    }
}

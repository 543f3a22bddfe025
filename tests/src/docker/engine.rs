//! dockerd, and what it leaves.

use std::fs::{self, File};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::client::Client;
use super::image;
use crate::cgroup;
use crate::process::{Log, kill};
use crate::program::{PATH, program};
use crate::wait::{PATIENCE, poll};

/// Nothing of the host: no network, no cgroups of systemd, no configuration.
const OPTIONS: [&str; 7] = [
    "--log-level=warn",
    "--bridge=none",
    "--iptables=false",
    "--ip6tables=false",
    "--ip-forward=false",
    "--ip-masq=false",
    "--exec-opt=native.cgroupdriver=cgroupfs",
];

/// What it stores layers with; not every file system takes the first.
const STORAGE_DRIVERS: [&str; 2] = ["overlay2", "vfs"];

/// What dockerd and containerd make outside of the directories that they are told, and leave: each before the
/// directory that it is in.
const TRACES: [&str; 9] = [
    "/etc/docker/key.json",
    "/etc/docker",
    "/opt/containerd/bin",
    "/opt/containerd/lib",
    "/opt/containerd",
    "/run/containerd/s",
    "/run/containerd",
    "/run/docker/plugins",
    "/run/docker",
];

/// dockerd with a containerd of its own. Dropping it ends both and removes all that they made.
pub struct Engine {
    dockerd: Child,
    log: Log,
    /// Traces that were not there before it.
    traces: Vec<PathBuf>,
    directory: TempDir,
    storage_driver: &'static str,
    /// Locked while it lives: two engines would each take the other's traces for the host's.
    _only: File,
}

impl Engine {
    /// Starts it, with the image.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn start() -> Self {
        let mut said = String::new();
        for driver in STORAGE_DRIVERS {
            let mut engine = Self::spawn(driver);
            if engine.answers() {
                let rootfs = engine.directory.path().join("rootfs");
                image::import(&engine.client(), &rootfs);
                return engine;
            }
            said = engine.log.text();
        }
        panic!("dockerd does not start: {said}");
    }

    fn spawn(storage_driver: &'static str) -> Self {
        // No file is made for the lock that would stay.
        let only = File::open(program("dockerd")).expect("dockerd can be read");
        only.lock().expect("a lock");
        let directory = tempfile::Builder::new().prefix("docker-").tempdir();
        let directory = directory.expect("a directory for the engine");
        let path = directory.path();
        fs::write(path.join("daemon.json"), "{}").expect("the engine's configuration");
        let cgroups = cgroup::roots().map(|root| root.join("docker"));
        let traces = TRACES.map(PathBuf::from).into_iter().chain(cgroups);
        let traces = traces.filter(|path| !path.exists()).collect();
        let (dockerd, log) = dockerd(path, storage_driver);
        Self {
            log,
            dockerd,
            traces,
            directory,
            storage_driver,
            _only: only,
        }
    }

    /// Kills dockerd, as `kill -9` does.
    pub fn kill(&mut self) {
        kill(&mut self.dockerd);
    }

    /// Starts dockerd again, with what it stores.
    ///
    /// # Panics
    /// Where it does not come to answering.
    pub fn start_again(&mut self) {
        // Its containerd was killed with it. While nobody has waited for that, dockerd would take it for alive.
        let _ = fs::remove_file(self.directory.path().join("exec/containerd/containerd.pid"));
        (self.dockerd, self.log) = dockerd(self.directory.path(), self.storage_driver);
        assert!(
            self.answers(),
            "dockerd does not start: {}",
            self.log.text()
        );
    }

    /// Stops dockerd, as a debugger does, or lets it go on.
    pub fn set_stopped(&self, stopped: bool) {
        let signal = if stopped { Signal::STOP } else { Signal::CONT };
        // Where it has ended, it was not waited for yet: the pid is its own.
        let _ = kill_process(Pid::from_child(&self.dockerd), signal);
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        Client::new(self.directory.path())
    }

    /// Whether it comes to answering.
    fn answers(&mut self) -> bool {
        let client = self.client();
        let answers = poll(PATIENCE, || {
            if client.try_call(&["version"]).is_ok() {
                return Some(true);
            }
            self.has_ended().then_some(false)
        });
        answers.unwrap_or(false)
    }

    fn has_ended(&mut self) -> bool {
        self.dockerd.try_wait().expect("dockerd's state").is_some()
    }

    fn remove_containers(&self) {
        let client = self.client();
        // Where it does not answer, its containers are killed later.
        let all = client.try_call(&["ps", "--all", "--quiet"]);
        let all = all.unwrap_or_default();
        let all: Vec<&str> = all.lines().collect();
        if !all.is_empty() {
            let _ = client.try_call(&[&["rm", "--force"], &all[..]].concat());
        }
    }

    /// Ends dockerd, which ends its containerd.
    fn stop(&mut self) {
        if !self.has_ended() {
            // It was not waited for yet: the pid is its own.
            let _ = kill_process(Pid::from_child(&self.dockerd), Signal::TERM);
        }
        poll(PATIENCE, || self.has_ended().then_some(()));
        kill(&mut self.dockerd);
    }

    /// Kills what an engine that did not end well leaves; whether nothing stays.
    fn kill_rest(&self) -> bool {
        let killed = poll(PATIENCE, || {
            let rest = self.rest();
            for pid in &rest {
                // It may have ended meanwhile.
                let _ = kill_process(*pid, Signal::KILL);
            }
            rest.is_empty().then_some(())
        });
        killed.is_some()
    }

    /// The engine's processes, which have its directory among their arguments, and those in its containers.
    fn rest(&self) -> Vec<Pid> {
        let directory = self.directory.path().to_string_lossy();
        let containers = self.containers();
        let is_rest = |process: &Path| {
            // What is gone has neither.
            let read = |file| fs::read(process.join(file)).unwrap_or_default();
            let has = |file, text: &str| String::from_utf8_lossy(&read(file)).contains(text);
            has("cmdline", &directory) || containers.iter().any(|id| has("cgroup", id))
        };
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let processes = processes.filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            is_rest(&entry.path()).then(|| Pid::from_raw(pid))?
        });
        processes.collect()
    }

    /// The ids of the containers that were not removed.
    fn containers(&self) -> Vec<String> {
        let directory = self.directory.path().join("data/containers");
        let containers = fs::read_dir(directory).into_iter().flatten().flatten();
        containers
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }

    fn remove_cgroups(&self) {
        for id in self.containers() {
            for root in cgroup::roots() {
                poll(PATIENCE, || cgroup::remove(&root.join("docker").join(&id)));
            }
        }
    }

    /// Whether nothing stays mounted in its directory.
    fn unmount(&self) -> bool {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        let mut own: Vec<&str> = points
            .filter(|point| Path::new(point).starts_with(self.directory.path()))
            .collect();
        own.reverse();
        own.into_iter()
            .all(|point| unmount(point, UnmountFlags::DETACH).is_ok())
    }

    /// Removes its traces; another engine's directories are not empty, and stay.
    fn remove_traces(&self) {
        for trace in &self.traces {
            remove_dead_sockets(trace);
            let _ = fs::remove_dir(trace).or_else(|_| fs::remove_file(trace));
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // A test may have failed while it was stopped.
        self.set_stopped(false);
        self.remove_containers();
        self.stop();
        let killed = self.kill_rest();
        self.remove_cgroups();
        let unmounted = self.unmount();
        self.remove_traces();
        let removed = fs::remove_dir_all(self.directory.path());
        // A second panic would hide the first.
        if thread::panicking() {
            eprintln!("dockerd said:\n{}", self.log.text());
        } else {
            assert!(
                killed && unmounted && removed.is_ok(),
                "dockerd leaves processes, mounts or files ({removed:?}): {}",
                self.log.text()
            );
        }
    }
}

/// Runs dockerd on the socket of `path`, where all that it stores is.
fn dockerd(path: &Path, storage_driver: &str) -> (Child, Log) {
    let mut dockerd = Command::new(program("dockerd"))
        .args(OPTIONS)
        .arg(format!("--storage-driver={storage_driver}"))
        .arg("--config-file")
        .arg(path.join("daemon.json"))
        .arg("--data-root")
        .arg(path.join("data"))
        .arg("--exec-root")
        .arg(path.join("exec"))
        .arg("--pidfile")
        .arg(path.join("pid"))
        .arg("--host")
        .arg(format!("unix://{}", Client::new(path).socket().display()))
        .env("PATH", PATH)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("dockerd can be run");
    let log = Log::of(dockerd.stderr.take().expect("a pipe"));
    (dockerd, log)
}

/// Removes what shims that were killed leave in a directory.
fn remove_dead_sockets(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_socket = entry.file_type().is_ok_and(|it| it.is_socket());
        if is_socket && UnixStream::connect(entry.path()).is_err() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

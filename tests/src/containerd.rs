//! containerd without docker: an engine of the tests' own, and containers that `ctr` starts in it.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Log, kill};
use crate::program::{PATH, program};
use crate::rootfs::Rootfs;
use crate::wait::{PATIENCE, poll, wait_for};

/// Where containerd keeps its bundles, and the sockets of its shims: whoever reads its records looks here.
const STATE: &str = "/run/containerd";

/// A containerd: the host's, or one that ends with this.
pub struct Containerd {
    own: Option<(Child, Log)>,
    socket: PathBuf,
    directory: TempDir,
    root: Rootfs,
    /// Locked while it lives, as by dockerd of tests: each would take the other's traces for the host's.
    _only: File,
}

/// A container. Dropping it removes it, running or not.
pub struct CtrContainer<'engine> {
    engine: &'engine Containerd,
    id: String,
}

impl Containerd {
    /// # Panics
    /// Where it cannot be started.
    pub fn start() -> Self {
        let only = File::open(program("dockerd")).expect("dockerd can be read");
        only.lock().expect("a lock");
        let directory = tempfile::tempdir().expect("a directory for the engine");
        let hosts = Path::new(STATE).join("containerd.sock");
        let is_there = UnixStream::connect(&hosts).is_ok();
        let own = (!is_there).then(|| spawn(directory.path()));
        let socket = match own {
            Some(_) => directory.path().join("containerd.sock"),
            None => hosts,
        };
        let engine = Self {
            own,
            socket,
            directory,
            root: Rootfs::new(&[]),
            _only: only,
        };
        wait_for("containerd answers", PATIENCE, || {
            engine.ctr(&["version"]).status.success().then_some(())
        });
        engine
    }

    fn ctr(&self, arguments: &[&str]) -> Output {
        let mut ctr = Command::new(program("ctr"));
        ctr.env("PATH", PATH).arg("--address").arg(&self.socket);
        let output = ctr.args(arguments).stdin(Stdio::null()).output();
        output.expect("ctr can be run")
    }

    /// Starts a container in the background, with an OCI configuration that `change` has changed.
    ///
    /// # Panics
    /// Where containerd refuses.
    pub fn run(&self, name: &str, change: impl FnOnce(&mut Value)) -> CtrContainer<'_> {
        let id = format!("{name}-{}", std::process::id());
        let mut config = config(&self.directory);
        config["root"]["path"] = self.root.path().to_str().expect("UTF-8").into();
        config["process"]["terminal"] = false.into();
        config["process"]["args"] = serde_json::json!(["sleep", "1000"]);
        config["linux"]["cgroupsPath"] = format!("/default/{id}").into();
        change(&mut config);
        let file = self.directory.path().join(format!("{id}.json"));
        fs::write(&file, config.to_string()).expect("a configuration");
        let file = file.to_str().expect("UTF-8");
        let container = CtrContainer { engine: self, id };
        let output = self.ctr(&["run", "--detach", "--config", file, &container.id]);
        assert!(output.status.success(), "{output:?}");
        container
    }
}

/// The configuration that `runc spec` makes.
fn config(directory: &TempDir) -> Value {
    let file = directory.path().join("config.json");
    let _ = fs::remove_file(&file);
    let mut spec = Command::new(program("runc"));
    let made = spec.arg("spec").current_dir(directory.path()).status();
    assert!(made.expect("runc can be run").success());
    let text = fs::read(file).expect("a configuration");
    serde_json::from_slice(&text).expect("JSON")
}

fn spawn(directory: &Path) -> (Child, Log) {
    let path = |name: &str| directory.join(name);
    let text = format!(
        "version = 2\nroot = {:?}\nstate = {STATE:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
         [grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n",
        path("root"),
        path("containerd.sock"),
        path("containerd.sock.ttrpc"),
    );
    fs::write(path("config.toml"), text).expect("a configuration");
    let mut containerd = Command::new(program("containerd"));
    containerd
        .env("PATH", PATH)
        .arg("--config")
        .arg(path("config.toml"));
    containerd
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut containerd = containerd.spawn().expect("containerd can be run");
    let log = Log::of(containerd.stderr.take().expect("a pipe"));
    (containerd, log)
}

impl CtrContainer<'_> {
    /// The id, which is the name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The path of its cgroup, below the root of the hierarchy.
    pub fn cgroup(&self) -> String {
        format!("/default/{}", self.id)
    }
}

impl Drop for CtrContainer<'_> {
    fn drop(&mut self) {
        // It may have ended.
        self.engine
            .ctr(&["task", "kill", "--signal", "KILL", &self.id]);
        poll(PATIENCE, || {
            let removed = self.engine.ctr(&["task", "rm", &self.id]);
            let gone = String::from_utf8_lossy(&removed.stderr).contains("not found");
            (removed.status.success() || gone).then_some(())
        });
        self.engine.ctr(&["container", "rm", &self.id]);
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let Some((containerd, log)) = &mut self.own else {
            return;
        };
        // It was not waited for yet: the pid is its own.
        let _ = kill_process(Pid::from_child(containerd), Signal::TERM);
        poll(PATIENCE, || containerd.try_wait().ok().flatten());
        kill(containerd);
        if thread::panicking() {
            eprintln!("containerd said:\n{}", log.text());
        }
        // Directories of another engine are not empty, and stay.
        for below in [
            "io.containerd.runtime.v2.task/default",
            "io.containerd.runtime.v2.task",
            "io.containerd.runtime.v1.linux",
            "runc/default",
            "runc",
            "s",
            "",
        ] {
            let _ = fs::remove_dir(Path::new(STATE).join(below));
        }
        for root in crate::cgroup::roots() {
            let _ = fs::remove_dir(root.join("default"));
        }
    }
}

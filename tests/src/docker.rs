//! Docker: an engine of the tests' own, and containers in it.

pub mod answers;
mod client;
mod engine;
pub(crate) mod image;

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::cgroup;
use crate::metrics::Metrics;
use crate::serve::Serve;
use crate::wait::{PATIENCE, wait_for};
use client::Client;
use engine::Engine;
pub use image::IMAGE;

/// A hold on the engine. All holds of a test program are on one engine, which ends with the last of them.
pub struct Docker {
    client: Client,
}

/// A container. Dropping it removes it, running or not.
pub struct Container<'docker> {
    docker: &'docker Docker,
    id: String,
}

struct Shared {
    engine: Option<Engine>,
    holds: usize,
}

/// Held while the engine starts and ends too, so that there are never two.
fn shared() -> MutexGuard<'static, Shared> {
    static SHARED: Mutex<Shared> = Mutex::new(Shared {
        engine: None,
        holds: 0,
    });
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Docker {
    /// Starts the engine, if no other test did, with an image of busybox and stress-ng.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn start() -> Self {
        let mut shared = shared();
        let client = shared.engine.get_or_insert_with(Engine::start).client();
        shared.holds += 1;
        Self { client }
    }

    /// The engine's socket.
    pub fn socket(&self) -> PathBuf {
        self.client.socket()
    }

    /// A server that knows the names of its containers.
    ///
    /// # Panics
    /// Where it does not come to that.
    pub fn serve(&self) -> Serve {
        self.serve_with(&[])
    }

    /// Likewise, with more arguments.
    ///
    /// # Panics
    /// Where it does not come to that.
    pub fn serve_with(&self, arguments: &[&str]) -> Serve {
        let socket = self.socket();
        let socket = ["--docker-socket", socket.to_str().expect("UTF-8")];
        let serve = Serve::start(&[&socket, arguments].concat());
        wait_for("the engine is connected", PATIENCE, || {
            is_connected(&serve.metrics()).then_some(())
        });
        serve
    }

    /// Kills the engine and starts it again, with what it stores. Only for a test program that has one test: all holds
    /// are on one engine.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn restart(&self, between: impl FnOnce()) {
        let mut shared = shared();
        let engine = shared.engine.as_mut().expect("it is held");
        engine.kill();
        between();
        engine.start_again();
    }

    /// Stops the engine, so that it answers nobody, and lets it go on. Only for a test program that has one test.
    ///
    /// # Panics
    /// Never: it is held.
    pub fn freeze(&self, between: impl FnOnce()) {
        let shared = shared();
        let engine = shared.engine.as_ref().expect("it is held");
        engine.set_stopped(true);
        between();
        engine.set_stopped(false);
    }

    /// Calls the client: what it printed, without the last newline.
    ///
    /// # Panics
    /// Where it fails.
    pub fn call(&self, arguments: &[&str]) -> String {
        self.client.call(arguments)
    }

    /// Likewise; where it fails, what it said about that.
    ///
    /// # Errors
    /// Where it fails.
    pub fn try_call(&self, arguments: &[&str]) -> Result<String, String> {
        self.client.try_call(arguments)
    }

    /// Makes a container that runs `command` of the image once it is started.
    ///
    /// # Panics
    /// Where the engine refuses.
    pub fn create(&self, options: &[&str], command: &[&str]) -> Container<'_> {
        let arguments = [&["create"], options, &[IMAGE], command].concat();
        Container {
            docker: self,
            id: self.call(&arguments),
        }
    }

    /// Starts one in the background.
    ///
    /// # Panics
    /// Where the engine refuses.
    pub fn run(&self, options: &[&str], command: &[&str]) -> Container<'_> {
        let container = self.create(options, command);
        container.start();
        container
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let mut shared = shared();
        shared.holds -= 1;
        if shared.holds == 0 {
            shared.engine = None;
        }
    }
}

impl Container<'_> {
    /// The full id: 64 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The path of its cgroup, below the root of the hierarchy.
    pub fn cgroup(&self) -> String {
        format!("/docker/{}", self.id)
    }

    /// # Panics
    /// Where the engine cannot start it.
    pub fn start(&self) {
        self.docker.call(&["start", &self.id]);
    }

    /// Runs a command inside: what it printed.
    ///
    /// # Panics
    /// Where it fails.
    pub fn exec(&self, command: &[&str]) -> String {
        let arguments = [&["exec", &self.id], command].concat();
        self.docker.call(&arguments)
    }

    /// Kills its first process.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn kill(&self) {
        self.docker.call(&["kill", &self.id]);
    }

    /// Waits until it stops: the exit code that the engine says.
    ///
    /// # Panics
    /// Where it does not stop.
    pub fn wait(&self) -> i32 {
        let code = self.docker.call(&["wait", &self.id]);
        code.parse().expect("an exit code")
    }

    /// Removes it, running or not.
    ///
    /// # Panics
    /// Where it is gone.
    pub fn remove(&self) {
        self.docker.call(&["rm", "--force", &self.id]);
    }

    /// What the engine knows of it, by a template: `{{.State.Pid}}`.
    ///
    /// # Panics
    /// Where it is gone.
    pub fn inspect(&self, template: &str) -> String {
        self.docker
            .call(&["inspect", "--format", template, &self.id])
    }

    /// What it wrote to standard output.
    ///
    /// # Panics
    /// Where it is gone.
    pub fn logs(&self) -> String {
        self.docker.call(&["logs", &self.id])
    }

    /// The pid of its first process.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn pid(&self) -> u32 {
        let pid = self.inspect("{{.State.Pid}}").parse().expect("a pid");
        assert_ne!(pid, 0, "{} does not run", self.id);
        pid
    }

    /// The inode of a namespace of its first process, by its name in `/proc/PID/ns`.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn namespace(&self, name: &str) -> u64 {
        namespace(&self.pid().to_string(), name)
    }

    /// Its directory in the hierarchy that has `controller`.
    ///
    /// # Panics
    /// Where no hierarchy has it.
    pub fn directory(&self, controller: &str) -> PathBuf {
        cgroup::directory(controller, self.cgroup())
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // It may be gone.
        let _ = self.docker.client.try_call(&["rm", "--force", &self.id]);
    }
}

/// Whether the server hears the engine.
pub fn is_connected(metrics: &Metrics) -> bool {
    metrics.count("agent_engine_connected", &[("engine", "docker")]) == 1
}

/// The inode of a namespace of the process `pid`, or of `self`.
///
/// # Panics
/// Where there is no such process.
pub fn namespace(pid: &str, name: &str) -> u64 {
    let link = fs::read_link(format!("/proc/{pid}/ns/{name}")).expect("a process's namespace");
    let text = link.to_str().expect("a link of procfs");
    let inode = text
        .split_once(":[")
        .and_then(|(_, rest)| rest.strip_suffix(']'));
    inode
        .and_then(|inode| inode.parse().ok())
        .expect("an inode")
}

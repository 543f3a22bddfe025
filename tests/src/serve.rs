//! `agent serve`, under test.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::agent::{agent, binary};
use crate::metrics::Metrics;
use crate::process::{Log, kill, wait_for_end};
use crate::wait::{PATIENCE, poll, wait_for};
use crate::watch::Watch;

/// A server of this test's own, on a port and a socket of its own. Dropping it kills it.
pub struct Serve {
    child: Child,
    log: Log,
    directory: TempDir,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub body: String,
}

impl Serve {
    /// Starts it and waits until it traces.
    ///
    /// # Panics
    /// Where it does not come to that.
    pub fn start(arguments: &[&str]) -> Self {
        let serve = Self::spawn(arguments);
        serve.wait_until_it_traces();
        serve
    }

    /// Starts it; it does not trace yet.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn spawn(arguments: &[&str]) -> Self {
        Self::spawn_by(Command::new(binary()), arguments)
    }

    /// Likewise, by a command that becomes the program when it gets the arguments of that.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn spawn_by(mut command: Command, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the socket");
        let mut child = command
            .args(["serve", "--listen", "127.0.0.1:0", "--socket"])
            .arg(socket_in(&directory))
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .expect("agent serve can be run");
        Self {
            log: Log::of(child.stderr.take().expect("a pipe")),
            child,
            directory,
        }
    }

    /// # Panics
    /// Where it does not come to that.
    pub fn wait_until_it_traces(&self) {
        let traces = poll(PATIENCE, || self.address());
        assert!(
            traces.is_some(),
            "agent serve does not trace: {}",
            self.log()
        );
    }

    /// The pid of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it said on standard error so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// The path of the unix socket.
    pub fn socket(&self) -> PathBuf {
        socket_in(&self.directory)
    }

    /// The address of `/metrics`, once it traces.
    pub fn address(&self) -> Option<SocketAddr> {
        let log = self.log();
        let (_, after) = log.split_once("tracing; metrics on http://")?;
        let (address, _) = after.split_once("/metrics")?;
        address.parse().ok()
    }

    /// What a scrape by Prometheus gives.
    ///
    /// # Panics
    /// Where it is no answer.
    pub fn metrics(&self) -> Metrics {
        let address = self.address().expect("it traces");
        let stream = TcpStream::connect(address).expect("the address of the metrics");
        let response = exchange(stream, "/metrics");
        assert_eq!(response.status, 200, "{response:?}");
        Metrics::parse(&response.body)
    }

    /// What is at `path` on the unix socket.
    ///
    /// # Panics
    /// Where there is no answer.
    pub fn get(&self, path: &str) -> Response {
        let stream = UnixStream::connect(self.socket()).expect("the socket of agent serve");
        exchange(stream, path)
    }

    /// Starts `agent watch --output json` on its socket, and waits until the stream is open. No other may come or go
    /// meanwhile, so one that was dropped before must be waited for ([`Self::wait_for_watchers`]).
    ///
    /// # Panics
    /// Where it does not come to that.
    pub fn watch(&self, arguments: &[&str]) -> Watch {
        let mut before = self.watchers();
        let watch = Watch::spawn(&self.socket(), arguments);
        wait_for("agent watch is connected", PATIENCE, || {
            let watchers = self.watchers();
            // One that was dropped a moment ago may have been counted.
            before = before.min(watchers);
            (watchers > before).then_some(())
        });
        watch
    }

    /// Likewise, with a pipe for its standard output that nobody reads yet.
    ///
    /// # Panics
    /// Where it does not come to that.
    pub fn watch_unread(&self, arguments: &[&str]) -> Child {
        self.watch_into(Stdio::piped(), arguments)
    }

    /// Likewise, with what it writes to.
    ///
    /// # Panics
    /// Where it does not come to that.
    pub fn watch_into(&self, output: impl Into<Stdio>, arguments: &[&str]) -> Child {
        let before = self.watchers();
        let watch = agent(["watch", "--output", "json", "--socket"])
            .arg(self.socket())
            .args(arguments)
            .stdout(output)
            .spawn();
        self.wait_for_watchers(before + 1);
        watch.expect("agent watch can be run")
    }

    /// Waits until so many streams are open.
    ///
    /// # Panics
    /// Where it does not come to that.
    pub fn wait_for_watchers(&self, wanted: u64) {
        wait_for("so many streams are open", PATIENCE, || {
            (self.watchers() == wanted).then_some(())
        });
    }

    /// How many streams are open.
    pub fn watchers(&self) -> u64 {
        self.metrics().count("agent_watchers", &[])
    }

    /// # Panics
    /// Where it has been waited for.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("a signal to agent serve");
    }

    /// Ends it as an operator does.
    ///
    /// # Panics
    /// Where it does not end well, or leaves its socket.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = wait_for_end(&mut self.child, "agent serve ends at SIGTERM");
        assert!(status.success(), "{status}: {}", self.log());
        assert!(!self.socket().exists(), "the socket is still there");
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        kill(&mut self.child);
        if thread::panicking() {
            eprintln!("agent serve said:\n{}", self.log());
        }
    }
}

fn socket_in(directory: &TempDir) -> PathBuf {
    Path::join(directory.path(), "agent.sock")
}

/// Asks for `path` in HTTP/1.0, whose answers end where the connection does.
///
/// # Panics
/// Where there is no answer.
pub fn exchange(stream: impl Read + Write, path: &str) -> Response {
    let mut answer = Vec::new();
    receive(stream, path, &mut answer);
    Response::parse(&answer)
}

/// Sends a request for `path`, and appends all that comes back.
///
/// # Panics
/// Where there is no answer.
pub fn receive(mut stream: impl Read + Write, path: &str, answer: &mut Vec<u8>) {
    write!(stream, "GET {path} HTTP/1.0\r\nHost: agent\r\n\r\n").expect("a request");
    stream.read_to_end(answer).expect("an answer");
}

impl Response {
    /// # Panics
    /// Where it is none of HTTP.
    pub fn parse(answer: &[u8]) -> Self {
        let answer = std::str::from_utf8(answer).expect("an answer of text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
        Self {
            status: status.expect("a status"),
            body: body.to_owned(),
        }
    }
}

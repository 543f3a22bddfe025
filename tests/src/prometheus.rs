//! Prometheus: a server of the test's own that scrapes one target, and promtool.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Log, kill};
use crate::program::program;
use crate::serve::exchange;
use crate::wait::{PATIENCE, poll};

/// How often another port is tried: a free one may be taken by others before the server has it.
const ATTEMPTS: u32 = 5;

/// A server that scrapes once a second. Dropping it ends it.
pub struct Prometheus {
    child: Child,
    log: Log,
    address: SocketAddr,
    _directory: TempDir,
}

impl Prometheus {
    /// Starts one that scrapes `/metrics` of `target`.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn start(target: SocketAddr) -> Self {
        Self::start_with_rules(target, &[])
    }

    /// Likewise, with files of rules that it evaluates once a second.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn start_with_rules(target: SocketAddr, rules: &[&Path]) -> Self {
        let mut said = String::new();
        for _ in 0..ATTEMPTS {
            let mut server = Self::spawn(target, rules);
            if server.is_ready() {
                return server;
            }
            said = server.log.text();
        }
        panic!("prometheus does not start: {said}");
    }

    fn spawn(target: SocketAddr, rules: &[&Path]) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the data");
        let configuration = directory.path().join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: {rules:?}\n\
             scrape_configs: [{{job_name: agent, static_configs: [{{targets: ['{target}']}}]}}]\n"
        );
        fs::write(&configuration, text).expect("the server's configuration");
        let address = free_address();
        let mut child = Command::new(program("prometheus"))
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("prometheus can be run");
        Self {
            log: Log::of(child.stderr.take().expect("a pipe")),
            child,
            address,
            _directory: directory,
        }
    }

    /// Whether it comes to that.
    fn is_ready(&mut self) -> bool {
        let ready = poll(PATIENCE, || {
            if self.child.try_wait().expect("the server's state").is_some() {
                return Some(false);
            }
            let stream = TcpStream::connect(self.address).ok()?;
            (exchange(stream, "/-/ready").status == 200).then_some(true)
        });
        ready.unwrap_or(false)
    }

    /// The state of what it scrapes, as `/api/v1/targets` has it.
    ///
    /// # Panics
    /// Where it does not answer.
    pub fn target(&self) -> Value {
        let mut targets = self.get("/api/v1/targets");
        targets["activeTargets"][0].take()
    }

    /// The rules, as `/api/v1/rules` has them: each with `name`, `query` and `health`.
    ///
    /// # Panics
    /// Where it does not answer.
    pub fn rules(&self) -> Vec<Value> {
        let answer = self.get("/api/v1/rules");
        let groups = answer["groups"].as_array().expect("groups of rules");
        let rules = groups.iter().filter_map(|group| group["rules"].as_array());
        rules.flatten().cloned().collect()
    }

    /// The series that an expression gives, each with `metric` and `value`.
    ///
    /// # Panics
    /// Where it does not answer, or the expression gives none of that kind.
    pub fn query(&self, expression: &str) -> Vec<Value> {
        let mut query = String::new();
        for byte in expression.bytes() {
            write!(query, "%{byte:02x}").expect("room");
        }
        let answer = self.get(&format!("/api/v1/query?query={query}"));
        let series = answer["result"].as_array();
        series.expect("a vector of series").clone()
    }

    fn get(&self, path: &str) -> Value {
        let stream = TcpStream::connect(self.address).expect("the server's address");
        let response = exchange(stream, path);
        assert_eq!(response.status, 200, "{path}: {}", response.body);
        let mut answer: Value = serde_json::from_str(&response.body).expect("JSON");
        answer["data"].take()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        kill(&mut self.child);
        if std::thread::panicking() {
            eprintln!("prometheus said:\n{}", self.log.text());
        }
    }
}

pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("the free port")
}

/// The value of one of the series of [`Prometheus::query`].
///
/// # Panics
/// Where it has none.
pub fn value(series: &Value) -> f64 {
    let text = series["value"][1].as_str().expect("a value");
    text.parse().expect("a number")
}

/// `promtool check metrics`, with `text` as what was scraped.
///
/// # Panics
/// Where it cannot be run.
pub fn check_metrics(text: &str) -> Output {
    let mut promtool = Command::new(program("promtool"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool can be run");
    let mut input = promtool.stdin.take().expect("a pipe");
    // It writes little, so it reads on; where it does not, it ends, and says why.
    let _ = input.write_all(text.as_bytes());
    drop(input);
    promtool.wait_with_output().expect("the end of promtool")
}

/// `promtool ARGUMENTS FILE`.
///
/// # Panics
/// Where it cannot be run.
pub fn promtool(arguments: &[&str], file: &Path) -> Output {
    let mut promtool = Command::new(program("promtool"));
    let output = promtool.args(arguments).arg(file).output();
    output.expect("promtool can be run")
}

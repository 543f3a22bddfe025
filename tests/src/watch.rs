//! `agent watch`, under test.

use std::collections::VecDeque;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::agent::agent;
use crate::process::{Lines, Log, kill, wait_for_end};
use crate::slow::longer;
use crate::wait::PATIENCE;

/// How many records the message of a test that fails shows.
const RECENT: usize = 20;

/// A watcher whose lines a thread reads as fast as they come. Dropping it kills it.
pub struct Watch {
    child: Child,
    lines: Lines,
    log: Log,
    /// The last lines that came, for the message of a test that fails.
    recent: VecDeque<String>,
}

impl Watch {
    /// Starts `agent watch --output json` on `socket`.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn spawn(socket: &Path, arguments: &[&str]) -> Self {
        let mut child = agent(["watch", "--output", "json", "--socket"])
            .arg(socket)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("agent watch can be run");
        Self {
            log: Log::of(child.stderr.take().expect("a pipe")),
            lines: Lines::of(child.stdout.take().expect("a pipe")),
            child,
            recent: VecDeque::new(),
        }
    }

    /// The pid of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it said on standard error so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// The next record that `matches`; those before it are dropped.
    ///
    /// # Panics
    /// As [`Self::until`].
    pub fn next(&mut self, deadline: Duration, matches: impl Fn(&Value) -> bool) -> Value {
        let mut records = self.until(deadline, matches);
        records.pop().expect("the record that was waited for")
    }

    /// All records up to the first that is the `last`, with it.
    ///
    /// # Panics
    /// Where that does not come before the deadline, the stream ends, or a line is no record.
    pub fn until(&mut self, deadline: Duration, last: impl Fn(&Value) -> bool) -> Vec<Value> {
        let end = Instant::now() + longer(deadline);
        let mut records = Vec::new();
        loop {
            let line = self.lines.until(end).expect("the stream goes on");
            let record = self.record(&line);
            let is_last = last(&record);
            records.push(record);
            if is_last {
                return records;
            }
        }
    }

    /// All records up to now, of a watcher of execs on the whole host: it executes something that no other does, and what
    /// came before that in the stream is then there.
    ///
    /// # Panics
    /// As [`Self::until`].
    pub fn until_now(&mut self, deadline: Duration) -> Vec<Value> {
        let mark = format!("--mark-{}", std::process::id());
        let status = Command::new("/bin/true").arg(&mark).status();
        assert!(status.expect("true can be run").success());
        self.until(deadline, |record| record["argv"][1] == *mark)
    }

    /// The records that came and were not taken yet.
    ///
    /// # Panics
    /// At a line that is none.
    pub fn take(&mut self) -> Vec<Value> {
        let lines: Vec<String> = self.lines.take().collect();
        lines.iter().map(|line| self.record(line)).collect()
    }

    fn record(&mut self, line: &str) -> Value {
        self.recent.truncate(RECENT - 1);
        self.recent.push_front(line.to_owned());
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Waits until it ends by itself: its status, and the records that were not taken yet.
    ///
    /// # Panics
    /// Where it does not end, or a line is no record.
    pub fn to_end(mut self) -> (ExitStatus, Vec<Value>) {
        let status = wait_for_end(&mut self.child, "agent watch ends");
        let mut records = Vec::new();
        while let Some(line) = self.lines.next(PATIENCE) {
            records.push(self.record(&line));
        }
        (status, records)
    }

    /// Kills it, as `kill -9` does.
    pub fn kill(&mut self) {
        kill(&mut self.child);
    }
}

/// The seconds of a day.
pub const DAY: f64 = 86_400.0;

/// When a record's event happened, by the kernel's clock: the second of the day.
///
/// # Panics
/// Where the record has no time.
pub fn time(record: &Value) -> f64 {
    let text = record["time"].as_str().expect("a time");
    let (_, text) = text.split_once('T').expect("a time of a day");
    let parts = text.trim_end_matches('Z').split(':');
    parts.fold(0.0, |sum, part| {
        sum * 60.0 + part.parse::<f64>().expect("a number")
    })
}

impl Drop for Watch {
    fn drop(&mut self) {
        kill(&mut self.child);
        if thread::panicking() {
            eprintln!(
                "agent watch said:\n{}\nthe last records, newest first:",
                self.log()
            );
            self.recent.iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

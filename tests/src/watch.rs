//! `agent watch`, under test.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::agent::agent;
use crate::process::{Log, kill, wait_for_end};
use crate::wait::PATIENCE;

/// How many records the message of a test that fails shows.
const RECENT: usize = 20;

/// A watcher whose lines a thread reads as fast as they come. Dropping it kills it.
pub struct Watch {
    child: Child,
    records: Receiver<Value>,
    log: Log,
    /// The last records that came, for the message of a test that fails.
    recent: VecDeque<Value>,
}

impl Watch {
    /// Starts `agent watch --output json` on `socket`.
    ///
    /// # Panics
    /// Where it cannot be started. Its lines are read by a thread, which panics at one that is not JSON.
    pub fn spawn(socket: &Path, arguments: &[&str]) -> Self {
        let mut child = agent(["watch", "--output", "json", "--socket"])
            .arg(socket)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("agent watch can be run");
        let (sender, records) = channel();
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let record = serde_json::from_str(&line);
                let record = record.unwrap_or_else(|error| panic!("{error}: {line}"));
                if sender.send(record).is_err() {
                    break;
                }
            }
        });
        Self {
            log: Log::of(child.stderr.take().expect("a pipe")),
            child,
            records,
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
    /// Where none comes before the deadline, or the stream ends.
    pub fn next(&mut self, deadline: Duration, matches: impl Fn(&Value) -> bool) -> Value {
        let mut records = self.until(deadline, matches);
        records.pop().expect("the record that was waited for")
    }

    /// All records up to the first that is the `last`, with it.
    ///
    /// # Panics
    /// Where that does not come before the deadline, or the stream ends.
    pub fn until(&mut self, deadline: Duration, last: impl Fn(&Value) -> bool) -> Vec<Value> {
        let end = Instant::now() + deadline;
        let mut records = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.records.recv_timeout(left) {
                Ok(record) => {
                    self.remember(&record);
                    let is_last = last(&record);
                    records.push(record);
                    if is_last {
                        return records;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("the record did not come in {deadline:?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("the stream ended"),
            }
        }
    }

    /// The records that came and were not taken yet.
    pub fn take(&mut self) -> Vec<Value> {
        let records: Vec<Value> = self.records.try_iter().collect();
        records.iter().for_each(|record| self.remember(record));
        records
    }

    fn remember(&mut self, record: &Value) {
        self.recent.truncate(RECENT - 1);
        self.recent.push_front(record.clone());
    }

    /// Waits until it ends by itself: its status, and the records that were not taken yet.
    ///
    /// # Panics
    /// Where it does not end.
    pub fn to_end(mut self) -> (ExitStatus, Vec<Value>) {
        let status = wait_for_end(&mut self.child, "agent watch ends");
        // The thread ends with the pipe, and its end of the channel with it.
        let records = std::iter::from_fn(|| self.records.recv_timeout(PATIENCE).ok()).collect();
        (status, records)
    }

    /// Kills it, as `kill -9` does.
    pub fn kill(&mut self) {
        kill(&mut self.child);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        kill(&mut self.child);
        if thread::panicking() {
            eprintln!(
                "agent watch said:\n{}\nthe last records, newest first:",
                self.log()
            );
            self.recent.iter().for_each(|record| eprintln!("{record}"));
        }
    }
}

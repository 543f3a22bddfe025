//! Processes that tests start.

use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::slow::longer;
use crate::wait::{PATIENCE, wait_for};

/// What a process said on standard error so far.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<String>>);

impl Log {
    /// Starts a thread that reads `from` to its end, so that the writer never waits.
    pub fn of(from: impl Read + Send + 'static) -> Self {
        let log = Self::default();
        let text = Arc::clone(&log.0);
        thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                let mut text = text.lock().expect("no reader of a log panics");
                text.push_str(&String::from_utf8_lossy(&line));
                text.push('\n');
            }
        });
        log
    }

    /// What it said to its end: all that had its standard error have let go of it.
    ///
    /// # Panics
    /// Where there is no end.
    pub fn all(&self) -> String {
        wait_for("the end of a log", PATIENCE, || {
            (Arc::strong_count(&self.0) == 1).then(|| self.text())
        })
    }

    /// # Panics
    /// Where the thread that reads it did.
    pub fn text(&self) -> String {
        self.0.lock().expect("the reader of the log").clone()
    }
}

/// The lines that a process writes, read as fast as they come.
#[derive(Debug)]
pub struct Lines(Receiver<String>);

impl Lines {
    /// Starts a thread that reads `from` to its end.
    pub fn of(from: impl Read + Send + 'static) -> Self {
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                // Whoever wanted them may have enough.
                if sender
                    .send(String::from_utf8_lossy(&line).into_owned())
                    .is_err()
                {
                    break;
                }
            }
        });
        Self(lines)
    }

    /// The next line; `None` where there are no more.
    ///
    /// # Panics
    /// Where neither a line comes before the deadline, nor the end.
    pub fn next(&self, deadline: Duration) -> Option<String> {
        self.until(Instant::now() + longer(deadline))
    }

    /// Likewise, before this time.
    ///
    /// # Panics
    /// Likewise.
    pub fn until(&self, end: Instant) -> Option<String> {
        let left = end.saturating_duration_since(Instant::now());
        match self.0.recv_timeout(left) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line came in {left:?}"),
        }
    }

    /// The lines that came and were not taken yet.
    pub fn take(&self) -> impl Iterator<Item = String> {
        self.0.try_iter()
    }
}

/// Waits for the end of a child.
///
/// # Panics
/// With `what`, where it does not end.
pub fn wait_for_end(child: &mut Child, what: &str) -> ExitStatus {
    wait_for(what, PATIENCE, || {
        child.try_wait().expect("a child's state")
    })
}

/// Kills a child, if it still runs, and waits for its end.
pub fn kill(child: &mut Child) {
    // It may have ended meanwhile.
    let _ = child.kill();
    let _ = child.wait();
}

/// Waits until a process has become `program`.
///
/// # Panics
/// Where it does not.
pub fn wait_until_it_is(pid: u32, program: &str) {
    wait_for(&format!("{pid} is {program}"), PATIENCE, || {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        (comm.trim() == program).then_some(())
    });
}

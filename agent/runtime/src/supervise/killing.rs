//! Kills a process, and repeats that until it ends. The supervisor goes on relaying streams and signals meanwhile.

use std::io;
use std::time::{Duration, Instant};

/// Kills a process and its descendants. One call may not be enough, because processes may fork meanwhile.
pub(super) type Kill<'a> = &'a mut dyn FnMut();

/// How long the process may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pause between two tries: the first one, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(20));

/// A kill that has begun, and when it is tried again.
#[derive(Debug)]
pub(super) struct Killing {
    deadline: Instant,
    next: Instant,
    pause: Duration,
}

impl Killing {
    pub(super) fn begin() -> Self {
        let now = Instant::now();
        Self {
            deadline: now + PATIENCE,
            next: now,
            pause: PAUSES.0,
        }
    }

    /// Returns the time until the next try.
    pub(super) fn pause(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }

    /// Kills again where the next try is due.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`]: the process has not ended in time.
    pub(super) fn go_on(&mut self, kill: Kill<'_>) -> io::Result<()> {
        let now = Instant::now();
        if now < self.next {
            return Ok(());
        }
        if now >= self.deadline {
            let seconds = PATIENCE.as_secs();
            let why = format!("waited {seconds} s for a process that was killed to end");
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        kill();
        self.next = now + self.pause;
        self.pause = (self.pause * 2).min(PAUSES.1);
        Ok(())
    }
}

//! Kills a container's init process, and repeats that until the process ends. The supervisor goes on relaying streams
//! and signals meanwhile.

use std::io;
use std::time::{Duration, Instant};

/// How a process, and what came of it, is to be ended at once: what is sent at each call. One may not be enough, as others
/// are born meanwhile.
pub(super) type Kill<'a> = &'a mut dyn FnMut();

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two tries: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(20));

/// It has been asked for.
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

    /// How long it is until the next try.
    pub(super) fn pause(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }

    /// Tries again, where it is time.
    ///
    /// # Errors
    /// It takes too long.
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

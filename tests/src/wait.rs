//! Waiting for what is to come, never longer than a deadline.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::slow::longer;

/// How long anything may take that is not itself what is measured: long enough for a machine that is busy with other
/// tests.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again and again until there is an answer.
///
/// # Panics
/// With `what`, once `deadline` is over.
#[track_caller]
pub fn wait_for<T>(what: &str, deadline: Duration, answer: impl FnMut() -> Option<T>) -> T {
    match poll(deadline, answer) {
        Some(answer) => answer,
        None => panic!("waited {:?} in vain: {what}", longer(deadline)),
    }
}

/// Asks again and again until there is an answer, or `deadline` is over, which is later on a slower machine.
pub fn poll<T>(deadline: Duration, mut answer: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    let deadline = longer(deadline);
    let mut pause = Duration::from_millis(1);
    loop {
        let answer = answer();
        if answer.is_some() || started.elapsed() >= deadline {
            return answer;
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

//! Fault points: places where a test lets the launcher die, as a `kill -9` there would.

use rustix::process::{Signal, getpid, kill_process};

/// Names the step at which to die.
const VARIABLE: &str = "AGENT_FAULT";

/// The step at which this process is to die, if a test wants that.
#[must_use]
pub fn wanted() -> Option<String> {
    std::env::var(VARIABLE).ok()
}

/// Dies here where a test wants that.
pub fn point(step: &str) {
    if wanted().is_some_and(|wanted| wanted == step) {
        die();
    }
}

pub(super) fn die() {
    let _ = kill_process(getpid(), Signal::KILL);
}

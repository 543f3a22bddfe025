//! Root file systems of `agent run`: a directory, the host's tree, programs and their libraries, images.

mod bounds;
mod bundles;
mod charged;
mod damaged;
mod hostile;
mod image;
mod mounts;
mod programs;
mod stopped;
mod storms;
mod trees;
mod wordy;

use std::process::{Command, Output};

use tests::agent::agent;

/// What a call of the agent comes to.
struct Came {
    status: Option<i32>,
    out: String,
    err: String,
}

impl Came {
    fn of(mut command: Command) -> Self {
        Self::from(command.output().expect("it can be run"))
    }

    fn from(output: Output) -> Self {
        Self {
            status: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// What it wrote, where it went well.
    #[track_caller]
    fn well(self) -> String {
        assert_eq!(
            (self.status, self.err.as_str()),
            (Some(0), ""),
            "{}",
            self.out
        );
        self.out
    }

    /// What it said, in one line, where it did not go well.
    #[track_caller]
    fn badly(self, status: i32) -> String {
        assert_eq!(self.status, Some(status), "{}{}", self.out, self.err);
        assert_eq!(self.err.lines().count(), 1, "{}", self.err);
        self.err
    }
}

/// Runs a container: the flags that say its root, and its command.
fn run(flags: &[&str], command: &[&str]) -> Came {
    let mut run = agent(["run"]);
    run.args(flags).args(command);
    Came::of(run)
}

//! Why a container did not start.

use std::io;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{step}: {subject}: {source}")]
    Step {
        step: &'static str,
        /// The path, mount or limit it was about.
        subject: String,
        source: io::Error,
    },
    #[error("{command}: not found in the container")]
    NotFound { command: String },
    #[error("{command}: not executable: {source}")]
    NotExecutable { command: String, source: io::Error },
}

impl Error {
    /// The exit status that docker gives it.
    #[must_use]
    pub const fn status(&self) -> u8 {
        match self {
            Self::Step { .. } => 125,
            Self::NotExecutable { .. } => 126,
            Self::NotFound { .. } => 127,
        }
    }

    pub(super) fn not_yet() -> Self {
        Self::Step {
            step: "launch",
            subject: "container".to_owned(),
            source: io::ErrorKind::Unsupported.into(),
        }
    }
}

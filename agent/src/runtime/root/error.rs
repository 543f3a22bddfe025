//! Why there is no root file system.

use crate::runtime::order::Root;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{root:?}: not yet")]
    NotYet { root: Root },
}

impl Error {
    /// The exit status that docker gives for it.
    pub fn status(&self) -> u8 {
        125
    }
}

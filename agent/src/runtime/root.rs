//! Root file systems: what an order asks for becomes a mount that is attached nowhere, so that nothing of it stays behind
//! when this process dies.

mod error;
mod image;

use std::os::fd::OwnedFd;
use std::path::Path;

pub use error::Error;
pub use image::Defaults;

use super::order::Root;

/// A root file system, ready to be attached.
#[derive(Debug)]
pub struct Tree {
    /// The root of a detached mount, private, with all that is mounted below: to be moved into the container's mount
    /// namespace with move_mount(2). Devices on it cannot be opened.
    pub mount: OwnedFd,
    /// What the container runs, for the eye: the image's name, the directory's, `host`, or the programs'.
    pub name: String,
}

/// Makes the root file system.
///
/// It is done in this process, which has one thread, and CAP_SYS_ADMIN in its user namespace.
///
/// # Errors
/// What is asked for is not there, or not what it should be.
pub fn prepare(root: &Root) -> Result<Tree, Error> {
    Err(Error::NotYet { root: root.clone() })
}

/// What [`Tree::name`] will be, as far as that can be said without reading it.
pub fn name(root: &Root) -> String {
    let _ = root;
    String::new()
}

/// What an image wants where the order says nothing.
///
/// # Errors
/// The file is not an image.
pub fn image_defaults(file: &Path) -> Result<Defaults, Error> {
    Err(Error::NotYet {
        root: Root::Image(file.to_owned()),
    })
}

//! Images: what `docker save` writes, and OCI layouts. Nobody has vouched for what is in them.

mod archive;
mod disk;
mod entries;
mod input;
mod layer;
mod manifest;
mod names;
mod packed;
mod stack;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::Error;
use super::owners::Owners;
use crate::runtime::order::ImageConfig;
use archive::Archive;
pub use disk::{Disk, sweep};
use entries::Bad;
use input::Input;
use stack::Stack;

/// Characters of what an error quotes of an image.
const MOST_QUOTED: usize = 300;

/// An image, unpacked.
#[derive(Debug)]
pub struct Unpacked {
    pub mount: OwnedFd,
    /// What holds the layers, to be kept as long as the container lives.
    pub disk: Option<Disk>,
    pub name: Option<String>,
    pub config: ImageConfig,
}

/// Unpacks an image: its layers as one file system on disk, or in memory, where it takes no more than `memory`; and one
/// more in memory for what the container writes.
///
/// # Errors
/// It is no image, or one that would do harm.
pub fn unpack(path: &Path, owners: &Owners, memory: Option<u64>) -> Result<Unpacked, Error> {
    let input = Input::open(path)?;
    let said = |bad: Bad| said(path, bad);
    let mut stack = Stack::new(owners)?;
    let mut budget = stack.budget(memory);
    let archive = Archive::new(input, &mut budget, || stack.file()).map_err(said)?;
    let image = manifest::find(&archive).map_err(said)?;
    for layer in &image.layers {
        let unpacked = archive.unpacked(&layer.path, layer.size).map_err(said)?;
        stack.add(|inside| layer::apply(unpacked, inside, &mut budget).map_err(said))?;
    }
    let (mount, disk) = stack.finish()?;
    Ok(Unpacked {
        mount,
        disk,
        name: image.name,
        config: image.config,
    })
}

fn said(path: &Path, bad: Bad) -> Error {
    let (path, what) = (path.to_owned(), quoted(&bad.what));
    match bad.entry {
        Some(entry) => Error::Entry {
            path,
            entry: PathBuf::from(quoted(&entry.to_string_lossy())),
            what,
        },
        None => Error::Image { path, what },
    }
}

/// A text of an image's choice, in the length that fits into an error.
fn quoted(text: &str) -> String {
    let mut quoted: String = text.chars().take(MOST_QUOTED).collect();
    if quoted.len() < text.len() {
        quoted.push('…');
    }
    quoted
}

//! Images: what `docker save` writes, and OCI layouts. Nobody has vouched for what is in them.

mod archive;
mod entries;
mod layer;
mod limits;
mod manifest;
mod stack;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::Error;
use super::owners::Owners;
use crate::runtime::order::ImageConfig;
use archive::Archive;
use entries::Bad;
use limits::Budget;
use stack::Stack;

/// An image, unpacked.
#[derive(Debug)]
pub struct Unpacked {
    pub mount: OwnedFd,
    pub name: Option<String>,
    pub config: ImageConfig,
}

/// Unpacks an image: its layers as one file system in memory, and one more for what the container writes.
///
/// # Errors
/// It is no image, or one that would do harm.
pub fn unpack(path: &Path, owners: &Owners) -> Result<Unpacked, Error> {
    let file = File::open(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::Missing {
            path: path.to_owned(),
            wanted: "--image wants a file that `docker save` wrote, or an OCI layout in a tar archive",
        },
        _ => Error::io("open", path)(source),
    })?;
    let found = file.metadata().map_err(Error::io("read", path))?;
    if found.is_dir() {
        return Err(Error::Other {
            path: path.to_owned(),
            wanted: "an archive; --rootfs takes directories, and `tar -C DIR -cf FILE .` makes an archive of an OCI \
                     layout",
        });
    }
    let mut budget = Budget::of_machine();
    let said = |bad: Bad| said(path, bad);
    let archive = Archive::new(file, &budget).map_err(said)?;
    let image = manifest::find(&archive).map_err(said)?;
    let mut stack = Stack::new(owners)?;
    for layer in &image.layers {
        let unpacked = archive.unpacked(layer).map_err(said)?;
        stack.add(|inside| layer::apply(unpacked, inside, &mut budget).map_err(said))?;
    }
    Ok(Unpacked {
        mount: stack.finish()?,
        name: image.name,
        config: image.config,
    })
}

fn said(path: &Path, bad: Bad) -> Error {
    let (path, what) = (path.to_owned(), bad.what);
    match bad.entry {
        Some(entry) => Error::Entry { path, entry, what },
        None => Error::Image { path, what },
    }
}

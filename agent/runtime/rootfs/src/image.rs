//! Unpacks images: archives of `docker save`, and OCI layouts. Their content is not trusted.

mod archive;
mod disk;
mod entries;
mod filler;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod input;
mod interruption;
mod layer;
mod manifest;
mod names;
mod packed;
mod stack;

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use agent_host::interrupts::Interrupts;
use archive::{Archive, Source};
pub use disk::{Disk, sweep};
use entries::Bad;
use filler::Filled;
use input::Input;
use interruption::{BySignal, Stop};
pub use manifest::MOST_CONFIG_BYTES;
use rustix::fs::{MemfdFlags, memfd_create};
use stack::Stack;

use super::budget::UnpackBudget;
use super::owners::OwnerMap;
use super::{Charge, Error};
use crate::source::ImageConfig;

/// The most characters of an image's text that an error quotes.
const MOST_QUOTED: usize = 300;

/// An image, unpacked.
#[derive(Debug)]
pub(crate) struct Unpacked {
    pub mount: OwnedFd,
    /// The directory of the layers on disk. The caller keeps it as long as the container lives.
    pub disk: Option<Disk>,
    pub name: Option<String>,
    pub config: ImageConfig,
}

/// Unpacks an image: its layers as one file system, and one more layer in memory for what the container writes.
///
/// A child process unpacks into memory. It calls `charge` before, so that the kernel charges that memory to the
/// container.
///
/// The layers stay in memory if they are small compared with the container's limit (`memory`), and go to disk
/// otherwise. The files of a large image would take the container's memory. Those of a small image take longer to make
/// on a disk than to read.
///
/// # Errors
/// The file is not an image, or is a malicious one, or there is no room for it.
pub(crate) fn unpack(
    path: &Path,
    owners: &OwnerMap,
    memory: Option<u64>,
    charge: Charge<'_>,
    signals: Option<&mut dyn Interrupts>,
) -> Result<Unpacked, Error> {
    let stop = BySignal::new(signals);
    let unpacked = unpack_until(path, owners, memory, charge, &stop);
    match stop.error() {
        Some(error) => Err(error),
        None => unpacked,
    }
}

fn unpack_until(
    path: &Path,
    owners: &OwnerMap,
    memory: Option<u64>,
    charge: Charge<'_>,
    stop: &dyn Stop,
) -> Result<Unpacked, Error> {
    let input = Input::open(path, stop)?;
    let disk = Disk::new().and_then(|disk| Some((disk.budget().ok()?, disk)));
    let (mut on_disk, disk) = disk.unzip();
    let mut in_memory = UnpackBudget::of_memory(memory, disk.is_some());
    let one = on_disk.as_mut().unwrap_or(&mut in_memory);
    let said = |bad: Bad| said(path, bad);
    let file = match (Source::of(input, stop).map_err(said)?, &disk) {
        (Source::Plain(file), _) => file,
        (Source::Copied(from), Some(disk)) => {
            let into = disk.file().map_err(Error::io("copy", path))?;
            archive::fill(&into, from, one).map_err(said)?;
            into
        }
        (Source::Copied(from), None) => copy_into_memory(path, from, one, charge, stop)?,
    };
    let archive = Archive::new(file, stop, one).map_err(said)?;
    let image = manifest::find(&archive).map_err(said)?;
    let add = |stack: &mut Stack<'_>, budget: &mut UnpackBudget| {
        for layer in &image.layers {
            let unpacked = archive.unpacked(&layer.path, layer.size).map_err(said)?;
            stack.add(|inside| layer::apply(unpacked, inside, budget).map_err(said))?;
        }
        Ok(())
    };
    let mut stack = Stack::new(owners, None)?;
    let filled = filler::fill(path, charge, stop, || {
        let added = add(&mut stack, &mut in_memory);
        added.map_err(|error| (error, in_memory.is_spent()))
    })?;
    let (mount, disk) = match (filled, disk, on_disk) {
        (Filled::Well, ..) => {
            stack.count(image.layers.len());
            (stack.finish()?, None)
        }
        (Filled::Short(too_large), Some(disk), Some(mut on_disk)) => {
            drop(stack);
            let mut stack = Stack::new(owners, Some(&disk))?;
            let added = add(&mut stack, &mut on_disk).and_then(|()| stack.finish());
            match added {
                // overlayfs does not work on every file system: not on some network file systems, and not on itself.
                Err(Error::Mount { .. }) => return Err(too_large),
                mount => (mount?, Some(disk)),
            }
        }
        (Filled::Short(too_large), ..) => return Err(too_large),
    };
    Ok(Unpacked {
        mount,
        disk,
        name: image.name,
        config: image.config,
    })
}

/// Copies an archive into memory. A child process writes the copy, so that the kernel charges it to the container.
fn copy_into_memory(
    path: &Path,
    from: Box<dyn Read + '_>,
    budget: &mut UnpackBudget,
    charge: Charge<'_>,
    stop: &dyn Stop,
) -> Result<File, Error> {
    let into = memfd_create("agent-image", MemfdFlags::CLOEXEC);
    let into = File::from(into.map_err(|errno| Error::io("copy", path)(errno.into()))?);
    let mut theirs = budget.clone();
    let filled = filler::fill(path, charge, stop, || {
        let filled = archive::fill(&into, from, &mut theirs);
        filled.map_err(|bad| (said(path, bad), theirs.is_spent()))
    })?;
    if let Filled::Short(too_large) = filled {
        return Err(too_large);
    }
    let size = into.metadata().map_err(Error::io("copy", path))?.len();
    let spent = budget.bytes(size);
    spent.map_err(|what| said(path, Bad::whole(what)))?;
    Ok(into)
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

/// Cuts a text of an untrusted image to a length that fits into an error.
fn quoted(text: &str) -> String {
    let mut quoted: String = text.chars().take(MOST_QUOTED).collect();
    if quoted.len() < text.len() {
        quoted.push('…');
    }
    quoted
}

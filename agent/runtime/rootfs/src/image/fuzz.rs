//! Unpacks untrusted images, for a fuzzer.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::fd::BorrowedFd;

use rustix::fs::{MemfdFlags, memfd_create};

use super::archive::{self, Archive, Source};
use super::entries::Bad;
use super::input::Input;
use super::interruption::BySignal;
use super::{layer, manifest};
use crate::budget::UnpackBudget;
use crate::inside::Inside;
use crate::owners::OwnerMap;

/// The most bytes of an unpacked image.
const MOST: u64 = 16 << 20;

fn in_memory() -> Result<File, Bad> {
    let file = memfd_create("fuzz", MemfdFlags::CLOEXEC);
    file.map(File::from).map_err(Bad::whole)
}

/// Finds the image in an archive, and unpacks its layers to nowhere.
pub fn archive(bytes: &[u8]) {
    let _ = unpacked(bytes);
}

fn unpacked(bytes: &[u8]) -> Result<(), Bad> {
    let stop = BySignal::new(None);
    let mut budget = UnpackBudget::of_memory(Some(MOST), false);
    let mut file = in_memory()?;
    file.write_all(bytes).map_err(Bad::whole)?;
    file.rewind().map_err(Bad::whole)?;
    let file = match Source::of(Input::File(file), &stop)? {
        Source::Plain(file) => file,
        Source::Copied(from) => {
            let into = in_memory()?;
            archive::fill(&into, from, &mut budget)?;
            into
        }
    };
    let archive = Archive::new(file, &stop, &mut budget)?;
    for layer in manifest::find(&archive)?.layers {
        let mut unpacked = archive.unpacked(&layer.path, layer.size)?;
        io::copy(&mut unpacked, &mut io::sink()).map_err(Bad::whole)?;
    }
    Ok(())
}

/// Applies a layer to a root file system.
pub fn layer(bytes: &[u8], root: BorrowedFd<'_>) {
    let owners = OwnerMap::of_caller();
    let mut inside = Inside::new(root, &owners);
    let mut budget = UnpackBudget::of_memory(Some(MOST), false);
    let _ = layer::apply(bytes, &mut inside, &mut budget);
}

//! Makes root file systems from a directory, this host's files, programs or an image.
//!
//! Each becomes a detached mount, which the kernel removes when the last process that has it dies.

#![warn(missing_docs, unreachable_pub)]

mod binaries;
mod budget;
mod error;
/// Parsers of untrusted files, as functions of bytes.
#[cfg(feature = "fuzz")]
pub mod fuzz {
    pub use crate::binaries::fuzz::*;
    pub use crate::image::fuzz::*;
}
mod image;
mod inside;
pub mod lookup;
mod owners;
mod private_mounts;
pub mod propagation;
mod resolve;
mod source;
mod tree;

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::{fs, io};

use agent_host::interrupts::Interrupts;
use budget::UnpackBudget;
pub use error::Error;
pub use image::{Disk, MOST_CONFIG_BYTES, sweep};
use oci_spec::runtime::Spec;
use owners::OwnerMap;
use propagation::Propagation;
use rustix::fs::{Mode, OFlags};
pub use source::{ImageConfig, RootSource};

/// A root file system, ready to be attached.
#[derive(Debug)]
pub struct RootFs {
    /// The root of a detached mount, with all mounts below it. The launch moves it into the container's mount namespace
    /// with move_mount(2). It is private, or a slave if the spec asks for that. Devices on it cannot be opened.
    pub mount: OwnedFd,
    /// A name for people: that of the image or of the directory, `host`, or those of the programs.
    pub name: String,
    /// The image's configuration for its command; `None` without an image.
    pub image: Option<ImageConfig>,
    /// The directory of an image's layers on disk. The caller keeps it as long as the container lives.
    pub disk: Option<Disk>,
}

/// Makes the kernel charge the container for the memory that the calling process uses from then on.
pub type Charge<'a> = &'a dyn Fn() -> io::Result<()>;

/// Makes the root file system that an order asks for. A child process, which calls `charge`, unpacks an image into
/// memory. A signal from `signals` ends the unpacking; where that is `None`, signals have their default action.
///
/// The calling process must have one thread, and CAP_SYS_ADMIN in its user namespace.
///
/// # Errors
/// The source does not exist, is not valid, or is too large; or the kernel refuses a mount.
pub fn prepare(
    source: &RootSource,
    spec: &Spec,
    charge: Charge<'_>,
    signals: Option<&mut dyn Interrupts>,
) -> Result<RootFs, Error> {
    let mount = match source {
        RootSource::Directory(path) => {
            let propagation = Propagation::of_root(spec);
            let is_slave = propagation.is_some_and(|it| it.kind == libc::MS_SLAVE);
            tree::of_directory(path, is_slave)?
        }
        RootSource::Host => tree::of_host()?,
        RootSource::Binaries(programs) => {
            let plan = binaries::plan(programs)?;
            let mount = tree::empty(tree::FOR_PROGRAMS)?;
            plan.write(mount.as_fd(), &mut UnpackBudget::of_memory(None, false))?;
            mount
        }
        RootSource::Image(path) => {
            let image = image::unpack(
                path,
                &OwnerMap::of(spec),
                memory_limit(spec),
                charge,
                signals,
            )?;
            return Ok(RootFs {
                mount: image.mount,
                name: image.name.unwrap_or_else(|| source.name()),
                image: Some(image.config),
                disk: image.disk,
            });
        }
    };
    Ok(RootFs {
        mount,
        name: source.name(),
        image: None,
        disk: None,
    })
}

/// Returns the container's memory limit, in bytes.
fn memory_limit(spec: &Spec) -> Option<u64> {
    let resources = spec.linux().as_ref()?.resources().as_ref()?;
    let limit = resources.memory().as_ref()?.limit()?;
    u64::try_from(limit).ok()
}

/// Copies programs, and the files that their loaders need, into a directory. The directory is new or empty.
///
/// # Errors
/// Those of [`prepare`]; or the directory is not empty.
pub fn make_directory(directory: &Path, programs: &[std::path::PathBuf]) -> Result<(), Error> {
    // The directory is not made if a program does not exist.
    let plan = binaries::plan(programs)?;
    fs::create_dir_all(directory).map_err(Error::io("make", directory))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(directory, flags, Mode::empty());
    let opened = opened.map_err(|errno| Error::io("open", directory)(errno.into()))?;
    let mut held =
        inside::names(&opened).map_err(|errno| Error::io("read", directory)(errno.into()))?;
    if held.next().is_some() {
        return Err(Error::Other {
            path: directory.to_owned(),
            wanted: "empty; name a new directory, or an empty one",
        });
    }
    let free = rustix::fs::fstatvfs(&opened);
    let free = free.map_err(|errno| Error::io("read", directory)(errno.into()))?;
    plan.write(opened.as_fd(), &mut UnpackBudget::of_disk(directory, &free))
}

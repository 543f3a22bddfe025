//! Stacks layers with overlayfs. Each layer is unpacked over those below it, so the kernel applies what the layer
//! removes.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use agent_host::faults;
use rustix::fs::{CWD, Mode, OFlags, XattrFlags, fsetxattr, mkdirat, openat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, UnmountFlags, mount, move_mount, unmount};
use rustix::process::fchdir;

use super::disk::Disk;
use crate::inside::{FileAccess, Inside};
use crate::owners::OwnerMap;
use crate::private_mounts::PrivateMounts;
use crate::{Error, tree};

/// Where overlays are mounted while they are made.
const PLACE: &str = "root";

/// Where the memory is attached that holds what the container writes.
const TOP: &str = "top";

/// Layers, in a mount namespace that goes when this does.
#[derive(Debug)]
pub(super) struct Stack<'a> {
    aside: PrivateMounts,
    owners: &'a OwnerMap,
    /// The directory that holds them, which is this process's working directory.
    store: OwnedFd,
    is_on_disk: bool,
    layers: usize,
    /// A user namespace may not set the attributes that overlayfs has otherwise.
    user_attributes: bool,
}

impl<'a> Stack<'a> {
    /// No layers yet; they go to `disk`, or into memory. An overlay cannot be mounted with other ids: its files have
    /// those of `owners`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn new(owners: &'a OwnerMap, disk: Option<&Disk>) -> Result<Self, Error> {
        let aside = PrivateMounts::step()?;
        let store = match disk {
            Some(disk) => disk
                .open()
                .map_err(Error::mount("open the directory for layers"))?,
            None => {
                let memory = tree::empty(&[("mode", "0755")])?;
                aside.attach(&memory)?;
                memory
            }
        };
        // What overlayfs is to stack has names of a few letters from here: its options have room for 4096.
        fchdir(&store).map_err(Error::mount("enter the directory for layers"))?;
        make(PLACE)?;
        let trusted = fsetxattr(open(".")?, "trusted.agent", b"", XattrFlags::empty());
        Ok(Self {
            aside,
            owners,
            store,
            is_on_disk: disk.is_some(),
            layers: 0,
            user_attributes: trusted == Err(Errno::PERM),
        })
    }

    /// Puts a layer on top, which `fill` fills.
    ///
    /// # Errors
    /// That of `fill`; the kernel refuses.
    pub(super) fn add(
        &mut self,
        fill: impl FnOnce(&mut Inside<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.mount(&(self.layers + 1).to_string())?;
        {
            let root = open(PLACE)?;
            faults::point("layer");
            fill(&mut self.inside(&root)?)?;
        }
        unmount(PLACE, UnmountFlags::empty()).map_err(Error::mount("unmount a layer"))?;
        self.layers += 1;
        Ok(())
    }

    /// Takes note of layers that another process has put there, which has the same mounts.
    pub(super) fn count(&mut self, layers: usize) {
        self.layers = layers;
    }

    /// All layers, and one more on top for what the container writes, as a detached mount. That one is in memory: the
    /// container's processes fill it, and are charged for it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn finish(self) -> Result<OwnedFd, Error> {
        make(TOP)?;
        if self.is_on_disk {
            let top = tree::empty(&[("mode", "0755")])?;
            let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            move_mount(top.as_fd(), "", CWD, TOP, empty).map_err(Error::mount("attach a mount"))?;
        }
        self.mount(&format!("{TOP}/t"))?;
        let root = open(PLACE)?;
        self.inside(&root)?;
        let root = tree::copy(&root)?;
        tree::forbid_devices(&root)?;
        self.aside.leave()?;
        drop(self.store);
        Ok(root)
    }

    /// What is mounted, of which the root of the topmost layer is the container's root's.
    fn inside<'root>(&self, root: &'root OwnedFd) -> Result<Inside<'root>, Error>
    where
        'a: 'root,
    {
        let mut inside = Inside::new(root.as_fd(), self.owners);
        let own = inside.directory(Path::new(""), FileAccess::of_root(0o755));
        own.map_err(Error::io("make the root's", Path::new("/")))?;
        Ok(inside)
    }

    /// Mounts what there is, and a new layer on top of it, `top`. The first layer is on an empty directory.
    fn mount(&self, top: &str) -> Result<(), Error> {
        make("0")?;
        make(top)?;
        make(&format!("{top}w"))?;
        // The highest first; under all of them one that is empty, since there has to be one.
        let below: Vec<String> = (0..=self.layers).rev().map(|it| it.to_string()).collect();
        // What is unpacked is not worth a sync(2) of the disk (`volatile`); files on disk and in memory are of one
        // device where the numbers of their inodes are short enough (`xino`).
        let mut options = format!(
            "lowerdir={},upperdir={top},workdir={top}w,index=off,metacopy=off,xino=auto,volatile",
            below.join(":")
        );
        if self.user_attributes {
            options.push_str(",userxattr");
        }
        let options = std::ffi::CString::new(options)
            .map_err(|_| Error::mount("mount an overlay")(Errno::INVAL))?;
        mount(
            "overlay",
            PLACE,
            "overlay",
            MountFlags::empty(),
            Some(options.as_c_str()),
        )
        .map_err(Error::mount("mount an overlay"))
    }
}

/// Makes a directory, which may be there.
fn make(path: &str) -> Result<(), Error> {
    match mkdirat(CWD, path, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(Error::mount("make a directory")(error)),
    }
}

fn open(path: &str) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).map_err(Error::mount("open a layer"))
}

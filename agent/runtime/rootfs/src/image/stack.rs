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

/// The directory where overlays are mounted while they are made.
const PLACE: &str = "root";

/// The directory where the tmpfs is mounted that holds what the container writes.
const TOP: &str = "top";

/// Layers, in a mount namespace that exists as long as this value.
#[derive(Debug)]
pub(super) struct Stack<'a> {
    aside: PrivateMounts,
    owners: &'a OwnerMap,
    /// The directory that contains the layers. It is this process's working directory.
    store: OwnedFd,
    is_on_disk: bool,
    layers: usize,
    /// Whether overlayfs is to use attributes `user.*`, because this process's user namespace may not set the usual
    /// `trusted.*`.
    user_attributes: bool,
}

impl<'a> Stack<'a> {
    /// Makes a stack without layers. They go to `disk`, or into memory where that is `None`. The files themselves get
    /// the ids of `owners`, because the kernel does not id-map overlay mounts.
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
        // From this working directory, the names of the layers have a few letters. The mount options of overlayfs have
        // room for 4096 bytes.
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

    /// Adds a layer on top, and calls `fill` to fill it.
    ///
    /// # Errors
    /// Those of `fill`; or the kernel refuses a mount.
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

    /// Sets the number of layers, after a child process with the same mounts has added them.
    pub(super) fn count(&mut self, layers: usize) {
        self.layers = layers;
    }

    /// Returns all layers, and one more on top for what the container writes, as a detached mount. The top layer is in
    /// memory. The container's processes fill it, and the kernel charges it to the container.
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

    /// Returns a writer into the mounted overlay. Gives the root directory of the topmost layer to the container's
    /// root.
    fn inside<'root>(&self, root: &'root OwnedFd) -> Result<Inside<'root>, Error>
    where
        'a: 'root,
    {
        let mut inside = Inside::new(root.as_fd(), self.owners);
        let own = inside.directory(Path::new(""), FileAccess::of_root(0o755));
        own.map_err(Error::io("make the root's", Path::new("/")))?;
        Ok(inside)
    }

    /// Mounts the layers so far, and a new layer `top` above them. An empty directory is below the first layer.
    fn mount(&self, top: &str) -> Result<(), Error> {
        make("0")?;
        make(top)?;
        make(&format!("{top}w"))?;
        // The highest layer comes first. Below all of them is an empty directory, because overlayfs needs at least one.
        let below: Vec<String> = (0..=self.layers).rev().map(|it| it.to_string()).collect();
        // `volatile`: the unpacked files need no sync(2) of the disk. `xino`: files on disk and in memory have one
        // device number, if their inode numbers are short enough.
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

/// Makes a directory, unless it exists.
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

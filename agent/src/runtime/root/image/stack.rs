//! Layers on each other, with overlayfs: each is unpacked into what those below it give, so that the kernel itself keeps
//! what the layer takes away.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, XattrFlags, fsetxattr, mkdirat, openat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::fchdir;

use crate::runtime::root::aside::Aside;
use crate::runtime::root::inside::{Access, Inside};
use crate::runtime::root::owners::Owners;
use crate::runtime::root::{Error, tree};

/// Where overlays are mounted while they are made.
const PLACE: &str = "root";

/// Layers in memory, in a mount namespace that goes when this does.
#[derive(Debug)]
pub struct Stack<'a> {
    aside: Aside,
    owners: &'a Owners,
    store: OwnedFd,
    layers: usize,
    /// A user namespace may not set the attributes that overlayfs has otherwise.
    user_attributes: bool,
}

impl<'a> Stack<'a> {
    /// No layers yet. An overlay cannot be mounted with other ids: its files have those of `owners`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn new(owners: &'a Owners) -> Result<Self, Error> {
        let aside = Aside::step()?;
        let store = tree::empty(&[("mode", "0755")])?;
        aside.attach(&store)?;
        // What overlayfs is to stack has names of a few letters from here: its options have room for 4096.
        fchdir(&store).map_err(Error::mount("enter a tmpfs"))?;
        mkdirat(CWD, PLACE, Mode::from_raw_mode(0o755))
            .map_err(Error::mount("make a directory"))?;
        let opened = open(".")?;
        let trusted = fsetxattr(&opened, "trusted.agent", b"", XattrFlags::empty());
        Ok(Self {
            aside,
            owners,
            store,
            layers: 0,
            user_attributes: trusted == Err(Errno::PERM),
        })
    }

    /// Puts a layer on top, which `fill` fills.
    ///
    /// # Errors
    /// That of `fill`; the kernel refuses.
    pub fn add(
        &mut self,
        fill: impl FnOnce(&mut Inside<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.mount()?;
        {
            let root = open(PLACE)?;
            fill(&mut self.inside(&root)?)?;
        }
        unmount(PLACE, UnmountFlags::empty()).map_err(Error::mount("unmount a layer"))?;
        self.layers += 1;
        Ok(())
    }

    /// All layers, and one more on top for what the container writes, as a detached mount.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn finish(self) -> Result<OwnedFd, Error> {
        self.mount()?;
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
        let own = inside.directory(Path::new(""), Access::of_root(0o755));
        own.map_err(Error::io("make the root's", Path::new("/")))?;
        Ok(inside)
    }

    /// Mounts what there is, and a new layer on top of it. The first layer is on an empty directory.
    fn mount(&self) -> Result<(), Error> {
        let top = self.layers + 1;
        for directory in [format!("{top}"), format!("{top}w"), "0".to_owned()] {
            match mkdirat(CWD, &directory, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(Error::mount("make a directory")(error)),
            }
        }
        // The highest first; under all of them one that is empty, since there has to be one.
        let below: Vec<String> = (0..=self.layers).rev().map(|it| it.to_string()).collect();
        let mut options = format!(
            "lowerdir={},upperdir={top},workdir={top}w,index=off,metacopy=off",
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

fn open(path: &str) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).map_err(Error::mount("open a layer"))
}

//! All that the new process does, made ready before it is cloned: strings as the kernel takes them, and open files.

pub mod command;
pub mod identity;
pub mod mounts;
pub mod namespaces;

use std::ffi::CString;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use agent_host::interrupts::Interrupts;
use agent_rootfs::RootSource;
use agent_rootfs::propagation::Propagation;
use agent_sys::launch::StartArea;
use oci_spec::runtime::{Linux, Spec};

use self::command::Command;
use self::identity::Identity;
use self::mounts::Mounts;
use self::namespaces::Namespaces;
pub use super::Stdio;
use super::child::Step;
use super::stage::Stage;
use super::{Cgroups, Error};
use crate::order::{ChangeRoot, Order};
use crate::setting;

#[derive(Debug)]
pub struct Plan<'a> {
    pub steps: &'static [Step],
    /// The place in `steps` where the launcher is to die.
    pub fault: Option<usize>,
    pub namespaces: Namespaces,
    pub container: Option<Container<'a>>,
    /// The root of the container that is joined.
    pub joined_root: Option<OwnedFd>,
    pub stdio: Stdio,
    pub identity: Identity,
    pub filters: &'a [agent_seccomp::Program],
    pub command: Command,
    /// A reaper is to be pid 1, and the command its child: where this process's arguments and environment are, which the
    /// container is not to see there.
    pub reaper: Option<StartArea>,
    /// The step behind which the new process is to stop.
    pub hold: Option<String>,
    /// What only the stage of an entry has.
    pub stage: Option<Stage>,
}

/// What only a container's first process does.
#[derive(Debug)]
pub struct Container<'a> {
    pub root: BorrowedFd<'a>,
    pub change_root: ChangeRoot,
    /// Files of root in it are the container's root's, in a user namespace too. Not so for the host's tree, whose files
    /// were never meant for the container.
    pub maps_owners: bool,
    pub read_only: bool,
    /// What the root's mount is to be at last; private until then.
    pub propagation: Option<Propagation>,
    pub host_name: Option<CString>,
    pub domain_name: Option<CString>,
    pub mounts: Mounts,
    /// Paths below /proc/sys, and values.
    pub sysctl: Vec<(CString, CString)>,
    pub hidden: Hidden,
    /// Of what is mounted late.
    pub hidden_late: Hidden,
}

/// Paths that a container must not see, or not change.
#[derive(Debug, Default)]
pub struct Hidden {
    pub masked: Vec<CString>,
    pub read_only: Vec<CString>,
}

/// A string as the kernel takes it.
pub(super) fn text(value: impl AsRef<[u8]>) -> Result<CString, Error> {
    let value = value.as_ref();
    CString::new(value).map_err(|_| Error::Zero {
        value: String::from_utf8_lossy(value).into_owned(),
    })
}

pub(super) fn path_text(path: &Path) -> Result<CString, Error> {
    text(path.as_os_str().as_bytes())
}

impl<'a> Container<'a> {
    pub fn new(
        order: &Order,
        root: BorrowedFd<'a>,
        namespaces: &Namespaces,
        cgroups: &Cgroups<'_>,
        interrupts: &mut dyn Interrupts,
    ) -> Result<Self, Error> {
        let spec = &order.spec;
        let empty = Linux::default();
        let linux = spec.linux().as_ref().unwrap_or(&empty);
        let has_proc = |mounts: &Mounts| mounts.all.iter().any(mounts::Mount::is_proc);
        let mounts = Mounts::new(spec, namespaces, cgroups, interrupts)?;
        let sysctl = sysctl(linux)?;
        if !sysctl.is_empty() && !has_proc(&mounts) {
            return Err(Error::invalid(
                "sysctl: the container has no /proc of its own to set it in; mount one",
            ));
        }
        Ok(Self {
            root,
            change_root: order.change_root,
            maps_owners: order.root != RootSource::Host,
            read_only: is_read_only(spec),
            propagation: Propagation::of_root(spec)
                .filter(|it| matches!(it.kind, libc::MS_SHARED | libc::MS_UNBINDABLE)),
            host_name: name(spec.hostname())?,
            domain_name: name(spec.domainname())?,
            sysctl,
            hidden: hidden(linux, |path| !mounts.is_late(path))?,
            hidden_late: hidden(linux, |path| mounts.is_late(path))?,
            mounts,
        })
    }
}

/// Programs in Go write an empty text for none.
fn name(said: &Option<String>) -> Result<Option<CString>, Error> {
    let said = said.as_ref().filter(|name| !name.is_empty());
    said.map(text).transpose()
}

fn is_read_only(spec: &Spec) -> bool {
    let root = spec.root().as_ref();
    root.and_then(oci_spec::runtime::Root::readonly) == Some(true)
}

fn hidden(linux: &Linux, wanted: impl Fn(&Path) -> bool) -> Result<Hidden, Error> {
    let paths = |paths: Option<&[String]>| -> Result<Vec<CString>, Error> {
        let paths = paths.unwrap_or_default().iter();
        paths
            .filter(|path| wanted(Path::new(path)))
            .map(text)
            .collect()
    };
    Ok(Hidden {
        masked: paths(linux.masked_paths().as_deref())?,
        read_only: paths(linux.readonly_paths().as_deref())?,
    })
}

fn sysctl(linux: &Linux) -> Result<Vec<(CString, CString)>, Error> {
    let Some(wanted) = linux.sysctl() else {
        return Ok(Vec::new());
    };
    let mut all = Vec::with_capacity(wanted.len());
    for (name, value) in wanted {
        let path = format!("sys/{}", setting::path(name));
        all.push((text(path)?, text(value)?));
    }
    all.sort();
    Ok(all)
}

/// Descriptors 0, 1 and 2 of the new process.
impl Stdio {
    pub(super) fn files(&self) -> Option<(Option<&OwnedFd>, &OwnedFd, &OwnedFd)> {
        match self {
            Self::Files {
                stdin,
                stdout,
                stderr,
            } => Some((stdin.as_ref(), stdout, stderr)),
            Self::Terminal => None,
        }
    }
}

//! Prepares everything that the new process needs before it is cloned: strings in the kernel's form, and open files.

pub(super) mod command;
pub(super) mod identity;
pub(super) mod mounts;
pub(super) mod namespaces;

use std::ffi::CString;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use agent_host::interrupts::Interrupts;
use agent_rootfs::RootSource;
use agent_rootfs::propagation::Propagation;
use agent_sys::entry::KeptFromCopies;
use agent_sys::start_area::StartArea;
use oci_spec::runtime::{Linux, Spec};

use self::command::Command;
use self::identity::ProcessIdentity;
use self::mounts::Mounts;
use self::namespaces::Namespaces;
pub(super) use super::Stdio;
use super::{Cgroups, Error};
use crate::order::{ChangeRoot, Order};
use crate::setting;

#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// The index of the step at which a test wants the launcher to die.
    pub fault: Option<usize>,
    pub namespaces: Namespaces,
    pub container: Option<ContainerPlan<'a>>,
    /// The root of the container that the stage enters.
    pub joined_root: Option<OwnedFd>,
    pub stdio: Stdio,
    pub identity: ProcessIdentity,
    pub filters: &'a [agent_seccomp::FilterProgram],
    pub command: Command,
    /// The memory of this process's arguments and environment, where pid 1 is a reaper with the command as its child.
    /// The reaper clears that memory, because the container could read it.
    pub reaper: Option<StartArea>,
    /// The step after which the new process stops itself, for a test.
    pub hold: Option<String>,
    /// The part of the plan that only a stage has.
    pub stage: Option<Stage>,
}

/// The part of a plan that only a stage has.
#[derive(Debug)]
pub(super) struct Stage {
    /// The descriptors of the namespaces to join, the types to join through each, and the subject for errors.
    pub joins: Vec<(OwnedFd, i32, CString)>,
    /// The `tasks` files of the v1 cgroups to join.
    pub cgroups: Vec<OwnedFd>,
    /// Whether the command has a terminal.
    pub terminal: bool,
    /// Whether the command has no standard input.
    pub reads_nothing: bool,
    /// The value of `oom_score_adj`.
    pub oom_score_adjustment: Option<i32>,
    /// The filters that the copy installs after the others.
    pub late: Vec<agent_seccomp::FilterProgram>,
    /// The memory by which the stage reports to the launcher.
    pub shared: KeptFromCopies,
}

/// The part of a plan that only a container's init process has.
#[derive(Debug)]
pub(super) struct ContainerPlan<'a> {
    pub root: BorrowedFd<'a>,
    pub change_root: ChangeRoot,
    /// Whether the container's user namespace maps the owners of the root's files, so that root's files belong to the
    /// container's root. False for the host's own files, which the container must not own.
    pub maps_owners: bool,
    pub read_only: bool,
    /// The propagation type that the root's mount has in the end. The mount is private until then.
    pub propagation: Option<Propagation>,
    pub host_name: Option<CString>,
    pub domain_name: Option<CString>,
    pub mounts: Mounts,
    /// Paths below /proc/sys, with their values.
    pub sysctl: Vec<(CString, CString)>,
    pub hidden: Hidden,
    /// Hidden paths in mounts that wait for the cgroup namespace.
    pub hidden_late: Hidden,
}

/// Paths that a container must not see, or not change.
#[derive(Debug, Default)]
pub(super) struct Hidden {
    pub masked: Vec<CString>,
    pub read_only: Vec<CString>,
}

/// Converts a string to the kernel's form, which ends in a NUL.
pub(super) fn text(value: impl AsRef<[u8]>) -> Result<CString, Error> {
    let value = value.as_ref();
    CString::new(value).map_err(|_| Error::Zero {
        value: String::from_utf8_lossy(value).into_owned(),
    })
}

pub(super) fn path_text(path: &Path) -> Result<CString, Error> {
    text(path.as_os_str().as_bytes())
}

impl<'a> ContainerPlan<'a> {
    pub(super) fn new(
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

/// Treats an empty string as absent, because programs in Go write one for an absent value.
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

impl Stdio {
    /// Returns the files that become descriptors 0, 1 and 2 of the new process. None where they are a terminal.
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

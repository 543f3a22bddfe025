//! An OCI bundle: a directory with a `config.json`, carried out as it is, or not at all.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Spec};

use super::flags::Flags;
use super::{Error, Found, resources, security};
use crate::regular::{self, Links};
use crate::runtime::order::{ChangeRoot, Network, Order, Root};
use crate::runtime::state::LARGEST;

const CONFIGURATION: &str = "config.json";

/// A bundle, read.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// Where it is, links resolved.
    directory: PathBuf,
    spec: Spec,
}

impl Bundle {
    /// Reads the configuration of a bundle.
    ///
    /// # Errors
    /// It is not there, or no OCI configuration; a symbolic link stands in for its root.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let directory = fs::canonicalize(path).map_err(|source| Error::Open {
            path: path.to_owned(),
            source,
        })?;
        let path = directory.join(CONFIGURATION);
        let text =
            regular::read(&path, Links::Followed, LARGEST).map_err(|source| Error::Open {
                path: path.clone(),
                source,
            })?;
        let spec: Spec = serde_json::from_slice(&text).map_err(|source| Error::Bundle {
            path: path.clone(),
            reason: source.to_string(),
        })?;
        if let Some(root) = spec.root() {
            has_no_link(&directory.join(root.path()))
                .map_err(|reason| Error::Bundle { path, reason })?;
        }
        Ok(Self { directory, spec })
    }
}

/// Refuses a root by way of a symbolic link, which could lead to the host's files: as runc does.
fn has_no_link(root: &Path) -> Result<(), String> {
    let Ok(leads_to) = fs::canonicalize(root) else {
        // Who mounts it says why.
        return Ok(());
    };
    let mut plain = PathBuf::new();
    for part in root.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    if plain == leads_to {
        return Ok(());
    }
    Err(format!(
        "root.path is a symbolic link, or below one, and leads to {}; name that, if it is meant",
        leads_to.display()
    ))
}

/// The order that a bundle's configuration comes to.
pub(super) fn compile(flags: &Flags, bundle: &Bundle, found: &Found) -> Result<Order, Error> {
    let mut spec = bundle.spec.clone();
    let path = bundle.directory.join(CONFIGURATION);
    let refuse = |reason: String| Error::Bundle {
        path: path.clone(),
        reason,
    };
    if let Some(what) = unsupported(&spec) {
        return Err(refuse(format!(
            "{what} is not supported; remove it to run without"
        )));
    }
    others(&spec).map_err(refuse)?;
    let root = spec.root().as_ref();
    let root = root.ok_or_else(|| refuse("it has no root".to_owned()))?;
    let root = bundle.directory.join(root.path());
    let process = spec.process().as_ref();
    let process = process.ok_or_else(|| refuse("it has no process".to_owned()))?;
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return Err(refuse(
            "process.args is empty: there is no command".to_owned(),
        ));
    }
    if !process.cwd().is_absolute() {
        let cwd = process.cwd().display();
        return Err(refuse(format!(
            "process.cwd is {cwd}; wanted: an absolute path"
        )));
    }
    sources_from(&bundle.directory, &mut spec);
    let linux = spec.linux_mut().get_or_insert_default();
    let cgroup = resources::path(flags.limits.cgroup_parent.as_deref(), &found.name)?;
    linux.set_cgroups_path(Some(cgroup));
    let namespaces = linux.namespaces().iter().flatten();
    let mut network = namespaces.filter(|it| it.typ() == LinuxNamespaceType::Network);
    let network = match network.next() {
        Some(own) if own.path().is_none() => Network::None,
        _ => Network::Joined,
    };
    Ok(Order {
        name: found.name.clone(),
        spec,
        root: Root::Directory(root),
        network,
        members: BTreeMap::new(),
        change_root: ChangeRoot::Pivot,
        init: flags.manner.init,
        interactive: flags.manner.interactive,
        detach: flags.manner.detach,
        remove: flags.manner.rm,
        log: super::value::log_limits(&flags.manner.log_opt),
        swap_implied: false,
        asked: None,
    })
}

/// What is bound is named from the bundle on, where its path is relative.
fn sources_from(directory: &Path, spec: &mut Spec) {
    for mount in spec.mounts_mut().iter_mut().flatten() {
        let is_bind = |option: &String| option == "bind" || option == "rbind";
        let options = mount.options().iter().flatten();
        let binds = mount.typ().as_deref() == Some("bind") || options.into_iter().any(is_bind);
        if let Some(source) = mount.source().as_ref().filter(|_| binds) {
            let source = directory.join(source);
            mount.set_source(Some(source));
        }
    }
}

/// Refuses what would change the host, or another container: a name or a setting of a namespace that is not new.
fn others(spec: &Spec) -> Result<(), String> {
    let linux = spec.linux().as_ref();
    let namespaces = linux.and_then(|linux| linux.namespaces().as_ref());
    let is_new = |kind| {
        let mut all = namespaces.into_iter().flatten();
        all.any(|it| it.typ() == kind && it.path().is_none())
    };
    let named = spec.hostname().is_some() || spec.domainname().is_some();
    if named && !is_new(LinuxNamespaceType::Uts) {
        return Err(
            "hostname or domainname would be changed for others too; wants a new uts namespace"
                .to_owned(),
        );
    }
    let settings = linux.and_then(|linux| linux.sysctl().as_ref());
    for name in settings.into_iter().flatten().map(|(name, _)| name) {
        security::own_setting(name, is_new)
            .map_err(|reason| format!("linux.sysctl {name}: {reason}"))?;
    }
    Ok(())
}

/// What the configuration asks for that would not be done. What is not carried out is refused, never left out.
fn unsupported(spec: &Spec) -> Option<&'static str> {
    let process = spec.process().as_ref();
    let linux = spec.linux().as_ref();
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    let of_process = |is: fn(&oci_spec::runtime::Process) -> bool| process.is_some_and(is);
    let of_linux = |is: fn(&oci_spec::runtime::Linux) -> bool| linux.is_some_and(is);
    let of_resources =
        |is: fn(&oci_spec::runtime::LinuxResources) -> bool| resources.is_some_and(is);
    let named = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let namespaces = linux.and_then(|linux| linux.namespaces().as_ref());
    let mut namespaces = namespaces.into_iter().flatten();
    let own_mounts =
        namespaces.any(|it| it.typ() == LinuxNamespaceType::Mount && it.path().is_none());
    [
        (
            "hooks",
            spec.hooks()
                .as_ref()
                .is_some_and(|it| *it != Default::default()),
        ),
        ("vm", spec.vm().is_some()),
        (
            "linux.namespaces without a mount namespace of its own",
            !own_mounts,
        ),
        (
            "process.apparmorProfile",
            process.is_some_and(|it| named(it.apparmor_profile())),
        ),
        (
            "process.selinuxLabel",
            process.is_some_and(|it| named(it.selinux_label())),
        ),
        (
            "process.scheduler",
            of_process(|it| it.scheduler().is_some()),
        ),
        (
            "process.ioPriority",
            of_process(|it| it.io_priority().is_some()),
        ),
        (
            "process.execCPUAffinity",
            of_process(|it| it.exec_cpu_affinity().is_some()),
        ),
        (
            "linux.mountLabel",
            linux.is_some_and(|it| named(it.mount_label())),
        ),
        ("linux.intelRdt", of_linux(|it| it.intel_rdt().is_some())),
        (
            "linux.memoryPolicy",
            of_linux(|it| it.memory_policy().is_some()),
        ),
        (
            "linux.personality",
            of_linux(|it| it.personality().is_some()),
        ),
        (
            "linux.netDevices",
            of_linux(|it| it.net_devices().as_ref().is_some_and(|it| !it.is_empty())),
        ),
        (
            "linux.resources.network",
            of_resources(|it| it.network().is_some()),
        ),
        (
            "linux.resources.rdma",
            of_resources(|it| it.rdma().as_ref().is_some_and(|it| !it.is_empty())),
        ),
        (
            "linux.resources.hugepageLimits",
            of_resources(|it| {
                it.hugepage_limits()
                    .as_ref()
                    .is_some_and(|it| !it.is_empty())
            }),
        ),
        (
            "mount with idmap",
            spec.mounts()
                .iter()
                .flatten()
                .any(|it| it.uid_mappings().is_some()),
        ),
    ]
    .into_iter()
    .find_map(|(what, asked)| asked.then_some(what))
}

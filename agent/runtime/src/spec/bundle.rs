//! Reads an OCI bundle: a directory with a `config.json`. The agent applies every member that OCI defines, or refuses
//! the bundle.

mod members;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use agent_host::regular::{self, Links};
use agent_model::units::Signal;
use agent_network::Network;
use agent_rootfs::RootSource;
use agent_rootfs::propagation::Propagation;
use oci_spec::runtime::{Linux, LinuxDeviceCgroup, LinuxNamespace, LinuxNamespaceType, Spec};

use self::members::Left;
use super::flags::Flags;
use super::{Error, SpecFacts, resources};
use crate::order::{ChangeRoot, Order};
use crate::setting;
use crate::state::LARGEST;

const CONFIGURATION: &str = "config.json";

/// The cgroup that contains the cgroups of `agent run`'s containers.
const AGENT: &str = "agent";

/// A bundle that was read.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The bundle's directory, with symbolic links resolved.
    directory: PathBuf,
    spec: Spec,
    /// Members of the configuration that OCI does not define, up to a limit.
    unknown: Vec<String>,
}

impl Bundle {
    /// Reads the configuration of a bundle.
    ///
    /// # Errors
    /// The file cannot be read, is not an OCI configuration, or has a member that the agent refuses. Or the path of the
    /// root file system leads through a symbolic link.
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
        let refuse = |reason: String| Error::Bundle {
            path: path.clone(),
            reason,
        };
        let said = |source: serde_json::Error| refuse(source.to_string());
        let left = Left::of(&serde_json::from_slice(&text).map_err(said)?);
        // This check comes before the typed parse: the types may fail on a refused member, with an error that does not
        // name it.
        if let Some(member) = left.refused {
            return Err(refuse(format!(
                "{member} is not supported; remove it to run without"
            )));
        }
        // The text is parsed again, because the error then has the line and column. Code that also reads all these
        // types from a `Value` would make the shipped file half a megabyte larger.
        let spec: Spec = serde_json::from_slice(&text).map_err(said)?;
        if let Some(root) = spec.root() {
            has_no_link(&directory.join(root.path()))
                .map_err(|reason| Error::Bundle { path, reason })?;
        }
        Ok(Self {
            directory,
            spec,
            unknown: left.unknown,
        })
    }
}

/// Refuses a root file system whose path leads through a symbolic link, as runc does: the link could lead to the host's
/// files.
fn has_no_link(root: &Path) -> Result<(), String> {
    let Ok(leads_to) = fs::canonicalize(root) else {
        // The later mount of the root file system reports this error.
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

/// Compiles the configuration of a bundle to an order.
pub(super) fn compile(flags: &Flags, bundle: &Bundle, found: &SpecFacts) -> Result<Order, Error> {
    let mut spec = bundle.spec.clone();
    let path = bundle.directory.join(CONFIGURATION);
    let refuse = |reason: String| Error::Bundle {
        path: path.clone(),
        reason,
    };
    let linux = spec.linux().as_ref();
    linux.map_or(Ok(()), check).map_err(refuse)?;
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
    let stop_signal = stop_signal(&spec).map_err(refuse)?;
    sources_from(&bundle.directory, &mut spec);
    let linux = spec.linux_mut().get_or_insert_default();
    let (cgroup, note) = cgroup(linux, flags, found)?;
    linux.set_cgroups_path(Some(cgroup));
    complete_devices(linux);
    let unknown = bundle.unknown.iter();
    let unknown = unknown.map(|it| format!("{it} is no member of OCI's spec; it is ignored"));
    let notes = unknown.chain(note);
    let notes = notes.map(|note| format!("{}: {note}", path.display()));
    let namespaces = linux.namespaces().iter().flatten();
    let mut network = namespaces.filter(|it| it.typ() == LinuxNamespaceType::Network);
    let network = match network.next() {
        Some(own) if own.path().is_none() => Network::None,
        _ => Network::Joined,
    };
    Ok(Order {
        name: found.name.clone(),
        spec,
        root: RootSource::Directory(root),
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
        notes: notes.collect(),
        stop_signal: flags.manner.stop_signal.or(stop_signal),
    })
}

/// Returns the stop signal in the spec's annotation. The conversion of an image to a bundle writes `StopSignal` there
/// (image-spec, `conversion.md`).
fn stop_signal(spec: &Spec) -> Result<Option<Signal>, String> {
    const NAME: &str = "org.opencontainers.image.stopSignal";
    let annotations = spec.annotations().as_ref();
    let said = annotations.and_then(|all| all.get(NAME));
    let parse = |text: &String| {
        let said = |reason| format!("annotations {NAME} {text:?}: {reason}");
        text.parse().map_err(said)
    };
    said.filter(|text| !text.is_empty()).map(parse).transpose()
}

/// Returns the path of the container's cgroup, and a note where `linux.cgroupsPath` is not used. Only a path
/// `PARENT/agent/NAME` is used, and only its parent. The agent identifies the engine of a container by its cgroup's
/// path, and other paths are those of other engines.
fn cgroup(
    linux: &Linux,
    flags: &Flags,
    found: &SpecFacts,
) -> Result<(PathBuf, Option<String>), Error> {
    let said = linux.cgroups_path().as_deref().map(Path::new);
    let said = said.filter(|path| !path.as_os_str().is_empty());
    let agents = said.and_then(Path::parent);
    let parent = agents.filter(|it| it.is_absolute() && it.ends_with(AGENT));
    let parent = parent.and_then(Path::parent);
    let own = parent.filter(|it| *it != Path::new("/"));
    let asked = flags.limits.cgroup_parent.as_deref();
    let cgroup = resources::path(asked.or(own), &found.name)?;
    let note = said.filter(|_| parent.is_none() && asked.is_none());
    let note = note.map(|said| {
        format!(
            "linux.cgroupsPath {} is not used: the cgroup is {}; --cgroup-parent says below which",
            said.display(),
            cgroup.display()
        )
    });
    Ok((cgroup, note))
}

/// Completes the device rules as runc does. A device that no rule allows is denied, but OCI's default devices are
/// always allowed. Every device node can be made, because the kernel checks the rules again when it is opened.
fn complete_devices(linux: &mut Linux) {
    let resources = linux.resources_mut().get_or_insert_default();
    let (usual, denied): (Vec<_>, Vec<_>) = resources::devices()
        .into_iter()
        .partition(LinuxDeviceCgroup::allow);
    // A container's /dev/console is its own pseudoterminal, if it has a terminal, and not the host's 5:1.
    let console = |rule: &LinuxDeviceCgroup| (rule.major(), rule.minor()) == (Some(5), Some(1));
    let usual = usual.into_iter().filter(|rule| !console(rule));
    let said = resources.devices_mut().take().unwrap_or_default();
    let rules = denied.into_iter().chain(said).chain(usual);
    resources.set_devices(Some(rules.collect()));
}

/// Refuses an unknown propagation type, a namespace type that is listed twice, and a mount namespace that is shared or
/// missing.
fn check(linux: &Linux) -> Result<(), String> {
    let propagation = linux.rootfs_propagation().as_deref();
    if let Some(word) = propagation.filter(|it| !it.is_empty())
        && Propagation::parse(word).is_none()
    {
        let wanted = Propagation::WORDS;
        return Err(format!(
            "linux.rootfsPropagation is {word:?}; wanted: {wanted}"
        ));
    }
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    for (index, one) in namespaces.iter().enumerate() {
        if namespaces[..index].iter().any(|it| it.typ() == one.typ()) {
            let kind = one.typ();
            return Err(format!("linux.namespaces has {kind} twice; remove one"));
        }
    }
    let mounts = |it: &&LinuxNamespace| it.typ() == LinuxNamespaceType::Mount;
    match namespaces.iter().find(mounts) {
        Some(own) if own.path().is_none() => Ok(()),
        _ => Err(
            "linux.namespaces without a mount namespace of its own is not supported; add {\"type\": \"mount\"}"
                .to_owned(),
        ),
    }
}

/// Resolves the relative sources of bind mounts from the bundle's directory.
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

/// Refuses a host name, a domain name or a sysctl in a namespace that is not new: it would change the host or another
/// container.
fn others(spec: &Spec) -> Result<(), String> {
    let linux = spec.linux().as_ref();
    let namespaces = linux.and_then(|linux| linux.namespaces().as_ref());
    let is_new = |kind| {
        let mut all = namespaces.into_iter().flatten();
        all.any(|it| it.typ() == kind && it.path().is_none())
    };
    let is_name = |name: &Option<String>| name.as_ref().is_some_and(|it| !it.is_empty());
    let named = is_name(spec.hostname()) || is_name(spec.domainname());
    if named && !is_new(LinuxNamespaceType::Uts) {
        return Err(
            "hostname or domainname would be changed for others too; wants a new uts namespace"
                .to_owned(),
        );
    }
    let settings = linux.and_then(|linux| linux.sysctl().as_ref());
    for name in settings.into_iter().flatten().map(|(name, _)| name) {
        setting::check(&setting::path(name), is_new)
            .map_err(|reason| format!("linux.sysctl {name}: {reason}"))?;
    }
    Ok(())
}

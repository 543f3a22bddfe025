//! Compiles the flags of `agent run` to an [`Order`].
//!
//! [`look`] finds on the host what [`Flags`] name, and returns it as [`SpecFacts`]. [`compile`] makes an order of the
//! flags and the facts. The image and the root file system's /etc/passwd exist only later; [`complete()`] then adds
//! what they define.

mod bundle;
mod complete;
mod devices;
pub(crate) mod environment;
mod facts;
pub mod flags;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod here;
mod mounts;
mod name;
mod namespaces;
mod resources;
mod security;
mod user;
pub mod value;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use agent_host::devices::DeviceNode;
use agent_host::pinned::Pinned;
use agent_model::text::escape;
use agent_rootfs::{ImageConfig, RootSource};
use bundle::Bundle;
use caps::Capability;
pub use facts::look;
pub use flags::Flags;
use here::Here;
use oci_spec::runtime::{Linux, LinuxNamespaceType, LinuxResources, Process, Spec};
pub use value::Volume;
use value::{Clock, IdMap};

use super::order::{Asked, ChangeRoot, Order};
use super::setting;

/// The version of OCI's runtime specification that a spec follows.
const VERSION: &str = "1.2.0";

/// The facts about the host and the caller that [`look`] found.
#[derive(Clone, Debug)]
pub struct SpecFacts {
    /// The name of the container.
    pub name: String,
    /// The working directory, from which relative paths are resolved.
    pub here: Here,
    /// The caller's environment variables.
    pub variables: HashMap<String, String>,
    /// The init process of each container that a flag names, or why there is none.
    pub containers: BTreeMap<String, Result<Pinned, String>>,
    /// The major and minor numbers of the block devices that flags name, by path.
    pub devices: HashMap<String, (u32, u32)>,
    /// The device nodes at the paths that flags give, or why there are none.
    pub device_nodes: HashMap<PathBuf, Result<Vec<DeviceNode>, String>>,
    /// The files of `--env-file`: path and text.
    pub env_files: Vec<(String, String)>,
    /// The caller's hard resource limits (getrlimit(2)), by the names that `--ulimit` takes.
    pub hard_limits: HashMap<&'static str, u64>,
    /// The user ids and group ids that /etc/subuid and /etc/subgid give the caller, or why they give none.
    pub subordinate: Result<(Vec<IdMap>, Vec<IdMap>), String>,
    /// The capabilities that this process can give to a container.
    pub capabilities: HashSet<Capability>,
    /// The number of online CPUs.
    pub cpus: Option<usize>,
    /// Whether the caller is not root. The agent then enters a user namespace before it makes the container.
    pub rootless: bool,
    /// The bundle that `--bundle` names.
    pub bundle: Option<Bundle>,
}

/// Why flags or a bundle cannot be compiled to an order. Docker exits with status 125 for each of these.
#[allow(
    missing_docs,
    reason = "the messages document the variants and their fields"
)]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no command to run: name one after the flags, or use an image that has one")]
    NoCommand,
    #[error(
        "no root file system: --rootfs DIR, --rootfs host, --bin NAME,…, --image FILE or --bundle DIR says which"
    )]
    NoRoot,
    #[error("{flag} {value}: {reason}")]
    Flag {
        flag: &'static str,
        value: String,
        reason: String,
    },
    #[error("{one} and {other} exclude each other: {reason}")]
    Together {
        one: &'static str,
        other: &'static str,
        reason: String,
    },
    #[error("{flag} wants {wants}")]
    MissingFlag {
        flag: &'static str,
        wants: &'static str,
    },
    #[error("{}: {reason}", path.display())]
    Bundle { path: PathBuf, reason: String },
    #[error("cannot read {}", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read /{path} of the root file system")]
    Accounts {
        path: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the order cannot be written as an OCI configuration")]
    Oci(#[from] oci_spec::OciSpecError),
    #[error(transparent)]
    Seccomp(#[from] agent_seccomp::Error),
}

impl Error {
    fn flag(flag: &'static str, value: &str, reason: &str) -> Self {
        Self::Flag {
            flag,
            // Only the first line of an error is printed: a line break in the value would cut off the reason.
            value: escape(value).into_owned(),
            reason: reason.to_owned(),
        }
    }

    fn together(one: &'static str, other: &'static str, reason: &str) -> Self {
        Self::Together {
            one,
            other,
            reason: reason.to_owned(),
        }
    }
}

/// Compiles flags to an order. It reads no file except the seccomp profile that the flags name.
///
/// # Errors
/// A value is invalid, or flags exclude each other.
pub fn compile(flags: &Flags, found: &SpecFacts) -> Result<Order, Error> {
    if let Some(bundle) = &found.bundle {
        return bundle::compile(flags, bundle, found);
    }
    let namespaces = namespaces::compile(flags, found)?;
    let (mut resources, swap_implied) = resources::compile(&flags.limits, found)?;
    let mut list = namespaces.list.iter();
    let other_users = found.rootless || list.any(|it| it.typ() == LinuxNamespaceType::User);
    let (nodes, rules) = devices::compile(&flags.security, found, other_users)?;
    resources.set_devices(Some(rules));
    let kept = security::capabilities(&flags.security, found)?;
    let mut linux = Linux::default();
    linux.set_resources(Some(resources));
    linux.set_devices(some(&nodes));
    let cgroup = resources::path(flags.limits.cgroup_parent.as_deref(), &found.name)?;
    linux.set_cgroups_path(Some(cgroup));
    linux.set_sysctl(sysctls(flags, &namespaces)?);
    linux.set_time_offsets(time_offsets(flags));
    linux.set_seccomp(security::filter(&flags.security, &kept)?);
    let (masked, read_only) = security::system_paths(&flags.security);
    linux.set_masked_paths(Some(masked));
    linux.set_readonly_paths(Some(read_only));
    linux.set_uid_mappings(some(&namespaces.uid_map));
    linux.set_gid_mappings(some(&namespaces.gid_map));
    linux.set_namespaces(Some(namespaces.list.clone()));

    let mut process = Process::default();
    process.set_terminal(Some(flags.manner.tty));
    process.set_capabilities(Some(security::capability_sets(&kept)));
    process.set_no_new_privileges(Some(security::no_new_privileges(&flags.security)));
    process.set_rlimits(security::rlimits(flags, found)?);
    process.set_oom_score_adj(flags.process.oom_score_adj);
    // `complete` sets both, from the flags, the image and the root file system.
    process.set_args(None);
    process.set_env(None);

    let source = source(flags, found)?;
    let mut root = oci_spec::runtime::Root::default();
    root.set_path(source.name().into());
    root.set_readonly(Some(flags.root.read_only || source == RootSource::Host));
    let mut spec = Spec::default();
    spec.set_version(VERSION.to_owned());
    spec.set_root(Some(root));
    spec.set_mounts(Some(mounts::compile(flags, found, &namespaces)?));
    spec.set_hostname(hostname(flags, found, &namespaces)?);
    spec.set_process(Some(process));
    spec.set_linux(Some(linux));
    spec.set_annotations(labels(flags)?);
    let chroot = flags.root.chroot;
    Ok(Order {
        name: found.name.clone(),
        spec,
        root: source,
        network: namespaces.network,
        members: members(found),
        change_root: if chroot {
            ChangeRoot::Chroot
        } else {
            ChangeRoot::Pivot
        },
        init: flags.manner.init,
        interactive: flags.manner.interactive,
        detach: flags.manner.detach,
        remove: flags.manner.rm,
        log: value::log_limits(&flags.manner.log_opt),
        swap_implied,
        asked: Some(asked(flags, found)?),
        notes: Vec::new(),
        stop_signal: flags.manner.stop_signal,
    })
}

/// Returns the containers whose namespaces the new container shares.
fn members(found: &SpecFacts) -> BTreeMap<String, Pinned> {
    let found = found.containers.iter();
    let found = found.filter_map(|(name, it)| Some((name.clone(), it.as_ref().ok()?.clone())));
    found.collect()
}

/// Compiles the limits that flags ask for, without the limits that they imply for a new container. It looks up the
/// block devices that the flags name.
///
/// # Errors
/// A value is invalid, or flags exclude each other.
pub fn limits(limits: &flags::Limits) -> Result<LinuxResources, Error> {
    resources::asked(limits, &facts::devices(limits))
}

/// Completes the command of an order: entrypoint, arguments, environment, working directory and user. The image gives
/// what the flags leave open, and /etc/passwd and /etc/group of the root file system `root` give the user's ids. The
/// caller calls this once, after the root file system exists and before the launch.
///
/// # Errors
/// There is no command, or no such user or group.
pub fn complete(
    order: &mut Order,
    image: Option<&ImageConfig>,
    root: BorrowedFd<'_>,
) -> Result<(), Error> {
    complete::complete(order, image, &user::Users::read(root)?)
}

/// Finds a user and the user's home directory in a root file system. `user` is `USER[:GROUP]`, names or numbers;
/// `groups` are supplementary groups, also names or numbers.
///
/// # Errors
/// There is no such user or group.
pub fn user_in(
    root: BorrowedFd<'_>,
    user: Option<&str>,
    groups: &[String],
) -> Result<(oci_spec::runtime::User, String), Error> {
    user::Users::read(root)?.find(user, groups)
}

/// Formats a spec as indented JSON. The capability sets are sorted, so that equal specs give equal texts.
pub fn to_json(spec: &Spec) -> String {
    // This cannot fail: the keys of all maps in a spec are strings.
    let mut value = serde_json::to_value(spec).unwrap_or_default();
    for set in [
        "bounding",
        "effective",
        "inheritable",
        "permitted",
        "ambient",
    ] {
        let names = value.pointer_mut(&format!("/process/capabilities/{set}"));
        if let Some(names) = names.and_then(serde_json::Value::as_array_mut) {
            names.sort_unstable_by_key(ToString::to_string);
        }
    }
    format!("{value:#}\n")
}

/// Returns the source of the root file system.
fn source(flags: &Flags, found: &SpecFacts) -> Result<RootSource, Error> {
    let asked = &flags.root;
    let absolute = |flag, path: &PathBuf| found.here.absolute(flag, path);
    if let Some(path) = &asked.rootfs {
        return Ok(if path.as_os_str() == "host" {
            RootSource::Host
        } else {
            RootSource::Directory(absolute("--rootfs", path)?)
        });
    }
    if let Some(path) = &asked.image {
        return Ok(RootSource::Image(absolute("--image", path)?));
    }
    if asked.bin.is_empty() {
        return Err(Error::NoRoot);
    }
    let empty = asked.bin.iter().find(|it| it.as_os_str().is_empty());
    if empty.is_some() {
        return Err(Error::flag(
            "--bin",
            "\"\"",
            "wanted: names or paths of programs, as in bash,ls",
        ));
    }
    // A name without a slash is searched for in PATH; everything else is a path.
    let is_name = |path: &PathBuf| path.components().count() == 1 && !path.is_absolute();
    let programs = asked.bin.iter().map(|it| {
        if is_name(it) {
            Ok(it.clone())
        } else {
            absolute("--bin", it)
        }
    });
    let programs: Result<_, Error> = programs.collect();
    Ok(RootSource::Binaries(programs?))
}

/// Returns the host name; `None` where the container has no UTS namespace of its own.
fn hostname(
    flags: &Flags,
    found: &SpecFacts,
    namespaces: &namespaces::Namespaces,
) -> Result<Option<String>, Error> {
    let asked = &flags.namespaces.hostname;
    let own = namespaces.is_new(LinuxNamespaceType::Uts);
    match asked {
        Some(_) if !own => Err(Error::together(
            "--hostname",
            "--uts",
            "the host name would be changed for others too",
        )),
        // `HOST_NAME_MAX` is 64.
        Some(name) if name.is_empty() || name.len() > 64 || name.contains('\0') => {
            Err(Error::flag("--hostname", name, "wanted: 1 to 64 bytes"))
        }
        Some(name) => Ok(Some(name.clone())),
        None => Ok(own.then(|| found.name.clone())),
    }
}

/// Returns the sysctls of `--sysctl`. Each must belong to a namespace of the container's own.
fn sysctls(
    flags: &Flags,
    namespaces: &namespaces::Namespaces,
) -> Result<Option<HashMap<String, String>>, Error> {
    let mut settings = HashMap::new();
    for asked in &flags.namespaces.sysctl {
        let path = setting::path(&asked.name);
        setting::check(&path, |kind| namespaces.is_new(kind))
            .map_err(|reason| Error::flag("--sysctl", &asked.name, &reason))?;
        settings.insert(setting::dotted(&path), asked.value.clone());
    }
    Ok((!settings.is_empty()).then_some(settings))
}

/// Returns the labels, which are annotations of the configuration.
fn labels(flags: &Flags) -> Result<Option<HashMap<String, String>>, Error> {
    let mut labels = HashMap::new();
    for label in &flags.manner.label {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        if key.is_empty() {
            return Err(Error::flag("--label", label, "wanted: KEY=VALUE or KEY"));
        }
        labels.insert(key.to_owned(), value.to_owned());
    }
    Ok((!labels.is_empty()).then_some(labels))
}

fn time_offsets(flags: &Flags) -> Option<HashMap<String, oci_spec::runtime::LinuxTimeOffset>> {
    let mut offsets = HashMap::new();
    for asked in &flags.namespaces.time_offset {
        for clock in Clock::ALL {
            if asked.clock.is_none_or(|it| it == clock) {
                let mut offset = oci_spec::runtime::LinuxTimeOffset::default();
                offset.set_secs(Some(asked.seconds));
                offset.set_nanosecs(Some(asked.nanoseconds));
                offsets.insert(clock.name().to_owned(), offset);
            }
        }
    }
    (!offsets.is_empty()).then_some(offsets)
}

/// Collects what the flags say about the command, which `complete` completes.
fn asked(flags: &Flags, found: &SpecFacts) -> Result<Asked, Error> {
    let asked = &flags.process;
    Ok(Asked {
        entrypoint: asked.entrypoint.clone(),
        arguments: flags.command.clone(),
        environment: environment::asked(flags, found)?,
        directory: asked.workdir.clone(),
        user: asked.user.clone(),
        groups: asked.group_add.clone(),
    })
}

fn some<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

#[cfg(test)]
mod tests;

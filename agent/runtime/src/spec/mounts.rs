//! Mounts: those of every container, volumes and tmpfs.

use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use oci_spec::runtime::{LinuxNamespaceType, Mount};

use super::flags::Flags;
use super::namespaces::{NamespaceShare, Namespaces};
use super::{Error, SpecFacts};

/// `SRC:DST[:OPTIONS]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// The path on the host.
    pub source: PathBuf,
    /// The path in the container.
    pub destination: PathBuf,
    /// Whether the container can only read it.
    pub read_only: bool,
    /// The propagation type of the mount, as mount(8) names it.
    pub propagation: &'static str,
}

/// `DST[:OPTIONS]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tmpfs {
    pub destination: PathBuf,
    pub options: Vec<String>,
}

const PROPAGATIONS: [&str; 6] = [
    "rprivate", "private", "rslave", "slave", "rshared", "shared",
];

/// What a tmpfs is unless its options say otherwise: docker's.
const TMPFS: [(&str, &str); 3] = [("nosuid", "suid"), ("nodev", "dev"), ("noexec", "exec")];

impl FromStr for Volume {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, destination, options) = match parts[..] {
            [source, destination] => (source, destination, ""),
            [source, destination, options] => (source, destination, options),
            _ => return Err("wanted: SRC:DST[:OPTIONS]".to_owned()),
        };
        if !source.contains('/') && source != "." {
            return Err(format!(
                "there are no named volumes; wanted: a path, as in ./{source}"
            ));
        }
        let mut volume = Self {
            source: source.into(),
            destination: destination_of(destination)?,
            read_only: false,
            propagation: PROPAGATIONS[0],
        };
        for option in options.split(',').filter(|it| !it.is_empty()) {
            match option {
                "ro" => volume.read_only = true,
                "rw" => volume.read_only = false,
                _ => {
                    let known = PROPAGATIONS.into_iter().find(|it| *it == option);
                    volume.propagation = known.ok_or_else(|| {
                        format!("{option}; wanted: ro, rw, {}", PROPAGATIONS.join(", "))
                    })?;
                }
            }
        }
        Ok(volume)
    }
}

impl FromStr for Tmpfs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (destination, options) = text.split_once(':').unwrap_or((text, ""));
        let given = options.split(',').filter(|it| !it.is_empty());
        let given: Vec<String> = given.map(str::to_owned).collect();
        let is_given = |option: &str| given.iter().any(|it| it == option);
        let usual = TMPFS.iter().filter(|(_, other)| !is_given(other));
        let mut options: Vec<String> = usual.map(|(option, _)| (*option).to_owned()).collect();
        options.extend(
            given
                .iter()
                .filter(|it| !TMPFS.iter().any(|(one, _)| one == it))
                .cloned(),
        );
        Ok(Self {
            destination: destination_of(destination)?,
            options,
        })
    }
}

/// A place in the container to mount at.
fn destination_of(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    if path.is_absolute() && path.components().all(plain) && path.components().count() > 1 {
        return Ok(path.components().collect());
    }
    Err(format!(
        "{text:?}; wanted: an absolute path in the container, without .., that is not /"
    ))
}

/// All mounts of a container, in order.
pub(super) fn compile(
    flags: &Flags,
    found: &SpecFacts,
    namespaces: &Namespaces,
) -> Result<Vec<Mount>, Error> {
    let mut asked = Vec::new();
    for tmpfs in &flags.root.tmpfs {
        let options: Vec<&str> = tmpfs.options.iter().map(String::as_str).collect();
        asked.push(mount(&tmpfs.destination, "tmpfs", "tmpfs", &options));
    }
    for volume in &flags.root.volume {
        let access = if volume.read_only { "ro" } else { "rw" };
        let source = found.here.absolute("--volume", &volume.source)?;
        asked.push(bind(
            &volume.destination,
            &source,
            &["rbind", access, volume.propagation],
        ));
    }
    for (index, one) in asked.iter().enumerate() {
        if asked[..index]
            .iter()
            .any(|it| it.destination() == one.destination())
        {
            return Err(Error::flag(
                "--volume or --tmpfs",
                &one.destination().display().to_string(),
                "two mounts at one place",
            ));
        }
    }
    // What is asked for stands in for the usual, a volume for the usual below it too: it is what the user wants to see.
    let stands_in = |one: &Mount, usual: &Mount| match one.typ().as_deref() {
        Some("bind") => usual.destination().starts_with(one.destination()),
        _ => usual.destination() == one.destination(),
    };
    let mut mounts = Vec::new();
    for usual in usual(flags, found, namespaces) {
        if asked.iter().any(|one| stands_in(one, &usual)) {
            continue;
        }
        let below = |one: &Mount| usual.destination().starts_with(one.destination());
        if asked.iter().any(below) {
            asked.push(usual);
        } else {
            mounts.push(usual);
        }
    }
    // One that is below another comes after it: it would be hidden, and what is written to it would go elsewhere.
    asked.sort_by_key(|mount| mount.destination().components().count());
    mounts.extend(asked);
    Ok(mounts)
}

/// Those of every container: docker's.
fn usual(flags: &Flags, found: &SpecFacts, namespaces: &Namespaces) -> Vec<Mount> {
    let new = |kind| namespaces.is_new(kind);
    // An ordinary user can mount these only for namespaces that are the container's own.
    let foreign = |kind| found.rootless && !new(kind);
    let shm = format!("size={}", flags.root.shm_size.0);
    let mut pts = vec![
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
        "gid=5",
    ];
    if found.rootless {
        // The group of terminals need not be there.
        pts.pop();
    }
    const NOTHING: [&str; 3] = ["nosuid", "noexec", "nodev"];
    let read_only = ["nosuid", "noexec", "nodev", "ro"];
    let mut mounts = vec![
        if foreign(LinuxNamespaceType::Pid) {
            bind("/proc", "/proc", &["rbind", "nosuid", "noexec", "nodev"])
        } else {
            mount("/proc", "proc", "proc", &NOTHING)
        },
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount("/dev/pts", "devpts", "devpts", &pts),
    ];
    if foreign(LinuxNamespaceType::Network) {
        mounts.push(bind(
            "/sys",
            "/sys",
            &["rbind", "nosuid", "noexec", "nodev", "ro"],
        ));
    } else {
        mounts.push(mount("/sys", "sysfs", "sysfs", &read_only));
        mounts.push(mount("/sys/fs/cgroup", "cgroup", "cgroup", &read_only));
    }
    if foreign(LinuxNamespaceType::Ipc) {
        mounts.push(bind(
            "/dev/mqueue",
            "/dev/mqueue",
            &["bind", "nosuid", "noexec", "nodev"],
        ));
    } else {
        mounts.push(mount("/dev/mqueue", "mqueue", "mqueue", &NOTHING));
    }
    mounts.push(if flags.namespaces.ipc == NamespaceShare::Host {
        bind(
            "/dev/shm",
            "/dev/shm",
            &["bind", "nosuid", "noexec", "nodev"],
        )
    } else {
        mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", &shm],
        )
    });
    mounts
}

fn bind(destination: impl AsRef<Path>, source: impl AsRef<Path>, options: &[&str]) -> Mount {
    mount(destination, "bind", source, options)
}

fn mount(
    destination: impl AsRef<Path>,
    kind: &str,
    source: impl AsRef<Path>,
    options: &[&str],
) -> Mount {
    let mut mount = Mount::default();
    mount.set_destination(destination.as_ref().to_owned());
    mount.set_typ(Some(kind.to_owned()));
    mount.set_source(Some(source.as_ref().to_owned()));
    mount.set_options(Some(options.iter().map(|&it| it.to_owned()).collect()));
    mount
}

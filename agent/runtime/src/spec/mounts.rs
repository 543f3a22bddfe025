//! Compiles the mounts of an order: the default mounts, volumes and tmpfs.

use std::path::Path;

use oci_spec::runtime::{LinuxNamespaceType, Mount};

use super::flags::Flags;
use super::namespaces::Namespaces;
use super::value::{AskedMount, NamespaceShare, Tmpfs, Volume};
use super::{Error, SpecFacts};

/// Returns all mounts of a container, in the order in which they are mounted.
pub(super) fn compile(
    flags: &Flags,
    found: &SpecFacts,
    namespaces: &Namespaces,
) -> Result<Vec<Mount>, Error> {
    let volume = |flag, volume: &Volume| -> Result<Mount, Error> {
        let access = if volume.read_only { "ro" } else { "rw" };
        let source = found.here.absolute(flag, &volume.source)?;
        let options = ["rbind", access, volume.propagation];
        Ok(bind(&volume.destination, &source, &options))
    };
    let mut asked: Vec<Mount> = flags.root.tmpfs.iter().map(tmpfs).collect();
    for one in &flags.root.volume {
        asked.push(volume("--volume", one)?);
    }
    for one in &flags.root.mount {
        asked.push(match one {
            AskedMount::Bind(one) => volume("--mount", one)?,
            AskedMount::Tmpfs(one) => tmpfs(one),
        });
    }
    for (index, one) in asked.iter().enumerate() {
        if asked[..index]
            .iter()
            .any(|it| it.destination() == one.destination())
        {
            return Err(Error::flag(
                "--volume, --mount or --tmpfs",
                &one.destination().display().to_string(),
                "two mounts at one path",
            ));
        }
    }
    // A mount that a flag asks for replaces the default mount at the same path. A volume also replaces the default
    // mounts below it, because the user wants to see the volume's files there.
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
    // A mount comes after the mounts above it. They would hide it otherwise, and writes would go to another file
    // system.
    asked.sort_by_key(|mount| mount.destination().components().count());
    mounts.extend(asked);
    Ok(mounts)
}

/// Returns the default mounts of every container, which are docker's.
fn usual(flags: &Flags, found: &SpecFacts, namespaces: &Namespaces) -> Vec<Mount> {
    let new = |kind| namespaces.is_new(kind);
    // The kernel lets an ordinary user mount these only for namespaces of the container's own.
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
        // The user namespace may not have group 5 (tty).
        pts.pop();
    }
    const NOTHING: [&str; 3] = ["nosuid", "noexec", "nodev"];
    let read_only: &[&str] = match flags.security.privileged {
        true => &NOTHING,
        false => &["nosuid", "noexec", "nodev", "ro"],
    };
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
        mounts.push(mount("/sys", "sysfs", "sysfs", read_only));
        mounts.push(mount("/sys/fs/cgroup", "cgroup", "cgroup", read_only));
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

fn tmpfs(tmpfs: &Tmpfs) -> Mount {
    let options: Vec<&str> = tmpfs.options.iter().map(String::as_str).collect();
    mount(&tmpfs.destination, "tmpfs", "tmpfs", &options)
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

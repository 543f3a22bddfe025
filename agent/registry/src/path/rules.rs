//! The forms in which engines name the cgroups of containers.

use super::{PathComponent, PathIdentity, Pod, Qos, Runtime};

/// The container that an engine made this cgroup for, if one did.
pub(super) fn container(step: &PathComponent<'_>) -> Option<PathIdentity> {
    let (above, name) = unfold(step);
    let (rule, id) = RULES
        .iter()
        .find_map(|rule| Some((rule, rule.id_of(above, name)?)))?;
    Some(PathIdentity::Container {
        runtime: rule.runtime?,
        id,
        pod: pod(above),
    })
}

/// One form of a cgroup's name.
struct PathRule {
    /// The engine. `None`: the cgroup is not a container's; an engine makes it beside or around its containers.
    runtime: Option<Runtime>,
    below: Below,
    prefix: &'static str,
    suffix: &'static str,
    /// Reads the id from what is between prefix and suffix.
    id: fn(&str) -> Option<String>,
}

/// Where in a path a form applies.
enum Below {
    Anything,
    /// A parent of this name, at any depth.
    Dir(&'static str),
    /// A parent of this name, directly below the root.
    Top(&'static str),
    /// A Kubernetes pod's cgroup.
    PodDir,
}

use Below::{Anything, Dir, PodDir, Top};
use Runtime::{Agent, Containerd, Cri, Crio, Docker, Lxc, Nspawn, Podman, Unknown};

/// The first row that fits decides.
#[rustfmt::skip]
const RULES: &[PathRule] = &[
    // Not containers: monitors, the cgroup that LXC enters before it removes another, the pods of podman's cgroupfs
    // manager, the virtual machines of libvirt.
    rule(None,             Anything,             "crio-conmon-",     "",         any),
    rule(None,             Anything,             "libpod-conmon-",   "",         any),
    rule(None,             Anything,             "lxc.monitor.",     "",         any),
    rule(None,             Anything,             "lxc.pivot",        "",         any),
    rule(None,             Dir("libpod_parent"), "",                 "",         hex),
    rule(None,             Dir("machine.slice"), "machine-",         ".scope",   virtual_machine),

    // moby: daemon/oci_linux.go, WithCgroups.
    rule(Some(Docker),     Anything,             "docker-",          ".scope",   hex),
    rule(Some(Docker),     Dir("docker"),        "",                 "",         hex),

    // containerd: pkg/oci/spec.go (`/NAMESPACE/ID`), internal/cri/server/helpers.go,
    // getCgroupsPath. nerdctl: pkg/cmd/container/run_cgroup_linux.go.
    rule(Some(Containerd), Anything,             "cri-containerd-",  ".scope",   hex),
    rule(Some(Containerd), Anything,             "cri-containerd:",  "",         hex),
    rule(Some(Containerd), Anything,             "nerdctl-",         ".scope",   hex),
    rule(Some(Containerd), Top("default"),       "",                 "",         name),
    rule(Some(Containerd), Top("k8s.io"),        "",                 "",         name),

    // CRI-O: internal/config/cgmgr.
    rule(Some(Crio),       Anything,             "crio-",            ".scope",   hex),
    rule(Some(Crio),       Anything,             "crio-",            "",         hex),

    // podman: libpod/container_internal_linux.go, getOCICgroupPath; `payload` comes from
    // `--cgroups=split`, which Quadlet uses.
    rule(Some(Podman),     Anything,             "libpod-",          ".scope",   hex),
    rule(Some(Podman),     Anything,             "libpod-",          "",         hex),
    rule(Some(Podman),     Anything,             "libpod-payload-",  "",         hex),

    // LXC: src/lxc/cgroups/cgroup.h; directories before 4.0.
    rule(Some(Lxc),        Anything,             "lxc.payload.",     "",         name),
    rule(Some(Lxc),        Dir("lxc.payload"),   "",                 "",         name),
    rule(Some(Lxc),        Dir("lxc"),           "",                 "",         name),

    // systemd: units/systemd-nspawn@.service, src/machine/machine-dbus.c. libvirt's containers are there too.
    rule(Some(Nspawn),     Dir("machine.slice"), "systemd-nspawn@",  ".service", machine),
    rule(Some(Unknown),    Dir("machine.slice"), "machine-",         ".scope",   libvirt_container),
    rule(Some(Nspawn),     Dir("machine.slice"), "machine-",         ".scope",   machine),

    rule(Some(Agent),      Dir("agent"),         "",                 "",         name),

    // The name is the id alone: CRI engines and docker's --cgroup-parent, both with their cgroupfs drivers.
    rule(Some(Cri),        PodDir,               "",                 "",         hex),
    rule(Some(Unknown),    Anything,             "",                 "",         hex),
];

const fn rule(
    runtime: Option<Runtime>,
    below: Below,
    prefix: &'static str,
    suffix: &'static str,
    id: fn(&str) -> Option<String>,
) -> PathRule {
    PathRule {
        runtime,
        below,
        prefix,
        suffix,
        id,
    }
}

impl PathRule {
    fn id_of(&self, above: &str, name: &str) -> Option<String> {
        let id = name.strip_prefix(self.prefix)?.strip_suffix(self.suffix)?;
        self.below.admits(above).then(|| (self.id)(id))?
    }
}

impl Below {
    fn admits(&self, above: &str) -> bool {
        match self {
            Anything => true,
            Dir(parent) => above.rsplit('/').next() == Some(parent),
            Top(parent) => above.strip_prefix('/') == Some(parent),
            PodDir => pod(above).is_some(),
        }
    }
}

/// A cgroup's parent and name. containerd names a container `SLICE:cri-containerd:ID` for runc's systemd driver. A runtime
/// without that driver makes a directory of that name, so the slice that names the pod is in the name.
fn unfold<'a>(step: &PathComponent<'a>) -> (&'a str, &'a str) {
    const END: &str = ".slice";
    match step.name.find(".slice:cri-containerd:") {
        Some(stem) => (
            &step.name[..stem + END.len()],
            &step.name[stem + END.len() + 1..],
        ),
        None => (step.above, step.name),
    }
}

/// Reads the pod from its cgroup's path: `…/kubepods/QOS/podUID`, or `…-kubepods-QOS-podUID.slice` with `_` for the UID's
/// `-`. A guaranteed pod has no QOS (kubernetes pkg/kubelet/cm/cgroup_manager_linux.go, ToSystemd and ToCgroupfs).
pub(super) fn pod(path: &str) -> Option<Pod> {
    let dir = path.rsplit('/').next()?;
    match dir.strip_suffix(".slice") {
        Some(slice) => pod_of(slice.rsplit('-'), '_'),
        None => pod_of(path.rsplit('/'), '-'),
    }
}

fn pod_of<'a>(mut outwards: impl Iterator<Item = &'a str>, dash: char) -> Option<Pod> {
    let uid = pod_uid(outwards.next()?.strip_prefix("pod")?, dash)?;
    let qos = match (outwards.next()?, outwards.next()) {
        ("kubepods", _) => Qos::Guaranteed,
        ("burstable", Some("kubepods")) => Qos::Burstable,
        ("besteffort", Some("kubepods")) => Qos::BestEffort,
        _ => return None,
    };
    Some(Pod { uid, qos })
}

fn pod_uid(text: &str, dash: char) -> Option<String> {
    let groups: Vec<&str> = text.split(dash).collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let well_formed =
        matches!(lengths[..], [8, 4, 4, 4, 12] | [32]) && groups.iter().all(|group| is_hex(group));
    well_formed.then(|| groups.join("-"))
}

fn any(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// The random id that docker, podman and the CRI engines give a container.
fn hex(text: &str) -> Option<String> {
    (text.len() == 64 && is_hex(text)).then(|| text.to_owned())
}

fn is_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A name that a user chose. Every name that an engine allows fits this rule.
fn name(text: &str) -> Option<String> {
    /// The longest name of a cgroup in bytes.
    const NAME_MAX: usize = 255;
    let fits = text.len() <= NAME_MAX
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    fits.then(|| text.to_owned())
}

fn machine(text: &str) -> Option<String> {
    name(&unescape(text)?)
}

/// libvirt puts its driver's name first (src/hypervisor/domain_driver.c,
/// virDomainDriverGenerateMachineName).
fn virtual_machine(text: &str) -> Option<String> {
    machine(text).filter(|name| name.starts_with("qemu-") || name.starts_with("ch-"))
}

fn libvirt_container(text: &str) -> Option<String> {
    machine(text).filter(|name| name.starts_with("lxc-"))
}

/// Undoes systemd's escaping of bytes as `\xHH` (systemd.unit(5), "String escaping").
fn unescape(text: &str) -> Option<String> {
    let mut pieces = text.split("\\x");
    let mut plain = pieces.next()?.to_owned();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2)?;
        let byte = u8::from_str_radix(digits, 16).ok().filter(u8::is_ascii)?;
        plain.push(char::from(byte));
        plain.push_str(rest);
    }
    Some(plain)
}

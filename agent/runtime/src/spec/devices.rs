//! Compiles `--device` and `--privileged`: the device nodes of a container, and the rules for devices.

use agent_host::devices::DeviceNode;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};

use super::flags::Security;
use super::resources::{self, rule};
use super::value::DeviceMap;
use super::{Error, SpecFacts};

/// Returns the nodes beside the standard ones, and all rules. `other_users` says that the container is in a user
/// namespace, in which the kernel makes no device node: the host's node is mounted at its own path there.
pub(super) fn compile(
    asked: &Security,
    found: &SpecFacts,
    other_users: bool,
) -> Result<(Vec<LinuxDevice>, Vec<LinuxDeviceCgroup>), Error> {
    let mut given: Vec<(LinuxDevice, &str)> = Vec::new();
    let all = asked.privileged.then(DeviceMap::all);
    for map in all.iter().chain(&asked.device) {
        for node in found_nodes(map, found, other_users)? {
            let device = device(map, node);
            given.retain(|(other, _)| other.path() != device.path());
            given.push((device, &map.access));
        }
    }
    let allowed = given.iter().map(|(device, access)| {
        let (major, minor) = (Some(device.major()), Some(device.minor()));
        rule(true, device.typ(), major, minor, access)
    });
    let rules = match asked.privileged {
        true => vec![rule(true, LinuxDeviceType::A, None, None, "rwm")],
        false => resources::devices().into_iter().chain(allowed).collect(),
    };
    let nodes = given.into_iter().map(|(device, _)| device);
    Ok((nodes.collect(), rules))
}

fn found_nodes<'a>(
    map: &DeviceMap,
    found: &'a SpecFacts,
    other_users: bool,
) -> Result<&'a [DeviceNode], Error> {
    let refused = |reason: &str| {
        let shown = map.source.display().to_string();
        Err(Error::flag("--device", &shown, reason))
    };
    if other_users && map.source != map.destination {
        return refused(
            "in a user namespace a device keeps its path, because the kernel makes no device node there; leave the second \
             path out",
        );
    }
    match found.device_nodes.get(&map.source) {
        Some(Ok(nodes)) if nodes.is_empty() => {
            refused("no device node; wanted: one, or a directory with some")
        }
        Some(Ok(nodes)) => Ok(nodes),
        Some(Err(reason)) => refused(reason),
        None => Ok(&[]),
    }
}

fn device(map: &DeviceMap, node: &DeviceNode) -> LinuxDevice {
    let mut device = LinuxDevice::default();
    // A join with an empty path would add a slash.
    device.set_path(match node.below.as_os_str().is_empty() {
        true => map.destination.clone(),
        false => map.destination.join(&node.below),
    });
    device.set_typ(match node.is_block {
        true => LinuxDeviceType::B,
        false => LinuxDeviceType::C,
    });
    device.set_major(node.major.into());
    device.set_minor(node.minor.into());
    device.set_file_mode(Some(node.mode));
    device.set_uid(Some(node.uid));
    device.set_gid(Some(node.gid));
    device
}

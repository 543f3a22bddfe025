//! Resource settings of a systemd unit that `agent verify` does not judge: it lists them instead of ignoring them.

use std::path::Path;

use agent_host::membership::Membership;
use agent_model::container::ContainerKind;
use agent_registry::location;

use super::{Error, systemd};

/// Properties of systemd.resource-control(5) that limit or protect, and have no row in the table of limits.
const PROPERTIES: [&str; 14] = [
    systemd::CGROUP,
    "MemoryMin",
    "MemoryZSwapMax",
    "AllowedMemoryNodes",
    "IOWeight",
    "IODeviceWeight",
    "IOReadBandwidthMax",
    "IOWriteBandwidthMax",
    "IOReadIOPSMax",
    "IOWriteIOPSMax",
    "IODeviceLatencyTargetUSec",
    "StartupCPUWeight",
    "StartupMemoryMax",
    "StartupIOWeight",
];

/// The values that systemctl writes for a setting that is not set.
const NOTHING: [&str; 5] = ["", "0", "infinity", "[not set]", "18446744073709551615"];

/// `PROPERTY=VALUE` of each such setting of the unit that a process is in; none if systemd does not run.
///
/// # Errors
/// systemctl does not answer.
pub async fn not_judged(membership: &Membership) -> Result<Vec<String>, Error> {
    if !Path::new(systemd::RUNS).is_dir() {
        return Ok(Vec::new());
    }
    let places = membership.paths().map(|(_, path)| location::of(path));
    let Some(place) = places.max_by_key(|place| place.rank) else {
        return Ok(Vec::new());
    };
    let unit = place.container;
    if unit.kind != ContainerKind::Unit {
        return Ok(Vec::new());
    }
    let text = systemd::ask(&unit.name, &PROPERTIES).await?;
    let cgroup = format!("{}={}", systemd::CGROUP, unit.cgroup);
    // A user's own systemd has units of the same names.
    Ok(match text.lines().any(|line| line == cgroup) {
        true => asked(&text),
        false => Vec::new(),
    })
}

fn asked(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| {
        line.split_once('=').is_some_and(|(name, value)| {
            name != systemd::CGROUP && !NOTHING.contains(&value.trim())
        })
    });
    lines.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_told() {
        // systemd 257.
        let text = "\
ControlGroup=/system.slice/web.service
IOWeight=[not set]
IOWriteBandwidthMax=/dev/vda 1048576
IOWriteBandwidthMax=/dev/vdb 4096
MemoryMin=16777216
MemoryZSwapMax=infinity
AllowedMemoryNodes=
";
        assert_eq!(
            asked(text),
            [
                "IOWriteBandwidthMax=/dev/vda 1048576",
                "IOWriteBandwidthMax=/dev/vdb 4096",
                "MemoryMin=16777216"
            ]
        );
        assert_eq!(asked("MemoryMin=0\n"), [""; 0]);
    }
}

//! Resource settings of a systemd unit that `agent verify` does not judge: it lists them instead of ignoring them.

use agent_host::membership::Membership;
use agent_model::container::ContainerKind;
use agent_registry::location;

use super::systemd::bus::{Odd, Properties};
use super::{Error, systemd};

/// The types of properties.
#[derive(Clone, Copy, Debug)]
enum Type {
    /// A number; 0 stands for no request.
    Number,
    /// A weight; 0 stands for the idle class.
    Weight,
    Nodes,
    ByPath,
    MicrosecondsByPath,
}

/// Properties of systemd.resource-control(5) that limit or protect, and have no row in the table of limits.
const PROPERTIES: [(&str, Type); 13] = [
    ("MemoryMin", Type::Number),
    ("MemoryZSwapMax", Type::Number),
    ("AllowedMemoryNodes", Type::Nodes),
    ("IOWeight", Type::Number),
    ("IODeviceWeight", Type::ByPath),
    ("IOReadBandwidthMax", Type::ByPath),
    ("IOWriteBandwidthMax", Type::ByPath),
    ("IOReadIOPSMax", Type::ByPath),
    ("IOWriteIOPSMax", Type::ByPath),
    ("IODeviceLatencyTargetUSec", Type::MicrosecondsByPath),
    ("StartupCPUWeight", Type::Weight),
    ("StartupMemoryMax", Type::Number),
    ("StartupIOWeight", Type::Number),
];

/// `PROPERTY=VALUE` of each such setting of the unit that a process is in; none if systemd does not run.
///
/// # Errors
/// systemd does not answer.
pub async fn not_judged(membership: &Membership) -> Result<Vec<String>, Error> {
    let places = membership.paths().map(|(_, path)| location::of(path));
    let unit = places.max_by_key(|place| place.rank);
    let unit = unit.map(|place| place.container);
    let Some(unit) = unit.filter(|unit| unit.kind == ContainerKind::Unit) else {
        return Ok(Vec::new());
    };
    let asked = systemd::of_properties(&unit, asked).await?;
    Ok(asked.unwrap_or_default())
}

fn asked(properties: &Properties) -> Result<Vec<String>, Odd> {
    let mut lines = Vec::new();
    for (name, kind) in PROPERTIES {
        let number = |least: u64| Ok(properties.number(name)?.filter(|number| *number >= least));
        let by_path = |unit: &str| {
            let pairs = properties.by_path(name)?.into_iter();
            let values = pairs.map(|(path, number)| format!("{path} {number}{unit}"));
            Ok(values.collect())
        };
        let values: Vec<String> = match kind {
            Type::Number => number(1)?.iter().map(u64::to_string).collect(),
            Type::Weight => number(0)?.iter().map(|it| weight(*it)).collect(),
            Type::Nodes => properties
                .numbers(name)?
                .iter()
                .map(ToString::to_string)
                .collect(),
            Type::ByPath => by_path("")?,
            Type::MicrosecondsByPath => by_path("us")?,
        };
        lines.extend(values.iter().map(|value| format!("{name}={value}")));
    }
    Ok(lines)
}

fn weight(weight: u64) -> String {
    match weight {
        0 => "idle".to_owned(),
        weight => weight.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use zbus::Variant;

    use super::*;

    #[test]
    fn what_is_asked_for_is_reported() {
        let properties = Properties::from([
            ("IOWeight", Variant::from(u64::MAX)),
            (
                "IOWriteBandwidthMax",
                Variant::from(vec![("/dev/vda", 1_048_576_u64), ("/dev/vdb", 4_096)]),
            ),
            (
                "IODeviceLatencyTargetUSec",
                Variant::from(vec![("/dev/vda", 25_000_u64)]),
            ),
            ("MemoryMin", Variant::from(16_777_216_u64)),
            ("MemoryZSwapMax", Variant::from(u64::MAX)),
            ("AllowedMemoryNodes", Variant::from(vec![0b11_u8])),
            ("StartupCPUWeight", Variant::from(0_u64)),
            ("StartupMemoryMax", Variant::from(0_u64)),
            ("MemoryMax", Variant::from(1_u64)),
        ]);
        let wanted = [
            "MemoryMin=16777216",
            "AllowedMemoryNodes=0-1",
            "IOWriteBandwidthMax=/dev/vda 1048576",
            "IOWriteBandwidthMax=/dev/vdb 4096",
            "IODeviceLatencyTargetUSec=/dev/vda 25000us",
            "StartupCPUWeight=idle",
        ];
        assert_eq!(asked(&properties).unwrap(), wanted);
        assert_eq!(asked(&Properties::default()).unwrap(), [""; 0]);
    }
}

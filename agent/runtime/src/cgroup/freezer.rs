//! Freezes and thaws the processes in a cgroup and below it. Each version has its own freezer.

use agent_host::control::Control;
use agent_model::hierarchy::Version;

use super::place::Place;

/// The file that freezes and thaws a cgroup, and the files that show whether it is frozen.
struct Freezer {
    /// Whether the cgroups of a hierarchy have this freezer.
    is_in: fn(&Place) -> bool,
    file: &'static str,
    frozen: &'static str,
    thawed: &'static str,
    signs: &'static [Sign],
}

/// A file that shows whether a cgroup is frozen, by itself or by a cgroup above it.
struct Sign {
    file: &'static str,
    is_frozen: fn(&str) -> bool,
    thaw: &'static str,
}

const FREEZERS: [Freezer; 2] = [
    Freezer {
        is_in: |place| place.version == Version::V1 && place.has("freezer"),
        file: "freezer.state",
        frozen: "FROZEN",
        thawed: "THAWED",
        signs: &[Sign {
            file: "freezer.state",
            is_frozen: |text| text.trim() != "THAWED",
            thaw: "write THAWED to freezer.state, in it or above it",
        }],
    },
    Freezer {
        is_in: |place| place.version == Version::V2,
        file: "cgroup.freeze",
        frozen: "1",
        thawed: "0",
        // The state that was asked for, and the actual one.
        signs: &[
            Sign {
                file: "cgroup.freeze",
                is_frozen: |text| text.trim() == "1",
                thaw: "write 0 to cgroup.freeze",
            },
            Sign {
                file: "cgroup.events",
                is_frozen: |text| text.lines().any(|line| line == "frozen 1"),
                thaw: "write 0 to cgroup.freeze, in it or above it",
            },
        ],
    },
];

/// Freezes the processes in a cgroup. A freezer whose file the cgroup does not have is skipped.
pub(super) fn freeze(cgroup: &Control) {
    for freezer in &FREEZERS {
        let _ = cgroup.write(freezer.file, freezer.frozen);
    }
}

/// Thaws the processes in a cgroup, unless a cgroup above it is frozen.
pub(super) fn thaw(cgroup: &Control) {
    for freezer in &FREEZERS {
        let _ = cgroup.write(freezer.file, freezer.thawed);
    }
}

/// Returns how to thaw a cgroup; `None` where it is not frozen.
pub(super) fn how_to_thaw(place: &Place, cgroup: &Control) -> Option<&'static str> {
    let freezers = FREEZERS.iter().filter(|freezer| (freezer.is_in)(place));
    let mut signs = freezers.flat_map(|freezer| freezer.signs);
    let shows = |sign: &&Sign| {
        let text = cgroup.read(sign.file);
        text.is_ok_and(|text| (sign.is_frozen)(&text))
    };
    signs.find(shows).map(|sign| sign.thaw)
}

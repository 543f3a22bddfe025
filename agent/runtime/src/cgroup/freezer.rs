//! What stops all that is in a cgroup and below it: one freezer for each version.

use agent_host::control::Control;
use agent_model::hierarchy::Version;

use super::place::Place;

/// A file that stops and lets go, and what shows that it did.
struct Freezer {
    /// Whether the cgroups of a hierarchy have it.
    is_in: fn(&Place) -> bool,
    file: &'static str,
    frozen: &'static str,
    thawed: &'static str,
    signs: &'static [Sign],
}

/// A file that shows whether what is in a cgroup is stopped, by that cgroup or by one above it.
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
        // As it is told to be, and as it is.
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

/// Stops what is in it. A cgroup without the file of a freezer is not stopped by that one.
pub(super) fn freeze(cgroup: &Control) {
    for freezer in &FREEZERS {
        let _ = cgroup.write(freezer.file, freezer.frozen);
    }
}

/// Lets go what is in it, where no cgroup above stops that.
pub(super) fn thaw(cgroup: &Control) {
    for freezer in &FREEZERS {
        let _ = cgroup.write(freezer.file, freezer.thawed);
    }
}

/// What lets go what is in it, where that is stopped.
pub(super) fn how_to_thaw(place: &Place, cgroup: &Control) -> Option<&'static str> {
    let freezers = FREEZERS.iter().filter(|freezer| (freezer.is_in)(place));
    let mut signs = freezers.flat_map(|freezer| freezer.signs);
    let shows = |sign: &&Sign| {
        let text = cgroup.read(sign.file);
        text.is_ok_and(|text| (sign.is_frozen)(&text))
    };
    signs.find(shows).map(|sign| sign.thaw)
}

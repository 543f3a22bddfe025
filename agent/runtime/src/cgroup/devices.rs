//! Restricts the devices that a container may make and open: by the files of v1's controller, or by a BPF program on
//! v2.
//!
//! Docker's containers have CAP_MKNOD. Without a restriction, such a container could make and open a node of the host's
//! disk.

use std::io::Write as _;

use agent_host::control::Control;
use agent_model::hierarchy::Version;
use agent_model::limit::Limit;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use rustix::fs::OFlags;

use super::Error;
use super::place::{Place, Way};

mod program;

/// A rule. Of several that match, the last one decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    allow: bool,
    kind: Kind,
    /// The device's major number; [`Limit::Max`] matches any.
    major: Limit,
    minor: Limit,
    access: Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    All,
    Block,
    Character,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Access {
    make: bool,
    read: bool,
    write: bool,
}

impl Access {
    const ALL: Self = Self {
        make: true,
        read: true,
        write: true,
    };
}

/// Restricts a container's cgroup to these rules.
pub(super) fn apply(made: &[(Place, Way)], rules: &[LinuxDeviceCgroup]) -> Result<(), Error> {
    let rules = rules.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    // An ordinary user's containers are in a user namespace, where the kernel lets nobody make a device node or mount a
    // device.
    if rules.is_empty() || made.iter().all(|(place, _)| place.user) {
        return Ok(());
    }
    let v1 = made
        .iter()
        .find(|(place, _)| place.version == Version::V1 && place.has("devices"));
    let v2 = || made.iter().find(|(place, _)| place.version == Version::V2);
    match v1.or_else(v2) {
        Some((place, way)) => {
            let cgroup = way.cgroups.last().unwrap_or(&place.base);
            match place.version {
                Version::V1 => write(cgroup, &rules),
                Version::V2 => program::attach(cgroup, &rules),
            }
        }
        None => Err(Error::NoController {
            name: "a container's devices".to_owned(),
            controller: "devices".to_owned(),
        }),
    }
}

fn read(rule: &LinuxDeviceCgroup) -> Result<Rule, Error> {
    let invalid = || Error::Unsupported {
        name: format!("linux.resources.devices: {rule:?}"),
    };
    let number = |number: Option<i64>| match number {
        None | Some(-1) => Ok(Limit::Max),
        Some(number) => u32::try_from(number)
            .map(|number| Limit::Value(number.into()))
            .map_err(|_| invalid()),
    };
    let kind = match rule.typ().unwrap_or_default() {
        LinuxDeviceType::A => Kind::All,
        LinuxDeviceType::B => Kind::Block,
        LinuxDeviceType::C | LinuxDeviceType::U => Kind::Character,
        LinuxDeviceType::P => return Err(invalid()),
    };
    let access = match rule.access().as_deref().unwrap_or_default() {
        "" => Access::ALL,
        text if text.bytes().all(|byte| b"rwm".contains(&byte)) => Access {
            make: text.contains('m'),
            read: text.contains('r'),
            write: text.contains('w'),
        },
        _ => return Err(invalid()),
    };
    Ok(Rule {
        allow: rule.allow(),
        kind,
        major: number(rule.major())?,
        minor: number(rule.minor())?,
        access,
    })
}

impl Rule {
    /// Whether the rule is for every device and every access. Such a rule makes v1 drop all rules before it.
    fn is_of_all(&self) -> bool {
        let any = self.major == Limit::Max && self.minor == Limit::Max;
        self.kind == Kind::All && any && self.access == Access::ALL
    }

    /// Returns the lines that v1 takes (Documentation/admin-guide/cgroup-v1/devices.rst): `c 1:3 rwm`, or `a` for all.
    fn lines(&self) -> Vec<String> {
        if self.is_of_all() {
            return vec!["a".to_owned()];
        }
        let kinds: &[char] = match self.kind {
            Kind::All => &['b', 'c'],
            Kind::Block => &['b'],
            Kind::Character => &['c'],
        };
        let number = |limit| match limit {
            Limit::Max => "*".to_owned(),
            Limit::Value(number) => number.to_string(),
        };
        let Access { make, read, write } = self.access;
        let letters = [(read, 'r'), (write, 'w'), (make, 'm')];
        let access: String = letters
            .iter()
            .filter(|(may, _)| *may)
            .map(|(_, letter)| *letter)
            .collect();
        let (major, minor) = (number(self.major), number(self.minor));
        let line = |kind: &char| format!("{kind} {major}:{minor} {access}");
        kinds.iter().map(line).collect()
    }
}

fn write(cgroup: &Control, rules: &[Rule]) -> Result<(), Error> {
    for alike in rules.chunk_by(|one, other| one.allow == other.allow) {
        let name = if alike.iter().all(|rule| rule.allow) {
            "devices.allow"
        } else {
            "devices.deny"
        };
        let path = cgroup.path.join(name);
        let mut file = cgroup
            .file(name, OFlags::WRONLY)
            .map_err(Error::io(&path))?;
        for line in alike.iter().flat_map(Rule::lines) {
            // The kernel accepts one rule per write(2).
            file.write_all(line.as_bytes())
                .map_err(|source| Error::Refused {
                    name: "the rules of devices".to_owned(),
                    text: line,
                    file: path.clone(),
                    source,
                    hint: "",
                })?;
        }
    }
    check(cgroup, rules)
}

/// Checks that the kernel's list agrees with the last rule for all devices.
fn check(cgroup: &Control, rules: &[Rule]) -> Result<(), Error> {
    const LIST: &str = "devices.list";
    let of_all = rules.iter().rev().find(|rule| rule.is_of_all());
    let file = cgroup.path.join(LIST);
    let kept = cgroup.read(LIST).map_err(Error::io(&file))?;
    let allows_all = kept.lines().any(|line| line.starts_with("a "));
    if of_all.is_none_or(|rule| rule.allow == allows_all) {
        return Ok(());
    }
    Err(Error::Kept {
        name: "the rules of devices".to_owned(),
        file,
        written: "a".to_owned(),
        kept: kept.trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(json: &str) -> Result<Rule, Error> {
        read(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn lines_of_v1() {
        for (json, lines) in [
            (r#"{"allow": false, "access": "rwm"}"#, &["a"][..]),
            (
                r#"{"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"}"#,
                &["c 1:3 rw"],
            ),
            (
                r#"{"allow": true, "type": "c", "major": 136}"#,
                &["c 136:* rwm"],
            ),
            (
                r#"{"allow": true, "type": "a", "access": "m"}"#,
                &["b *:* m", "c *:* m"],
            ),
        ] {
            assert_eq!(rule(json).unwrap().lines(), lines, "{json}");
        }
        for json in [r#"{"access": "x"}"#, r#"{"major": -2}"#, r#"{"type": "p"}"#] {
            assert!(rule(json).is_err(), "{json}");
        }
    }
}

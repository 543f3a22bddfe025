//! Writes limits, and reads each back.

use std::io;
use std::path::PathBuf;

use agent_host::cgroup_files::{CgroupFile, controller_of, files_of, limits_of};
use agent_host::control::Control;
use agent_limits::limits::passing;
use agent_model::hierarchy::Version;
use agent_model::limit::{Held, Kind, Value};
use rustix::io::Errno;

use super::place::{Place, Way};
use super::range::{out_of_range, refusal};
use super::wanted::Wanted;
use super::{Error, Note, enable};

/// A limit that was set, from the order to what the kernel reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The resource that is limited.
    pub kind: Kind,
    /// The value that was asked for.
    pub intended: Value,
    /// The version of the hierarchy that has the file.
    pub version: Version,
    /// The file that holds the limit.
    pub file: PathBuf,
    /// The text that was written.
    pub written: String,
    /// What the file holds, as the kernel reports it.
    pub read_back: Held,
}

/// The directories of one cgroup to which limits are written, each with its hierarchy.
pub(super) struct Limiter<'a> {
    pub made: &'a [(Place, Way)],
    pub page: u64,
    pub swap_implied: bool,
}

impl Limiter<'_> {
    /// Writes all limits, in the order of `wanted`.
    pub(super) fn apply(&self, wanted: &Wanted) -> Result<(Vec<Evidence>, Vec<Note>), Error> {
        let mut evidence = Vec::new();
        let mut notes = Vec::new();
        for (kind, value) in &wanted.limits {
            let set = self.limit(*kind, value);
            match set {
                Err(Error::NoFile { file, .. })
                    if *kind == Kind::MemorySwap && self.swap_implied =>
                {
                    notes.push(Note(format!(
                        "swap is not limited: this kernel does not count it ({} is missing); --memory-swap insists on it",
                        file.display()
                    )));
                }
                set => evidence.extend(set?),
            }
        }
        for (file, text) in &wanted.files {
            self.write_as_it_is(file, text)?;
        }
        Ok((evidence, notes))
    }

    fn limit(&self, kind: Kind, value: &Value) -> Result<Vec<Evidence>, Error> {
        let name = format!("--{}", kind.flag());
        let controllers = [Version::V1, Version::V2].map(|version| controller_of(kind, version));
        let (version, cgroup) = self.cgroup_with(&name, controllers)?;
        // The period of a quota is written before the quota.
        let files: Vec<_> = files_of(kind, version).rev().collect();
        if files.is_empty() {
            let has_v1 = version == Version::V1;
            let (found, wanted) = if has_v1 { ("v1", "v2") } else { ("v2", "v1") };
            let controller = controllers[0].to_owned();
            return Err(Error::Version {
                name,
                controller,
                wanted,
                found,
            });
        }
        let set = |file| set(cgroup, kind, file, value, self.page);
        files.into_iter().map(set).collect()
    }

    /// Finds the hierarchy that has a controller, which may have another name on v1 than on v2. Returns the cgroup's
    /// directory in that hierarchy.
    fn cgroup_with(&self, name: &str, [v1, v2]: [&str; 2]) -> Result<(Version, &Control), Error> {
        let in_hierarchy = |version, controller: &str| {
            self.made
                .iter()
                .find(|(place, _)| place.version == version && place.has(controller))
        };
        let found = in_hierarchy(Version::V1, v1).or_else(|| in_hierarchy(Version::V2, v2));
        let name = || name.to_owned();
        let controller = v2.to_owned();
        let Some((place, way)) = found else {
            return Err(self.no_controller(name(), controller));
        };
        let cgroup = way.cgroups.last().unwrap_or(&place.base);
        if place.user && place.version == Version::V2 && enable::lacks(&place.base, v2) {
            return Err(Error::NotPassed {
                name: name(),
                controller,
                cgroup: place.base.path.clone(),
            });
        }
        if place.version == Version::V2
            && let Some(file) = enable::missing(way, v2)
        {
            let advice = passing::advice(&file, v2);
            return Err(Error::NotEnabled {
                name: name(),
                controller,
                advice,
            });
        }
        Ok((place.version, cgroup))
    }

    fn no_controller(&self, name: String, controller: String) -> Error {
        // An ordinary user has no cgroup in a hierarchy where none is delegated to them.
        let Some((place, _)) = self.made.iter().find(|(place, _)| place.user) else {
            return Error::NoController { name, controller };
        };
        Error::NotPassed {
            name,
            controller,
            cgroup: place.base.path.clone(),
        }
    }

    /// Writes a file of v2 that the table of limits does not have. Every word of the text must be there when the file
    /// is read back.
    fn write_as_it_is(&self, file: &str, text: &str) -> Result<(), Error> {
        let name = format!("linux.resources.unified {file:?}");
        let controller = file.split('.').next().unwrap_or(file);
        let (version, cgroup) = self.cgroup_with(&name, [controller; 2])?;
        if version == Version::V1 {
            return Err(Error::Version {
                name,
                controller: controller.to_owned(),
                wanted: "v2",
                found: "v1",
            });
        }
        let kept = exchange(cgroup, &name, file, text, "")?;
        let is_kept = text
            .split_whitespace()
            .all(|word| kept.split_whitespace().any(|other| other == word));
        if is_kept {
            return Ok(());
        }
        Err(Error::Kept {
            name,
            file: cgroup.path.join(file),
            written: text.to_owned(),
            kept: kept.trim().to_owned(),
        })
    }
}

/// Writes one limit to one file, and reads it back.
fn set(
    cgroup: &Control,
    kind: Kind,
    file: &CgroupFile,
    value: &Value,
    page: u64,
) -> Result<Evidence, Error> {
    let name = format!("--{}", kind.flag());
    let written = file.write(kind, value);
    let written = written.ok_or_else(|| out_of_range(kind, &value.to_string()))?;
    let text = exchange(cgroup, &name, file.name, &written, refusal(kind))?;
    let held = |text: &str| file.held(kind, text.as_bytes(), value.device());
    let intended = held(&written).map(|held| file.kept(held, page));
    let read_back = held(&text).filter(|held| Some(held) == intended.as_ref());
    match read_back.filter(|held| takes_effect(cgroup, kind, file, held)) {
        Some(read_back) => Ok(Evidence {
            kind,
            intended: value.clone(),
            version: cgroup.version,
            file: cgroup.path.join(file.name),
            written,
            read_back,
        }),
        None => Err(Error::Kept {
            name,
            file: cgroup.path.join(file.name),
            written,
            kept: text.trim().to_owned(),
        }),
    }
}

/// Whether the kernel uses the CPUs or memory nodes that a file holds. On v2 a file may also hold some that the cgroup
/// above does not have; the kernel then uses others instead.
fn takes_effect(cgroup: &Control, kind: Kind, file: &CgroupFile, held: &Held) -> bool {
    let Some(name) = file.in_effect.filter(|_| file.version == Version::V2) else {
        return true;
    };
    let effective = cgroup.read(name).unwrap_or_default();
    file.held(kind, effective.as_bytes(), None).as_ref() == Some(held)
}

/// The advice where the kernel has no file for a limit of swap.
const NO_SWAP_COUNTED: &str = "; boot with swapaccount=1, or leave it out";

/// Writes a text to a file, and returns what the kernel keeps.
fn exchange(
    cgroup: &Control,
    name: &str,
    file: &str,
    text: &str,
    refusal: &'static str,
) -> Result<String, Error> {
    let path = cgroup.path.join(file);
    match cgroup.exchange(file, text) {
        Ok(read) => read.map_err(Error::io(&path)),
        Err(source) => {
            let limits = limits_of(file, cgroup.version);
            let missing = match limits.contains(&Kind::MemorySwap) {
                true => NO_SWAP_COUNTED,
                false => "; leave it out",
            };
            Err(refused(name, path, (text, [missing, refusal]), source))
        }
    }
}

fn refused(
    name: &str,
    file: PathBuf,
    (text, [missing, refusal]): (&str, [&'static str; 2]),
    source: io::Error,
) -> Error {
    let name = name.to_owned();
    match Errno::from_io_error(&source) {
        Some(Errno::NOENT) => Error::NoFile {
            name,
            file,
            hint: missing,
        },
        _ => Error::Refused {
            name,
            text: text.to_owned(),
            file,
            source,
            hint: refusal,
        },
    }
}

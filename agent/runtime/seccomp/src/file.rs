//! Reads profiles in docker's JSON format.

use std::path::Path;

use agent_host::regular::{self, Links};
use caps::Capability;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSyscall,
};
use serde::Deserialize;

use super::{Error, compile, profile, rule};

/// The most bytes of a profile. Docker's has 15,000.
const LARGEST: u64 = 1024 * 1024;

/// Go's name of this machine's architecture, which docker's conditions use.
const MACHINE: &str = if cfg!(target_arch = "aarch64") {
    "arm64"
} else {
    "amd64"
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ProfileFile {
    default_action: LinuxSeccompAction,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Vec<Arch>,
    #[serde(default)]
    arch_map: Vec<ProfileArchitecture>,
    #[serde(default)]
    flags: Vec<LinuxSeccompFilterFlag>,
    #[serde(default)]
    syscalls: Vec<ProfileEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ProfileArchitecture {
    architecture: Arch,
    sub_architectures: Option<Vec<Arch>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ProfileEntry {
    /// The only name of the entry, in the format of docker before 1.12.
    #[serde(default)]
    name: String,
    #[serde(default)]
    names: Vec<String>,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    args: Option<Vec<LinuxSeccompArg>>,
    #[serde(default, rename = "comment")]
    _comment: String,
    includes: Option<ProfileFilter>,
    excludes: Option<ProfileFilter>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ProfileFilter {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
    min_kernel: Option<String>,
}

/// The container and the kernel for which a profile's conditions are evaluated.
struct ProfilePlace<'a> {
    capabilities: &'a [Capability],
    kernel: (u32, u32),
}

/// Reads a profile in docker's JSON format, and evaluates its conditions for a container with these capabilities.
///
/// # Errors
/// The file cannot be read, or is not such a profile.
pub fn read_profile(path: &Path, capabilities: &[Capability]) -> Result<LinuxSeccomp, Error> {
    let text = regular::read(path, Links::Followed, LARGEST).map_err(|source| Error::Open {
        path: path.to_owned(),
        source,
    })?;
    let release = rustix::system::uname();
    let place = ProfilePlace {
        capabilities,
        kernel: version(&release.release().to_string_lossy()).unwrap_or_default(),
    };
    let file: ProfileFile = serde_json::from_slice(&text).map_err(|source| Error::Format {
        path: path.to_owned(),
        source,
    })?;
    resolve(file, &place).map_err(|reason| Error::Profile {
        path: path.to_owned(),
        reason,
    })
}

fn resolve(file: ProfileFile, place: &ProfilePlace<'_>) -> Result<LinuxSeccomp, String> {
    if !file.architectures.is_empty() && !file.arch_map.is_empty() {
        return Err("it has both architectures and archMap; wanted: one of them".to_owned());
    }
    let native = compile::native_architectures();
    let mapped = file
        .arch_map
        .into_iter()
        .find(|entry| native.first() == Some(&entry.architecture))
        .map(|entry| {
            let mut all = vec![entry.architecture];
            all.extend(entry.sub_architectures.into_iter().flatten());
            all
        });
    let architectures = match mapped {
        Some(mapped) => mapped,
        None if file.architectures.is_empty() => native,
        // A profile lists the architectures of all machines that it is for.
        None => file
            .architectures
            .into_iter()
            .filter(|architecture| native.contains(architecture))
            .collect(),
    };
    let mut rules = Vec::new();
    for entry in file.syscalls {
        if entry.holds(place)? {
            rules.push(entry.into_rule()?);
        }
    }
    let mut whole = profile(
        file.default_action,
        file.default_errno_ret,
        architectures,
        rules,
    );
    whole.set_flags((!file.flags.is_empty()).then_some(file.flags));
    Ok(whole)
}

impl ProfileEntry {
    fn holds(&self, place: &ProfilePlace<'_>) -> Result<bool, String> {
        let included = match &self.includes {
            Some(filter) => filter.all(place)?,
            None => true,
        };
        let excluded = match &self.excludes {
            Some(filter) => filter.any(place)?,
            None => false,
        };
        Ok(included && !excluded)
    }

    fn into_rule(mut self) -> Result<LinuxSyscall, String> {
        if self.name.is_empty() == self.names.is_empty() {
            return Err(format!(
                "an entry with name {:?} and names {:?}; wanted: one of them",
                self.name, self.names
            ));
        }
        if !self.name.is_empty() {
            self.names.push(self.name);
        }
        Ok(rule(
            self.names,
            self.action,
            self.errno_ret,
            self.args.unwrap_or_default(),
        ))
    }
}

impl ProfileFilter {
    /// Whether every kind of condition that is given holds, as docker reads `includes`.
    fn all(&self, place: &ProfilePlace<'_>) -> Result<bool, String> {
        Ok((self.arches.is_empty() || self.names_machine())
            && place.has_all(&self.caps)?
            && place
                .is_at_least(self.min_kernel.as_deref())?
                .unwrap_or(true))
    }

    /// Whether any condition holds, as docker reads `excludes`.
    fn any(&self, place: &ProfilePlace<'_>) -> Result<bool, String> {
        Ok(self.names_machine()
            || place.has_any(&self.caps)?
            || place
                .is_at_least(self.min_kernel.as_deref())?
                .unwrap_or(false))
    }

    fn names_machine(&self) -> bool {
        self.arches.iter().any(|name| name == MACHINE)
    }
}

impl ProfilePlace<'_> {
    fn has(&self, name: &str) -> Result<bool, String> {
        let capability: Capability = name
            .parse()
            .map_err(|_| format!("{name} is no capability; wanted: CAP_SYS_ADMIN, ..."))?;
        Ok(self.capabilities.contains(&capability))
    }

    fn has_all(&self, names: &[String]) -> Result<bool, String> {
        let held: Vec<bool> = names
            .iter()
            .map(|name| self.has(name))
            .collect::<Result<_, _>>()?;
        Ok(held.into_iter().all(|held| held))
    }

    fn has_any(&self, names: &[String]) -> Result<bool, String> {
        let held: Vec<bool> = names
            .iter()
            .map(|name| self.has(name))
            .collect::<Result<_, _>>()?;
        Ok(held.into_iter().any(|held| held))
    }

    fn is_at_least(&self, wanted: Option<&str>) -> Result<Option<bool>, String> {
        wanted
            .map(|text| match version(text) {
                Some(wanted) => Ok(self.kernel >= wanted),
                None => Err(format!("minKernel {text:?}; wanted: VERSION.PATCHLEVEL")),
            })
            .transpose()
    }
}

/// Parses the first two numbers of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

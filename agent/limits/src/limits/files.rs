//! The files of one cgroup that hold a limit.

use agent_host::Error;
use agent_host::cgroup::Directory;
use agent_host::hierarchy::Version;

use crate::limit::chain::Link;
use crate::limit::{Device, File, Form, Held, Kind};

/// The cgroup above the hierarchy's root as it is seen here (cgroup_namespaces(7)).
pub const ABOVE_ROOT: &str = "/..";

/// Of sets what is really there binds those below, and not what was asked for.
pub fn above_files(kind: Kind, version: Version) -> Vec<File> {
    let files = kind.files(version);
    let in_effect = |name: &'static str| {
        vec![File {
            name,
            form: Form::Numbers,
        }]
    };
    match (kind, version) {
        (Kind::CpusetCpus, Version::V1) => in_effect("cpuset.effective_cpus"),
        (Kind::CpusetMems, Version::V1) => in_effect("cpuset.effective_mems"),
        (Kind::CpusetCpus, Version::V2) => in_effect("cpuset.cpus.effective"),
        (Kind::CpusetMems, Version::V2) => in_effect("cpuset.mems.effective"),
        _ => files.to_vec(),
    }
}

/// v1 before 5.11: memory of the cgroups below is not charged to this one unless it says so.
pub fn is_apart(directory: &Directory, kind: Kind) -> bool {
    let is_memory = kind.row().controller.v1 == "memory";
    is_memory
        && directory.version == Version::V1
        && directory
            .text("memory.use_hierarchy")
            .is_ok_and(|text| text == "0")
}

/// What the files of one cgroup hold; `None` where one is not there.
pub fn link(
    directory: &Directory,
    cgroup: &str,
    files: &[File],
    device: Option<Device>,
) -> Result<Option<Link>, Error> {
    let mut parts = Vec::new();
    // The kernel's order: the quota before its period.
    let mut texts = Vec::new();
    for file in files {
        let text = match directory.text(file.name) {
            Ok(text) => text,
            Err(Error::Gone { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(held) = file.form.read(&text, device) else {
            return Err(directory.odd(file.name, &text));
        };
        parts.push((file.form, held));
        texts.insert(0, text);
    }
    let Some(last) = files.last() else {
        return Ok(None);
    };
    let held = Held::of_parts(parts);
    Ok(held.map(|held| Link {
        cgroup: cgroup.to_owned(),
        file: directory.path.join(last.name),
        text: texts.join(" "),
        held,
    }))
}

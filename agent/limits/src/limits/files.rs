//! The files of one cgroup that hold a limit.

use agent_host::Error;
use agent_host::cgroup::Directory;
use agent_host::cgroup_files::{CgroupFile, controller_of, files_of};
use agent_host::cgroup_format::whole;
use agent_model::hierarchy::Version;
use agent_model::limit::{Device, Kind, Link};

/// The cgroup above the hierarchy's root as it is seen here (cgroup_namespaces(7)).
pub const ABOVE_ROOT: &str = "/..";

/// v1 before 5.11: memory of the cgroups below is not charged to this one unless it says so.
pub fn is_apart(directory: &Directory, kind: Kind) -> bool {
    controller_of(kind, Version::V1) == "memory"
        && directory.version == Version::V1
        && directory
            .text("memory.use_hierarchy")
            .is_ok_and(|text| text == "0")
}

/// What the files of one cgroup hold, each by the name that `name` gives it; `None` where one is not there.
pub fn link(
    directory: &Directory,
    cgroup: &str,
    kind: Kind,
    device: Option<Device>,
    name: impl Fn(&CgroupFile) -> &'static str,
) -> Result<Option<Link>, Error> {
    let files = files_of(kind, directory.version);
    let mut parts = Vec::new();
    let mut texts = Vec::new();
    for file in files.clone() {
        let name = name(file);
        let text = match directory.text(name) {
            Ok(text) => text,
            Err(Error::Gone { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(held) = file.held(kind, text.as_bytes(), device) else {
            return Err(directory.odd(name, &text));
        };
        parts.push(held);
        texts.push(text);
    }
    let first = files.map(name).next();
    Ok(first.zip(whole(parts)).map(|(first, held)| Link {
        cgroup: cgroup.to_owned(),
        file: directory.path.join(first),
        text: texts.join(" "),
        held,
    }))
}

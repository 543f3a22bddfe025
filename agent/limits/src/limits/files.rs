//! Reads the files of one cgroup that hold a limit.

use agent_host::Error;
use agent_host::cgroup::Directory;
use agent_host::cgroup_files::{CgroupFile, controller_of, files_of};
use agent_host::cgroup_format::whole;
use agent_model::hierarchy::Version;
use agent_model::limit::{Device, Kind, Link};

/// The path of the cgroup above the root of the cgroup namespace, as the kernel writes it (cgroup_namespaces(7)).
pub const ABOVE_ROOT: &str = "/..";

/// Tells whether the cgroup's limit on memory does not bind its descendants. Before Linux 5.11, v1 charges the memory
/// of a descendant to the cgroup only if `memory.use_hierarchy` is 1.
pub fn is_apart(directory: &Directory, kind: Kind) -> bool {
    controller_of(kind, Version::V1) == "memory"
        && directory.version == Version::V1
        && directory
            .text("memory.use_hierarchy")
            .is_ok_and(|text| text == "0")
}

/// Reads a limit from the files of one cgroup. `name` chooses the file to read in place of each. `None` means that one
/// of the files does not exist.
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

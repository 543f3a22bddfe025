//! Names of containers and tasks, as people read and type them.

use agent_ebpf::Task;

/// The digits from which on the start of a container's id stands for the container.
const ID_PREFIX_MIN: usize = 12;
/// Stands for the host where a container's name stands.
pub const HOST: &str = "host";
/// Stands for a container that is not known.
pub const UNKNOWN: &str = "?";
/// Stands for no container.
pub const NONE: &str = "-";

/// A name, in quotes where it would read like one of the words above.
pub fn quoted(name: &str) -> String {
    match name {
        "" | HOST | UNKNOWN | NONE => format!("\"{name}\""),
        name => name.to_owned(),
    }
}

/// Whether a container is the one that is wanted: by its name, its id, or the start of its id.
pub fn is_named(name: &str, id: &str, wanted: &str) -> bool {
    wanted == name || wanted == id || (is_id_prefix(wanted) && id.starts_with(wanted))
}

fn is_id_prefix(text: &str) -> bool {
    text.len() >= ID_PREFIX_MIN && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The name of a task; what is not UTF-8 is replaced.
pub fn comm(task: &Task) -> String {
    let end = task.comm.iter().position(|&byte| byte == 0);
    let length = end.unwrap_or(task.comm.len());
    String::from_utf8_lossy(&task.comm[..length]).into_owned()
}

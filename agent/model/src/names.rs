//! Names of containers and tasks, as people read and type them.

use agent_ebpf::Task;

/// The beginning of a sandbox's name, before the inode of its namespace.
const SANDBOX: &str = "sandbox-";
/// The least number of digits of an id's start that identify a container.
const ID_PREFIX_MIN: usize = 12;
/// Written in place of a container's name for the host.
pub const HOST: &str = "host";
/// Written in place of a container's name if the container is not known.
pub const UNKNOWN: &str = "?";
/// Written in place of a container's name if there is no container.
pub const NONE: &str = "-";

/// Returns a name, in quotes if it is empty or the same as [`HOST`], [`UNKNOWN`] or [`NONE`].
pub fn quoted(name: &str) -> String {
    match name {
        "" | HOST | UNKNOWN | NONE => format!("\"{name}\""),
        name => name.to_owned(),
    }
}

/// The name of the sandbox whose tasks are in the pid or mount namespace with this inode. Namespaces of different types have
/// different inodes, so the name is that of one sandbox while the namespace exists.
pub fn sandbox(inode: u32) -> String {
    format!("{SANDBOX}{inode}")
}

/// Whether `wanted` is the name of a container, its id, or the first 12 or more digits of its id.
pub fn is_named(name: &str, id: &str, wanted: &str) -> bool {
    wanted == name || wanted == id || (is_id_prefix(wanted) && id.starts_with(wanted))
}

fn is_id_prefix(text: &str) -> bool {
    text.len() >= ID_PREFIX_MIN && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The name of a task. Bytes that are not UTF-8 are replaced by U+FFFD.
pub fn comm(task: &Task) -> String {
    let end = task.comm.iter().position(|&byte| byte == 0);
    let length = end.unwrap_or(task.comm.len());
    String::from_utf8_lossy(&task.comm[..length]).into_owned()
}

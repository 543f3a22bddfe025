//! Where the unix socket of `agent serve` is.

use std::path::PathBuf;

/// Where the socket is unless told otherwise.
pub const DEFAULT: &str = "/run/agent/agent.sock";

/// The variable of the environment that says where it is, for commands without a flag for that too.
pub const VARIABLE: &str = "AGENT_SOCKET";

/// What stands for no socket: no server is asked.
pub const OFF: &str = "off";

/// Where the socket is for a command that has no flag for it.
pub fn named() -> PathBuf {
    let told = std::env::var_os(VARIABLE).filter(|told| !told.is_empty());
    told.map_or_else(|| DEFAULT.into(), PathBuf::from)
}

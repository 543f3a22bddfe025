//! The path of the unix socket of `agent serve`.

use std::path::PathBuf;

/// The path if neither a flag nor the environment names another.
pub const DEFAULT: &str = "/run/agent/agent.sock";

/// The environment variable that names the path, also for commands without `--socket`.
pub const VARIABLE: &str = "AGENT_SOCKET";

/// The value of `--socket` that makes a command ask no server.
pub const OFF: &str = "off";

/// The path for a command that has no `--socket`: that of [`VARIABLE`], else [`DEFAULT`].
pub fn named() -> PathBuf {
    let named = std::env::var_os(VARIABLE).filter(|it| !it.is_empty());
    named.map_or_else(|| DEFAULT.into(), PathBuf::from)
}

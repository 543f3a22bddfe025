//! Programs of Debian's packages.

use std::path::PathBuf;

/// Where Debian's packages put programs comes first: a program of the same name elsewhere may be another one.
const DIRECTORIES: [&str; 6] = [
    "/usr/bin",
    "/usr/sbin",
    "/bin",
    "/sbin",
    "/usr/local/bin",
    "/usr/local/sbin",
];

/// `PATH` for a program that calls others of its package.
pub const PATH: &str = "/usr/bin:/usr/sbin:/bin:/sbin:/usr/local/bin:/usr/local/sbin";

/// Where the program of this name is.
///
/// # Panics
/// Where it is not installed.
pub fn program(name: &str) -> PathBuf {
    let mut paths = DIRECTORIES
        .iter()
        .map(|directory| PathBuf::from(directory).join(name));
    paths
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed: `cargo xtask setup` does that"))
}

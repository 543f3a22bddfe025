//! Programs of Debian's packages, and copies of programs.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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

/// Copies a program that is run afterwards.
///
/// By another process: a child that another test forks inherits the open files of this one until its exec, and what
/// anybody has open for writing cannot be executed (ETXTBSY, execve(2)).
///
/// # Panics
/// Where it cannot be copied.
pub fn copy(from: &Path, to: &Path) {
    let mut copy = Command::new(program("cp"));
    let copied = copy.arg(from).arg(to).status().expect("cp can be run");
    assert!(copied.success(), "{} is copied", from.display());
}

/// Writes a script that is run afterwards: by another process, as of [`copy`].
///
/// # Panics
/// Where it cannot be written.
pub fn script(path: &Path, text: &str) {
    let mut install = Command::new(program("install"));
    install.args(["-m", "755", "/dev/stdin"]).arg(path);
    let mut install = install.stdin(Stdio::piped()).spawn().expect("install");
    let mut stdin = install.stdin.take().expect("a pipe");
    stdin.write_all(text.as_bytes()).expect("install reads");
    drop(stdin);
    let written = install.wait().expect("install ends");
    assert!(written.success(), "{} is written", path.display());
}

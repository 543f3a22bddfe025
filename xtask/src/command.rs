//! Running other programs: in the root of the workspace, with its tools in PATH, and with errors that name them.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// The directory of the workspace, wherever `cargo xtask` was called.
pub fn workspace() -> PathBuf {
    // Told by cargo as it runs this: what was compiled in is wrong once the directory has been renamed.
    let xtask =
        env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let xtask = PathBuf::from(xtask);
    let workspace = xtask
        .parent()
        .expect("xtask is a directory of the workspace");
    workspace.to_owned()
}

/// Where tools that cargo builds are installed. agent/build.rs looks here too.
pub fn tools() -> PathBuf {
    workspace().join("target/tools")
}

/// PATH with the workspace's tools first.
pub fn path() -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let places = [tools().join("bin")]
        .into_iter()
        .chain(env::split_paths(&path));
    env::join_paths(places).with_context(|| format!("PATH cannot take {}", tools().display()))
}

/// PATH, and where programs for root are even when PATH, being another's, does not say so.
pub fn path_of_root() -> Result<OsString> {
    let mut path = path()?;
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    Ok(path)
}

/// `program` with `arguments`, to run in the root of the workspace.
pub fn command(program: impl AsRef<OsStr>, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(workspace())
        .env("PATH", path()?);
    Ok(command)
}

/// The cargo that runs this, so that one toolchain builds everything.
pub fn cargo(arguments: &[&str]) -> Result<Command> {
    command(
        env::var_os("CARGO").context("CARGO is not set: call this as `cargo xtask`")?,
        arguments,
    )
}

/// Runs `command` on this terminal to its end.
///
/// # Errors
/// When it cannot be started or fails.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot run `{}`", line(command)))?;
    ensure!(status.success(), "`{}` failed ({status})", line(command));
    Ok(())
}

/// Runs `command` to its end and returns what it printed.
///
/// # Errors
/// When it cannot be started, fails, or prints what is not text.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run `{}`", line(command)))?;
    let (status, said) = (output.status, String::from_utf8_lossy(&output.stderr));
    ensure!(
        status.success(),
        "`{}` failed ({status}): {}",
        line(command),
        said.trim_end()
    );
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` printed what is not UTF-8", line(command)))
}

/// Becomes `command`: terminal, signals and exit status are then its own.
///
/// # Errors
/// When it cannot be started. Otherwise this does not return.
pub fn exec(command: &mut Command) -> Result<()> {
    let error = command.exec();
    Err(error).with_context(|| format!("cannot run `{}`", line(command)))
}

/// Where the program `name` is in `path`; an absolute `name` is looked at as it is.
pub fn find(name: &str, path: &OsStr) -> Option<PathBuf> {
    env::split_paths(path)
        .map(|place| place.join(name))
        .find(|file| file.exists())
}

/// `command` as one would type it.
fn line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    let words = [program].into_iter().chain(command.get_args());
    words
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

//! `agent rootfs`

use std::path::PathBuf;
use std::process::ExitCode;

use crate::runtime::root;

/// Make a root file system of programs of this host, for agent run --rootfs
///
/// Copies the programs and every library that their loaders will look for, found by reading the files: the loader
/// itself, what is needed and what that needs, by RPATH, RUNPATH, /etc/ld.so.cache and the directories that are searched
/// at last. A script brings its interpreter. Data that a program reads is not known and not copied.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  agent rootfs /tmp/small --bin bash,ls,cat
  agent run --rootfs /tmp/small bash -c 'ls /'
  agent run --bin bash,ls bash         the same in memory, gone at the end")]
pub struct Args {
    /// Where to: a new directory, or an empty one
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Programs, separated by commas: by name, looked for in PATH, or by path; can be given more than once
    #[arg(long, value_name = "PROGRAM", value_delimiter = ',', required = true)]
    bin: Vec<PathBuf>,
}

/// # Errors
/// A program is not there, or the directory is not empty.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    root::make_directory(&args.directory, &args.bin)?;
    Ok(ExitCode::SUCCESS)
}

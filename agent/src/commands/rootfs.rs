//! `agent rootfs`: makes a root file system from programs of this host.

use std::path::PathBuf;
use std::process::ExitCode;

/// Make a root file system from programs of this host, for agent run --rootfs
///
/// Copies the programs, their loaders, and every library that the loaders will look for. It finds the
/// libraries by reading the files: RPATH, RUNPATH, /etc/ld.so.cache and the default directories. With a
/// script it copies the interpreter. It does not copy data files that a program reads.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  agent rootfs /tmp/small --bin bash,ls,cat
  agent run --rootfs /tmp/small bash -c 'ls /'
  agent run --bin bash,ls bash         the same in memory, for one container")]
pub struct Args {
    /// The directory to fill: a new or an empty one
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Programs, separated by commas: paths, or names to find in PATH; may be repeated
    #[arg(long, value_name = "PROGRAM", value_delimiter = ',', required = true)]
    bin: Vec<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// A program does not exist, or the directory is not empty.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    agent_rootfs::make_directory(&args.directory, &args.bin)?;
    Ok(ExitCode::SUCCESS)
}

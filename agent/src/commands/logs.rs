//! `agent logs`: shows the output of a detached container.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use agent_runtime::state::Store;
use agent_runtime::supervise::log::{Reader, Stream};
use anyhow::Context as _;

use super::other_owners::{ContainerAction, explained};

/// The pause between two reads of a log that is followed.
const PAUSE: Duration = Duration::from_millis(50);

const EXAMPLES: &str = "\
Examples:
  agent logs web             its output so far
  agent logs -f web          its output until it ends
  agent logs web 2>/dev/null its standard output alone";

/// Show the output of a detached container
///
/// Writes its standard output to standard output and its standard error to standard error, byte for byte.
/// agent run --log-opt sets how much of the output is kept.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Continue until the container ends
    #[arg(short, long)]
    follow: bool,

    /// The name of the container
    container: String,
}

/// Runs the command. `swept` names containers with a killed supervisor, which this command has just removed.
pub(super) fn run(args: &Args, swept: &[String]) -> anyhow::Result<ExitCode> {
    let store = Store::of_user();
    let name = &args.container;
    super::need_not_swept(name, swept)?;
    let waiter = store.waiter(name);
    let waiter =
        waiter.map_err(|error| explained(error.into(), ContainerAction::Logs, name, &[]))?;
    let directory = store.log(&args.container)?;
    let mut reader = Reader::open(&directory).with_context(|| {
        format!(
            "{:?} has no log: only containers of agent run -d do",
            args.container
        )
    })?;
    loop {
        // Output between this check and the read is read in the last turn.
        let held = waiter.is_held();
        match reader.read(write) {
            // The reader wants no more.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            other => other.with_context(|| format!("the log of {:?}", args.container))?,
        }
        if reader.has_missed() {
            super::note("the log grew faster than it was read: some of it is missing here");
        }
        if !args.follow || !held {
            break;
        }
        sleep(PAUSE);
    }
    drop(reader);
    store.remove_read_logs();
    Ok(ExitCode::SUCCESS)
}

fn write(stream: Stream, piece: &[u8]) -> io::Result<()> {
    match stream {
        Stream::Output => {
            let mut output = io::stdout().lock();
            output.write_all(piece)?;
            output.flush()
        }
        Stream::Errors => io::stderr().write_all(piece),
        Stream::Number => Ok(()),
    }
}

//! `agent logs`: shows the output of a detached container.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::str::FromStr;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use agent_model::units::parse::moment;
use agent_runtime::state::Store;
use agent_runtime::supervise::log::{Lines, LinesWanted, Reader, Stream};
use anyhow::Context as _;

use super::other_owners::{ContainerAction, explained};

/// The pause between two reads of a log that is followed.
const PAUSE: Duration = Duration::from_millis(50);

const EXAMPLES: &str = "\
Examples:
  agent logs web                          its output so far
  agent logs -f web                       its output until it ends
  agent logs --tail 20 -tf web            its last 20 lines and what follows, each with its time
  agent logs --since 10m web              its output of the last ten minutes
  agent logs web 2>/dev/null              its standard output alone";

/// Show the output of a detached container
///
/// Writes its standard output to standard output and its standard error to standard error, byte for byte.
/// agent run --log-opt sets how much of the output is kept. A TIME is how long ago (10m, 1h30m), a time in
/// UTC (2026-11-30T10:57:25Z, 2026-11-30), or seconds since 1970. The time of a line is when the agent read
/// its beginning.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Continue until the container ends
    #[arg(short, long)]
    follow: bool,

    /// Only the last lines, of both streams together; --since and --until choose among these
    #[arg(
        short = 'n',
        long,
        value_name = "NUMBER|all",
        default_value = "all",
        allow_negative_numbers = true
    )]
    tail: Tail,

    /// Begin each line with its time, in UTC; with - where an older agent wrote the log
    #[arg(short, long)]
    timestamps: bool,

    /// Only lines since this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<SystemTime>,

    /// Only lines until this time; with -f, return at this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<SystemTime>,

    /// The name of the container
    container: String,
}

/// The number of lines at the end of the log; None for all.
#[derive(Clone, Copy, Debug)]
struct Tail(Option<u64>);

impl FromStr for Tail {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "all" => Ok(Self(None)),
            number => match number.parse() {
                Ok(number) => Ok(Self(Some(number))),
                Err(_) => Err("want a number of lines, or all"),
            },
        }
    }
}

fn time(text: &str) -> Result<SystemTime, &'static str> {
    moment(text, SystemTime::now())
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
    let wanted = LinesWanted {
        tail: args.tail.0,
        since: args.since,
        until: args.until,
        timestamps: args.timestamps,
    };
    let in_log = || format!("the log of {name:?}");
    let mut lines = Lines::new(wanted, &reader).with_context(in_log)?;
    loop {
        // Output between this check and the read is read in the last turn.
        let is_last = !args.follow || !waiter.is_held() || lines.is_over(SystemTime::now());
        match reader.read(|piece| write(piece.stream, &lines.of(piece))) {
            // The reader wants no more.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            other => other.with_context(in_log)?,
        }
        if reader.has_missed() {
            super::note("the log grew faster than it was read: some of it is missing here");
        }
        if is_last {
            break;
        }
        sleep(PAUSE);
    }
    if lines.has_timeless() {
        super::note("lines without a time are left out: an older agent wrote them");
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

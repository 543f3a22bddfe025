//! `agent watch`: shows events as they happen.

use std::io::{self, IsTerminal};
use std::num::{NonZeroU32, NonZeroU64};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use agent_ebpf::NamespaceType;
use agent_stream::client::EventSource;
use agent_stream::filter::EventFilter;
use agent_stream::kind::EventKind;
use agent_stream::output::{HumanScreen, OutputEnd, OutputFormat, StopAfter};
use agent_stream::value::{parse_comm, parse_container, parse_kind, parse_namespace, parse_pid};
use agent_stream::{output, socket};
use anyhow::bail;

use super::engine::EngineArgs;
use super::mechanisms::MechanismArgs;
use super::records::EventRequest;
use super::screen;
use crate::commands::screen::Output;

const EXAMPLES: &str = "\
An event is shown if it matches any value of each option that is given. Times are UTC. A line
`lost` counts the events that are missing from this stream.

Examples:
  agent watch                              rare events of the whole host, one line each
  agent watch --all --container web-1      all events of web-1, with its forks, execs and exits
  agent watch --kind exec                  executed programs, with their arguments
  agent watch --kind escape                processes of containers in the host's namespaces
  agent watch --kind oom                   OOM kills: the victim and the owner of the limit
  agent watch --container web-1            rare events that web-1 causes or suffers
  agent watch --host --namespace net,mnt   namespace calls by the host's own processes
  agent watch --kind setns --for 10s       calls of setns in the next 10 seconds
  agent watch --limit 1 --kind container   wait for the next start or stop of a container
  agent watch --output json | jq .process.comm";

/// Show what containers do to the kernel as it happens
///
/// Shows namespace calls, OOM kills, starts and stops of containers, and escapes into the host's
/// namespaces. With --all it also shows every fork, exec and exit.
///
/// Takes the events of the `agent serve` that listens on the socket. Where none listens, traces the host
/// itself, as root.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Only events of these kinds: clone, unshare, setns, oom, container, escape, lost (the default), fork,
    /// exec, exit
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',', value_parser = parse_kind)]
    kinds: Vec<EventKind>,

    /// Events of all kinds: forks, execs and exits as well
    #[arg(long, conflicts_with = "kinds")]
    all: bool,

    /// Only events of these containers, by name, id, or the first 12 digits of the id: the container of the
    /// caller, a child or a victim, or the one that a process enters
    #[arg(long = "container", value_name = "NAME|ID", value_parser = parse_container)]
    containers: Vec<String>,

    /// Only events of these processes or threads, by the host's pids: the caller, a child, or a victim
    #[arg(long = "pid", value_name = "PID", value_delimiter = ',', value_parser = parse_pid)]
    pids: Vec<NonZeroU32>,

    /// Only calls that asked for or changed namespaces of these types: cgroup, ipc, mnt, net, pid, time, user,
    /// uts
    #[arg(
        long = "namespace",
        value_name = "TYPE",
        value_delimiter = ',',
        value_parser = parse_namespace
    )]
    namespaces: Vec<NamespaceType>,

    /// Only events of threads with these names, of at most 15 bytes: the caller, or a victim
    #[arg(long = "comm", value_name = "COMM", value_parser = parse_comm)]
    comms: Vec<String>,

    /// Only events of processes outside of containers and sandboxes; services and login sessions count as
    /// the host's own
    #[arg(long)]
    host: bool,

    /// End after this many events, not counting lines `lost`
    #[arg(long, value_name = "COUNT", value_parser = parse_limit)]
    limit: Option<NonZeroU64>,

    /// End after this time: 500ms, 10s, 5m, 1h
    #[arg(long = "for", value_name = "DURATION", value_parser = agent_model::units::parse::duration)]
    time: Option<Duration>,

    /// human: aligned lines; json: one object a line
    #[arg(long, value_name = "human|json", default_value = "human", value_parser = parse_output)]
    output: Output,

    /// The unix socket of agent serve; off: ask no server
    #[arg(long, value_name = "PATH|off", env = socket::VARIABLE, default_value = socket::DEFAULT, value_parser = super::socket::asked())]
    socket: PathBuf,

    // For tracing in this process, where no server listens.
    #[command(flatten)]
    mechanisms: MechanismArgs,

    #[command(flatten)]
    engine: EngineArgs,
}

fn parse_limit(text: &str) -> Result<NonZeroU64, &'static str> {
    text.parse().map_err(|_| "want a whole number above 0")
}

fn parse_output(text: &str) -> Result<Output, &'static str> {
    match text {
        "human" => Ok(Output::Human),
        "json" => Ok(Output::Json),
        _ => Err("want human or json"),
    }
}

/// Writes events to standard output until a bound is reached or nobody reads them any more.
pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let stdout = io::stdout();
    let closed = output::closed(stdout.as_fd().try_clone_to_owned()?)?;
    let filter = args.filter();
    let wanted = EventRequest {
        filter,
        socket: &args.socket,
        mechanisms: args.mechanisms.clone().into(),
        engine: &args.engine,
    };
    let source = wanted.open("watch").await?;
    let name = match source {
        EventSource::Server(_) => "agent serve",
        EventSource::Alone(_) => "the tracer",
    };
    let bounds = StopAfter {
        events: args.limit,
        time: args.time,
    };
    match output::run(source, stdout, closed, format(args.output), bounds).await? {
        OutputEnd::Bound | OutputEnd::Closed => Ok(()),
        OutputEnd::Source => bail!("{name} ended the stream"),
    }
}

impl Args {
    fn filter(&self) -> EventFilter {
        EventFilter {
            kinds: if self.all {
                EventKind::ALL.into()
            } else {
                self.kinds.iter().copied().collect()
            },
            containers: self.containers.iter().cloned().collect(),
            pids: self.pids.iter().copied().collect(),
            namespaces: self.namespaces.iter().copied().collect(),
            comms: self.comms.iter().cloned().collect(),
            host: self.host,
        }
    }
}

fn format(output: Output) -> OutputFormat {
    let is_terminal = io::stdout().is_terminal();
    match output {
        Output::Json => OutputFormat::Json,
        Output::Human => OutputFormat::Human(HumanScreen {
            columns: screen::columns,
            colour: screen::colour(),
            header: is_terminal,
        }),
    }
}

#[cfg(test)]
mod tests {
    use agent_stream::query;
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Result<Args, clap::Error> {
        let words = std::iter::once("watch").chain(line.split_whitespace());
        Command::try_parse_from(words).map(|it| it.args)
    }

    #[test]
    fn options_make_a_filter() {
        for (line, filter) in [
            ("", ""),
            (
                "--kind oom,clone --kind setns",
                "kind=oom&kind=clone&kind=setns",
            ),
            (
                "--container a,b --container c",
                "container=a%2Cb&container=c",
            ),
            ("--pid 1,2 --pid 3", "pid=1&pid=2&pid=3"),
            ("--namespace net,mount", "namespace=net&namespace=mnt"),
            ("--comm sh --host", "comm=sh&host=true"),
            ("--kind exec", "kind=exec"),
        ] {
            assert_eq!(
                parse(line).unwrap().filter(),
                query::parse(filter).unwrap(),
                "{line}"
            );
        }
    }

    #[test]
    fn the_rest_has_its_defaults() {
        let args = parse("").unwrap();
        assert_eq!(
            (args.limit, args.time, args.output),
            (None, None, Output::Human)
        );
        assert_eq!(args.socket, PathBuf::from("/run/agent/agent.sock"));
        let args = parse("--limit 3 --for 1m30s --output json --socket ./s").unwrap();
        assert_eq!(args.limit, NonZeroU64::new(3));
        assert_eq!(args.time, Some(Duration::from_secs(90)));
        assert_eq!(args.output, Output::Json);
        assert_eq!(args.socket, PathBuf::from("./s"));
    }

    #[test]
    fn an_error_is_one_line_with_option_value_and_what_is_wanted() {
        for (line, text) in [
            (
                "--kind oom,oops",
                "invalid value 'oops' for '--kind <KIND>': \
                 want one of clone, unshare, setns, oom, container, escape, fork, exec, exit, lost",
            ),
            (
                "--pid 0",
                "invalid value '0' for '--pid <PID>': want a process id, a whole number above 0",
            ),
            (
                "--namespace network",
                "invalid value 'network' for '--namespace <TYPE>': \
                 want one of cgroup, ipc, mnt, net, pid, time, user, uts",
            ),
            (
                "--container=",
                "invalid value '' for '--container <NAME|ID>': want a container's name or id",
            ),
            (
                "--comm a-very-long-worker",
                "invalid value 'a-very-long-worker' for '--comm <COMM>': \
                 want at most 15 bytes, as many as the kernel keeps: \"a-very-long-wor\"",
            ),
            (
                "--limit 0",
                "invalid value '0' for '--limit <COUNT>': want a whole number above 0",
            ),
            (
                "--for ten",
                "invalid value 'ten' for '--for <DURATION>': \
                 want a duration above 0, as 500ms, 10s, 5m or 1h",
            ),
            (
                "--for 0s",
                "invalid value '0s' for '--for <DURATION>': \
                 want a duration above 0, as 500ms, 10s, 5m or 1h",
            ),
            (
                "--output yaml",
                "invalid value 'yaml' for '--output <human|json>': want human or json",
            ),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert_eq!(error.lines().next(), Some(&*format!("error: {text}")));
        }
    }

    #[test]
    fn the_help_teaches() {
        let help = Command::command().render_long_help().to_string();
        for kind in EventKind::ALL {
            assert!(help.contains(kind.name()), "{kind:?}");
        }
        for namespace in NamespaceType::ALL {
            assert!(help.contains(namespace.name()), "{namespace:?}");
        }
        let (_, examples) = EXAMPLES.split_once("Examples:\n").unwrap();
        for example in examples.lines() {
            let command = example.strip_prefix("  agent watch ").unwrap();
            let options = command.split("  ").next().unwrap();
            parse(options.trim_end_matches(" | jq .process.comm")).unwrap();
        }
        Command::command().debug_assert();
    }
}

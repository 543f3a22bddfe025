//! `agent serve`: traces the host, serves metrics and events.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use agent_engines::witness::Intents;
use agent_host::descriptors::raise_limit;
use agent_metrics::agent::AgentMetrics;
use agent_metrics::groups::{MetricGroup, MetricGroups};
use agent_metrics::scrape::{Exported, Scraper};
use agent_metrics::series::Bounds;
use agent_metrics::traffic::Traffic;
use agent_metrics::which::Which;
use agent_model::labels::LabelPatterns;
use agent_pipeline::Pipeline;
use agent_stream::socket;
use agent_stream::streams::EventStreams;
use agent_tracer::kernel::TraceOptions;
use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::engine::EngineArgs;
use super::units;
use crate::server;
use crate::server::Server;
use crate::server::socket::Socket;

const EXAMPLES: &str = "\
Examples:
  agent serve                               metrics on http://127.0.0.1:9464/metrics
  agent serve --listen 127.0.0.1:0          on a free port, which is printed
  agent serve --pin-path /sys/fs/bpf/agent  counters continue over a restart

The address serves /metrics, /healthz, /readyz and /. The unix socket also serves /v1/events,
/v1/containers and /v1/namespaces, which show more than a network should know:
  curl --unix-socket /run/agent/agent.sock http://agent/v1/containers";

/// Trace the host and serve metrics and events
///
/// Traces namespace calls, OOM kills, processes and escapes of the whole host. Serves Prometheus metrics on
/// a TCP address, and live events for `agent watch` on a unix socket. Runs until SIGTERM or SIGINT.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The TCP address for metrics; the network can reach any address but loopback
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9464")]
    listen: SocketAddr,

    /// The unix socket to make, with mode 0600; a path with a slash
    #[arg(long, value_name = "PATH", env = socket::VARIABLE, default_value = socket::DEFAULT, value_parser = super::socket::made())]
    socket: PathBuf,

    #[command(flatten)]
    mechanisms: super::mechanisms::MechanismArgs,

    /// A directory on a bpffs for the counters, which outlive this process: the next one continues them
    #[arg(long, value_name = "DIR")]
    pin_path: Option<PathBuf>,

    /// Measure how often and how long the probes run: agent_bpf_run_count_total and
    /// agent_bpf_run_seconds_total. The kernel then measures every BPF program of the host, at about 20 ns
    /// a run
    #[arg(long)]
    bpf_stats: bool,

    /// The cgroups that have series: all, as with cAdvisor, or only containers and the root; effective
    /// limits are the same with both
    #[arg(long, value_name = "all|containers", default_value = "all")]
    cgroups: Which,

    /// The most series of a scrape. Plain cgroups are left out first, then those below containers, ordinary users'
    /// containers, units, and the newest containers. Ordinary users' containers have at most a third, and all but
    /// containers a sixth
    #[arg(long, value_name = "COUNT", default_value_t = Bounds::DEFAULT.all, value_parser = parse_series)]
    max_series: u32,

    /// The most series of one container and the cgroups below it
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = Bounds::DEFAULT.container,
        value_parser = parse_series_of_container
    )]
    max_series_per_container: u32,

    /// The labels of containers that become labels container_label_* of their series, and are in events; repeatable. A *
    /// stands for any characters; none: no labels. A unit of systemd has the label systemd.description
    #[arg(long = "label", value_name = "PATTERN|none", default_values = LabelPatterns::DEFAULT)]
    labels: Vec<String>,

    /// Groups of metrics to export beside those of the default, by cAdvisor's names; METRICS.md has each with its cost
    #[arg(long, value_name = "GROUP,…", value_delimiter = ',', value_enum)]
    enable_metrics: Vec<MetricGroup>,

    /// Groups of metrics not to export, whatever --enable-metrics says
    #[arg(long, value_name = "GROUP,…", value_delimiter = ',', value_enum)]
    disable_metrics: Vec<MetricGroup>,

    #[command(flatten)]
    engine: EngineArgs,
}

fn parse_series(text: &str) -> Result<u32, &'static str> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("want a whole number above 0"),
    }
}

fn parse_series_of_container(text: &str) -> Result<u32, String> {
    const LEAST: u32 = Bounds::LEAST_CONTAINER;
    match text.parse() {
        Ok(count) if count >= LEAST => Ok(count),
        _ => Err(format!(
            "want a whole number from {LEAST} on: so many can the container itself have"
        )),
    }
}

fn measure_programs() -> anyhow::Result<OwnedFd> {
    let measured = aya::sys::enable_stats(aya::sys::Stats::RunTime);
    measured.context("--bpf-stats: the kernel refuses to measure BPF programs; leave the flag out")
}

impl Args {
    fn exported(&self) -> Exported {
        Exported {
            which: self.cgroups,
            bounds: Bounds {
                all: self.max_series,
                container: self.max_series_per_container,
            },
            groups: MetricGroups::new(&self.enable_metrics, &self.disable_metrics),
        }
    }
}

/// Serves until a signal ends it.
pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    super::log_to_stderr("info");
    let exported = args.exported();
    super::need_privileges("serve")?;
    // Signals are caught before anything is made that must be removed at the end.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    let socket = Socket::bind(&args.socket)?;
    let listener = server::listen(args.listen).with_context(|| {
        format!(
            "--listen {}: the address cannot be used; pass another one",
            args.listen
        )
    })?;
    let address = listener.local_addr()?;
    let streams = Arc::new(EventStreams::default());
    // The kernel measures while this descriptor is open.
    let bpf_stats = args.bpf_stats.then(measure_programs).transpose()?;
    let labels = LabelPatterns::new(args.labels.clone());
    let engine = args.engine.follow(labels.clone());
    let state = engine.as_ref().map(|engine| Arc::clone(&engine.state));
    let descriptors = raise_limit();
    let traffic = Arc::new(Traffic::default());
    let agent = AgentMetrics::new(bpf_stats.is_some(), state.clone(), Arc::clone(&traffic))?;
    let scraper = Scraper::new(descriptors, agent, exported)?;
    let server = Arc::new(Server::new(Arc::clone(&streams), scraper));
    let serving = server::serve(
        Arc::clone(&server),
        listener,
        &socket,
        descriptors,
        &traffic,
    )?;

    let options = TraceOptions {
        mechanisms: args.mechanisms.into(),
        pin: args.pin_path,
        loads: exported.groups.has(MetricGroup::CpuLoad),
    };
    let witnesses = super::engine::witnesses(Intents::Read, state, labels.clone())?;
    let start = tokio::task::spawn_blocking(move || {
        Pipeline::start(std::path::Path::new("/"), &options, streams, witnesses)
    });
    let pipeline = start.await.context("the start of tracing panicked")??;
    if let Some(engine) = engine {
        let shared = pipeline.shared();
        engine.asking(shared).tell(shared);
    }
    units::follow(pipeline.shared(), labels);
    super::report_probes(&pipeline, |_| true);
    server.set_ready(pipeline.shared());
    tracing::info!(
        "tracing; metrics on http://{address}/metrics, events on {}",
        args.socket.display()
    );

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    serving.stop().await;
    tokio::task::spawn_blocking(move || drop(pipeline))
        .await
        .context("the stop panicked")?;
    Ok(())
}

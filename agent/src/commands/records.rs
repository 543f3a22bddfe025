//! Events for a command, from the agent serve that listens on the socket, or traced in this process.

use std::path::Path;
use std::sync::Arc;

use agent_engines::witness::Intents;
use agent_model::labels::LabelPatterns;
use agent_pipeline::Pipeline;
use agent_stream::client;
use agent_stream::client::EventSource;
use agent_stream::filter::EventFilter;
use agent_stream::kind::EventKind;
use agent_stream::stream_event::StreamEvent;
use agent_stream::streams::EventStreams;
use agent_tracer::kernel::TraceOptions;
use agent_tracer::kernel::choice::Mechanisms;
use anyhow::Context as _;
use tokio::sync::mpsc;

use super::engine::EngineArgs;

/// The events that a command wants, and how to get them.
pub(super) struct EventRequest<'a> {
    pub filter: EventFilter,
    pub socket: &'a Path,
    /// For tracing in this process, where no server listens.
    pub mechanisms: Mechanisms,
    pub engine: &'a EngineArgs,
}

impl EventRequest<'_> {
    /// Opens the stream for `command`. It has every wanted event that happens after this call.
    pub(super) async fn open(self, command: &str) -> anyhow::Result<EventSource> {
        match client::connect(self.socket, &self.filter).await {
            Ok(events) => Ok(EventSource::Server(events)),
            Err(nobody) if nobody.is_no_server() => {
                let said = nobody.named_in_vain();
                let records = self.alone(command).await.context(nobody)?;
                said.iter().for_each(|said| super::note(said));
                Ok(EventSource::Alone(records))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Traces the host in this process, for this stream alone.
    async fn alone(self, command: &str) -> anyhow::Result<mpsc::Receiver<Arc<StreamEvent>>> {
        super::need_privileges(&format!("{command} without a server"))?;
        super::log_to_stderr("warn");
        // A probe has the name of the kind of event that it reports.
        let kinds = self.filter.kinds.clone();
        let streams = Arc::new(EventStreams::default());
        let mut stream = streams.open(self.filter)?;
        let options = TraceOptions {
            mechanisms: self.mechanisms,
            pin: None,
            loads: false,
        };
        let labels = LabelPatterns::default();
        let engine = self.engine.follow(labels.clone());
        let state = engine.as_ref().map(|engine| Arc::clone(&engine.state));
        let witnesses = super::engine::witnesses(Intents::Leave, state, labels)?;
        let start = move || Pipeline::start(Path::new("/"), &options, streams, witnesses);
        let pipeline = tokio::task::spawn_blocking(start)
            .await
            .context("the start panicked")??;
        if let Some(engine) = engine {
            let shared = pipeline.shared();
            engine.asking(shared).tell(shared);
        }
        super::units::follow(pipeline.shared(), LabelPatterns::default());
        super::report_probes(&pipeline, |probe| {
            let mut others = EventKind::ALL.iter().filter(|kind| !kinds.contains(kind));
            kinds.is_empty() || others.all(|kind| kind.name() != probe)
        });
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            while sender.send(stream.next().await).await.is_ok() {}
            drop(pipeline);
        });
        Ok(receiver)
    }
}

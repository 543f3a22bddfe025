//! Where the events of an output come from.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::client::{ClientError, ServerEvents};
use super::output::OutputItem;
use super::stream_event::StreamEvent;

/// Where the events of an output come from.
pub enum EventSource {
    /// A running `agent serve`.
    Server(ServerEvents),
    /// This process, which traces by itself.
    Alone(mpsc::Receiver<Arc<StreamEvent>>),
}

impl EventSource {
    /// The next event or lines of events; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Result<OutputItem, ClientError>> {
        match self {
            Self::Server(events) => Some(events.next().await?.map(OutputItem::Lines)),
            Self::Alone(events) => events.recv().await.map(OutputItem::Event).map(Ok),
        }
    }

    /// The next events; `None` at the end, and at a line that is not an event.
    pub async fn events(&mut self) -> Option<Vec<Arc<StreamEvent>>> {
        match self.next().await?.ok()? {
            OutputItem::Event(event) => Some(vec![event]),
            OutputItem::Lines(lines) => {
                let lines = lines.split(|&byte| byte == b'\n');
                let lines = lines.filter(|line| !line.is_empty());
                lines
                    .map(|line| serde_json::from_slice(line).ok().map(Arc::new))
                    .collect()
            }
        }
    }
}

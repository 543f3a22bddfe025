//! Where a stream's records come from.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::client::{ClientError, ServerEvents};
use super::stream_event::StreamEvent;
use super::writer::OutputItem;

pub enum EventSource {
    /// A running `agent serve`.
    Server(ServerEvents),
    /// This process.
    Alone(mpsc::Receiver<Arc<StreamEvent>>),
}

impl EventSource {
    /// What comes next, as it came; None at the end.
    pub(super) async fn next(&mut self) -> Option<Result<OutputItem, ClientError>> {
        match self {
            Self::Server(events) => Some(events.next().await?.map(OutputItem::Lines)),
            Self::Alone(records) => records.recv().await.map(OutputItem::Event).map(Ok),
        }
    }

    /// The records that come next; None at the end, and where what comes is no record.
    pub async fn records(&mut self) -> Option<Vec<Arc<StreamEvent>>> {
        match self.next().await?.ok()? {
            OutputItem::Event(record) => Some(vec![record]),
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

//! Where a stream's records come from.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::client::{ClientError, Events};
use super::record::Record;
use super::writer::Item;

pub enum Source {
    /// A running `agent serve`.
    Server(Events),
    /// This process.
    Alone(mpsc::Receiver<Arc<Record>>),
}

impl Source {
    /// What comes next, as it came; None at the end.
    pub(super) async fn next(&mut self) -> Option<Result<Item, ClientError>> {
        match self {
            Self::Server(events) => Some(events.next().await?.map(Item::Lines)),
            Self::Alone(records) => records.recv().await.map(Item::Record).map(Ok),
        }
    }

    /// The records that come next; None at the end, and where what comes is no record.
    pub async fn records(&mut self) -> Option<Vec<Arc<Record>>> {
        match self.next().await?.ok()? {
            Item::Record(record) => Some(vec![record]),
            Item::Lines(lines) => {
                let lines = lines.split(|&byte| byte == b'\n');
                let lines = lines.filter(|line| !line.is_empty());
                lines
                    .map(|line| serde_json::from_slice(line).ok().map(Arc::new))
                    .collect()
            }
        }
    }
}

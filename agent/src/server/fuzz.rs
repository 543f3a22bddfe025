//! Sends arbitrary bytes as requests, for a fuzzer.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use agent_metrics::agent::AgentMetrics;
use agent_metrics::groups::MetricGroups;
use agent_metrics::scrape::{Exported, Scraper};
use agent_metrics::series::Bounds;
use agent_metrics::traffic::{Side, Traffic};
use agent_metrics::which::Which;
use agent_stream::streams::EventStreams;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::accept::{Service, carry};
use super::admission::Peer;
use super::{LONG_REQUEST, Server, private, service};

/// How long a connection may stay open after its client has sent everything.
const PATIENCE: Duration = Duration::from_secs(20);

const DESCRIPTORS: usize = 1024;

/// A server that traces nothing, with the pages of the unix socket.
struct Fuzzed {
    runtime: Runtime,
    service: Arc<Service>,
}

fn fuzzed() -> Option<Fuzzed> {
    let traffic = Arc::new(Traffic::default());
    let agent = AgentMetrics::new(false, None, Arc::clone(&traffic)).ok()?;
    let exported = Exported {
        which: Which::All,
        bounds: Bounds::DEFAULT,
        groups: MetricGroups::default(),
    };
    let scraper = Scraper::new(DESCRIPTORS, agent, exported).ok()?;
    let server = Arc::new(Server::new(Arc::new(EventStreams::default()), scraper));
    let (sender, _) = mpsc::channel(1);
    let service = service(
        &server,
        Side::Unix,
        private(),
        LONG_REQUEST,
        DESCRIPTORS,
        &traffic,
        &sender,
    );
    Some(Fuzzed {
        runtime: Builder::new_current_thread().enable_all().build().ok()?,
        service: Arc::new(service),
    })
}

/// Sends bytes over a connection, hangs up its half, and reads until the server closes it.
///
/// # Panics
/// The connection does not end in time, or the server panics.
pub fn requests(bytes: &[u8]) {
    static FUZZED: OnceLock<Option<Fuzzed>> = OnceLock::new();
    let Some(fuzzed) = FUZZED.get_or_init(fuzzed) else {
        return;
    };
    fuzzed.runtime.block_on(async {
        let Ok((mut client, server)) = UnixStream::pair() else {
            return;
        };
        let Ok(admitted) = fuzzed.service.admission.admit(Peer::Somebody) else {
            return;
        };
        let connection = tokio::spawn(carry(server, admitted, Arc::clone(&fuzzed.service)));
        let (mut reader, mut writer) = client.split();
        let said = async {
            // The server may have closed the connection already.
            let _ = writer.write_all(bytes).await;
            let _ = writer.shutdown().await;
        };
        let mut answer = Vec::new();
        let answered = async { tokio::join!(said, reader.read_to_end(&mut answer)) };
        let ended = timeout(PATIENCE, answered).await;
        assert!(ended.is_ok(), "the connection goes on: {answer:?}");
        assert!(connection.await.is_ok(), "the server panicked");
    });
}

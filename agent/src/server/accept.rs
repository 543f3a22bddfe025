//! Accepts connections and serves them. Each is charged to its peer, has deadlines, and ends when the server stops.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use agent_host::peer::{FarEnd, FarEnds};
use agent_host::subordinate::{Subordinates, Whose};
use agent_metrics::traffic::Reason;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::admission::{Admission, Admitted, Peer};
use super::shared_stream::{SharedStream, StreamSocket};

/// The number of connections that the kernel holds until the server accepts them. A client for which there is no room
/// tries again only after a second, so a flood of connections should not fill the queue.
const BACKLOG: u32 = 4096;

/// The bytes of an answer that the kernel buffers for a client that does not read. The kernel doubles the number
/// (socket(7)).
const SEND_BUFFER: u32 = 256 << 10;

/// The pause after an accept that failed for want of a descriptor or memory.
const DESCRIPTOR_AFTER: Duration = Duration::from_millis(50);

/// Makes the TCP listener for metrics.
///
/// # Errors
/// The address cannot be used.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit the size.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A listener of one side.
pub(super) trait Entrance {
    type Stream: StreamSocket;

    /// Waits for the next connection.
    async fn accept(&mut self) -> io::Result<Self::Stream>;

    /// Returns the peer to whom a connection is charged; `None` where the client has closed it already.
    fn peer(&mut self, stream: &Self::Stream) -> Option<Peer>;

    /// Sends as many of the bytes as the kernel takes without waiting.
    fn send_now(stream: &Self::Stream, bytes: &[u8]);
}

/// The TCP side.
pub(super) struct Tcp {
    listener: TcpListener,
    /// Finds the users of local connections; `None` where the kernel does not report them.
    holders: Option<FarEnds>,
    subordinates: Subordinates,
}

impl Tcp {
    pub(super) fn new(listener: TcpListener) -> Self {
        let holders = FarEnds::new();
        if holders.is_none() {
            tracing::warn!(
                "this kernel does not tell whose TCP connections are (modprobe tcp_diag): \
                 clients on this host share one bound"
            );
        }
        Self {
            listener,
            holders,
            subordinates: Subordinates::new(Path::new("/")),
        }
    }
}

impl Entrance for Tcp {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<TcpStream> {
        Ok(self.listener.accept().await?.0)
    }

    fn peer(&mut self, stream: &TcpStream) -> Option<Peer> {
        let (peer, local) = (stream.peer_addr().ok()?, stream.local_addr().ok()?);
        let is_here = peer.ip().to_canonical().is_loopback() || peer.ip() == local.ip();
        let holder = self.holders.as_mut().map(|it| it.of(peer, local));
        match holder {
            Some(Ok(FarEnd::User(user))) => Some(match self.subordinates.whose(user) {
                Whose::User(user) => Peer::User(user),
                Whose::Range(first) => Peer::Range(first),
            }),
            Some(Ok(FarEnd::Gone)) => None,
            Some(Ok(FarEnd::Elsewhere)) => Some(Peer::at(peer.ip())),
            Some(Err(_)) | None if is_here => Some(Peer::Somebody),
            Some(Err(_)) | None => Some(Peer::at(peer.ip())),
        }
    }

    fn send_now(stream: &TcpStream, bytes: &[u8]) {
        let _ = stream.try_write(bytes);
    }
}

impl Entrance for UnixListener {
    type Stream = UnixStream;

    async fn accept(&mut self) -> io::Result<UnixStream> {
        Ok(Self::accept(self).await?.0)
    }

    fn peer(&mut self, stream: &UnixStream) -> Option<Peer> {
        Some(Peer::User(stream.peer_cred().ok()?.uid()))
    }

    fn send_now(stream: &UnixStream, bytes: &[u8]) {
        let _ = stream.try_write(bytes);
    }
}

/// The state that all connections of a side share.
pub(super) struct Service {
    pub admission: Arc<Admission>,
    pub router: Router,
    /// The most bytes of a request's head, and of an answer that hyper buffers for the client beside the kernel's
    /// buffer.
    pub buffer: usize,
    pub stopping: watch::Receiver<bool>,
    /// Each connection holds the service, and so this sender, until it has ended.
    pub _alive: mpsc::Sender<Infallible>,
}

/// Accepts connections until the server stops.
pub(super) async fn serve(mut entrance: impl Entrance, service: Service) {
    let service = Arc::new(service);
    let mut stopping = service.stopping.clone();
    loop {
        let accepted = tokio::select! {
            accepted = entrance.accept() => accepted,
            _ = stopping.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok(stream) => admit(&mut entrance, stream, &service),
            Err(error) if is_for_want_of_room(&error) => {
                service.admission.count(Reason::Descriptors);
                sleep(DESCRIPTOR_AFTER).await;
            }
            // The client has closed the connection already.
            Err(error) => tracing::debug!(%error, "a connection cannot be accepted"),
        }
    }
}

fn is_for_want_of_room(error: &io::Error) -> bool {
    let codes = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error
        .raw_os_error()
        .is_some_and(|code| codes.contains(&code))
}

fn admit<E: Entrance>(entrance: &mut E, stream: E::Stream, service: &Arc<Service>) {
    let Some(peer) = entrance.peer(&stream) else {
        return;
    };
    match service.admission.admit(peer) {
        Ok(admitted) => {
            tokio::spawn(carry(stream, admitted, Arc::clone(service)));
        }
        Err(reason) => {
            tracing::debug!(?peer, reason = reason.name(), "a connection is refused");
            E::send_now(&stream, refusal(reason, service).as_bytes());
        }
    }
}

fn refusal(reason: Reason, service: &Service) -> String {
    let bounds = service.admission.bounds();
    let line = match reason {
        Reason::Peer => format!(
            "busy: {} connections of this client are open, and no more are allowed; close some\n",
            bounds.peer
        ),
        _ => format!(
            "busy: {} connections are open, and no more are allowed; try again later\n",
            bounds.side
        ),
    };
    format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{line}",
        line.len()
    )
}

/// Tells the answer of a request whether its client has hung up. It is an extension of the request.
#[derive(Clone, Debug)]
pub(super) struct HangUp(watch::Receiver<bool>);

impl HangUp {
    pub(super) fn new(receiver: watch::Receiver<bool>) -> Self {
        Self(receiver)
    }

    /// Waits until the client has hung up, or the connection has ended.
    pub(super) async fn wait(&mut self) {
        let _ = self.0.wait_for(|has_hung_up| *has_hung_up).await;
    }
}

/// Serves a connection to its end, to its deadline, or until the server stops.
pub(super) async fn carry(stream: impl StreamSocket, admitted: Admitted, service: Arc<Service>) {
    let stream = Arc::new(stream);
    let (hung_up, receiver) = watch::channel(false);
    let hang_up = HangUp::new(receiver);
    let router = TowerToHyperService::new(service.router.clone());
    let patience = admitted.patience.clone();
    let answer = service_fn(move |mut request: Request<Incoming>| {
        patience.answer();
        request.extensions_mut().insert(patience.clone());
        request.extensions_mut().insert(hang_up.clone());
        let answer = router.call(request);
        async move { answer.await as Result<Response<Body>, Infallible> }
    });
    let connection = http1::Builder::new()
        .max_buf_size(service.buffer)
        .serve_connection(TokioIo::new(SharedStream(Arc::clone(&stream))), answer);
    let mut connection = pin!(connection);
    let mut stopping = service.stopping.clone();
    let mut stopping = pin!(stopping.wait_for(|stop| *stop));
    let mut is_stopping = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection broke off");
                }
                return;
            }
            reason = admitted.patience.end() => {
                admitted.count(reason);
                return;
            }
            _ = &mut stopping, if !is_stopping => {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            // Requests that the client sent before are answered still; a stream would have no end.
            () = stream.hang_up(), if !*hung_up.borrow() => {
                hung_up.send_replace(true);
            }
        }
    }
}

//! A connected socket that hyper reads and writes while another future of the same task waits for its client's hang-up.
//! hyper alone does not notice a hang-up while bytes of a next request wait in its buffer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::net::{Shutdown, shutdown};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// The part of a stream of tokio that needs no exclusive reference.
pub(super) trait StreamSocket: Send + Sync + 'static {
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize>;
    fn write_now(&self, bytes: &[u8]) -> io::Result<usize>;
    fn end_writing(&self) -> io::Result<()>;

    /// Waits until the client will send no more, because it closed the connection or its half of it.
    fn hang_up(&self) -> impl Future<Output = ()> + Send;
}

macro_rules! socket {
    ($stream:ty) => {
        impl StreamSocket for $stream {
            fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_read_ready(context)
            }

            fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_write_ready(context)
            }

            fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
                self.try_read(buffer)
            }

            fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
                self.try_write(bytes)
            }

            fn end_writing(&self) -> io::Result<()> {
                Ok(shutdown(self, Shutdown::Write)?)
            }

            async fn hang_up(&self) {
                // Bytes that wait do not make the socket ready for this interest; the end of what can be read does. An
                // error is of a runtime that shuts down.
                let _ = self.ready(Interest::PRIORITY).await;
            }
        }
    };
}

socket!(TcpStream);
socket!(UnixStream);

/// A reference to a connected socket, through which hyper reads and writes.
pub(super) struct SharedStream<S>(pub(super) Arc<S>);

impl<S: StreamSocket> AsyncRead for SharedStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_readable(context))?;
            match self.0.read_now(buffer.initialize_unfilled()) {
                Ok(length) => {
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl<S: StreamSocket> AsyncWrite for SharedStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_writable(context))?;
            match self.0.write_now(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.end_writing())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn bytes_go_both_ways() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let mut stream = SharedStream(Arc::new(server));
        client.write_all(b"ping").await.unwrap();
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"ping");
        // The client reads later, so the kernel's buffer fills up first.
        let sent = vec![7; 1 << 20];
        let sending = async {
            stream.write_all(&sent).await.unwrap();
            stream.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let (read, ()) = tokio::join!(client.read_to_end(&mut received), sending);
        assert_eq!(read.unwrap(), sent.len());
        assert_eq!(received, sent);
    }

    #[tokio::test]
    async fn a_hang_up_is_seen_behind_bytes_that_wait() {
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(b"unread").await.unwrap();
        let early = timeout(Duration::from_millis(50), server.hang_up()).await;
        assert!(early.is_err(), "the client is still there");
        drop(client);
        timeout(SOON, server.hang_up()).await.unwrap();
    }
}

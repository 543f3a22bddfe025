//! The transport of systemd's own socket. On it systemd names itself as the sender of each message, by its well-known name
//! (`sd_bus_set_sender`), which is no name of a connection. zbus takes no such message, so the name is changed to one that
//! it takes.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix;
use zbus::Connection;
use zbus::connection::Builder;
use zbus::connection::socket::{ReadHalf, Socket, Split, WriteHalf};
use zbus::export::async_trait::async_trait;

/// The field of a header with the sender: its number, and the signature of its value, a text (D-Bus specification, "Header
/// Fields").
const SENDER: &[u8] = b"\x07\x01s\0";

/// systemd's name, as texts end.
const NAME: &[u8] = b"org.freedesktop.systemd1\0";

/// The bytes of a header before its fields. The last four of them are the size of the fields.
const HEAD: usize = 16;

/// The most bytes of a message. systemd's are some kilobytes long.
const BYTES_AT_MOST: usize = 16 << 20;

/// Connects over systemd's own socket, which asks for root's user id.
pub(super) async fn connect(stream: UnixStream) -> zbus::Result<Connection> {
    stream.set_nonblocking(true)?;
    let mut stream = tokio::net::UnixStream::from_std(stream)?;
    let user = rustix::process::geteuid().as_raw().to_string();
    let user: String = user.bytes().map(|digit| format!("{digit:02x}")).collect();
    // A call that systemd reads together with BEGIN stays unread until another message comes, so BEGIN is sent before the
    // answer to AUTH (`bus_socket_read_auth`, src/libsystemd/sd-bus/bus-socket.c).
    let hello = format!("\0AUTH EXTERNAL {user}\r\nBEGIN\r\n");
    stream.write_all(hello.as_bytes()).await?;
    let said = line(&mut stream).await?;
    let Some(guid) = said.strip_prefix("OK ") else {
        let why = format!("systemd lets user {user} not in: {said:?}");
        return Err(zbus::Error::Handshake(why));
    };
    let builder = Builder::authenticated_socket(Private(stream), guid).p2p();
    builder.build().await
}

/// Reads a line of the handshake.
async fn line(stream: &mut tokio::net::UnixStream) -> io::Result<String> {
    const LINE_AT_MOST: usize = 256;
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") && line.len() < LINE_AT_MOST {
        line.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

#[derive(Debug)]
struct Private(tokio::net::UnixStream);

impl Socket for Private {
    type ReadHalf = PrivateReader;
    type WriteHalf = PrivateWriter;

    fn split(self) -> Split<PrivateReader, PrivateWriter> {
        let (read, write) = self.0.into_split();
        let reader = PrivateReader {
            stream: read,
            message: Vec::new(),
            given: 0,
        };
        Split::new(reader, PrivateWriter(write))
    }
}

/// Reads whole messages, and gives them on in pieces.
#[derive(Debug)]
struct PrivateReader {
    stream: unix::OwnedReadHalf,
    message: Vec<u8>,
    /// How many bytes of the message were given on.
    given: usize,
}

impl PrivateReader {
    async fn read(&mut self) -> io::Result<()> {
        let mut message = vec![0; HEAD];
        self.stream.read_exact(&mut message).await?;
        let fields = size_at(&message, HEAD - 4);
        // The fields are padded to a multiple of 8 bytes, and the body comes behind them.
        let rest = fields.next_multiple_of(8) + size_at(&message, 4);
        if rest > BYTES_AT_MOST {
            let why = format!("a message of {rest} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        message.resize(HEAD + rest, 0);
        self.stream.read_exact(&mut message[HEAD..]).await?;
        rename(&mut message[HEAD..HEAD + fields]);
        (self.message, self.given) = (message, 0);
        Ok(())
    }
}

/// Reads a number of four bytes. The first byte of a message says in which order its bytes are.
fn size_at(message: &[u8], at: usize) -> usize {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&message[at..at + 4]);
    let size = match message[0] {
        b'B' => u32::from_be_bytes(bytes),
        _ => u32::from_le_bytes(bytes),
    };
    usize::try_from(size).unwrap_or(usize::MAX / 4)
}

/// Makes systemd's name that of a connection, of the same length: `:rg.freedesktop.systemd1`.
fn rename(fields: &mut [u8]) {
    // The size of the text is between the two.
    let text = SENDER.len() + 4;
    let mut places = fields.windows(text + NAME.len());
    let found = places.position(|field| field.starts_with(SENDER) && field.ends_with(NAME));
    if let Some(at) = found {
        fields[at + text] = b':';
    }
}

#[async_trait]
impl ReadHalf for PrivateReader {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        if self.given == self.message.len() {
            self.read().await?;
        }
        let rest = &self.message[self.given..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.given += count;
        Ok((count, Vec::new()))
    }
}

#[derive(Debug)]
struct PrivateWriter(unix::OwnedWriteHalf);

#[async_trait]
impl WriteHalf for PrivateWriter {
    async fn sendmsg(&mut self, buffer: &[u8], _: &[BorrowedFd<'_>]) -> io::Result<usize> {
        self.0.write(buffer).await
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.0.flush().await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use zbus::Message;

    use super::*;

    /// A signal as systemd sends it.
    fn signal() -> Vec<u8> {
        let signal = Message::signal("/a", "org.example.A", "B");
        let signal = signal.sender(":rg.freedesktop.systemd1").build(&"text");
        let mut bytes = signal.unwrap().data().to_vec();
        let at = bytes.windows(3).position(|it| it == b":rg").unwrap();
        bytes[at] = b'o';
        bytes
    }

    #[tokio::test]
    async fn a_message_of_systemd_s_is_taken() {
        use futures_util::StreamExt as _;
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (listens, is_heard) = std::sync::mpsc::channel();
        let systemd = std::thread::spawn(move || {
            use std::io::{Read as _, Write as _};
            let mut stream = &theirs;
            let mut said = [0; 64];
            let mut hear = |end: &[u8]| {
                let mut all = Vec::new();
                while !all.ends_with(end) {
                    let count = stream.read(&mut said).unwrap();
                    all.extend_from_slice(&said[..count]);
                }
                all
            };
            assert!(hear(b"\r\nBEGIN\r\n").starts_with(b"\0AUTH EXTERNAL "));
            let answer = b"OK 00112233445566778899aabbccddeeff\r\n";
            (&theirs).write_all(answer).unwrap();
            is_heard.recv().unwrap();
            (&theirs).write_all(&signal()).unwrap();
            theirs
        });
        let connection = connect(ours).await.unwrap();
        let mut messages = zbus::MessageStream::from(&connection);
        listens.send(()).unwrap();
        let message = messages.next().await.unwrap().unwrap();
        let sender = message.header().sender().map(ToString::to_string);
        assert_eq!(sender.as_deref(), Some(":rg.freedesktop.systemd1"));
        assert_eq!(message.body().deserialize::<String>().unwrap(), "text");
        drop(systemd.join().unwrap());
        while let Some(Ok(_)) = messages.next().await {}
    }
}

//! A systemd that has one unit.

use futures_util::StreamExt as _;
use tempfile::TempDir;
use tokio::net::UnixListener;
use zbus::{Guid, MessageStream};

use super::*;

impl<const N: usize> From<[(&str, Variant<'static>); N]> for Properties {
    fn from(all: [(&str, Variant<'static>); N]) -> Self {
        let all = all.into_iter();
        let owned = |value| OwnedVariant::try_from(value).expect("it has no descriptor");
        Self(
            all.map(|(name, value)| (name.to_owned(), owned(value)))
                .collect(),
        )
    }
}

/// How the fake systemd answers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    /// The properties of `web.service`, and an error for others.
    Unit(fn() -> Properties),
    /// It accepts, and says nothing.
    Silence,
    /// It does not speak D-Bus.
    Nonsense,
}

/// Starts a fake systemd on the private socket. No process listens on the bus socket.
pub(super) fn start(answer: Answer) -> (TempDir, Sockets) {
    let directory = tempfile::tempdir().expect("a directory");
    let sockets = Sockets {
        private: directory.path().join("private"),
        bus: directory.path().join("bus"),
        patience: PATIENCE,
    };
    let listener = UnixListener::bind(&sockets.private).expect("a socket");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, answer));
        }
    });
    (directory, sockets)
}

async fn serve(mut stream: tokio::net::UnixStream, answer: Answer) {
    let properties = match answer {
        Answer::Unit(properties) => properties,
        Answer::Silence => return std::future::pending().await,
        Answer::Nonsense => {
            use tokio::io::AsyncWriteExt as _;
            let _ = stream.write_all(b"220 mail.example ESMTP\r\n").await;
            return std::future::pending().await;
        }
    };
    let stream = stream.into_std().expect("a socket");
    let builder = Builder::unix_stream(stream).server(Guid::generate()).p2p();
    let connection = builder.build().await.expect("a client");
    let mut messages = MessageStream::from(&connection);
    while let Some(Ok(message)) = messages.next().await {
        let header = message.header();
        let member = header.member().map(zbus::names::MemberName::as_str);
        let path = header.path().map(zbus::ObjectPath::as_str);
        let is_it = path == Some("/org/freedesktop/systemd1/unit/web_2eservice");
        let body = message.body();
        let interface = body.deserialize::<String>();
        let is_type = interface.is_ok_and(|it| it == "org.freedesktop.systemd1.Service");
        let sent = match member {
            Some("GetAll") if is_it && is_type => connection.reply(&header, &properties().0).await,
            Some("Get") if is_it => {
                let description = Variant::from("The web");
                connection.reply(&header, &description).await
            }
            _ => {
                let unknown = "org.freedesktop.DBus.Error.UnknownObject";
                connection
                    .reply_error(&header, unknown, &"no such unit")
                    .await
            }
        };
        sent.expect("it listens");
    }
}

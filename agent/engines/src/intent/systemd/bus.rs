//! systemd over D-Bus (org.freedesktop.systemd1(5)): the properties of a unit.

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_model::limit::Numbers;
use tokio::time::timeout;
use zbus::connection::Builder;
use zbus::{Connection, OwnedVariant, Variant, fdo};

/// systemd's own socket. It needs no bus daemon, and belongs to root.
const PRIVATE: &str = "/run/systemd/private";
const BUS: &str = "/run/dbus/system_bus_socket";
const SYSTEMD: &str = "org.freedesktop.systemd1";

/// How long systemd may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why systemd has not answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot connect to {}, nor to {}; the first is root's, the second needs a D-Bus daemon", private.display(), bus.display())]
    Unreachable {
        private: PathBuf,
        bus: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{}", socket.display())]
    Refused {
        socket: PathBuf,
        #[source]
        source: Box<zbus::Error>,
    },
    #[error("{}: waited {} s for an answer", socket.display(), after.as_secs())]
    Late { socket: PathBuf, after: Duration },
}

/// A property whose value is of another type than systemd documents.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::intent) struct Odd {
    pub property: &'static str,
    pub value: String,
    pub wanted: &'static str,
}

/// Where systemd listens.
#[derive(Clone, Debug)]
pub(super) struct Sockets {
    pub private: PathBuf,
    pub bus: PathBuf,
    pub patience: Duration,
}

impl Default for Sockets {
    fn default() -> Self {
        Self {
            private: PRIVATE.into(),
            bus: BUS.into(),
            patience: PATIENCE,
        }
    }
}

impl Sockets {
    /// Returns the properties of a unit that has a cgroup. Returns `None` for a unit that systemd does not know.
    ///
    /// # Errors
    /// systemd cannot be asked, or does not answer in time.
    pub(super) async fn properties(&self, unit: &str) -> Result<Option<Properties>, Error> {
        let Some(interface) = interface(unit) else {
            return Ok(None);
        };
        let (socket, stream, is_private) = self.connect()?;
        let asked = timeout(self.patience, ask(stream, is_private, unit, &interface));
        match asked.await {
            Ok(Ok(properties)) => Ok(properties),
            Ok(Err(source)) => Err(Error::Refused {
                socket: socket.to_owned(),
                source: Box::new(source),
            }),
            Err(_) => Err(Error::Late {
                socket: socket.to_owned(),
                after: self.patience,
            }),
        }
    }

    /// Connects to the first socket on which a process listens, and returns whether it is systemd's own. The call does
    /// not block: where the queue of the socket is full, the kernel returns an error at once.
    fn connect(&self) -> Result<(&Path, UnixStream, bool), Error> {
        let reach = |socket| connect_at_once(socket);
        if let Ok(stream) = reach(&self.private) {
            return Ok((&self.private, stream, true));
        }
        match reach(&self.bus) {
            Ok(stream) => Ok((&self.bus, stream, false)),
            Err(source) => Err(Error::Unreachable {
                private: self.private.clone(),
                bus: self.bus.clone(),
                source,
            }),
        }
    }
}

fn connect_at_once(socket: &Path) -> std::io::Result<UnixStream> {
    use rustix::net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&stream, &SocketAddrUnix::new(socket)?)?;
    Ok(stream.into())
}

/// Returns the D-Bus interface of a unit's type. Returns `None` for types of units that have no cgroup with the unit's
/// name.
fn interface(unit: &str) -> Option<String> {
    const TYPES: [(&str, &str); 3] = [
        ("service", "Service"),
        ("scope", "Scope"),
        ("slice", "Slice"),
    ];
    let (_, suffix) = unit.rsplit_once('.')?;
    let (_, name) = TYPES.iter().find(|(it, _)| *it == suffix)?;
    Some(format!("{SYSTEMD}.{name}"))
}

/// Returns the path of a unit's object. `_` and two hexadecimal digits stand for each byte that is no letter or digit,
/// and for a digit at the beginning (`bus_label_escape`, src/basic/bus-label.c).
fn object(unit: &str) -> String {
    let mut path = "/org/freedesktop/systemd1/unit/".to_owned();
    for (at, byte) in unit.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || at > 0 && byte.is_ascii_digit() {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("_{byte:02x}"));
        }
    }
    path
}

async fn ask(
    stream: UnixStream,
    is_private: bool,
    unit: &str,
    interface: &str,
) -> zbus::Result<Option<Properties>> {
    let builder = Builder::unix_stream(stream);
    let builder = if is_private { builder.p2p() } else { builder };
    let connection: Connection = builder.build().await?;
    let (path, properties) = (object(unit), "org.freedesktop.DBus.Properties");
    let asked = connection.call_method(Some(SYSTEMD), path, Some(properties), "GetAll", &interface);
    match asked.await {
        Ok(reply) => Ok(Some(Properties(reply.body().deserialize()?))),
        Err(error) if is_unknown(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether there is no unit of that name.
fn is_unknown(error: &zbus::Error) -> bool {
    match error {
        zbus::Error::FDO(error) => matches!(**error, fdo::Error::UnknownObject(_)),
        zbus::Error::MethodError(name, ..) => {
            name.as_str() == "org.freedesktop.systemd1.NoSuchUnit"
        }
        _ => false,
    }
}

/// The properties of a unit by their names.
#[derive(Debug, Default)]
pub(in crate::intent) struct Properties(HashMap<String, OwnedVariant>);

impl Properties {
    /// Returns the value of a property as `read` converts it. Returns `None` where this systemd does not have the
    /// property.
    fn read<'a, T>(
        &'a self,
        property: &'static str,
        wanted: &'static str,
        read: impl Fn(&'a Variant<'static>) -> Option<T>,
    ) -> Result<Option<T>, Odd> {
        let Some(value) = self.0.get(property) else {
            return Ok(None);
        };
        read(value).map(Some).ok_or_else(|| Odd {
            property,
            value: value.to_string(),
            wanted,
        })
    }

    pub(in crate::intent) fn text(&self, property: &'static str) -> Result<&str, Odd> {
        let read = |value: &'_ Variant<'static>| matches!(value, Variant::Str(_)).then_some(());
        self.read(property, "a text", read)?;
        Ok(match self.0.get(property).map(|value| &**value) {
            Some(Variant::Str(text)) => text.as_str(),
            _ => "",
        })
    }

    /// A number of bytes, microseconds or tasks, or a weight; `None` where nothing is asked for.
    pub(in crate::intent) fn number(&self, property: &'static str) -> Result<Option<u64>, Odd> {
        let number = self.read(property, "a number of 64 bits", number)?;
        Ok(number.filter(|number| *number != UNSET))
    }

    /// The pid of a process; `None` where there is none.
    pub(in crate::intent) fn pid(&self, property: &'static str) -> Result<Option<u32>, Odd> {
        let read = |value: &'_ Variant<'static>| match value {
            Variant::U32(pid) => Some(*pid),
            _ => None,
        };
        let pid = self.read(property, "a number of 32 bits", read)?;
        Ok(pid.filter(|pid| *pid != 0))
    }

    /// CPUs or memory nodes; `None` where nothing is asked for.
    pub(in crate::intent) fn numbers(
        &self,
        property: &'static str,
    ) -> Result<Option<Numbers>, Odd> {
        let numbers = self.read(property, "an array of bytes, a bit for each number", bits)?;
        Ok(numbers.filter(|numbers| !numbers.is_empty()))
    }

    /// Pairs of a path and a number.
    pub(in crate::intent) fn by_path(
        &self,
        property: &'static str,
    ) -> Result<Vec<(String, u64)>, Odd> {
        let pairs = self.read(property, "an array of paths and numbers", pairs)?;
        Ok(pairs.unwrap_or_default())
    }
}

/// The value for `infinity` and for `[not set]`.
const UNSET: u64 = u64::MAX;

fn number(value: &Variant<'_>) -> Option<u64> {
    match value {
        Variant::U64(number) => Some(*number),
        _ => None,
    }
}

fn array<'a>(value: &'a Variant<'_>) -> Option<&'a [Variant<'a>]> {
    match value {
        Variant::Array(array) => Some(array.inner()),
        _ => None,
    }
}

/// Converts a bit mask: the lowest bit of the first byte stands for 0 (`cpu_set_to_dbus`, src/shared/cpu-set-util.c).
fn bits(value: &Variant<'_>) -> Option<Numbers> {
    let mut numbers: Vec<u32> = Vec::new();
    for (first, byte) in (0..).step_by(8).zip(array(value)?) {
        let Variant::U8(byte) = byte else {
            return None;
        };
        let set = (0..8).filter(|bit| byte >> bit & 1 == 1);
        numbers.extend(set.map(|bit| first + bit));
    }
    Some(numbers.into_iter().collect())
}

fn pairs(value: &Variant<'_>) -> Option<Vec<(String, u64)>> {
    let pair = |value: &Variant<'_>| match value {
        Variant::Structure(fields) => match fields.fields() {
            [Variant::Str(path), Variant::U64(number)] => Some((path.to_string(), *number)),
            _ => None,
        },
        _ => None,
    };
    array(value)?.iter().map(pair).collect()
}

#[cfg(test)]
mod fake {
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
            let path = header.path().map(zbus::ObjectPath::as_str);
            let interface: String = message.body().deserialize().expect("an interface");
            let is_it = path == Some("/org/freedesktop/systemd1/unit/web_2eservice")
                && interface == "org.freedesktop.systemd1.Service"
                && header.member().is_some_and(|it| it.as_str() == "GetAll");
            let sent = if is_it {
                connection.reply(&header, &properties().0).await
            } else {
                let unknown = "org.freedesktop.DBus.Error.UnknownObject";
                connection
                    .reply_error(&header, unknown, &"no such unit")
                    .await
            };
            sent.expect("it listens");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fake::{Answer, start};
    use super::*;

    fn properties() -> Properties {
        Properties::from([
            ("ControlGroup", Variant::from("/system.slice/web.service")),
            ("MemoryMax", Variant::from(64_u64 << 20)),
            ("TasksMax", Variant::from(u64::MAX)),
            ("MainPID", Variant::from(4711_u32)),
            ("ControlPID", Variant::from(0_u32)),
            ("AllowedCPUs", Variant::from(vec![0b1011_u8, 1])),
            ("AllowedMemoryNodes", Variant::from(Vec::<u8>::new())),
            (
                "IOReadBandwidthMax",
                Variant::from(vec![("/dev/vda", 4096_u64)]),
            ),
        ])
    }

    #[tokio::test]
    async fn a_unit_has_numbers_texts_sets_and_pairs() {
        let (_directory, sockets) = start(Answer::Unit(properties));
        let found = sockets.properties("web.service").await.unwrap().unwrap();
        assert_eq!(found.text("ControlGroup"), Ok("/system.slice/web.service"));
        assert_eq!(found.number("MemoryMax"), Ok(Some(64 << 20)));
        assert_eq!(found.number("TasksMax"), Ok(None));
        assert_eq!(found.number("NewerThanThis"), Ok(None));
        assert_eq!(found.pid("MainPID"), Ok(Some(4711)));
        assert_eq!(found.pid("ControlPID"), Ok(None));
        assert!(found.pid("MemoryMax").is_err());
        let cpus = found.numbers("AllowedCPUs").unwrap().unwrap();
        assert_eq!(cpus, Numbers::parse("0-1,3,8").unwrap());
        assert_eq!(found.numbers("AllowedMemoryNodes"), Ok(None));
        let pairs = found.by_path("IOReadBandwidthMax");
        assert_eq!(pairs, Ok(vec![("/dev/vda".to_owned(), 4096)]));
        let odd = found.number("ControlGroup").unwrap_err();
        assert_eq!(odd.property, "ControlGroup");
        assert!(found.numbers("MemoryMax").is_err() && found.text("MemoryMax").is_err());
    }

    #[tokio::test]
    async fn a_unit_that_systemd_does_not_know_is_none() {
        let (_directory, sockets) = start(Answer::Unit(properties));
        for unit in ["other.service", "web.socket", "web", ""] {
            assert!(sockets.properties(unit).await.unwrap().is_none(), "{unit}");
        }
    }

    #[tokio::test]
    async fn whoever_does_not_answer_is_named() {
        let (_directory, mut sockets) = start(Answer::Silence);
        sockets.patience = Duration::from_millis(50);
        let error = sockets
            .properties("web.service")
            .await
            .unwrap_err()
            .to_string();
        let private = sockets.private.display().to_string();
        assert!(
            error.contains(&private) && error.contains("waited"),
            "{error}"
        );
        let (_other, sockets) = start(Answer::Nonsense);
        let error = sockets.properties("web.service").await.unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error}");
    }

    #[tokio::test]
    async fn where_nobody_listens_both_sockets_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let sockets = Sockets {
            private: directory.path().join("private"),
            bus: directory.path().join("bus"),
            patience: PATIENCE,
        };
        let error = sockets
            .properties("web.service")
            .await
            .unwrap_err()
            .to_string();
        for socket in [&sockets.private, &sockets.bus] {
            assert!(error.contains(&socket.display().to_string()), "{error}");
        }
    }

    #[test]
    fn objects_of_units() {
        for (unit, object_name) in [
            ("cron.service", "cron_2eservice"),
            ("1a-b.scope", "_31a_2db_2escope"),
            ("user@1000.service", "user_401000_2eservice"),
        ] {
            assert_eq!(
                object(unit),
                format!("/org/freedesktop/systemd1/unit/{object_name}")
            );
        }
    }
}

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
pub(crate) const UNIT: &str = "org.freedesktop.systemd1.Unit";
const UNITS: &str = "/org/freedesktop/systemd1/unit/";
pub(crate) const DESCRIPTION: &str = "Description";

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
    #[error("cannot connect to {}", socket.display())]
    Closed {
        socket: PathBuf,
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
pub(crate) struct Odd {
    pub property: &'static str,
    pub value: String,
    pub wanted: &'static str,
}

/// Where systemd listens.
#[derive(Clone, Debug)]
pub(crate) struct Sockets {
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

    /// Connects to systemd's own socket.
    ///
    /// # Errors
    /// Nobody listens there, or this process may not connect.
    pub(crate) async fn private(&self) -> Result<Connection, Error> {
        let stream = connect_at_once(&self.private).map_err(|source| Error::Closed {
            socket: self.private.clone(),
            source,
        })?;
        let connected = timeout(self.patience, private::connect(stream));
        match connected.await {
            Ok(connection) => connection.map_err(|source| self.refused(source)),
            Err(_) => Err(Error::Late {
                socket: self.private.clone(),
                after: self.patience,
            }),
        }
    }

    /// The error of a connection to systemd's own socket.
    pub(crate) fn refused(&self, source: zbus::Error) -> Error {
        Error::Refused {
            socket: self.private.clone(),
            source: Box::new(source),
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
    let mut path = UNITS.to_owned();
    for (at, byte) in unit.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || at > 0 && byte.is_ascii_digit() {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("_{byte:02x}"));
        }
    }
    path
}

/// Returns the unit whose object has this path.
pub(crate) fn unit(object: &str) -> Option<String> {
    let mut parts = object.strip_prefix(UNITS)?.split('_');
    let mut unit = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2)?;
        unit.push(u8::from_str_radix(digits, 16).ok()?);
        unit.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(unit).ok()
}

async fn ask(
    stream: UnixStream,
    is_private: bool,
    unit: &str,
    interface: &str,
) -> zbus::Result<Option<Properties>> {
    let connection: Connection = match is_private {
        true => private::connect(stream).await?,
        false => Builder::unix_stream(stream).build().await?,
    };
    let (path, properties) = (object(unit), "org.freedesktop.DBus.Properties");
    let asked = connection.call_method(Some(SYSTEMD), path, Some(properties), "GetAll", &interface);
    let mut found: HashMap<String, OwnedVariant> = match asked.await {
        Ok(reply) => reply.body().deserialize()?,
        Err(error) if is_unknown(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    // What all types of units have is of another interface. A unit may be gone by now. Without a description, the rest
    // is as good.
    let (path, named) = (object(unit), (UNIT, DESCRIPTION));
    let asked = connection.call_method(Some(SYSTEMD), path, Some(properties), "Get", &named);
    if let Ok(reply) = asked.await
        && let Ok(description) = reply.body().deserialize()
    {
        found.insert(DESCRIPTION.to_owned(), description);
    }
    Ok(Some(Properties(found)))
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
pub(crate) struct Properties(HashMap<String, OwnedVariant>);

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

    pub(crate) fn text(&self, property: &'static str) -> Result<&str, Odd> {
        let read = |value: &'_ Variant<'static>| matches!(value, Variant::Str(_)).then_some(());
        self.read(property, "a text", read)?;
        Ok(match self.0.get(property).map(|value| &**value) {
            Some(Variant::Str(text)) => text.as_str(),
            _ => "",
        })
    }

    /// A number of bytes, microseconds or tasks, or a weight; `None` where nothing is asked for.
    pub(crate) fn number(&self, property: &'static str) -> Result<Option<u64>, Odd> {
        let number = self.read(property, "a number of 64 bits", number)?;
        Ok(number.filter(|number| *number != UNSET))
    }

    /// The pid of a process; `None` where there is none.
    pub(crate) fn pid(&self, property: &'static str) -> Result<Option<u32>, Odd> {
        let read = |value: &'_ Variant<'static>| match value {
            Variant::U32(pid) => Some(*pid),
            _ => None,
        };
        let pid = self.read(property, "a number of 32 bits", read)?;
        Ok(pid.filter(|pid| *pid != 0))
    }

    /// CPUs or memory nodes; `None` where nothing is asked for.
    pub(crate) fn numbers(&self, property: &'static str) -> Result<Option<Numbers>, Odd> {
        let numbers = self.read(property, "an array of bytes, a bit for each number", bits)?;
        Ok(numbers.filter(|numbers| !numbers.is_empty()))
    }

    /// Pairs of a path and a number.
    pub(crate) fn by_path(&self, property: &'static str) -> Result<Vec<(String, u64)>, Odd> {
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
mod fake;
mod private;
#[cfg(test)]
mod tests;

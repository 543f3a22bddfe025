//! Parses the values of flags that choose a namespace.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

/// The owner of the namespace that a container is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespaceShare {
    /// The container has a namespace of its own.
    Private,
    /// The container is in the host's namespace.
    Host,
    /// The namespace of the container of this name.
    Container(String),
    /// The namespace that this file refers to.
    Path(PathBuf),
}

/// The user namespace that a container is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserChoice {
    /// A namespace of its own, with the ranges of subuid(5).
    Auto,
    /// A namespace of its own with given maps, or an existing namespace.
    Share(NamespaceShare),
}

/// The network namespace that a container is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Net {
    /// A namespace of its own, with the loopback interface alone.
    None,
    /// A namespace of its own, with one end of a veth pair.
    Veth,
    /// The host's namespace, another container's, or that of a file.
    Share(NamespaceShare),
}

/// An address and the length of its network's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub Ipv4Addr, pub u8);

impl FromStr for NamespaceShare {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "private" => Ok(Self::Private),
            None if text == "host" => Ok(Self::Host),
            Some(("container", name)) if !name.is_empty() => Ok(Self::Container(name.to_owned())),
            Some(("ns", path)) if path.starts_with('/') => Ok(Self::Path(path.into())),
            _ => Err("wanted: private, host, container:NAME or ns:/PATH".to_owned()),
        }
    }
}

impl FromStr for UserChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => text
                .parse()
                .map(Self::Share)
                .map_err(|error: String| format!("{error}, or auto")),
        }
    }
}

impl FromStr for Net {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let share = match text {
            "none" => return Ok(Self::None),
            "veth" => return Ok(Self::Veth),
            _ => text
                .parse()
                .ok()
                .filter(|share| *share != NamespaceShare::Private),
        };
        let wanted = "wanted: none, veth, host, container:NAME or ns:/PATH";
        share.map(Self::Share).ok_or_else(|| wanted.to_owned())
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once('/').and_then(|(address, length)| {
            let length: u8 = length.parse().ok().filter(|it| (1..=32).contains(it))?;
            Some(Self(address.parse().ok()?, length))
        });
        parsed.ok_or_else(|| {
            "wanted: an address and the length of its network's prefix, as in 10.0.3.2/24"
                .to_owned()
        })
    }
}

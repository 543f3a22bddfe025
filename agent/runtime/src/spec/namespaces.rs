//! Which namespaces a container has of its own, which it shares, and with whom.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use agent_host::pinned::Pinned;
use agent_network::Network;
use oci_spec::runtime::{
    LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType,
};

use super::flags::{Flags, NetworkFlags};
use super::value::IdRange;
use super::{Error, Found};

/// Whose namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Share {
    Private,
    Host,
    Container(String),
    Path(PathBuf),
}

/// Whose users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserChoice {
    Auto,
    Share(Share),
}

/// What network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Net {
    None,
    Veth,
    Share(Share),
}

/// An address and the length of its network's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub Ipv4Addr, pub u8);

impl FromStr for Share {
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
            _ => text.parse().ok().filter(|share| *share != Share::Private),
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

/// The namespaces of a container, with what follows from them.
pub(super) struct Namespaces {
    pub list: Vec<LinuxNamespace>,
    pub uid_map: Vec<LinuxIdMapping>,
    pub gid_map: Vec<LinuxIdMapping>,
    pub network: Network,
}

impl Namespaces {
    /// Whether it has one of this type that is new.
    pub fn is_new(&self, kind: LinuxNamespaceType) -> bool {
        let mut list = self.list.iter();
        list.any(|it| it.typ() == kind && it.path().is_none())
    }
}

/// Decides all of them.
pub(super) fn compile(flags: &Flags, found: &Found) -> Result<Namespaces, Error> {
    use LinuxNamespaceType as Type;
    let asked = &flags.namespaces;
    let (user, uid_map, gid_map) = users(flags, found)?;
    let network = network(&flags.network)?;
    let net = match &flags.network.net {
        Net::None | Net::Veth => &Share::Private,
        Net::Share(share) => share,
    };
    let offset = !asked.time_offset.is_empty();
    let own_time = if offset { Share::Private } else { Share::Host };
    let time = asked.time.as_ref().unwrap_or(&own_time);
    let rows: [(Type, &'static str, &str, &Share); 8] = [
        (Type::User, "--userns", "user", &user),
        (Type::Pid, "--pid", "pid", &asked.pid),
        (Type::Network, "--net", "net", net),
        (Type::Ipc, "--ipc", "ipc", &asked.ipc),
        (Type::Uts, "--uts", "uts", &asked.uts),
        (Type::Mount, "mount", "mnt", &Share::Private),
        (Type::Cgroup, "--cgroupns", "cgroup", &asked.cgroupns),
        (Type::Time, "--time", "time", time),
    ];
    let mut list = Vec::new();
    for (kind, flag, file, share) in rows {
        if let Some(path) = path_of(flag, file, share, &found.containers)? {
            let mut namespace = LinuxNamespace::default();
            namespace.set_typ(kind);
            namespace.set_path(path);
            list.push(namespace);
        }
    }
    Ok(Namespaces {
        list,
        uid_map,
        gid_map,
        network,
    })
}

/// Where a namespace is that is shared: `None` for the host's, `Some(None)` for a new one.
fn path_of(
    flag: &'static str,
    file: &str,
    share: &Share,
    containers: &BTreeMap<String, Result<Pinned, String>>,
) -> Result<Option<Option<PathBuf>>, Error> {
    Ok(match share {
        Share::Host => None,
        Share::Private => Some(None),
        Share::Path(path) => Some(Some(path.clone())),
        Share::Container(name) => {
            let none = || {
                Err("no container of that name is known here; agent ps lists those that run".into())
            };
            let found = containers.get(name).cloned().unwrap_or_else(none);
            let process =
                found.map_err(|reason| Error::flag(flag, &format!("container:{name}"), &reason))?;
            Some(Some(format!("/proc/{}/ns/{file}", process.number()).into()))
        }
    })
}

type Maps = (Share, Vec<LinuxIdMapping>, Vec<LinuxIdMapping>);

/// Whose users, and which ids where they are the container's own.
fn users(flags: &Flags, found: &Found) -> Result<Maps, Error> {
    let asked = &flags.namespaces;
    let (uids, gids) = (&asked.uid_map, &asked.gid_map);
    let maps = !uids.is_empty() || !gids.is_empty();
    match &asked.userns {
        Some(UserChoice::Auto) if maps => Err(Error::together(
            "--userns auto",
            "--uid-map or --gid-map",
            "auto makes the maps",
        )),
        Some(UserChoice::Auto) => {
            let (uids, gids) = found
                .subordinate
                .as_ref()
                .map_err(|reason| Error::flag("--userns", "auto", reason))?;
            Ok((Share::Private, mappings(uids)?, mappings(gids)?))
        }
        None | Some(UserChoice::Share(Share::Private)) if maps => {
            let uids = if uids.is_empty() { gids } else { uids };
            let gids = if gids.is_empty() { uids } else { gids };
            disjoint("--uid-map", uids)?;
            disjoint("--gid-map", gids)?;
            Ok((Share::Private, mappings(uids)?, mappings(gids)?))
        }
        Some(UserChoice::Share(Share::Private)) => Err(Error::flag(
            "--userns",
            "private",
            "wants --uid-map, as in --uid-map 0:100000:65536; or --userns auto",
        )),
        Some(UserChoice::Share(share)) if maps => Err(Error::together(
            "--userns",
            "--uid-map or --gid-map",
            &format!("the maps of {share:?} are made already"),
        )),
        Some(UserChoice::Share(share)) => Ok((share.clone(), Vec::new(), Vec::new())),
        None => Ok((Share::Host, Vec::new(), Vec::new())),
    }
}

/// Ranges that overlap are refused by the kernel, without a reason.
fn disjoint(flag: &'static str, ranges: &[IdRange]) -> Result<(), Error> {
    let overlap = |a: u32, b: u32, x: &IdRange, y: &IdRange| {
        u64::from(a) < u64::from(b) + u64::from(y.count)
            && u64::from(b) < u64::from(a) + u64::from(x.count)
    };
    for (index, one) in ranges.iter().enumerate() {
        for other in &ranges[..index] {
            if overlap(one.inside, other.inside, one, other)
                || overlap(one.outside, other.outside, one, other)
            {
                let shown = format!("{}:{}:{}", one.inside, one.outside, one.count);
                return Err(Error::flag(flag, &shown, "it overlaps with another one"));
            }
        }
    }
    Ok(())
}

fn mappings(ranges: &[IdRange]) -> Result<Vec<LinuxIdMapping>, Error> {
    let mapping = |range: &IdRange| {
        let mapping = LinuxIdMappingBuilder::default()
            .container_id(range.inside)
            .host_id(range.outside)
            .size(range.count);
        Ok(mapping.build()?)
    };
    ranges.iter().map(mapping).collect()
}

fn network(flags: &NetworkFlags) -> Result<Network, Error> {
    let veth = Net::Veth == flags.net;
    let asked = [
        ("--ip", flags.ip.is_some()),
        ("--bridge", flags.bridge.is_some()),
    ];
    if let Some((flag, _)) = asked.iter().find(|(_, is_there)| *is_there && !veth) {
        return Err(Error::MissingFlag {
            flag,
            wants: "--net veth",
        });
    }
    if let Some(bridge) = &flags.bridge {
        // IFNAMSIZ, with the NUL.
        let fits = (1..16).contains(&bridge.len()) && !matches!(&**bridge, "." | "..");
        let visible = |c: char| c.is_ascii_graphic() && !"/:%".contains(c);
        if !fits || !bridge.chars().all(visible) {
            return Err(Error::flag(
                "--bridge",
                bridge,
                "wanted: the name of an interface, at most 15 letters and digits",
            ));
        }
    }
    Ok(match &flags.net {
        Net::None => Network::None,
        Net::Veth => Network::Veth {
            address: flags.ip.map(|Address(address, length)| (address, length)),
            bridge: flags.bridge.clone(),
        },
        Net::Share(_) => Network::Joined,
    })
}

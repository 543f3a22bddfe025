//! Compiles the namespaces of an order, new and shared, and the id maps of its user namespace.

use std::collections::BTreeMap;
use std::path::PathBuf;

use agent_host::pinned::Pinned;
use agent_network::Network;
use oci_spec::runtime::{
    LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType,
};

use super::flags::{Flags, NetworkFlags};
use super::value::{Address, IdMap, NamespaceShare, Net, UserChoice};
use super::{Error, SpecFacts};

/// The namespaces of a container, its id maps and its network.
pub(super) struct Namespaces {
    pub list: Vec<LinuxNamespace>,
    pub uid_map: Vec<LinuxIdMapping>,
    pub gid_map: Vec<LinuxIdMapping>,
    pub network: Network,
}

impl Namespaces {
    /// Whether the container has a new namespace of this type.
    pub(super) fn is_new(&self, kind: LinuxNamespaceType) -> bool {
        let mut list = self.list.iter();
        list.any(|it| it.typ() == kind && it.path().is_none())
    }
}

/// Compiles the flags of the namespaces and of the network.
pub(super) fn compile(flags: &Flags, found: &SpecFacts) -> Result<Namespaces, Error> {
    use LinuxNamespaceType as Type;
    let asked = &flags.namespaces;
    let (user, uid_map, gid_map) = users(flags, found)?;
    let network = network(&flags.network)?;
    let net = match &flags.network.net {
        Net::None | Net::Veth => &NamespaceShare::Private,
        Net::Share(share) => share,
    };
    let offset = !asked.time_offset.is_empty();
    let own_time = if offset {
        NamespaceShare::Private
    } else {
        NamespaceShare::Host
    };
    let time = asked.time.as_ref().unwrap_or(&own_time);
    let rows: [(Type, &'static str, &str, &NamespaceShare); 8] = [
        (Type::User, "--userns", "user", &user),
        (Type::Pid, "--pid", "pid", &asked.pid),
        (Type::Network, "--net", "net", net),
        (Type::Ipc, "--ipc", "ipc", &asked.ipc),
        (Type::Uts, "--uts", "uts", &asked.uts),
        (Type::Mount, "mount", "mnt", &NamespaceShare::Private),
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

/// Returns the path of the namespace to join: `None` for the host's namespace, `Some(None)` for a new one.
fn path_of(
    flag: &'static str,
    file: &str,
    share: &NamespaceShare,
    containers: &BTreeMap<String, Result<Pinned, String>>,
) -> Result<Option<Option<PathBuf>>, Error> {
    Ok(match share {
        NamespaceShare::Host => None,
        NamespaceShare::Private => Some(None),
        NamespaceShare::Path(path) => Some(Some(path.clone())),
        NamespaceShare::Container(name) => {
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

type Maps = (NamespaceShare, Vec<LinuxIdMapping>, Vec<LinuxIdMapping>);

/// Returns the user namespace, and the maps of user ids and group ids where it is new.
fn users(flags: &Flags, found: &SpecFacts) -> Result<Maps, Error> {
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
            Ok((NamespaceShare::Private, mappings(uids)?, mappings(gids)?))
        }
        None | Some(UserChoice::Share(NamespaceShare::Private)) if maps => {
            let uids = if uids.is_empty() { gids } else { uids };
            let gids = if gids.is_empty() { uids } else { gids };
            disjoint("--uid-map", uids)?;
            disjoint("--gid-map", gids)?;
            Ok((NamespaceShare::Private, mappings(uids)?, mappings(gids)?))
        }
        Some(UserChoice::Share(NamespaceShare::Private)) => Err(Error::flag(
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
        None => Ok((NamespaceShare::Host, Vec::new(), Vec::new())),
    }
}

/// Refuses ranges that overlap. The kernel refuses them too, but gives no reason.
fn disjoint(flag: &'static str, ranges: &[IdMap]) -> Result<(), Error> {
    let overlap = |a: u32, b: u32, x: &IdMap, y: &IdMap| {
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

fn mappings(ranges: &[IdMap]) -> Result<Vec<LinuxIdMapping>, Error> {
    let mapping = |range: &IdMap| {
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
    if let Some(bridge) = &flags.bridge
        && !agent_network::is_bridge_name(bridge)
    {
        return Err(Error::flag(
            "--bridge",
            bridge,
            "wanted: the name of an interface, at most 15 letters and digits",
        ));
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

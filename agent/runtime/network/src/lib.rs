//! The network interfaces of a container.
//!
//! The launcher makes a pair of interfaces: `eth0` in the container, and its peer `ag-NAME` on the host or in a bridge
//! there. Every interface on the host is in the interface group [`GROUP`] from the start. So the next command finds and
//! removes it, however the launcher died.

#![warn(missing_docs, unreachable_pub)]

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::process::Pid;
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use serde::{Deserialize, Serialize};

mod request;

use request::{LinkKind, LinkSocket, NetworkLink, Route};

/// The group of the agent's interfaces on the host: "agnt" in ASCII.
pub const GROUP: u32 = 0x6167_6e74;

/// The interface in the container.
const INSIDE: &str = "eth0";

/// The most bytes of an interface's name (`IFNAMSIZ` without the NUL).
const LONGEST_NAME: usize = 15;

/// The interfaces of a container's network namespace. The spec says which namespace that is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// The loopback interface, up.
    None,
    /// The interfaces of an existing namespace, which stay as they are.
    Joined,
    /// A veth pair: `eth0` in the namespace, and its peer on the host.
    Veth {
        /// The address of `eth0`, and the length of its prefix.
        address: Option<(Ipv4Addr, u8)>,
        /// The bridge on the host that gets the peer. The agent makes it where it does not exist.
        bridge: Option<String>,
    },
}

/// Takes the lock that a process holds while it makes or removes bridges. The process holds it until the file is
/// closed.
pub type LockBridges<'a> = &'a dyn Fn() -> io::Result<File>;

/// Why a container's interfaces cannot be made or removed.
#[allow(
    missing_docs,
    reason = "the messages document the variants and their fields"
)]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lock of the bridges cannot be taken.
    #[error(transparent)]
    Lock(io::Error),
    #[error("network: {doing}: {source}{hint}", hint = hint(source))]
    Kernel { doing: String, source: io::Error },
    #[error(
        "--bridge {0}: there is an interface of this name, and it is no bridge; take another name"
    )]
    NoBridge(String),
    #[error("--bridge {0:?}: wanted: 1 to 15 letters, digits, '-', '_' and '.'")]
    Name(String),
    #[error(
        "--net veth: {0} is there already, and not this container's; give the container another --name"
    )]
    Taken(String),
}

fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM) => "; interfaces on the host need root (CAP_NET_ADMIN): use --net none",
        Some(libc::EOPNOTSUPP) => "; the kernel lacks it: modprobe veth, or bridge",
        _ => "",
    }
}

/// Adds to an error what was being done.
trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Kernel {
            doing: what(),
            source,
        })
    }
}

/// Makes the interfaces that an order asks for in the network namespace of a container. The container's init process
/// brings up the loopback interface by itself ([`agent_sys::interface::loopback_up`]).
///
/// `pid` is the container's init process, which does not run its command yet. `pidfd` refers to the same process.
///
/// # Errors
/// The kernel refuses, or a name is taken.
pub fn connect(
    network: &Network,
    name: &str,
    pid: Pid,
    pidfd: BorrowedFd<'_>,
    lock: LockBridges<'_>,
) -> Result<(), Error> {
    let Network::Veth { address, bridge } = network else {
        return Ok(());
    };
    let host = LinkSocket::open().doing(|| "a netlink socket".to_owned())?;
    let gateway = match bridge {
        Some(bridge) => {
            let _lock = lock().map_err(Error::Lock)?;
            let bridge = make_bridge(&host, bridge)?;
            make_pair(&host, name, pid, Some(bridge.index))?;
            addresses(&host, &bridge)?
        }
        None => {
            make_pair(&host, name, pid, None)?;
            Vec::new()
        }
    };
    let inside = enter(&host, pidfd)?;
    let eth0 = inside
        .find(INSIDE)
        .and_then(|link| link.ok_or_else(|| io::ErrorKind::NotFound.into()))
        .doing(|| format!("{INSIDE} in the container"))?;
    inside
        .set_up(eth0.index)
        .doing(|| format!("bringing up {INSIDE} in the container"))?;
    let Some((address, length)) = *address else {
        return Ok(());
    };
    inside
        .add_address(eth0.index, address, length)
        .doing(|| format!("--ip {address}/{length}"))?;
    let gateway = gateway
        .into_iter()
        .find(|gateway| *gateway != address && same_net(*gateway, address, length));
    if let Some(gateway) = gateway {
        let route = Route { gateway };
        inside
            .add_route(&route)
            .doing(|| format!("the route over {gateway}"))?;
    }
    Ok(())
}

/// Removes what [`connect`] left on the host for the container called `name`: its interface, and bridges that the agent
/// made and nobody uses. It is not an error if they do not exist, so that any process may clean up after any other.
///
/// # Errors
/// The kernel refuses.
pub fn disconnect(name: &str, lock: LockBridges<'_>) -> Result<(), Error> {
    let host = LinkSocket::open().doing(|| "a netlink socket".to_owned())?;
    let peer = peer_name(name);
    if let Some(link) = host.find(&peer).doing(|| peer.clone())?
        && is_of(&link, name)
    {
        gone_is_well(host.remove(link.index)).doing(|| format!("removing {peer}"))?;
    }
    let bridges = || {
        host.all(LinkKind::Bridge)
            .doing(|| "the host's bridges".to_owned())
    };
    if !bridges()?.iter().any(|bridge| bridge.group == GROUP) {
        return Ok(());
    }
    let _lock = lock().map_err(Error::Lock)?;
    for bridge in bridges()?.iter().filter(|bridge| bridge.group == GROUP) {
        let doing = || format!("removing the bridge {}", bridge.name);
        if !host.has_ports(bridge.index).doing(doing)? {
            gone_is_well(host.remove(bridge.index)).doing(doing)?;
        }
    }
    Ok(())
}

/// Returns the name of the interface on the host: `ag-NAME`, or where that is too long, its beginning and a hash.
#[must_use]
pub fn peer_name(name: &str) -> String {
    let whole = format!("ag-{name}");
    if whole.len() <= LONGEST_NAME {
        return whole;
    }
    // FNV-1a is the same in every version of the agent, and each must find what another one made.
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let begin: String = name.chars().take(4).collect();
    format!("ag-{begin}{hash:08x}")
}

/// Returns the alias of the peer, which `ip link` shows.
fn alias(name: &str) -> String {
    format!("agent run {name}")
}

/// Whether an interface with the peer's name was made for the container. It has no alias if its maker died early.
fn is_of(link: &NetworkLink, name: &str) -> bool {
    link.group == GROUP
        && link
            .alias
            .as_ref()
            .is_none_or(|found| *found == alias(name))
}

fn make_pair(host: &LinkSocket, name: &str, pid: Pid, bridge: Option<u32>) -> Result<(), Error> {
    let peer = peer_name(name);
    // It may belong to an earlier container of this name. The kernel removes the interfaces of a network namespace some
    // time after the last process in it has ended.
    if let Some(link) = host.find(&peer).doing(|| peer.clone())? {
        if !is_of(&link, name) {
            return Err(Error::Taken(peer));
        }
        gone_is_well(host.remove(link.index)).doing(|| format!("removing {peer}"))?;
    }
    host.add_pair(&peer, INSIDE, pid, bridge)
        .doing(|| format!("making {peer}"))?;
    host.set_alias(&peer, &alias(name))
        .doing(|| format!("naming {peer}"))
}

/// Tells whether a bridge may have this name: at most 15 letters, digits, `-`, `_` and `.`.
pub fn is_bridge_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let fits = (1..=LONGEST_NAME).contains(&name.len());
    fits && name.chars().all(allowed) && ![".", ".."].contains(&name)
}

fn make_bridge(host: &LinkSocket, name: &str) -> Result<NetworkLink, Error> {
    if !is_bridge_name(name) {
        return Err(Error::Name(name.to_owned()));
    }
    let doing = || format!("making the bridge {name}");
    if host.find(name).doing(doing)?.is_none() {
        host.add_bridge(name).doing(doing)?;
    }
    match host.find(name).doing(doing)? {
        Some(link) if link.kind == LinkKind::Bridge => Ok(link),
        _ => Err(Error::NoBridge(name.to_owned())),
    }
}

fn addresses(host: &LinkSocket, bridge: &NetworkLink) -> Result<Vec<Ipv4Addr>, Error> {
    host.addresses(bridge.index)
        .doing(|| format!("the addresses of {}", bridge.name))
}

fn same_net(one: Ipv4Addr, other: Ipv4Addr, length: u8) -> bool {
    let mask = u32::MAX
        .checked_shl(32 - u32::from(length.min(32)))
        .unwrap_or(0);
    one.to_bits() & mask == other.to_bits() & mask
}

/// Opens a socket in the container's network namespace. The socket stays in that namespace, although this thread
/// returns to its own.
fn enter(host: &LinkSocket, pidfd: BorrowedFd<'_>) -> Result<LinkSocket, Error> {
    let back = agent_sys::interface::namespace_of(host.as_fd())
        .doing(|| "the host's namespace".to_owned())?;
    let go = |to| {
        move_into_thread_name_spaces(to, ThreadNameSpaceType::NETWORK).map_err(io::Error::from)
    };
    go(pidfd).doing(|| "entering the container's namespace".to_owned())?;
    let inside = LinkSocket::open();
    go(back.as_fd()).doing(|| "leaving the container's namespace".to_owned())?;
    inside.doing(|| "a netlink socket in the container".to_owned())
}

fn gone_is_well(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_have_names_that_fit_and_differ() {
        assert_eq!(peer_name("web"), "ag-web");
        assert_eq!(peer_name("twelve-chars"), "ag-twelve-chars");
        let (one, other) = (peer_name("thirteen-chars-1"), peer_name("thirteen-chars-2"));
        assert_ne!(one, other);
        assert!(
            one.starts_with("ag-thir") && one.len() == LONGEST_NAME,
            "{one}"
        );
    }

    #[test]
    fn nets_are_compared_by_their_prefix() {
        let [one, other] = [Ipv4Addr::new(10, 0, 3, 1), Ipv4Addr::new(10, 0, 4, 1)];
        assert!(same_net(one, other, 16));
        assert!(!same_net(one, other, 24));
        assert!(same_net(one, other, 0));
        assert!(same_net(one, one, 32));
    }

    #[test]
    fn only_the_containers_own_interface_is_its() {
        let link = |group, alias: Option<&str>| NetworkLink {
            index: 1,
            name: "ag-web".to_owned(),
            kind: LinkKind::Pair,
            group,
            alias: alias.map(str::to_owned),
        };
        assert!(is_of(&link(GROUP, None), "web"));
        assert!(is_of(&link(GROUP, Some("agent run web")), "web"));
        assert!(!is_of(&link(GROUP, Some("agent run other")), "web"));
        assert!(!is_of(&link(0, None), "web"));
    }
}

//! What the kernel tells only a task in a process's namespaces: its host name, and its interfaces with their addresses.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::thread;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::Serialize;

use super::Error;
use super::network::INTERFACES_AT_MOST;
use super::process::Process;

/// The most addresses of one interface that are returned.
const ADDRESSES_AT_MOST: usize = 16;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AddressedInterface {
    pub name: String,
    pub is_up: bool,
    /// As `ADDRESS/LENGTH`.
    pub addresses: Vec<String>,
}

/// Returns the host name in the process's uts namespace.
///
/// # Errors
/// The process is gone, or this process may not join its namespace.
pub fn host_name(root: &Path, process: &Process) -> Result<String, Error> {
    let name = || {
        let uname = rustix::system::uname();
        Ok(uname.nodename().to_string_lossy().into_owned())
    };
    let kind = LinkNameSpaceType::HostNameAndNISDomainName;
    within(root, process, "uts", kind, name)
}

/// Returns the interfaces of the process's network namespace, at most [`INTERFACES_AT_MOST`].
///
/// # Errors
/// As of [`host_name`]; the kernel does not list the interfaces.
pub fn interfaces(root: &Path, process: &Process) -> Result<Vec<AddressedInterface>, Error> {
    let list = || -> io::Result<_> { Ok(by_name(getifaddrs()?)) };
    within(root, process, "net", LinkNameSpaceType::Network, list)
}

/// Calls `ask` in a namespace of the process. Another namespace than that of this process takes a thread that joins it
/// and then ends.
fn within<T: Send>(
    root: &Path,
    process: &Process,
    name: &str,
    kind: LinkNameSpaceType,
    ask: impl FnOnce() -> io::Result<T> + Send,
) -> Result<T, Error> {
    let path = process.path(&format!("ns/{name}"));
    let failed = |source| Error::new(path.clone(), source);
    let own = Process::new(root, std::process::id()).namespace(name);
    if own.is_ok_and(|own| process.namespace(name).is_ok_and(|it| it == own)) {
        return ask().map_err(failed);
    }
    let namespace = File::open(&path).map_err(failed)?;
    let joined = || -> io::Result<T> {
        move_into_link_name_space(namespace.as_fd(), Some(kind))?;
        ask()
    };
    let answer = thread::scope(|scope| -> io::Result<T> {
        let thread = thread::Builder::new().spawn_scoped(scope, joined)?;
        let ended = thread.join();
        ended.unwrap_or_else(|_| Err(io::Error::other("the thread in it panicked")))
    });
    answer.map_err(failed)
}

/// Joins the entries of each interface. The kernel lists one for each address, and one for each interface itself.
fn by_name(entries: impl Iterator<Item = InterfaceAddress>) -> Vec<AddressedInterface> {
    let mut all: Vec<AddressedInterface> = Vec::new();
    for entry in entries {
        let name = &entry.interface_name;
        let at = all.iter().position(|it| it.name == *name);
        let at = at.unwrap_or_else(|| {
            all.push(AddressedInterface {
                name: name.clone(),
                is_up: entry.flags.contains(InterfaceFlags::IFF_UP),
                addresses: Vec::new(),
            });
            all.len() - 1
        });
        if let Some(address) = address(&entry)
            && let Some(interface) = all.get_mut(at)
            && interface.addresses.len() < ADDRESSES_AT_MOST
        {
            interface.addresses.push(address);
        }
        if all.len() > INTERFACES_AT_MOST {
            all.pop();
        }
    }
    all
}

/// Formats an address of IPv4 or IPv6 with the length of its network's prefix.
fn address(entry: &InterfaceAddress) -> Option<String> {
    let address = ip(entry.address.as_ref()?)?;
    let length = match entry.netmask.as_ref().and_then(ip) {
        Some(IpAddr::V4(mask)) => mask.to_bits().count_ones(),
        Some(IpAddr::V6(mask)) => mask.to_bits().count_ones(),
        None => return Some(address.to_string()),
    };
    Some(format!("{address}/{length}"))
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|it| it.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|it| it.ip().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_inside() {
        let own = Process::new(Path::new("/"), std::process::id());
        let name = host_name(Path::new("/"), &own).unwrap();
        assert_eq!(name, rustix::system::uname().nodename().to_string_lossy());
        let all = interfaces(Path::new("/"), &own).unwrap();
        let lo = all.iter().find(|it| it.name == "lo").unwrap();
        assert!(
            !lo.is_up || lo.addresses.contains(&"127.0.0.1/8".to_owned()),
            "{lo:?}"
        );
    }

    #[test]
    fn a_process_that_is_gone_has_none() {
        let nobody = Process::new(Path::new("/"), u32::MAX);
        let error = interfaces(Path::new("/"), &nobody).unwrap_err();
        assert!(matches!(error, Error::Gone { .. }), "{error}");
    }
}

//! Steps that write kernel settings below `/proc/sys`. Settings of interfaces are written after the launcher has
//! connected the network.

use std::ffi::CStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{OFlags, PROC_SUPER_MAGIC};
use rustix::io::Errno;

use super::hide::is_of;
use super::{Child, Done, On as _};
use crate::launch::place::{LinkPolicy, Within};

/// The directories that have a directory for each interface, besides `all` and `default`.
const INTERFACES: [&CStr; INTERFACES_COUNT] = [
    c"sys/net/ipv4/conf",
    c"sys/net/ipv4/neigh",
    c"sys/net/ipv6/conf",
    c"sys/net/ipv6/neigh",
    c"sys/net/mpls/conf",
];

pub(super) const INTERFACES_COUNT: usize = 5;

/// Returns the index of the directory of interfaces that a setting is in, and the path of the setting below it.
fn of_interface(path: &CStr) -> Option<(usize, &CStr)> {
    INTERFACES.iter().enumerate().find_map(|(number, place)| {
        let rest = path.to_bytes_with_nul().strip_prefix(place.to_bytes())?;
        let rest = rest.strip_prefix(b"/")?;
        Some((number, CStr::from_bytes_with_nul(rest).ok()?))
    })
}

/// Writes all settings except those of interfaces. Opens the directories of interfaces, because read-only mounts cover
/// them later.
pub(super) fn early<'a>(child: &mut Child<'a>) -> Done<'a> {
    for (path, value) in &child.container()?.sysctl {
        let proc = child.proc.as_ref().ok_or(Errno::NOENT).on(path)?;
        let Some((number, _)) = of_interface(path) else {
            write(child, proc.as_fd(), path, value).on(path)?;
            continue;
        };
        if child.interfaces[number].is_none() {
            let opened = open(child, proc.as_fd(), INTERFACES[number], OFlags::PATH);
            child.interfaces[number] = Some(opened.on(path)?);
        }
    }
    Ok(())
}

/// Writes the settings of interfaces.
pub(super) fn late<'a>(child: &mut Child<'a>) -> Done<'a> {
    for (path, value) in &child.container()?.sysctl {
        if let Some((number, rest)) = of_interface(path) {
            let directory = child.interfaces[number].as_ref();
            let directory = directory.ok_or(Errno::NOENT).on(path)?;
            write(child, directory.as_fd(), rest, value).on(path)?;
        }
    }
    Ok(())
}

fn write(
    child: &Child<'_>,
    directory: BorrowedFd<'_>,
    path: &CStr,
    value: &CStr,
) -> Result<(), Errno> {
    // A volume may have a FIFO in place of the setting, which no process reads.
    let file = open(child, directory, path, OFlags::WRONLY | OFlags::NONBLOCK)?;
    rustix::io::write(&file, value.to_bytes()).map(drop)
}

/// Opens a path below a directory of `/proc`, and checks that it is on a `/proc`.
fn open(
    child: &Child<'_>,
    directory: BorrowedFd<'_>,
    path: &CStr,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let within = Within::new(directory, child.own.as_ref());
    let file = within.open_for(path, LinkPolicy::Refuse, flags)?;
    is_of(file.as_fd(), PROC_SUPER_MAGIC as u64)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_settings_are_of_interfaces() {
        for (path, wanted) in [
            (
                c"sys/net/ipv4/conf/eth0/forwarding",
                Some((0, c"eth0/forwarding")),
            ),
            (
                c"sys/net/ipv6/neigh/eth0.5/ucast_solicit",
                Some((3, c"eth0.5/ucast_solicit")),
            ),
            (
                c"sys/net/ipv4/conf/default/rp_filter",
                Some((0, c"default/rp_filter")),
            ),
            (c"sys/net/ipv4/ip_forward", None),
            (c"sys/net/ipv4/confx/eth0/forwarding", None),
            (c"sys/net/core/somaxconn", None),
            (c"sys/kernel/shmmax", None),
        ] {
            assert_eq!(of_interface(path), wanted, "{path:?}");
        }
    }
}

//! Looks up what flags name on the host (containers, devices, ids) and what this process may do.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use agent_host::devices::{DeviceNode, block_device, nodes};
use agent_host::pinned::Pinned;
use agent_host::regular::{self, Links};
use agent_host::subordinate::{SubordinateRange, of_user};
use agent_host::system;
use caps::{CapSet, Capability};
use rustix::process::{Uid, geteuid, getrlimit};

use super::bundle::Bundle;
use super::flags::{Flags, Limits, Security};
use super::here::Here;
use super::value::{DeviceMap, IdMap, NamespaceShare, Net, ULIMITS, UserChoice};
use super::{Error, SpecFacts, name};
use crate::state;

/// Looks up what `flags` name. `container` returns the init process of the container with this name, or why there is
/// none.
///
/// # Errors
/// The container's name is not valid, or the bundle cannot be read.
pub fn look(
    flags: &Flags,
    container: impl Fn(&str) -> Result<Pinned, String>,
) -> Result<SpecFacts, Error> {
    let name = flags.manner.name.clone().unwrap_or_else(name::by_chance);
    if !state::is_name(&name) || name.starts_with("lxc.") {
        let wanted = "wanted: at most 63 letters, digits, _, . and -, beginning with a letter or digit, and not lxc.";
        return Err(Error::flag("--name", &name, wanted));
    }
    let here = Here::look();
    let bundle = flags.root.bundle.as_deref();
    let bundle = bundle.map(|path| Bundle::read(&here.absolute("--bundle", path)?));
    let named = shared(flags).into_iter();
    let containers = named.map(|name| (name.to_owned(), container(name)));
    Ok(SpecFacts {
        name,
        device_nodes: device_nodes(&flags.security),
        env_files: env_files(&flags.process.env_file, &here)?,
        here,
        variables: variables(),
        containers: containers.collect::<BTreeMap<_, _>>(),
        devices: devices(&flags.limits),
        hard_limits: hard_limits(),
        subordinate: if flags.namespaces.userns == Some(UserChoice::Auto) {
            subordinate(Path::new("/etc"), geteuid())
        } else {
            Err(String::new())
        },
        capabilities: capabilities(),
        cpus: flags.limits.cpus.and_then(|_| system::cpus(Path::new("/"))),
        rootless: !geteuid().is_root(),
        bundle: bundle.transpose()?,
    })
}

/// Returns the names of the containers whose namespaces are to be shared.
fn shared(flags: &Flags) -> HashSet<&str> {
    let asked = &flags.namespaces;
    let net = match &flags.network.net {
        Net::Share(share) => Some(share),
        Net::None | Net::Veth => None,
    };
    let user = match &asked.userns {
        Some(UserChoice::Share(share)) => Some(share),
        Some(UserChoice::Auto) | None => None,
    };
    let always = [&asked.pid, &asked.ipc, &asked.uts, &asked.cgroupns];
    let all = always.into_iter().chain(net).chain(user).chain(&asked.time);
    let names = all.filter_map(|share| match share {
        NamespaceShare::Container(name) => Some(&**name),
        NamespaceShare::Private | NamespaceShare::Host | NamespaceShare::Path(_) => None,
    });
    names.collect()
}

fn variables() -> HashMap<String, String> {
    let texts = std::env::vars_os();
    let texts = texts
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    texts.collect()
}

/// Returns the major and minor numbers of the block devices that limits name, by path.
pub(super) fn devices(limits: &Limits) -> HashMap<String, (u32, u32)> {
    let sizes = limits
        .device_read_bps
        .iter()
        .chain(&limits.device_write_bps);
    let numbers = limits
        .device_read_iops
        .iter()
        .chain(&limits.device_write_iops);
    let paths = sizes.map(|it| &it.path).chain(numbers.map(|it| &it.path));
    let device = |path: &String| Some((path.clone(), block_device(Path::new(path))?));
    paths.filter_map(device).collect()
}

/// Returns the device nodes at each path that flags give.
fn device_nodes(asked: &Security) -> HashMap<PathBuf, Result<Vec<DeviceNode>, String>> {
    let all = asked.privileged.then(DeviceMap::all);
    let sources = all.iter().chain(&asked.device).map(|map| &map.source);
    let found = sources.map(|path| (path.clone(), nodes(path).map_err(|it| it.to_string())));
    found.collect()
}

/// Reads the files of variables: the path and the text of each.
fn env_files(paths: &[PathBuf], here: &Here) -> Result<Vec<(String, String)>, Error> {
    let read = |path: &PathBuf| {
        let bytes = regular::read(
            &here.absolute("--env-file", path)?,
            Links::Followed,
            state::LARGEST,
        );
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other));
        let text = text.map_err(|source| Error::Open {
            path: path.clone(),
            source,
        })?;
        Ok((path.display().to_string(), text))
    };
    paths.iter().map(read).collect()
}

fn hard_limits() -> HashMap<&'static str, u64> {
    let limits = ULIMITS.iter().filter_map(|(name, _, resource)| {
        let resource = (*resource)?;
        Some((*name, getrlimit(resource).maximum.unwrap_or(u64::MAX)))
    });
    limits.collect()
}

/// Returns the capabilities that this process can give: those in both its permitted and its bounding set. An ordinary
/// user can give all, because the container is in a user namespace of that user's.
fn capabilities() -> HashSet<Capability> {
    if !geteuid().is_root() {
        return caps::all();
    }
    let set = |set| caps::read(None, set).unwrap_or_default();
    let bounding = set(CapSet::Bounding);
    set(CapSet::Permitted)
        .intersection(&bounding)
        .copied()
        .collect()
}

/// Returns the user ids and group ids that subuid(5) and subgid(5) give a user. The container's ids start at 0.
fn subordinate(etc: &Path, user: Uid) -> Result<(Vec<IdMap>, Vec<IdMap>), String> {
    let ranges = |file: &str| {
        let (login, ranges) = of_user(etc, file, user.as_raw());
        let ranges = in_a_row(&ranges);
        if ranges.is_empty() {
            let path = etc.join(file).display().to_string();
            let login = login.unwrap_or_else(|| user.to_string());
            return Err(format!(
                "{path} gives {login} no ids; add a line, as in {login}:100000:65536"
            ));
        }
        Ok(ranges)
    };
    Ok((ranges("subuid")?, ranges("subgid")?))
}

/// Maps the container's ids, from 0 on, to these ranges in their order.
fn in_a_row(ranges: &[SubordinateRange]) -> Vec<IdMap> {
    let mut inside = 0_u32;
    let ranges = ranges.iter().map_while(|range| {
        let begin = inside;
        inside = inside.checked_add(range.count)?;
        Some(IdMap {
            inside: begin,
            outside: range.first,
            count: range.count,
        })
    });
    ranges.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ids() {
        let directory = tempfile::tempdir().unwrap();
        let write =
            |file: &str, text: &str| std::fs::write(directory.path().join(file), text).unwrap();
        write("passwd", "root:x:0:0::/root:\nweb:x:33:33::/:\n");
        write(
            "subuid",
            "other:1:1\nweb:100000:65536\n33:300000:10\nweb:x:1\nweb:4294967295:9\n",
        );
        write("subgid", "root:100000:65536\n");
        let range = |inside, outside, count| IdMap {
            inside,
            outside,
            count,
        };
        assert_eq!(
            in_a_row(&of_user(directory.path(), "subuid", 33).1),
            [range(0, 100_000, 65_536), range(65_536, 300_000, 10)]
        );
        let reason = subordinate(directory.path(), Uid::from_raw(33)).unwrap_err();
        assert!(
            reason.contains("subgid") && reason.contains("web:100000:65536"),
            "{reason}"
        );
    }
}

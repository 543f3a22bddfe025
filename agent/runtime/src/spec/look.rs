//! What flags name on the host: containers, devices, ids, and what this process itself has.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use agent_host::devices::block_device;
use agent_host::pinned::Pinned;
use agent_host::system;
use caps::{CapSet, Capability};
use rustix::process::{Uid, geteuid, getrlimit};

use super::bundle::Bundle;
use super::flags::{Flags, Limits};
use super::here::Here;
use super::namespaces::{Net, Share, UserChoice};
use super::security::ULIMITS;
use super::value::IdRange;
use super::{Error, Found, name};
use crate::state;

/// Looks up what `flags` name. `container` gives the first process of a container by its name, or why there is none.
///
/// # Errors
/// A bundle cannot be read, or a name is none.
pub fn look(
    flags: &Flags,
    container: impl Fn(&str) -> Result<Pinned, String>,
) -> Result<Found, Error> {
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
    Ok(Found {
        name,
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

/// Names of containers whose namespaces are to be shared.
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
        Share::Container(name) => Some(&**name),
        Share::Private | Share::Host | Share::Path(_) => None,
    });
    names.collect()
}

fn variables() -> HashMap<String, String> {
    let texts = std::env::vars_os();
    let texts = texts
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    texts.collect()
}

/// Numbers of the block devices that limits name.
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

fn hard_limits() -> HashMap<&'static str, u64> {
    let limits = ULIMITS.iter().filter_map(|(name, _, resource)| {
        let resource = (*resource)?;
        Some((*name, getrlimit(resource).maximum.unwrap_or(u64::MAX)))
    });
    limits.collect()
}

/// What this process can give: what it has and may keep. An ordinary user's is all that the user namespace has.
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

/// The ids that files like /etc/subuid give a user (subuid(5)), from 0 on inside.
fn subordinate(directory: &Path, user: Uid) -> Result<(Vec<IdRange>, Vec<IdRange>), String> {
    let accounts = std::fs::read_to_string(directory.join("passwd")).unwrap_or_default();
    let of_user = |line: &&str| line.split(':').nth(2) == Some(&user.as_raw().to_string());
    let name = accounts
        .lines()
        .find(of_user)
        .and_then(|it| it.split(':').next());
    let name = name.map_or_else(|| user.as_raw().to_string(), str::to_owned);
    let ranges = |file: &str| {
        let path = directory.join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let ranges = ranges_of(&text, &[&name, &user.as_raw().to_string()]);
        if ranges.is_empty() {
            let path = path.display();
            return Err(format!(
                "{path} gives {name} no ids; add a line, as in {name}:100000:65536"
            ));
        }
        Ok(ranges)
    };
    Ok((ranges("subuid")?, ranges("subgid")?))
}

fn ranges_of(text: &str, users: &[&str]) -> Vec<IdRange> {
    let mut inside = 0_u32;
    let mut ranges = Vec::new();
    for line in text.lines() {
        let mut parts = line.trim().split(':');
        let (user, outside, count) = (parts.next(), parts.next(), parts.next());
        let number = |part: Option<&str>| part.and_then(|it| it.parse::<u32>().ok());
        if let (Some(user), Some(outside), Some(count)) = (user, number(outside), number(count))
            && users.contains(&user)
            && count > 0
            && outside.checked_add(count).is_some()
            && let Some(next) = inside.checked_add(count)
        {
            ranges.push(IdRange {
                inside,
                outside,
                count,
            });
            inside = next;
        }
    }
    ranges
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
        let range = |inside, outside, count| IdRange {
            inside,
            outside,
            count,
        };
        assert_eq!(
            ranges_of(
                &std::fs::read_to_string(directory.path().join("subuid")).unwrap(),
                &["web", "33"]
            ),
            [range(0, 100_000, 65_536), range(65_536, 300_000, 10)]
        );
        let reason = subordinate(directory.path(), Uid::from_raw(33)).unwrap_err();
        assert!(
            reason.contains("subgid") && reason.contains("web:100000:65536"),
            "{reason}"
        );
    }
}

//! The limits that bind a process.

use agent_host::Error;
use agent_host::hierarchy::Hierarchies;
use agent_host::membership::Membership;
use agent_model::limit::{Bound, Bounds, Device, Held, Kind, Link, Unknown};
use agent_model::text::error_line;

use super::{Limits, Seat};
use crate::limit::chain::{Chain, Missing};

/// Reads the limits that bind the process with this membership now. A kind whose files cannot be read is in
/// [`Bounds::unknown`].
pub fn bounds(hierarchies: &Hierarchies, membership: &Membership) -> Bounds {
    let limits = Limits {
        hierarchies,
        membership,
    };
    let mut bounds = Bounds::default();
    for kind in Kind::ALL.into_iter().filter(|kind| kind.binds()) {
        if let Err(why) = add(&limits, kind, &mut bounds.known) {
            bounds.unknown.push(Unknown { kind, why });
        }
    }
    bounds
}

fn add(limits: &Limits<'_>, kind: Kind, bounds: &mut Vec<Bound>) -> Result<(), String> {
    let unreadable = |error: Error| error_line(&error);
    match limits.place(kind) {
        Err((_, Missing::NoController { .. })) => return Ok(()),
        Err((_, missing)) => return Err(missing.to_string()),
        Ok(place) => shown(limits, &place)?,
    }
    let devices: Vec<Option<Device>> = match kind.is_rate() {
        false => vec![None],
        true => {
            let devices = limits.known_devices(kind).map_err(unreadable)?;
            devices.into_iter().map(Some).collect()
        }
    };
    for device in devices {
        let chain = limits.chain(kind, device).map_err(unreadable)?;
        bounds.extend(tightest(&chain).map(|link| Bound {
            kind,
            device,
            version: chain.version,
            link,
        }));
    }
    Ok(())
}

/// Checks that the cgroup's directory exists.
///
/// # Errors
/// No mount shows the cgroup, or the cgroup does not exist any more.
fn shown(limits: &Limits<'_>, place: &Seat<'_>) -> Result<(), String> {
    let directory = limits.hierarchies.directory(place.mounted, place.path);
    match directory.filter(|directory| directory.path.is_dir()) {
        Some(_) => Ok(()),
        None => {
            let mount = place.mounted.mount.display();
            Err(format!("{mount} does not show the cgroup {}", place.path))
        }
    }
}

/// Returns the effective limit. A set that is equal to that of the root cgroup is no limit.
fn tightest(chain: &Chain) -> Option<Link> {
    let mut links = chain.own.iter().chain(&chain.above);
    let root = links.find(|link| link.cgroup == "/");
    let whole = |link: &Link| {
        let set = matches!(link.held, Held::Numbers(_));
        set && root.is_some_and(|root| root.held.is_same(&link.held))
    };
    chain.effective().filter(|link| !whole(link))
}

#[cfg(test)]
mod tests {
    use agent_host::fixture::tree;

    use super::*;

    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";

    fn read(files: &[(&str, &str)], path: &str) -> Bounds {
        let mut all = vec![
            ("proc/self/mountinfo", V2),
            ("proc/self/cgroup", "0::/\n"),
            (
                "sys/fs/cgroup/cgroup.controllers",
                "cpu io memory pids cpuset\n",
            ),
        ];
        let named = files
            .iter()
            .map(|(path, text)| (format!("sys/fs/cgroup/{path}"), *text));
        let named: Vec<_> = named.collect();
        all.extend(named.iter().map(|(path, text)| (&**path, *text)));
        let root = tree(&all);
        let hierarchies = Hierarchies::discover(root.path()).unwrap();
        let membership = [(0, path.to_owned())].into_iter().collect();
        bounds(&hierarchies, &membership)
    }

    #[test]
    fn the_tightest_of_each_kind_and_device() {
        let found = read(
            &[
                ("cpuset.cpus.effective", "0-1\n"),
                ("u/cpuset.cpus.effective", "0-1\n"),
                ("u/memory.max", "40\n"),
                ("u/pids.max", "100\n"),
                ("u/s/memory.max", "50\n"),
                ("u/s/pids.max", "20\n"),
                ("u/s/cpu.weight", "7\n"),
                ("u/s/io.max", "8:0 rbps=max wbps=7 riops=max wiops=max\n"),
                ("u/s/cpuset.cpus", "0-1\n"),
            ],
            "/u/s",
        );
        let words: Vec<_> = found.known.iter().map(Bound::words).collect();
        assert_eq!(
            words,
            [
                "memory 40B of /u",
                "pids-limit 20 tasks of /u/s",
                "device-write-bps of 8:0 7B/s of /u/s",
            ]
        );
        assert_eq!(found.unknown, []);
        let text = serde_json::to_string(&found).unwrap();
        assert_eq!(serde_json::from_str::<Bounds>(&text).unwrap(), found);
        let one = read(
            &[
                ("cpuset.cpus.effective", "0-1\n"),
                ("u/cpuset.cpus.effective", "1\n"),
                ("u/s/cpuset.cpus", "\n"),
            ],
            "/u/s",
        );
        assert_eq!(one.known[0].words(), "cpuset-cpus 1 of /u");
    }

    #[test]
    fn what_cannot_be_read_is_unknown() {
        let kinds = |found: Bounds| -> Vec<Kind> {
            assert_eq!(found.known, []);
            found.unknown.into_iter().map(|it| it.kind).collect()
        };
        let odd = [("u/memory.max", "many\n"), ("u/s/memory.max", "max\n")];
        assert_eq!(kinds(read(&odd, "/u/s")), [Kind::Memory]);
        // No mount shows the cgroup, or the cgroup does not exist any more.
        let all = Kind::ALL.into_iter().filter(|kind| kind.binds());
        let all: Vec<Kind> = all.collect();
        assert_eq!(kinds(read(&[], "/u/s")), all);
    }
}

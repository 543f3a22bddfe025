//! The limits that hold for a cgroup: each one's own files, and those of the cgroups above.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::host::Error;
use crate::host::cgroup::Directory;
use crate::host::hierarchy::{Hierarchies, Mounted, Version};
use crate::host::membership::Membership;
use crate::host::path::with_parents;
use crate::limit::chain::{Chain, Link, Missing};
use crate::limit::{Device, File, Form, Held, Kind, TABLE};

/// Reads limits; each time anew.
#[derive(Clone, Copy, Debug)]
pub struct Limits<'a> {
    pub hierarchies: &'a Hierarchies,
    pub membership: &'a Membership,
}

/// The hierarchy that has a limit's controller, and the cgroup's path in it.
struct Place<'a> {
    mounted: &'a Mounted,
    path: &'a str,
}

impl<'a> Limits<'a> {
    /// The chain of a limit; of a rate, on `device`.
    ///
    /// # Errors
    /// A file that is there cannot be read, or says what no kernel says. [`Error::Gone`] where the cgroup is.
    pub fn chain(&self, kind: Kind, device: Option<Device>) -> Result<Chain, Error> {
        let place = match self.place(kind) {
            Ok(place) => place,
            Err((version, missing)) => {
                return Ok(Chain {
                    kind,
                    version,
                    device,
                    own: Err(missing),
                    above: Vec::new(),
                });
            }
        };
        let version = place.mounted.version;
        let own = self.own(&place, kind, device)?;
        let above = if kind.is_inherited(version) {
            self.above(&place, kind, device)?
        } else {
            Vec::new()
        };
        let mut chain = Chain {
            kind,
            version,
            device,
            own,
            above,
        };
        let seen = chain.effective().map(|link| link.held);
        let told = self.told_by_the_kernel(&place, kind)?;
        chain
            .above
            .extend(told.filter(|told| told.is_tighter_than(seen.as_ref())));
        Ok(chain)
    }

    /// All limits that there can be: of a rate, one on each device that it is limited on.
    pub fn all(&self) -> Vec<(Kind, Option<Device>)> {
        let of_kind = |kind: Kind| {
            if !kind.is_rate() {
                return vec![(kind, None)];
            }
            let devices = self.devices(kind).into_iter();
            devices.map(|device| (kind, Some(device))).collect()
        };
        TABLE.iter().flat_map(|row| of_kind(row.kind)).collect()
    }

    /// The devices that a rate can be limited on: those with rows in the files of the cgroup, or of one above that
    /// binds it.
    fn devices(&self, kind: Kind) -> BTreeSet<Device> {
        let Ok(place) = self.place(kind) else {
            return BTreeSet::new();
        };
        let version = place.mounted.version;
        let bound_by = if kind.is_inherited(version) {
            usize::MAX
        } else {
            1
        };
        let directories = with_parents(place.path)
            .take(bound_by)
            .filter_map(|path| self.hierarchies.directory(place.mounted, &path));
        let of = |directory: Directory| {
            let files = kind.files(version).iter();
            files.flat_map(move |file| {
                // What cannot be read is told where the limit is.
                let text = directory.text(file.name).unwrap_or_default();
                file.form.devices(&text)
            })
        };
        directories.flat_map(of).collect()
    }

    /// The cgroup's directory in the hierarchy that has the controller of `kind`, where both are there.
    pub fn directory(&self, kind: Kind) -> Option<Directory> {
        let place = self.place(kind).ok()?;
        self.hierarchies.directory(place.mounted, place.path)
    }

    fn place(&self, kind: Kind) -> Result<Place<'a>, (Version, Missing)> {
        let controller = &kind.row().controller;
        let of = |version, name| {
            let found = self.hierarchies.of_controller(name);
            found.filter(|mounted| mounted.version == version)
        };
        let v1 = of(Version::V1, controller.v1);
        let Some(mounted) = v1.or_else(|| of(Version::V2, controller.v2)) else {
            let controller = controller.v2.to_owned();
            return Err((Version::V2, Missing::NoController { controller }));
        };
        match self.membership.path(mounted) {
            Some(path) => Ok(Place { mounted, path }),
            None => {
                let controller = controller.v2.to_owned();
                Err((mounted.version, Missing::NoCgroup { controller }))
            }
        }
    }

    fn own(
        &self,
        place: &Place<'_>,
        kind: Kind,
        device: Option<Device>,
    ) -> Result<Result<Link, Missing>, Error> {
        let files = kind.files(place.mounted.version);
        let Some(directory) = self.hierarchies.directory(place.mounted, place.path) else {
            let controller = kind.row().controller.v2.to_owned();
            return Ok(Err(Missing::NoCgroup { controller }));
        };
        match link(&directory, place.path, files, device)? {
            Some(link) => Ok(Ok(link)),
            None if !directory.path.is_dir() => Err(Error::Gone {
                path: directory.path,
            }),
            None => Ok(Err(self.missing(place, kind, files))),
        }
    }

    fn missing(&self, place: &Place<'_>, kind: Kind, files: &[File]) -> Missing {
        const PASSED_ON: &str = "cgroup.subtree_control";
        let controller = kind.row().controller.v2;
        let without = |path: &str| -> Option<PathBuf> {
            let directory = self.hierarchies.directory(place.mounted, path)?;
            let passed = directory.text(PASSED_ON).unwrap_or_default();
            let has = passed.split_whitespace().any(|name| name == controller);
            (!has).then(|| directory.path.join(PASSED_ON))
        };
        if place.mounted.version == Version::V2
            && let Some(file) = with_parents(place.path)
                .skip(1)
                .filter_map(|path| without(&path))
                .last()
        {
            let controller = controller.to_owned();
            return Missing::NotEnabled { controller, file };
        }
        let file = files.last().map_or(kind.flag(), |file| file.name);
        Missing::NoFile {
            file: file.to_owned(),
        }
    }

    /// The same limit of the cgroups above, as far as it binds those below.
    fn above(
        &self,
        place: &Place<'_>,
        kind: Kind,
        device: Option<Device>,
    ) -> Result<Vec<Link>, Error> {
        let files = above_files(kind, place.mounted.version);
        let mut links = Vec::new();
        for path in with_parents(place.path).skip(1) {
            let Some(directory) = self.hierarchies.directory(place.mounted, &path) else {
                // The mount shows the hierarchy from further below on.
                break;
            };
            if is_apart(&directory, kind) {
                break;
            }
            links.extend(link(&directory, &path, &files, device)?);
        }
        Ok(links)
    }

    /// v1's kernel says which limit of memory holds in the end. A limit that is out of sight is counted to the nearest
    /// cgroup that is.
    fn told_by_the_kernel(&self, place: &Place<'_>, kind: Kind) -> Result<Option<Link>, Error> {
        let row = match (kind, place.mounted.version) {
            (Kind::Memory, Version::V1) => "hierarchical_memory_limit ",
            (Kind::MemorySwap, Version::V1) => "hierarchical_memsw_limit ",
            _ => return Ok(None),
        };
        let seen = |path: &str| self.hierarchies.directory(place.mounted, path);
        let Some(directory) = seen(place.path) else {
            return Ok(None);
        };
        let stat = match directory.text(STAT) {
            Err(Error::Gone { .. }) => return Ok(None),
            stat => stat?,
        };
        let Some(text) = stat.lines().find_map(|line| line.strip_prefix(row)) else {
            return Ok(None);
        };
        let Some(held) = Form::Bytes.read(text, None) else {
            return Err(directory.odd(STAT, text));
        };
        let hidden = with_parents(place.path).find(|path| seen(path).is_none());
        Ok(Some(Link {
            cgroup: hidden.map_or_else(|| ABOVE_ROOT.to_owned(), Cow::into_owned),
            file: directory.path.join(STAT),
            text: text.to_owned(),
            held,
        }))
    }
}

const STAT: &str = "memory.stat";

/// The cgroup above the hierarchy's root as it is seen here (cgroup_namespaces(7)).
const ABOVE_ROOT: &str = "/..";

/// Of sets what is really there binds those below, and not what was asked for.
fn above_files(kind: Kind, version: Version) -> Vec<File> {
    let files = kind.files(version);
    let in_effect = |name: &'static str| {
        vec![File {
            name,
            form: Form::Numbers,
        }]
    };
    match (kind, version) {
        (Kind::CpusetCpus, Version::V1) => in_effect("cpuset.effective_cpus"),
        (Kind::CpusetMems, Version::V1) => in_effect("cpuset.effective_mems"),
        (Kind::CpusetCpus, Version::V2) => in_effect("cpuset.cpus.effective"),
        (Kind::CpusetMems, Version::V2) => in_effect("cpuset.mems.effective"),
        _ => files.to_vec(),
    }
}

/// v1 before 5.11: memory of the cgroups below is not charged to this one unless it says so.
fn is_apart(directory: &Directory, kind: Kind) -> bool {
    let is_memory = kind.row().controller.v1 == "memory";
    is_memory
        && directory.version == Version::V1
        && directory
            .text("memory.use_hierarchy")
            .is_ok_and(|text| text == "0")
}

/// What the files of one cgroup hold; `None` where one is not there.
fn link(
    directory: &Directory,
    cgroup: &str,
    files: &[File],
    device: Option<Device>,
) -> Result<Option<Link>, Error> {
    let mut parts = Vec::new();
    // The kernel's order: the quota before its period.
    let mut texts = Vec::new();
    for file in files {
        let text = match directory.text(file.name) {
            Ok(text) => text,
            Err(Error::Gone { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(held) = file.form.read(&text, device) else {
            return Err(directory.odd(file.name, &text));
        };
        parts.push((file.form, held));
        texts.insert(0, text);
    }
    let Some(last) = files.last() else {
        return Ok(None);
    };
    let held = Held::of_parts(parts);
    Ok(held.map(|held| Link {
        cgroup: cgroup.to_owned(),
        file: directory.path.join(last.name),
        text: texts.join(" "),
        held,
    }))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::host::cgroup::Limit;
    use crate::host::fixture::{add, tree};

    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    const V1: &str = "\
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct
";

    fn host(mountinfo: &str, ids: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tree(&[
            ("proc/self/mountinfo", mountinfo),
            ("proc/self/cgroup", ids),
            ("sys/fs/cgroup/cgroup.controllers", "cpu memory cpuset\n"),
        ]);
        add(root.path(), files);
        root
    }

    fn read(root: &Path, path: &str, kind: Kind) -> Result<Chain, Error> {
        let hierarchies = Hierarchies::discover(root).unwrap();
        let membership = Membership::at(&hierarchies, path);
        let limits = Limits {
            hierarchies: &hierarchies,
            membership: &membership,
        };
        limits.chain(kind, None)
    }

    #[test]
    fn v2() {
        let root = host(
            V2,
            "0::/\n",
            &[
                ("sys/fs/cgroup/a/memory.max", "100\n"),
                ("sys/fs/cgroup/a/cgroup.subtree_control", "memory cpuset\n"),
                (
                    "sys/fs/cgroup/cgroup.subtree_control",
                    "memory cpu cpuset\n",
                ),
                ("sys/fs/cgroup/a/cpu.max", "max 100000\n"),
                ("sys/fs/cgroup/a/b/memory.max", "150\n"),
                ("sys/fs/cgroup/a/b/cpuset.cpus", "\n"),
                ("sys/fs/cgroup/a/cpuset.cpus.effective", "0-1\n"),
            ],
        );
        let chain = read(root.path(), "/a/b", Kind::Memory).unwrap();
        let own = chain.own.as_ref().unwrap();
        assert_eq!((&*own.cgroup, &*own.text), ("/a/b", "150"));
        let effective = chain.effective().unwrap();
        assert_eq!(effective.cgroup, "/a");
        assert_eq!(effective.held, Held::Amount(Limit::Value(100)));
        // Not passed on by /a.
        let chain = read(root.path(), "/a/b", Kind::CpuQuota).unwrap();
        let file = root.path().join("sys/fs/cgroup/a/cgroup.subtree_control");
        let controller = "cpu".to_owned();
        assert_eq!(chain.own, Err(Missing::NotEnabled { controller, file }));
        assert!(matches!(
            read(root.path(), "/a/b", Kind::Pids).unwrap().own,
            Err(Missing::NoController { .. })
        ));
        assert!(matches!(
            read(root.path(), "/a/b", Kind::MemorySwap).unwrap().own,
            Err(Missing::NoFile { .. })
        ));
        let cpus = read(root.path(), "/a/b", Kind::CpusetCpus).unwrap();
        assert_eq!(cpus.effective().unwrap().held.to_string(), "0-1");
    }

    #[test]
    fn v1() {
        let root = host(
            V1,
            "4:memory:/\n2:cpu,cpuacct:/\n",
            &[
                ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "100\n"),
                ("sys/fs/cgroup/memory/a/memory.use_hierarchy", "1\n"),
                (
                    "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
                    "9223372036854771712\n",
                ),
                ("sys/fs/cgroup/cpu/a/b/cpu.cfs_quota_us", "50000\n"),
                ("sys/fs/cgroup/cpu/a/b/cpu.cfs_period_us", "100000\n"),
            ],
        );
        let chain = read(root.path(), "/a/b", Kind::Memory).unwrap();
        assert_eq!(chain.effective().unwrap().cgroup, "/a");
        add(
            root.path(),
            &[("sys/fs/cgroup/memory/a/memory.use_hierarchy", "0\n")],
        );
        let chain = read(root.path(), "/a/b", Kind::Memory).unwrap();
        assert_eq!(chain.effective(), None);
        let quota = read(root.path(), "/a/b", Kind::CpuQuota).unwrap();
        assert_eq!(quota.own.unwrap().text, "50000 100000");
    }

    /// What the kernel says of `/a/b`, which has a limit of 100, through a mount of this root.
    fn told_by_v1(mounted: &str, limit: &str) -> Option<(String, String)> {
        let mountinfo = V1.replace("0:32 /", &format!("0:32 {mounted}"));
        let below = "/a/b".strip_prefix(mounted.trim_end_matches('/')).unwrap();
        let file = |name| format!("sys/fs/cgroup/memory{below}/{name}");
        let stat = format!("cache 0\nhierarchical_memory_limit {limit}\ntotal_cache 0\n");
        let files = [
            (&*file("memory.limit_in_bytes"), "100\n"),
            (&*file("memory.stat"), &*stat),
        ];
        let root = host(&mountinfo, "4:memory:/\n2:cpu,cpuacct:/\n", &files);
        let effective = read(root.path(), "/a/b", Kind::Memory).unwrap().effective();
        effective.map(|link| (link.cgroup, link.held.to_string()))
    }

    #[test]
    fn v1_tells_of_limits_that_are_out_of_sight() {
        for (mounted, limit, cgroup, wanted) in [
            ("/", "100", "/a/b", "100"),
            ("/", "70", "/..", "70"),
            ("/a/b", "70", "/a", "70"),
            ("/a/b", "9223372036854771712", "/a/b", "100"),
        ] {
            let found = told_by_v1(mounted, limit).unwrap();
            assert_eq!(found, (cgroup.to_owned(), wanted.to_owned()));
        }
    }

    #[test]
    fn devices_with_rows() {
        let root = host(
            V2,
            "0::/\n",
            &[
                ("sys/fs/cgroup/cgroup.controllers", "io\n"),
                ("sys/fs/cgroup/a/io.max", "8:16 rbps=1 wbps=max\n"),
                ("sys/fs/cgroup/a/b/io.max", "8:0 rbps=max wbps=5\nodd\n"),
            ],
        );
        let hierarchies = Hierarchies::discover(root.path()).unwrap();
        let membership = Membership::at(&hierarchies, "/a/b");
        let limits = Limits {
            hierarchies: &hierarchies,
            membership: &membership,
        };
        let [first, second] = [(8, 0), (8, 16)].map(|(major, minor)| Device { major, minor });
        assert_eq!(
            limits.devices(Kind::ReadBps),
            BTreeSet::from([first, second])
        );
        assert_eq!(limits.devices(Kind::Memory), BTreeSet::new());
        let chain = limits.chain(Kind::ReadBps, Some(second)).unwrap();
        assert_eq!(chain.effective().unwrap().cgroup, "/a");
    }

    #[test]
    fn what_is_gone_and_what_is_odd() {
        let odd = [("sys/fs/cgroup/a/memory.max", "many\n")];
        let root = host(V2, "0::/\n", &odd);
        let error = read(root.path(), "/a", Kind::Memory).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{error}");
        let hierarchies = Hierarchies::discover(root.path()).unwrap();
        let membership: Membership = [(0, "/b".to_owned())].into_iter().collect();
        let limits = Limits {
            hierarchies: &hierarchies,
            membership: &membership,
        };
        let error = limits.chain(Kind::Memory, None).unwrap_err();
        assert!(matches!(error, Error::Gone { .. }), "{error}");
    }
}

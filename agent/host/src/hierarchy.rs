//! The cgroup hierarchies of the host and where they are mounted: cgroups(7),
//! proc_pid_mountinfo(5).

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use agent_model::hierarchy::Version;

use super::cgroup::Directory;
use super::file::{File, number, words};
use super::mount::{Mount, Mounts};
use super::{Error, path};

/// Which versions of cgroups the host has mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    V1,
    V2,
    /// Both versions. Each controller is in one of them only.
    Hybrid,
}

/// A hierarchy, and one directory where it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// The kernel's `cgroup_root.hierarchy_id`; 0 is v2.
    pub id: u32,
    pub version: Version,
    /// On v1, the controllers that are bound to the hierarchy. On v2, those in `cgroup.controllers` of its root.
    pub controllers: Vec<String>,
    /// The name of a v1 hierarchy, such as `systemd` of `name=systemd`.
    pub name: Option<String>,
    /// The mount point, below the root path that the caller gave.
    pub mount: PathBuf,
    /// The path, in the hierarchy, of the cgroup that is mounted there: "/", unless no mount shows the whole hierarchy.
    pub root: String,
}

/// All mounted hierarchies, each once.
#[derive(Clone, Debug)]
pub struct Hierarchies {
    mounted: Vec<Mounted>,
    root: PathBuf,
}

impl Hierarchies {
    /// Finds the hierarchies in `/proc/self/mountinfo` and `/proc/self/cgroup`.
    ///
    /// # Errors
    /// [`Error::NoCgroups`] where none is mounted; otherwise those of reading these files.
    pub fn discover(root: &Path) -> Result<Self, Error> {
        let mountinfo = File::read(root.join("proc/self/mountinfo"))?;
        let mounts = Mounts::parse(&mountinfo)?;
        let ids = File::read(root.join("proc/self/cgroup"))?;
        let mut mounted = Vec::new();
        for line in ids.lines() {
            let (id, tags) = parse_hierarchy(&ids, line)?;
            let found = match tags.as_slice() {
                [] => mounts.find(b"cgroup2", &[]),
                tags => mounts.find(b"cgroup", tags),
            };
            if let Some(mount) = found {
                mounted.push(Mounted::new(root, id, &tags, mount)?);
            }
        }
        if mounted.is_empty() {
            let path = mountinfo.path;
            return Err(Error::NoCgroups { path });
        }
        let root = root.to_owned();
        Ok(Self { mounted, root })
    }

    /// The root path that the caller gave.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// All hierarchies, in the order of `/proc/self/cgroup`.
    pub fn all(&self) -> &[Mounted] {
        &self.mounted
    }

    /// The hierarchy with this id; 0 is v2.
    pub fn by_id(&self, id: u32) -> Option<&Mounted> {
        self.mounted.iter().find(|mounted| mounted.id == id)
    }

    pub fn layout(&self) -> Layout {
        let has = |version| self.mounted.iter().any(|m| m.version == version);
        match (has(Version::V1), has(Version::V2)) {
            (true, true) => Layout::Hybrid,
            (false, _) => Layout::V2,
            (true, false) => Layout::V1,
        }
    }

    /// The hierarchy that has `controller`: at most one has it.
    pub fn of_controller(&self, controller: &str) -> Option<&Mounted> {
        self.mounted
            .iter()
            .find(|mounted| mounted.controllers.iter().any(|name| name == controller))
    }

    /// The hierarchy that accounts CPU time: `cpuacct`'s, else v2, which needs no controller for it.
    pub fn of_cpu_usage(&self) -> Option<&Mounted> {
        self.of_controller("cpuacct").or_else(|| self.by_id(0))
    }

    /// Returns the one user who owns the directories of the cgroup at `path`. Returns `None` where no hierarchy has the
    /// cgroup, or several users own its directories. The owner of a directory may create cgroups in it.
    pub fn owner_of(&self, path: &str) -> Option<u32> {
        let directories = self.mounted.iter();
        let directories = directories.filter_map(|mounted| self.directory(mounted, path));
        let found = directories.filter_map(|it| std::fs::symlink_metadata(it.path).ok());
        let mut owners = found.map(|it| it.uid());
        let owner = owners.next()?;
        owners.all(|other| other == owner).then_some(owner)
    }

    /// Returns the path, in its hierarchy, of the cgroup whose directory is `directory`. Returns `None` where the
    /// directory is below no mount of a hierarchy.
    pub fn path_of(&self, directory: &Path) -> Option<String> {
        let below = self.mounted.iter().filter_map(|mounted| {
            let below = directory.strip_prefix(&mounted.mount).ok()?;
            Some((mounted, below))
        });
        // Where one mount is below another, the inner one applies.
        let (mounted, below) = below.min_by_key(|(_, below)| below.as_os_str().len())?;
        let root = path::to_bytes(&mounted.root);
        let root = Path::new(std::ffi::OsStr::from_bytes(&root));
        Some(path::to_text(root.join(below).as_os_str().as_bytes()))
    }

    /// Returns the directory of the cgroup at `path` in the hierarchy `mounted`. The path is as
    /// [`walk`](super::walk::walk) and [`to_text`](super::path::to_text) write it. Returns None where the mount does
    /// not show the cgroup.
    pub fn directory(&self, mounted: &Mounted, path: &str) -> Option<Directory> {
        let below = mounted.below_root(path)?;
        let is_root = path == "/" && mounted.version == Version::V2;
        Some(Directory {
            version: mounted.version,
            meminfo: is_root.then(|| self.root.join("proc/meminfo")),
            path: mounted.mount.join(below),
        })
    }
}

impl Mounted {
    fn new(root: &Path, id: u32, tags: &[&str], mount: &Mount) -> Result<Self, Error> {
        let point = OsString::from_vec(mount.point[1..].to_vec());
        let directory = root.join(point);
        let (version, controllers) = match tags {
            [] => {
                let available = File::read(directory.join("cgroup.controllers"))?;
                let names = words(&available.bytes).map(String::from_utf8_lossy);
                (Version::V2, names.map(String::from).collect())
            }
            tags => {
                let controllers = tags.iter().filter(|tag| !tag.starts_with("name="));
                (Version::V1, controllers.map(|&tag| tag.into()).collect())
            }
        };
        let name = tags.iter().find_map(|tag| tag.strip_prefix("name="));
        Ok(Self {
            id,
            version,
            controllers,
            name: name.map(str::to_owned),
            mount: directory,
            root: path::to_text(&mount.root),
        })
    }

    /// Returns `path` relative to the mount point. Returns None where the mount does not show it.
    pub(super) fn below_root(&self, path: &str) -> Option<PathBuf> {
        let (path, root) = (path::to_bytes(path), path::to_bytes(&self.root));
        let below = path.strip_prefix(root.strip_suffix(b"/").unwrap_or(&root))?;
        match below {
            [] => Some(PathBuf::new()),
            [b'/', below @ ..] => Some(OsString::from_vec(below.to_vec()).into()),
            _ => None,
        }
    }
}

/// Parses a line of `/proc/PID/cgroup`: the hierarchy's id, then its controllers and `name=NAME`. A line of v2 has the
/// id 0 and neither of them.
fn parse_hierarchy<'a>(file: &File, line: &'a [u8]) -> Result<(u32, Vec<&'a str>), Error> {
    let malformed = || file.malformed(line, "ID:CONTROLLERS:PATH");
    let mut fields = line.splitn(3, |&byte| byte == b':');
    let id = fields.next().and_then(number).ok_or_else(malformed)?;
    let tags = fields.next().ok_or_else(malformed)?;
    let tags = str::from_utf8(tags).map_err(|_| malformed())?;
    let tags: Vec<_> = tags.split(',').filter(|tag| !tag.is_empty()).collect();
    if fields.next().is_none() || (id == 0) != tags.is_empty() {
        return Err(malformed());
    }
    Ok((id, tags))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture::{add, tree};

    const HYBRID: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
31 27 0:28 / /sys/fs/cgroup rw,relatime shared:9 - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:1 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
";
    const HYBRID_IDS: &str = "9:name=systemd:/\n4:memory:/a\n2:cpu,cpuacct:/\n0::/\n";

    fn host(mountinfo: &str, ids: &str) -> tempfile::TempDir {
        tree(&[
            ("proc/self/mountinfo", mountinfo),
            ("proc/self/cgroup", ids),
            ("sys/fs/cgroup/unified/cgroup.controllers", "hugetlb\n"),
            ("sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n"),
        ])
    }

    fn below(root: &Path, mounted: Option<&Mounted>) -> String {
        let mount = mounted.unwrap().mount.strip_prefix(root).unwrap();
        mount.to_str().unwrap().to_owned()
    }

    #[test]
    fn hybrid() {
        let host = host(HYBRID, HYBRID_IDS);
        let found = Hierarchies::discover(host.path()).unwrap();
        assert_eq!(found.layout(), Layout::Hybrid);
        let memory = Mounted {
            id: 4,
            version: Version::V1,
            controllers: vec!["memory".into()],
            name: None,
            mount: host.path().join("sys/fs/cgroup/memory"),
            root: "/".into(),
        };
        assert_eq!(found.of_controller("memory"), Some(&memory));
        assert_eq!(found.of_controller("hugetlb"), found.by_id(0));
        assert_eq!(found.of_controller("pids"), None);
        assert_eq!(found.of_cpu_usage(), found.by_id(2));
        assert_eq!(found.by_id(9).unwrap().name.as_deref(), Some("systemd"));
        assert!(found.by_id(9).unwrap().controllers.is_empty());
    }

    #[test]
    fn one_version() {
        let v1 = HYBRID.lines().filter(|line| !line.contains("cgroup2"));
        let host_v1 = host(&v1.collect::<Vec<_>>().join("\n"), HYBRID_IDS);
        let found = Hierarchies::discover(host_v1.path()).unwrap();
        assert_eq!(found.layout(), Layout::V1);
        assert_eq!(found.by_id(0), None);

        let v2 = "30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let host_v2 = host(v2, "0::/init.scope\n");
        let found = Hierarchies::discover(host_v2.path()).unwrap();
        assert_eq!(found.layout(), Layout::V2);
        assert_eq!(found.of_controller("memory"), found.by_id(0));
        assert_eq!(found.of_cpu_usage(), found.by_id(0));
    }

    #[test]
    fn mount_of_the_whole_hierarchy_is_preferred() {
        let part = "30 27 0:32 /docker/a /jail/memory rw - cgroup cgroup rw,memory\n";
        let both = host(&(part.to_owned() + HYBRID), HYBRID_IDS);
        let found = Hierarchies::discover(both.path()).unwrap();
        assert_eq!(below(both.path(), found.by_id(4)), "sys/fs/cgroup/memory");

        let only = host(part, HYBRID_IDS);
        let found = Hierarchies::discover(only.path()).unwrap();
        let memory = found.by_id(4).unwrap();
        let path_of = |path| found.directory(memory, path).map(|found| found.path);
        let jail = only.path().join("jail/memory");
        assert_eq!(path_of("/docker/a"), Some(jail.join("")));
        assert_eq!(path_of("/docker/a/b"), Some(jail.join("b")));
        assert_eq!(path_of("/docker/ab"), None);
        assert_eq!(path_of("/"), None);
    }

    #[test]
    fn odd_names_lead_to_their_files() {
        let host = host(HYBRID, HYBRID_IDS);
        let found = Hierarchies::discover(host.path()).unwrap();
        let text = path::to_text(b"/a/\xff");
        let directory = found.directory(found.by_id(4).unwrap(), &text).unwrap();
        let name = directory.path.file_name().unwrap();
        assert_eq!(std::os::unix::ffi::OsStrExt::as_bytes(name), b"\xff");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let none = host("27 1 254:0 / / rw - ext4 /dev/vda rw\n", HYBRID_IDS);
        let error = Hierarchies::discover(none.path()).unwrap_err();
        assert!(matches!(error, Error::NoCgroups { .. }), "{error}");

        for line in ["4:memory", "-1:memory:/", "0:memory:/", "4::/", ":"] {
            let host = host(HYBRID, line);
            let error = Hierarchies::discover(host.path()).unwrap_err();
            assert!(
                matches!(&error, Error::Malformed { line: shown, .. } if shown == line),
                "{error}"
            );
        }

        let gone = host(HYBRID, HYBRID_IDS);
        std::fs::remove_file(gone.path().join("proc/self/cgroup")).unwrap();
        let error = Hierarchies::discover(gone.path()).unwrap_err();
        assert!(matches!(error, Error::Gone { .. }), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_input_panics(
            mountinfo in "([0-9]{1,2}|/|-|cgroup2?|rw,memory|\\\\[0-9]{1,3}| |\n){0,60}",
            ids in "([0-9]|:|,|name=|memory|/|\n){0,30}",
        ) {
            let host = tree(&[("proc/self/mountinfo", mountinfo), ("proc/self/cgroup", ids)]);
            add(host.path(), &[("proc/meminfo", "")]);
            let _ = Hierarchies::discover(host.path());
        }
    }
}

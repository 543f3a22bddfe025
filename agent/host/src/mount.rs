//! The mounts of a mount namespace: proc_pid_mountinfo(5), mount_namespaces(7).

use std::collections::BTreeMap;

use serde::Serialize;

use super::file::{File, number};
use super::{Error, path};

/// A mount, as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MountPoint {
    /// The mount point: a path below the root directory of the process whose mounts these are.
    pub point: String,
    /// The directory or file that is mounted: a path in the file system.
    pub root: String,
    /// The type of the file system.
    #[serde(rename = "type")]
    pub kind: String,
    /// The number of the file system's device: `MAJOR:MINOR`.
    pub device: String,
    /// The options of this mount, such as `ro,nosuid`.
    pub options: String,
    /// The number of the mount's peer group: a mount made below one member appears below all members.
    pub shared: Option<u32>,
    /// The number of the peer group from which this mount receives new mounts, and to which it sends none.
    pub master: Option<u32>,
    /// Whether the kernel refuses a bind mount of this mount.
    pub unbindable: bool,
}

impl MountPoint {
    pub(super) fn all(file: &File) -> Result<Vec<Self>, Error> {
        let mounts = Mounts::parse(file)?.0.into_values();
        Ok(mounts.map(|mount| Self::of(&mount)).collect())
    }

    fn of(mount: &Mount<'_>) -> Self {
        Self {
            point: path::to_text(&mount.point),
            root: path::to_text(&mount.root),
            kind: text(mount.kind),
            device: text(mount.device),
            options: text(mount.flags),
            shared: mount.group("shared"),
            master: mount.group("master"),
            unbindable: mount.propagation.contains(&&b"unbindable"[..]),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns whether the mount with this id (`STATX_MNT_ID`) is of fuse(4), which ordinary users can mount, and whose
/// server may never answer. A mount that is not listed counts as one.
pub fn is_users(id: u64) -> bool {
    let Ok(file) = File::read("/proc/self/mountinfo".into()) else {
        return true;
    };
    let mut mounts = file.lines().filter_map(Mount::parse);
    let found = mounts.find(|mount| mount.id == id);
    found.is_none_or(|mount| mount.kind.starts_with(b"fuse"))
}

/// A mount: a line of `/proc/PID/mountinfo`.
pub(super) struct Mount<'a> {
    id: u64,
    parent: u64,
    device: &'a [u8],
    /// The directory or file that is mounted: a path in the file system.
    pub root: Vec<u8>,
    /// The mount point. It begins with `/`.
    pub point: Vec<u8>,
    flags: &'a [u8],
    /// The optional fields, such as `shared:3`.
    propagation: Vec<&'a [u8]>,
    pub kind: &'a [u8],
    /// What is mounted, such as a path of a device.
    source: &'a [u8],
    /// The options of the file system.
    options: &'a [u8],
}

impl<'a> Mount<'a> {
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|&byte| byte == b' ');
        let id = number(fields.next()?)?;
        let parent = number(fields.next()?)?;
        let device = fields.next()?;
        let root = unescape(fields.next()?);
        let point = unescape(fields.next()?);
        let flags = fields.next()?;
        let mut propagation = Vec::new();
        loop {
            match fields.next()? {
                b"-" => break,
                tag => propagation.push(tag),
            }
        }
        let kind = fields.next()?;
        let source = fields.next()?;
        let options = fields.next()?;
        point.starts_with(b"/").then_some(Self {
            id,
            parent,
            device,
            root,
            point,
            flags,
            propagation,
            kind,
            source,
            options,
        })
    }

    /// What is mounted, such as `/dev/vda1`.
    pub fn source(&self) -> String {
        String::from_utf8_lossy(&unescape(self.source)).into_owned()
    }

    /// The major and minor number of the file system's device.
    pub fn numbers(&self) -> Option<(u32, u32)> {
        let colon = self.device.iter().position(|&byte| byte == b':')?;
        Some((
            number(&self.device[..colon])?,
            number(&self.device[colon + 1..])?,
        ))
    }

    /// The number of the peer group in the optional field `tag`.
    fn group(&self, tag: &str) -> Option<u32> {
        let mut tags = self.propagation.iter();
        tags.find_map(|it| number(it.strip_prefix(tag.as_bytes())?.strip_prefix(b":")?))
    }

    /// The value of an option of the file system, such as `upperdir=`.
    pub fn option(&self, key: &[u8]) -> Option<Vec<u8>> {
        let mut options = self.options.split(|&byte| byte == b',');
        options
            .find_map(|option| option.strip_prefix(key))
            .map(unescape)
    }

    fn has(&self, tag: &str) -> bool {
        let mut options = self.options.split(|&byte| byte == b',');
        options.any(|option| option == tag.as_bytes())
    }

    /// Whether this mount hides `other`. It does where it is mounted on the root of `other`. It also does where it has
    /// the same parent, and is mounted on a directory above the mount point of `other`.
    fn covers(&self, other: &Mount) -> bool {
        let on_root = self.parent == other.id && self.point == other.point;
        let above = self.parent == other.parent && other.is_below(self);
        self.id != other.id && self.id != other.parent && (on_root || above)
    }

    /// Whether the lookup of this mount's point passes through the point of `other`.
    fn is_below(&self, other: &Mount) -> bool {
        let point = other.point.strip_suffix(b"/").unwrap_or(&other.point);
        let below = self.point.strip_prefix(point);
        below.is_some_and(|below| below.len() > 1 && below[0] == b'/')
    }
}

/// The mounts of a mount namespace, by id.
pub(super) struct Mounts<'a>(BTreeMap<u64, Mount<'a>>);

impl<'a> Mounts<'a> {
    pub fn parse(file: &'a File) -> Result<Self, Error> {
        let mount = |line| {
            let mount = Mount::parse(line);
            mount.ok_or_else(|| file.malformed(line, "a line of proc_pid_mountinfo(5)"))
        };
        let mounts = file.lines().map(mount);
        let by_id = mounts.map(|mount| mount.map(|mount| (mount.id, mount)));
        by_id.collect::<Result<_, _>>().map(Self)
    }

    /// Finds a reachable mount of this type with all of these options. A mount of the whole hierarchy is preferred.
    pub fn find(&self, kind: &[u8], tags: &[&str]) -> Option<&Mount<'a>> {
        let fits = |mount: &&Mount| {
            mount.kind == kind && tags.iter().all(|tag| mount.has(tag)) && self.reachable(mount)
        };
        let fitting = || self.0.values().filter(fits);
        let whole = fitting().find(|mount| mount.root == b"/");
        whole.or_else(|| fitting().next())
    }

    /// All mounts of this type, reachable or not.
    pub fn of_kind(&self, kind: &[u8]) -> impl Iterator<Item = &Mount<'a>> {
        self.0.values().filter(move |mount| mount.kind == kind)
    }

    /// Whether a lookup of the mount point leads to the mount: nothing is mounted over it, or over a directory above
    /// it.
    fn reachable(&self, mount: &Mount) -> bool {
        let mut mount = mount;
        // A chain of parents is never longer than there are mounts.
        for _ in 0..self.0.len() {
            if self.0.values().any(|other| other.covers(mount)) {
                return false;
            }
            match self.0.get(&mount.parent) {
                // The root of the mount tree is its own parent.
                Some(parent) if parent.id != mount.id => mount = parent,
                _ => return true,
            }
        }
        false
    }
}

/// Undoes the kernel's octal escapes (`\040`) of space, tab, newline, backslash and `#`.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = &rest[4..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const HOST: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
31 27 0:28 / /sys/fs/cgroup rw,relatime shared:9 - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:3 master:1 - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2  rw
";
    const AGAIN: &str = "50 27 0:32 / /again/mem\\040ory rw - cgroup cgroup rw,memory\n";

    fn file(text: &str) -> File {
        let path = PathBuf::from("mountinfo");
        let bytes = text.into();
        File { path, bytes }
    }

    /// Returns where the file system of this type with these options is mounted.
    fn point(text: &str, kind: &str, tags: &[&str]) -> Option<String> {
        let file = file(text);
        let mounts = Mounts::parse(&file).unwrap();
        let mount = mounts.find(kind.as_bytes(), tags)?;
        Some(String::from_utf8(mount.point.clone()).unwrap())
    }

    #[test]
    fn finds_by_kind_and_options() {
        let found = |kind, tags: &[&str]| point(HOST, kind, tags);
        let cpu = Some("/sys/fs/cgroup/cpu".to_owned());
        assert_eq!(found("cgroup", &["cpuacct"]), cpu);
        assert_eq!(found("cgroup", &["cpuacct", "cpu"]), cpu);
        assert_eq!(found("cgroup", &["cpuset"]), None);
        assert_eq!(found("cgroup", &["cpu", "memory"]), None);
        assert_eq!(
            found("cgroup2", &[]).as_deref(),
            Some("/sys/fs/cgroup/unified")
        );
    }

    /// Any user with fusermount(1) can make such a mount, for which the crate procfs rejects the whole file.
    #[test]
    fn a_name_that_is_no_text_hides_no_other_mount() {
        use procfs_core::FromBufRead as _;
        use procfs_core::process::MountInfos;

        let mut bytes = b"60 27 0:50 / /home/user/\xff rw - fuse.sshfs x rw\n".to_vec();
        bytes.extend_from_slice(HOST.as_bytes());
        assert!(MountInfos::from_buf_read(HOST.as_bytes()).is_ok());
        assert!(MountInfos::from_buf_read(&*bytes).is_err());
        let path = PathBuf::from("mountinfo");
        let file = File { path, bytes };
        let mounts = Mounts::parse(&file).unwrap();
        assert!(mounts.find(b"cgroup", &["memory"]).is_some());
    }

    #[test]
    fn first_mount_is_its_own_parent() {
        let mountinfo =
            "1 1 0:2 / / rw - rootfs rootfs rw\n20 1 0:26 / /cgroup rw - cgroup2 none rw\n";
        assert_eq!(point(mountinfo, "cgroup2", &[]).as_deref(), Some("/cgroup"));
    }

    #[test]
    fn hidden_mounts_are_passed_over() {
        for cover in [
            "60 35 0:50 / /sys/fs/cgroup/memory rw - tmpfs tmpfs rw\n",
            "60 31 0:50 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n",
            "60 27 0:50 / /sys/fs rw - tmpfs tmpfs rw\n",
        ] {
            let hidden = format!("{HOST}{cover}");
            assert_eq!(point(&hidden, "cgroup", &["memory"]), None, "{cover}");
            let twice = format!("{hidden}{AGAIN}");
            let again = Some("/again/mem ory".to_owned());
            assert_eq!(point(&twice, "cgroup", &["memory"]), again, "{cover}");
        }
    }

    #[test]
    fn mounts_beside_hide_nothing() {
        let beside = "60 31 0:50 / /sys/fs/cgroup/mem rw - tmpfs tmpfs rw\n";
        let found = point(&format!("{HOST}{AGAIN}{beside}"), "cgroup", &["memory"]);
        assert_eq!(found.as_deref(), Some("/sys/fs/cgroup/memory"));
    }

    #[test]
    fn loops_end() {
        let mountinfo = "1 2 0:2 / / rw - a a rw\n2 1 0:2 / /b rw - cgroup2 none rw\n";
        assert_eq!(point(mountinfo, "cgroup2", &[]), None);
    }

    #[test]
    fn points_have_their_propagation() {
        let mountinfo = "\
27 1 254:0 / / rw - ext4 /dev/vda rw
31 27 0:28 /a /b\\040\\377 ro,nosuid shared:9 master:4 propagate_from:2 - tmpfs none rw,size=1k
32 27 0:29 / /c rw unbindable - tmpfs none rw
";
        let [root, shared, apart] = &MountPoint::all(&file(mountinfo)).unwrap()[..] else {
            panic!("three mounts");
        };
        assert_eq!(
            (root.shared, root.master, root.unbindable),
            (None, None, false)
        );
        let wanted = MountPoint {
            point: r"//b \xff".into(),
            root: "/a".into(),
            kind: "tmpfs".into(),
            device: "0:28".into(),
            options: "ro,nosuid".into(),
            shared: Some(9),
            master: Some(4),
            unbindable: false,
        };
        assert_eq!(*shared, wanted);
        assert!(apart.unbindable);
    }

    #[test]
    fn escapes_are_undone() {
        for (text, bytes) in [
            (r"a\040b\134\012", &b"a b\\\n"[..]),
            (r"\377", b"\xff"),
            (r"\400\04\", br"\400\04\"),
        ] {
            assert_eq!(unescape(text.as_bytes()), bytes);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for line in [
            "27 1",
            "x 1 0:1 / / rw - tmpfs tmpfs rw",
            "27 1 0:1 / / rw tmpfs tmpfs rw",
            "27 1 0:1 / / rw - tmpfs tmpfs",
            "27 1 0:1 / point rw - tmpfs tmpfs rw",
        ] {
            let error = Mounts::parse(&file(line)).err().unwrap();
            assert!(
                matches!(&error, Error::Malformed { line: shown, .. } if shown == line),
                "{error}"
            );
        }
    }
}

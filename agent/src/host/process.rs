//! A process as `/proc/PID` shows it: proc_pid_stat(5), proc_pid_status(5), namespaces(7).

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use agent_ebpf::{Namespace, Namespaces};
use rustix::fs::{CWD, Mode, OFlags, openat, readlinkat};
use rustix::io::Errno;
use rustix::param::clock_ticks_per_second;

use super::Error;
use super::file::{File, number, words};

/// A process, all of it read from one `/proc/PID` that cannot turn into another process's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    /// 0 where the parent is outside.
    pub ppid: u32,
    /// The pid in the process's own pid namespace.
    pub ns_pid: u32,
    /// The real user id.
    pub uid: u32,
    /// As [`start_time`] gives it.
    pub start_time: u64,
    /// The name: any bytes but NUL. At most 15, of a kernel's thread 63.
    pub comm: Vec<u8>,
    /// As [`namespaces`] gives them; None where the kernel does not let the agent see them.
    pub namespaces: Option<Namespaces>,
}

/// Reads the process `pid`.
pub fn read(root: &Path, pid: u32) -> Result<Process, Error> {
    let directory = ProcDirectory::open(root, pid)?;
    let stat = directory.file("stat")?;
    let Stat {
        comm,
        ppid,
        start_time,
    } = Stat::parse(&stat)?;
    let status = directory.file("status")?;
    let namespaces = match directory.namespaces() {
        Err(error) if is_denied(&error) => None,
        namespaces => Some(namespaces?),
    };
    Ok(Process {
        pid,
        ppid,
        ns_pid: ns_pid(&status)?.unwrap_or(pid),
        uid: status.expect_number_of("Uid:", "a row \"Uid: REAL …\"")?,
        start_time,
        comm: comm.to_vec(),
        namespaces,
    })
}

/// When the process `pid` started: ns of CLOCK_BOOTTIME, rounded down to the clock tick, which is
/// 10 ms. The kernel's own `start_boottime` is exact: compare with it by the tick.
pub fn start_time(root: &Path, pid: u32) -> Result<u64, Error> {
    let stat = File::read(path_of(root, pid).join("stat"))?;
    Ok(Stat::parse(&stat)?.start_time)
}

/// The namespaces of the process `pid`: 0 for those that the kernel lacks, and all but `pid` and
/// `user` of a process that has ended and is not yet waited for.
pub fn namespaces(root: &Path, pid: u32) -> Result<Namespaces, Error> {
    ProcDirectory::open(root, pid)?.namespaces()
}

/// The host's own namespaces: those of pid 1 or, where that one forbids to look (prctl(2),
/// `PR_SET_DUMPABLE`, and security modules), of the kernel's threads.
pub fn host_namespaces(root: &Path) -> Result<Namespaces, Error> {
    const INIT: u32 = 1;
    const KTHREADD: u32 = 2;
    match namespaces(root, INIT) {
        // In a pid namespace that is not the host's, 2 is anybody, and has a parent.
        Err(error) if is_denied(&error) => match read(root, KTHREADD) {
            Ok(Process {
                ppid: 0,
                namespaces: Some(namespaces),
                ..
            }) => Ok(namespaces),
            _ => Err(error),
        },
        namespaces => namespaces,
    }
}

/// Whether the kernel does not let the agent see it.
fn is_denied(error: &Error) -> bool {
    let Error::Io { source, .. } = error else {
        return false;
    };
    let errno = Errno::from_io_error(source);
    matches!(errno, Some(Errno::ACCESS | Errno::PERM))
}

/// The pids of all processes.
pub fn pids(root: &Path) -> Result<Vec<u32>, Error> {
    let path = root.join("proc");
    let failed = |source| Error::new(path.clone(), source);
    let mut pids = Vec::new();
    for entry in fs::read_dir(&path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        pids.extend(number::<u32>(name.as_encoded_bytes()));
    }
    Ok(pids)
}

fn path_of(root: &Path, pid: u32) -> PathBuf {
    root.join("proc").join(pid.to_string())
}

/// An open `/proc/PID`. Reading through it fails once the process is gone, even where another has
/// got its pid.
struct ProcDirectory {
    path: PathBuf,
    fd: OwnedFd,
}

impl ProcDirectory {
    fn open(root: &Path, pid: u32) -> Result<Self, Error> {
        let path = path_of(root, pid);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat(CWD, &path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { path, fd }),
            Err(errno) => Err(Error::new(path, errno.into())),
        }
    }

    fn file(&self, name: &str) -> Result<File, Error> {
        let path = self.path.join(name);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => File::read_from(fd.into(), path),
            Err(errno) => Err(Error::new(path, errno.into())),
        }
    }

    /// Reads the text of the links: following them would need a kernel behind them.
    fn namespaces(&self) -> Result<Namespaces, Error> {
        let mut inodes = Namespaces::default();
        for (inode, namespace) in inodes.iter_mut().zip(Namespace::ALL) {
            let name = format!("ns/{}", namespace.name());
            match readlinkat(&self.fd, &name, Vec::new()) {
                Ok(link) => *inode = self.parse_link(&name, link.as_bytes())?,
                Err(Errno::NOENT) => {}
                // What the kernel says of a process that is gone, too.
                Err(Errno::ACCESS) => {
                    self.file("stat")?;
                    return Err(Error::new(self.path.join(name), Errno::ACCESS.into()));
                }
                Err(errno) => return Err(Error::new(self.path.join(name), errno.into())),
            }
        }
        if inodes == Namespaces::default() {
            let path = self.path.clone();
            return Err(Error::Gone { path });
        }
        Ok(inodes)
    }

    /// The inode in `TYPE:[INODE]`.
    fn parse_link(&self, name: &str, link: &[u8]) -> Result<u32, Error> {
        let inode = || {
            let at = link.iter().position(|&byte| byte == b':')?;
            let inode = link[at + 1..].strip_prefix(b"[")?.strip_suffix(b"]")?;
            number(inode)
        };
        inode().ok_or_else(|| {
            let path = self.path.join(name);
            Error::malformed(path, link, "TYPE:[INODE]")
        })
    }
}

/// What is wanted of `/proc/PID/stat`.
struct Stat<'a> {
    comm: &'a [u8],
    ppid: u32,
    start_time: u64,
}

impl<'a> Stat<'a> {
    fn parse(file: &'a File) -> Result<Self, Error> {
        let parsed = Self::parse_bytes(&file.bytes);
        parsed.ok_or_else(|| file.malformed(&file.bytes, "PID (COMM) STATE PPID …"))
    }

    /// The name may hold blanks and parentheses: it ends at the last one.
    fn parse_bytes(bytes: &'a [u8]) -> Option<Self> {
        let start = bytes.iter().position(|&byte| byte == b'(')?;
        let end = bytes.iter().rposition(|&byte| byte == b')')?;
        let comm = bytes.get(start + 1..end)?;
        // The state is field 3.
        let mut fields = words(&bytes[end + 1..]);
        let ppid = number(fields.nth(4 - 3)?)?;
        let ticks: u64 = number(fields.nth(22 - 5)?)?;
        let tick = 1_000_000_000 / clock_ticks_per_second().max(1);
        Some(Self {
            comm,
            ppid,
            start_time: ticks.saturating_mul(tick),
        })
    }
}

/// The last pid of the row `NSpid`, which a kernel without pid namespaces lacks.
fn ns_pid(status: &File) -> Result<Option<u32>, Error> {
    let row = status.lines().find_map(|line| line.strip_prefix(b"NSpid:"));
    let Some(row) = row else {
        return Ok(None);
    };
    let pid = words(row).last().and_then(number);
    pid.map(Some)
        .ok_or_else(|| status.malformed(row, "pids after NSpid:"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::host::fixture::{add, tree};

    const STAT: &str = "42 (a) R (b) x) S 7 42 42 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 \
        88164 1000 200 18446744073709551615 1 1 0 0 0 0 0 0 0\n";
    const STATUS: &str = "Name:\ta) R (b) x\nUmask:\t0022\nUid:\t1000\t0\t0\t0\n\
        NStgid:\t42\t3\nNSpid:\t42\t3\n";

    const NAMESPACES: Namespaces = [
        0,
        0,
        4_026_531_841,
        0,
        4_026_531_836,
        4_026_532_201,
        0,
        0,
        4_026_531_837,
        0,
    ];

    fn host() -> tempfile::TempDir {
        tree(&[
            ("proc/42/stat", STAT),
            ("proc/42/status", STATUS),
            ("proc/42/ns/mnt", "-> mnt:[4026531841]"),
            ("proc/42/ns/pid", "-> pid:[4026531836]"),
            ("proc/42/ns/pid_for_children", "-> pid:[4026532201]"),
            ("proc/42/ns/user", "-> user:[4026531837]"),
            ("proc/43/", ""),
            ("proc/self/", ""),
            ("proc/version", ""),
        ])
    }

    #[test]
    fn a_process() {
        let process = read(host().path(), 42).unwrap();
        let wanted = Process {
            pid: 42,
            ppid: 7,
            ns_pid: 3,
            uid: 1000,
            start_time: 881_640_000_000,
            comm: b"a) R (b) x".to_vec(),
            namespaces: Some(NAMESPACES),
        };
        assert_eq!(process, wanted);
        assert_eq!(start_time(host().path(), 42).unwrap(), wanted.start_time);
    }

    #[test]
    fn names_may_be_any_bytes() {
        let host = host();
        let stat = [b"42 (\xff\n)(", STAT.split_once('(').unwrap().1.as_bytes()].concat();
        let status = [
            b"Name:\t\xff\\n)(\n",
            STATUS.split_once('\n').unwrap().1.as_bytes(),
        ]
        .concat();
        add(
            host.path(),
            &[("proc/42/stat", stat), ("proc/42/status", status)],
        );
        let process = read(host.path(), 42).unwrap();
        assert_eq!(process.comm, b"\xff\n)(a) R (b) x");
        assert_eq!((process.ppid, process.uid), (7, 1000));
    }

    #[test]
    fn kernels_without_pid_namespaces() {
        let host = host();
        add(host.path(), &[("proc/42/status", "Uid:\t0\t0\t0\t0\n")]);
        assert_eq!(read(host.path(), 42).unwrap().ns_pid, 42);
    }

    #[test]
    fn pids_are_the_numbers() {
        let mut found = pids(host().path()).unwrap();
        found.sort_unstable();
        assert_eq!(found, [42, 43]);
    }

    #[test]
    fn a_process_that_has_ended_is_gone() {
        for pid in [1, 43] {
            let error = read(host().path(), pid).unwrap_err();
            assert!(matches!(error, Error::Gone { .. }), "{error}");
            let error = namespaces(host().path(), pid).unwrap_err();
            assert!(matches!(error, Error::Gone { .. }), "{error}");
        }
    }

    #[test]
    fn garbage_is_malformed() {
        let too_big = STATUS.replace("1000", "4294967296");
        for (name, garbage) in [
            ("stat", ""),
            ("stat", ")"),
            ("stat", ")("),
            ("stat", "1 (a) S 7 1 1"),
            ("stat", &STAT.replace("S 7", "S -7")),
            ("status", "Uid:\n"),
            ("status", "NSpid:\t1\n"),
            ("status", "Uid:\t0\nNSpid:\n"),
            ("status", &too_big),
            ("ns/uts", "-> uts:4026531838"),
            ("ns/uts", "-> uts:[4026531838"),
            ("ns/uts", "-> uts:[99999999999]"),
        ] {
            let host = host();
            add(host.path(), &[(&*format!("proc/42/{name}"), garbage)]);
            let error = read(host.path(), 42).unwrap_err();
            assert!(
                matches!(error, Error::Malformed { .. }),
                "{garbage}: {error}"
            );
        }
    }

    #[test]
    fn this_process_on_this_host() {
        let root = Path::new("/");
        let pid = std::process::id();
        let process = read(root, pid).unwrap();
        assert!(pids(root).unwrap().contains(&pid));
        assert_eq!(process.ppid, std::os::unix::process::parent_id());
        assert_eq!(process.uid, rustix::process::getuid().as_raw());
        let namespaces = process.namespaces.unwrap();
        for (inode, namespace) in namespaces.iter().zip(Namespace::ALL) {
            let link = fs::read_link(format!("/proc/self/ns/{}", namespace.name()));
            let link = link.map_or(String::new(), |link| link.display().to_string());
            assert!(
                *inode == 0 || link.ends_with(&format!(":[{inode}]")),
                "{link}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_stat_panics(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'('), Just(b')'), Just(b' ')], 0..80)) {
            let _ = Stat::parse_bytes(&bytes);
        }
    }
}

//! One process, as `/proc/PID` shows it: proc_pid(5), user_namespaces(7).

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::file::{File, number, words};
use super::mount::MountPoint;
use super::status::Status;
use super::{Error, path};

/// A process, which may end at any time.
#[derive(Clone, Debug)]
pub struct Process {
    directory: PathBuf,
}

/// A range of ids in a user namespace, and the ids outside that it is mapped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct IdRange {
    pub inside: u32,
    /// The first id outside, in the user namespace of the reader.
    pub outside: u32,
    pub count: u32,
}

/// The unit of the times in `/proc/PID/stat`, in nanoseconds.
pub(super) const TICK: u64 = 10_000_000;

/// The pids of all processes that `/proc` shows to this process, in ascending order.
pub fn numbers(root: &Path) -> Vec<u32> {
    let entries = fs::read_dir(root.join("proc"));
    let entries = entries.into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut numbers: Vec<u32> = numbers.collect();
    numbers.sort_unstable();
    numbers
}

impl Process {
    pub fn new(root: &Path, pid: u32) -> Self {
        Self {
            directory: root.join("proc").join(pid.to_string()),
        }
    }

    /// Explains why the process's namespaces are unknown, where the kernel's list of tasks does not have the process.
    pub fn unseen(&self) -> String {
        match self.state() {
            Ok(b'Z' | b'X') => {
                "it has ended, and is in no namespace; its parent has not waited for it yet".to_owned()
            }
            Ok(_) => {
                let link = self.path("ns/mnt");
                let why = match fs::read_link(&link) {
                    Err(error) => format!("{}: {error}", link.display()),
                    Ok(_) => "who was asked may not see it".to_owned(),
                };
                format!(
                    "this process is there, and its namespaces are closed ({why}): to see them takes root, with all \
                     capabilities that the process has, on the host"
                )
            }
            // A process that /proc hides can still be found by its pid.
            Err(_) if self.is_hidden() => {
                "this process is there, and /proc hides it from this user (hidepid of proc(5)); run it with sudo".to_owned()
            }
            Err(_) => "there is no such process; want one of the host's numbers".to_owned(),
        }
    }

    /// Whether the process exists and `/proc` hides it from this process (hidepid of proc(5), ProtectProc= of
    /// systemd.exec(5)).
    pub fn is_hidden(&self) -> bool {
        self.has_number() && self.started().is_err() && self.has_number()
    }

    /// Whether the kernel has a process with this pid, whether or not `/proc` shows it.
    fn has_number(&self) -> bool {
        let number = self
            .directory
            .file_name()
            .and_then(|it| it.to_str()?.parse().ok());
        let pid = number.and_then(rustix::process::Pid::from_raw);
        pid.is_some_and(|pid| {
            let answer = rustix::process::test_kill_process(pid);
            !matches!(answer, Err(rustix::io::Errno::SRCH))
        })
    }

    /// The path of a file in the process's directory.
    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    /// The start time in ticks since boot: field 22 of `stat`. A later process with the same pid has another one.
    ///
    /// # Errors
    /// [`Error::Gone`] where there is no such process.
    pub fn started(&self) -> Result<u64, Error> {
        self.stat(22, "a start time in field 22", number)
    }

    /// Checks that the process started at `start_time` (nanoseconds of CLOCK_BOOTTIME), where one is given. If it is
    /// called after a read, the pid was not another process's during the read.
    ///
    /// # Errors
    /// [`Error::Gone`] where it is another process, or none.
    pub(super) fn is_of(&self, start_time: Option<u64>) -> Result<(), Error> {
        match start_time {
            Some(time) if self.started()? != time / TICK => Err(Error::Gone {
                path: self.directory.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// The start time by the clock of file times (CLOCK_REALTIME).
    ///
    /// # Errors
    /// As of [`Process::started`].
    pub fn started_at(&self) -> Result<SystemTime, Error> {
        let ticks = rustix::param::clock_ticks_per_second().max(1);
        let started = self.started()?;
        let started = Duration::new(
            started / ticks,
            u32::try_from(started % ticks * 1_000_000_000 / ticks).unwrap_or_default(),
        );
        let since_boot = clock_gettime(ClockId::Boottime);
        let since_boot = Duration::try_from(since_boot).unwrap_or_default();
        Ok(SystemTime::now() - since_boot + started)
    }

    /// The process's arguments; none of a kernel thread. Bytes that are not UTF-8 are replaced by U+FFFD.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn arguments(&self) -> Result<Vec<String>, Error> {
        let file = File::read(self.path("cmdline"))?;
        // Each argument ends with a zero byte, unless the process has overwritten its arguments.
        let words = file.bytes.strip_suffix(b"\0").unwrap_or(&file.bytes);
        if words.is_empty() {
            return Ok(Vec::new());
        }
        let words = words.split(|&byte| byte == 0);
        Ok(words
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect())
    }

    /// Whether the main thread is ending or has ended: `PF_EXITING` (include/linux/sched.h) of the flags in field 9 of
    /// `stat`.
    ///
    /// # Errors
    /// The file cannot be read or parsed.
    pub fn is_ending(&self) -> Result<bool, Error> {
        const EXITING: u64 = 4;
        Ok(self.stat(9, "flags in field 9", number::<u64>)? & EXITING != 0)
    }

    /// The state, such as running, sleeping or stopped: the letter in field 3 of `stat`.
    ///
    /// # Errors
    /// The file cannot be read or parsed.
    pub fn state(&self) -> Result<u8, Error> {
        let letter = |word: &[u8]| word.first().copied();
        self.stat(3, "a state in field 3", letter)
    }

    /// Reads a field of `stat`, counted from 1. `field` is 3 or more.
    fn stat<T>(
        &self,
        field: usize,
        wanted: &'static str,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<T, Error> {
        let stat = File::read(self.path("stat"))?;
        // The name, field 2, may hold any bytes, parentheses too.
        let end = stat.bytes.iter().rposition(|&byte| byte == b')');
        let rest = &stat.bytes[end.map_or(0, |end| end + 1)..];
        let found = words(rest).nth(field - 3).and_then(read);
        found.ok_or_else(|| stat.malformed(&stat.bytes, wanted))
    }

    /// The main thread's name. Bytes that are not UTF-8 are replaced by U+FFFD.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn comm(&self) -> Result<String, Error> {
        let file = File::read(self.path("comm"))?;
        let name = file.bytes.strip_suffix(b"\n").unwrap_or(&file.bytes);
        Ok(String::from_utf8_lossy(name).into_owned())
    }

    /// The target of a link, such as `exe` for the program and `root` for the root directory. The target is a path in
    /// the process's own mount namespace.
    ///
    /// # Errors
    /// The process is gone, or this process may not inspect it.
    pub fn link(&self, file: &str) -> Result<String, Error> {
        let path = self.path(file);
        match fs::read_link(&path) {
            Ok(target) => Ok(path::to_text(target.as_os_str().as_bytes())),
            Err(source) => Err(Error::new(path, source)),
        }
    }

    /// The inode of the namespace of type `name` (such as `net`) that the process is in, or that its future children will be
    /// in (`pid_for_children`).
    ///
    /// # Errors
    /// As of [`Process::link`]; the link does not name a namespace.
    pub fn namespace(&self, name: &str) -> Result<u32, Error> {
        let file = format!("ns/{name}");
        let link = self.link(&file)?;
        let kind = name.strip_suffix("_for_children").unwrap_or(name);
        let inode = link.strip_prefix(kind).and_then(|rest| {
            let digits = rest.strip_prefix(":[")?.strip_suffix(']')?;
            number(digits.as_bytes())
        });
        let malformed = || Error::malformed(self.path(&file), link.as_bytes(), "TYPE:[INODE]");
        inode.ok_or_else(malformed)
    }

    /// The ranges of `uid_map` or `gid_map`; empty where no id is mapped.
    ///
    /// # Errors
    /// The file cannot be read or parsed.
    pub fn ids(&self, map: &str) -> Result<Vec<IdRange>, Error> {
        let file = File::read(self.path(map))?;
        let ranges = file.lines().map(|line| {
            range(line).ok_or_else(|| file.malformed(line, "three numbers: INSIDE OUTSIDE COUNT"))
        });
        ranges.collect()
    }

    /// The mounts of the process's mount namespace at or below its root directory.
    ///
    /// # Errors
    /// The file cannot be read or parsed.
    pub fn mounts(&self) -> Result<Vec<MountPoint>, Error> {
        MountPoint::all(&File::read(self.path("mountinfo"))?)
    }

    /// What the kernel allows the process.
    ///
    /// # Errors
    /// The file cannot be read or parsed.
    pub fn status(&self) -> Result<Status, Error> {
        Status::parse(&File::read(self.path("status"))?)
    }
}

fn range(line: &[u8]) -> Option<IdRange> {
    let mut numbers = words(line).map(number);
    let range = IdRange {
        inside: numbers.next()??,
        outside: numbers.next()??,
        count: numbers.next()??,
    };
    numbers.next().is_none().then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::tree;

    const STAT: &str = "7 (a b) c) S 1 7 7 0 -1 4194560 90 0 0 0 0 0 0 0 20 0 1 0 4711 0 0\n";

    /// Calls a reader for process 7, which has one file.
    fn read<T>(
        file: &str,
        content: impl AsRef<[u8]>,
        read: impl Fn(&Process) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let path = format!("proc/7/{file}");
        let root = tree(&[(&*path, content)]);
        read(&Process::new(root.path(), 7))
    }

    fn is_malformed<T>(read: Result<T, Error>) -> bool {
        matches!(read, Err(Error::Malformed { .. }))
    }

    #[test]
    fn what_is_there() {
        assert_eq!(read("stat", STAT, Process::started).unwrap(), 4711);
        assert!(!read("stat", STAT, Process::is_ending).unwrap());
        let ending = STAT.replace("4194560", "4194564");
        assert!(read("stat", ending, Process::is_ending).unwrap());
        assert_eq!(read("comm", "a b\n\n", Process::comm).unwrap(), "a b\n");
        assert_eq!(read("comm", b"\xff\n", Process::comm).unwrap(), "\u{fffd}");
        let root = |it: &Process| it.link("root");
        assert_eq!(read("root", "-> /tmp", root).unwrap(), "/tmp");
        let net = |it: &Process| it.namespace("net");
        assert_eq!(read("ns/net", "-> net:[17]", net).unwrap(), 17);
        let ids = |it: &Process| it.ids("uid_map");
        let map = "         0     100000      65536\n     65536  0  1\n";
        let ranges =
            [(0, 100_000, 65_536), (65_536, 0, 1)].map(|(inside, outside, count)| IdRange {
                inside,
                outside,
                count,
            });
        assert_eq!(read("uid_map", map, ids).unwrap(), ranges);
        assert_eq!(read("uid_map", "", ids).unwrap(), []);
    }

    #[test]
    fn what_is_missing() {
        let root = tree(&[("proc/7/", "")]);
        let process = Process::new(root.path(), 7);
        let gone = [
            process.started().map(drop),
            process.comm().map(drop),
            process.link("exe").map(drop),
            process.namespace("net").map(drop),
            process.ids("gid_map").map(drop),
            process.mounts().map(drop),
            process.status().map(drop),
        ];
        for read in gone {
            assert!(matches!(read, Err(Error::Gone { .. })), "{read:?}");
        }
    }

    #[test]
    fn what_is_garbage() {
        for stat in ["", "7 (a) S 1", &STAT.replace("4711", "-1")] {
            assert!(is_malformed(read("stat", stat, Process::started)), "{stat}");
        }
        for link in ["-> net:[x]", "-> uts:[17]", "-> 17"] {
            let net = |it: &Process| it.namespace("net");
            assert!(is_malformed(read("ns/net", link, net)), "{link}");
        }
        for map in ["0 1", "0 1 2 3", "0 1 4294967296", "0 -1 1"] {
            let ids = |it: &Process| it.ids("uid_map");
            assert!(is_malformed(read("uid_map", map, ids)), "{map}");
        }
        assert!(is_malformed(read("mountinfo", "1 2\n", Process::mounts)));
        assert!(is_malformed(read("status", "Name:\n", Process::status)));
    }
}

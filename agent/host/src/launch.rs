//! Reads and writes the files of `/proc` that a launcher needs for its processes: proc_pid_uid_map(5),
//! time_namespaces(7), proc_pid_oom_score_adj(5).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use agent_sys::start_area::StartArea;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;

use super::pinned::Pinned;

/// A file that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct Error {
    pub path: PathBuf,
    pub source: io::Error,
}

/// Writes the id maps of a new user namespace. `pid` is a process in it.
///
/// # Errors
/// The kernel refuses a map.
pub fn map_ids(pid: Pid, uids: &str, gids: &str) -> Result<(), Error> {
    let directory = directory(pid);
    write(directory.join("uid_map"), uids)?;
    write(directory.join("gid_map"), gids)
}

/// Maps root in this process's user namespace to one user and one group outside. Every user may map their own ids so.
///
/// # Errors
/// The ids are mapped already, or are not the caller's.
pub fn map_one_id(user: u32, group: u32) -> Result<(), Error> {
    let directory = Path::new("/proc/self");
    write(directory.join("uid_map"), &format!("0 {user} 1"))?;
    // The kernel demands this first: a process that could drop a group could gain access that the group is denied
    // (user_namespaces(7)).
    write(directory.join("setgroups"), "deny")?;
    write(directory.join("gid_map"), &format!("0 {group} 1"))
}

/// Sets the `oom_score_adj` of a process.
///
/// # Errors
/// The kernel refuses the value: without CAP_SYS_RESOURCE it refuses one lower than before.
pub fn set_oom_score_adjustment(pid: Pid, adjustment: i32) -> Result<(), Error> {
    write(
        directory(pid).join("oom_score_adj"),
        &adjustment.to_string(),
    )
}

/// Sets `oom_score_adj` of this process.
///
/// # Errors
/// As of [`set_oom_score_adjustment`].
pub fn set_own_oom_score_adjustment(adjustment: i32) -> io::Result<()> {
    let path = PathBuf::from("/proc/self/oom_score_adj");
    write(path, &adjustment.to_string()).map_err(|error| error.source)
}

/// Sets the clocks of the time namespace that this process's children will be in.
///
/// # Errors
/// An offset is out of range, or a process has entered the namespace already.
pub fn set_time_offsets(offsets: &str) -> Result<(), Error> {
    write(PathBuf::from("/proc/self/timens_offsets"), offsets)
}

/// Opens this process's namespace of the type `name` (such as `time` or `pid`).
///
/// # Errors
/// The kernel does not have this type of namespace.
pub fn own_namespace(name: &str) -> Result<OwnedFd, Error> {
    let path = Path::new("/proc/self/ns").join(name);
    match File::open(&path) {
        Ok(file) => Ok(file.into()),
        Err(source) => Err(Error { path, source }),
    }
}

/// Opens a process's user namespace.
///
/// # Errors
/// The process is gone.
pub fn user_namespace(pid: Pid) -> Result<OwnedFd, Error> {
    let path = directory(pid).join("ns/user");
    match File::open(&path) {
        Ok(file) => Ok(file.into()),
        Err(source) => Err(Error { path, source }),
    }
}

/// Whether this process is in another user namespace than the initial one.
#[must_use]
pub fn is_in_user_namespace() -> bool {
    const ALL: &str = "4294967295";
    fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| !map.split_whitespace().eq(["0", "0", ALL]))
}

/// Opens the file of one of this process's descriptors again. The new descriptor has its own file status flags, so a
/// change of them does not affect the old one.
///
/// # Errors
/// There is no `/proc`, or this user may not open the file.
pub fn reopen(descriptor: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    rustix::fs::open(path, flags, Mode::empty())
}

/// Returns where the arguments and environment of this process are in its memory.
///
/// # Errors
/// There is no `/proc`.
pub fn start_area() -> Result<StartArea, Error> {
    let path = PathBuf::from(StartArea::FILE);
    StartArea::of_own().map_err(|source| Error { path, source })
}

/// The types of namespaces, as `/proc/PID/ns` names them, and their clone flags.
const KINDS: [(&str, i32); 8] = [
    ("user", libc::CLONE_NEWUSER),
    ("mnt", libc::CLONE_NEWNS),
    ("pid", libc::CLONE_NEWPID),
    ("net", libc::CLONE_NEWNET),
    ("ipc", libc::CLONE_NEWIPC),
    ("uts", libc::CLONE_NEWUTS),
    ("cgroup", libc::CLONE_NEWCGROUP),
    ("time", libc::CLONE_NEWTIME),
];

/// Returns the types of namespaces (`CLONE_NEW*`) in which a process differs from this one, and the process's root
/// directory.
///
/// # Errors
/// The process is gone.
pub fn surroundings(process: &Pinned) -> Result<(i32, OwnedFd), Error> {
    let pid = process.pid();
    let theirs = directory(pid).join("ns");
    let mut kinds = 0;
    for (name, flag) in KINDS {
        let Ok(own) = fs::read_link(Path::new("/proc/self/ns").join(name)) else {
            // This kernel does not have this type.
            continue;
        };
        let path = theirs.join(name);
        match fs::read_link(&path) {
            Ok(their) if their != own => kinds |= flag,
            Ok(_) => {}
            Err(source) => return Err(Error { path, source }),
        }
    }
    let path = directory(pid).join("root");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(&path, flags, Mode::empty()).map_err(io::Error::from);
    let found = root.and_then(|root| process.check().map(|()| (kinds, root)));
    found.map_err(|source| Error { path, source })
}

/// Maps a user id of a process's user namespace to the id in this process's user namespace. Returns None where it is
/// not mapped, or the process is gone.
#[must_use]
pub fn user_outside(process: &Pinned, user: u32) -> Option<u32> {
    let map = fs::read_to_string(directory(process.pid()).join("uid_map")).ok()?;
    process.check().ok()?;
    map.lines().find_map(|line| {
        let mut numbers = line
            .split_whitespace()
            .map(|number| number.parse::<u32>().ok());
        let (inside, outside, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let index = user.checked_sub(inside).filter(|index| *index < count)?;
        outside.checked_add(index)
    })
}

/// Opens a process's namespaces of these types (`CLONE_NEW*`), the user namespace first. Returns each with its type.
///
/// # Errors
/// The process is gone.
pub fn namespaces(process: &Pinned, kinds: i32) -> Result<Vec<(OwnedFd, i32)>, Error> {
    let directory = directory(process.pid());
    let wanted = KINDS.iter().filter(|(_, kind)| kinds & kind != 0);
    let open = |(name, kind): &(&str, i32)| {
        let path = directory.join("ns").join(name);
        match File::open(&path) {
            Ok(file) => Ok((file.into(), *kind)),
            Err(source) => Err(Error { path, source }),
        }
    };
    let found = wanted.map(open).collect::<Result<_, _>>()?;
    let path = directory.clone();
    process.check().map_err(|source| Error { path, source })?;
    Ok(found)
}

/// Returns the kernel's name of a namespace: the text of the links that refer to it, such as `net:[4026531840]`.
/// Returns an empty text where `/proc` cannot be read.
#[must_use]
pub fn namespace_name(namespace: BorrowedFd<'_>) -> String {
    use std::os::fd::AsRawFd as _;
    let link = format!("/proc/self/fd/{}", namespace.as_raw_fd());
    let text = fs::read_link(link).unwrap_or_default();
    text.to_string_lossy().into_owned()
}

/// Returns the target of a link below an open directory.
#[must_use]
pub fn name_at(directory: BorrowedFd<'_>, path: &str) -> Option<String> {
    let text = rustix::fs::readlinkat(directory, path, Vec::new()).ok()?;
    text.into_string().ok()
}

/// Returns the pid of a process in its own pid namespace.
///
/// # Errors
/// The process is gone.
pub fn number_inside(pid: Pid) -> Result<i32, Error> {
    let path = directory(pid).join("status");
    let number = fs::read_to_string(&path).and_then(|text| {
        let mut lines = text.lines();
        let numbers = lines.find_map(|line| line.strip_prefix("NSpid:"));
        let last = numbers.and_then(|numbers| numbers.split_whitespace().next_back());
        let number = last.and_then(|last| last.parse().ok());
        number.ok_or_else(|| io::ErrorKind::InvalidData.into())
    });
    number.map_err(|source| Error { path, source })
}

/// Returns the processes in the pid namespace with this name, as [`namespace_name`] returns it.
pub fn members_of_pids(name: &str) -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|it| it.file_name().to_str()?.parse().ok());
    pids.filter_map(Pid::from_raw).filter(move |pid| {
        let link = fs::read_link(directory(*pid).join("ns/pid"));
        link.is_ok_and(|link| link.as_os_str() == name)
    })
}

fn directory(pid: Pid) -> PathBuf {
    PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()))
}

/// Writes the value in one call, as these files require.
fn write(path: PathBuf, value: &str) -> Result<(), Error> {
    let written = OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| file.write_all(value.as_bytes()));
    written.map_err(|source| Error { path, source })
}

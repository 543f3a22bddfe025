//! A user's directory for files that are needed until the host shuts down: `agent` in a directory that the caller names
//! (`$XDG_RUNTIME_DIR`, or that of [`runtime_of`]), else `/tmp/agent-UID`.
//!
//! Any user may make a directory of that name in /tmp first. Then the agent uses another one, `/tmp/agent-UID-SUFFIX`:
//! nobody can guess its name before it exists, and only its owner can remove it (the sticky bit).

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, statx};

use crate::owner::Owner;

/// The bytes of a suffix, before they are written in hexadecimal.
const SUFFIX: usize = 8;

/// How many names are tried, if each is taken already.
const ATTEMPTS: usize = 8;

/// The most entries of the shared directory that [`all_of`] reads.
const ENTRIES_AT_MOST: usize = 1 << 16;

/// The most directories with a suffix that [`all_of`] returns for one user. The agent uses one; only that user can have
/// made more.
const FOUND_AT_MOST: usize = 8;

/// Two files that are made this much apart have different times.
const TICK: Duration = Duration::from_millis(20);

/// A user's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserDirectory {
    /// The path. The directory may not exist yet.
    pub path: PathBuf,
    /// The first choice, where the directory stands in for it because others control the first choice.
    pub instead_of: Option<PathBuf>,
}

/// Returns the directory of the calling user, who is not root. `runtime` is the value of `XDG_RUNTIME_DIR`. It is
/// ignored if it is another user's directory, as su(1) may leave it there.
///
/// # Errors
/// /tmp is needed and cannot be read or written to.
pub fn of_user(runtime: Option<&Path>) -> io::Result<UserDirectory> {
    let Owner(user) = Owner::caller();
    let runtime = runtime.filter(|path| path.is_absolute() && is_own(path, user));
    match runtime {
        Some(runtime) => Ok(UserDirectory {
            path: runtime.join("agent"),
            instead_of: None,
        }),
        None => below(Path::new("/tmp"), user),
    }
}

/// Returns the directory that logind(8) made for a user, if it exists and only that user can use it. Not every process
/// of the user has it in its environment: cron(8) and su(1) do not set it.
pub fn runtime_of(user: u32) -> Option<PathBuf> {
    runtime_in(Path::new("/run/user"), user)
}

/// Returns the path in an environment variable; `None` where it is not set or empty, as the XDG Base Directory
/// Specification wants it.
pub fn variable(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os(name).map(PathBuf::from);
    path.filter(|path| !path.as_os_str().is_empty())
}

fn runtime_in(parent: &Path, user: u32) -> Option<PathBuf> {
    let path = parent.join(user.to_string());
    let found = fs::symlink_metadata(&path).ok()?;
    let is_own = found.is_dir() && Owner(user).has(&found) && found.mode() & 0o777 == 0o700;
    is_own.then_some(path)
}

/// Returns the directory of `user` below a directory that all users may write to.
fn below(shared: &Path, user: u32) -> io::Result<UserDirectory> {
    let first = shared.join(format!("agent-{user}"));
    let found = |path: PathBuf, instead_of| UserDirectory { path, instead_of };
    if is_safe(&first, user) {
        return Ok(found(first, None));
    }
    let is_planted = fs::symlink_metadata(&first).is_ok();
    // The other directory stays in use when the planted one is gone: a container may run from it.
    let other = oldest(shared, user)?;
    match (other, is_planted) {
        (Some(other), _) => Ok(found(other, Some(first))),
        (None, false) => Ok(found(first, None)),
        (None, true) => Ok(found(make(shared, user)?, Some(first))),
    }
}

/// Whether `path` is a directory that the user owns.
fn is_own(path: &Path, user: u32) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_dir() && Owner(user).has(&found))
}

/// Whether `path` is a directory that the user owns, is not a link, and that nobody else may write to.
fn is_safe(path: &Path, user: u32) -> bool {
    // STATX_DONT_SYNC: the kernel must not ask the server of a file system, which may be the user's own.
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC;
    let wanted = StatxFlags::TYPE | StatxFlags::MODE | StatxFlags::UID;
    statx(CWD, path, flags, wanted).is_ok_and(|found| {
        let kind = FileType::from_raw_mode(found.stx_mode.into());
        kind == FileType::Directory && found.stx_uid == user && found.stx_mode & 0o022 == 0
    })
}

/// Makes a directory with a suffix. Of several processes that do so at once, all use the oldest directory.
fn make(shared: &Path, user: u32) -> io::Result<PathBuf> {
    let mut last = io::Error::from(ErrorKind::AlreadyExists);
    for _ in 0..ATTEMPTS {
        let path = shared.join(format!("agent-{user}-{}", suffix()?));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => {
                // A directory that is made after the search below is younger than this one, by the file system's clock.
                sleep(TICK);
                let oldest = oldest(shared, user)?;
                let oldest = oldest.unwrap_or_else(|| path.clone());
                if oldest != path {
                    // It is empty, and no other process uses it.
                    let _ = fs::remove_dir(&path);
                }
                return Ok(oldest);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

fn suffix() -> io::Result<String> {
    let mut bytes = [0; SUFFIX];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}

/// Returns all directories that `user` may use, for another user such as root. It reads at most 65,536 entries of
/// `shared`, so it may miss a directory where there are more.
pub fn all_of(shared: &Path, user: u32) -> Vec<PathBuf> {
    let first = format!("agent-{user}");
    let entries = fs::read_dir(shared).into_iter().flatten().flatten();
    let names = entries.take(ENTRIES_AT_MOST).map(|entry| entry.file_name());
    let own = names.filter(|name| {
        let rest = name.to_str().and_then(|name| name.strip_prefix(&first));
        rest.is_some_and(|rest| rest.starts_with('-'))
    });
    let paths = own.map(|name| shared.join(name));
    let others = paths.filter(|path| is_safe(path, user)).take(FOUND_AT_MOST);
    [shared.join(&first)].into_iter().chain(others).collect()
}

/// Returns the oldest directory with a suffix that is safely the user's.
fn oldest(shared: &Path, user: u32) -> io::Result<Option<PathBuf>> {
    let prefix = format!("agent-{user}-");
    let mut oldest: Option<(SystemTime, PathBuf)> = None;
    for entry in fs::read_dir(shared)? {
        let entry = entry?;
        let name = entry.file_name();
        let suffix = name.to_str().and_then(|name| name.strip_prefix(&prefix));
        let is_suffix = |suffix: &str| {
            suffix.len() == 2 * SUFFIX && suffix.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let path = entry.path();
        if !suffix.is_some_and(is_suffix) || !is_safe(&path, user) {
            continue;
        }
        let made = fs::symlink_metadata(&path).and_then(|found| found.created());
        let this = (made.unwrap_or(SystemTime::UNIX_EPOCH), path);
        if oldest.as_ref().is_none_or(|oldest| this < *oldest) {
            oldest = Some(this);
        }
    }
    Ok(oldest.map(|(_, path)| path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn user() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn make_open(path: &Path) {
        fs::create_dir(path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }

    #[test]
    fn what_is_not_planted_is_taken() {
        let shared = tempfile::tempdir().unwrap();
        let first = shared.path().join(format!("agent-{}", user()));
        let wanted = UserDirectory {
            path: first.clone(),
            instead_of: None,
        };
        assert_eq!(below(shared.path(), user()).unwrap(), wanted);
        assert!(!first.exists());
        DirBuilder::new().mode(0o755).create(&first).unwrap();
        assert_eq!(below(shared.path(), user()).unwrap(), wanted);
    }

    #[test]
    fn another_serves_for_what_is_planted_and_stays_in_use() {
        let plant: [&dyn Fn(&Path); 3] =
            [&make_open, &|path| symlink("/", path).unwrap(), &|path| {
                fs::write(path, "").unwrap()
            }];
        for plant in plant {
            let shared = tempfile::tempdir().unwrap();
            let first = shared.path().join(format!("agent-{}", user()));
            plant(&first);
            let other = below(shared.path(), user()).unwrap();
            assert_eq!(other.instead_of.as_ref(), Some(&first));
            assert!(is_safe(&other.path, user()));
            assert_eq!(below(shared.path(), user()).unwrap(), other);
            let _ = fs::remove_file(&first);
            let _ = fs::remove_dir(&first);
            assert_eq!(below(shared.path(), user()).unwrap(), other);
        }
    }

    #[test]
    fn what_only_looks_like_another_is_not_taken() {
        let shared = tempfile::tempdir().unwrap();
        let at = |name: &str| shared.path().join(format!("agent-{}{name}", user()));
        make_open(&at(""));
        make_open(&at("-0000000000000000"));
        symlink("/", at("-0000000000000001")).unwrap();
        fs::create_dir(at("-1")).unwrap();
        let other = below(shared.path(), user()).unwrap();
        let listed = ["-0000000000000000", "-0000000000000001", "-1"].map(at);
        assert!(!listed.contains(&other.path), "{other:?}");
    }

    #[test]
    fn many_at_once_take_the_same() {
        let shared = tempfile::tempdir().unwrap();
        make_open(&shared.path().join(format!("agent-{}", user())));
        let taken: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| below(shared.path(), user()).unwrap()))
                .collect();
            let taken = threads.into_iter().map(|thread| thread.join().unwrap());
            taken.collect()
        });
        assert!(taken.iter().all(|it| it == &taken[0]), "{taken:?}");
        assert_eq!(fs::read_dir(shared.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_runtime_directory_is_found_without_being_told() {
        let parent = tempfile::tempdir().unwrap();
        let own = parent.path().join(user().to_string());
        let found = || runtime_in(parent.path(), user());
        assert_eq!(found(), None);
        symlink("/tmp", &own).unwrap();
        assert_eq!(found(), None);
        fs::remove_file(&own).unwrap();
        fs::create_dir(&own).unwrap();
        for (mode, wanted) in [(0o755, None), (0o770, None), (0o700, Some(own.clone()))] {
            fs::set_permissions(&own, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(found(), wanted, "{mode:o}");
        }
    }

    #[test]
    fn the_runtime_directory_of_another_user_is_not_taken() {
        let own = tempfile::tempdir().unwrap();
        assert_eq!(
            of_user(Some(own.path())).unwrap().path,
            own.path().join("agent")
        );
        if user() == 0 {
            std::os::unix::fs::chown(own.path(), Some(65_534), None).unwrap();
            assert!(!is_own(own.path(), user()));
        }
    }
}

//! The directory of an ordinary user: where logind makes one it is that, told or not; in /tmp, what another user made there
//! first locks nobody out.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tests::agent::binary;
use tests::program::copy;

/// A user of this test alone. That it has no name is no matter.
const USER: u32 = 64_003;

/// Removes what is there of the user's, and what was planted.
struct Planted;

impl Planted {
    fn path() -> PathBuf {
        format!("/tmp/agent-{USER}").into()
    }

    fn new() -> Self {
        let planted = Self;
        planted.remove();
        fs::create_dir(Self::path()).expect("a directory in /tmp");
        chown(Self::path(), Some(USER + 1), Some(USER + 1)).expect("root");
        planted
    }

    /// The directories that serve instead.
    fn others() -> Vec<PathBuf> {
        let entries = fs::read_dir("/tmp").expect("/tmp").flatten();
        let prefix = format!("agent-{USER}-");
        let others = entries.filter(|it| it.file_name().to_string_lossy().starts_with(&prefix));
        others.map(|entry| entry.path()).collect()
    }

    fn remove(&self) {
        for path in Self::others().into_iter().chain([Self::path()]) {
            let _ = fs::remove_dir_all(path);
        }
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        self.remove();
    }
}

#[test]
#[ignore = "needs root"]
fn a_planted_directory_locks_nobody_out() {
    let _planted = Planted::new();
    let directory = tempfile::tempdir_in("/tmp").expect("a directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("own");
    copy(binary(), &directory.path().join("agent"));
    let agent = |arguments: &[&str]| {
        let mut agent = Command::new(directory.path().join("agent"));
        agent
            .args(arguments)
            .uid(USER)
            .gid(USER)
            .env_remove("XDG_RUNTIME_DIR");
        agent.stdin(Stdio::null()).output().expect("agent")
    };
    let mut used = None;
    for _ in 0..2 {
        let run = agent(&["run", "--bin", "true", "true"]);
        let said = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(0), "{said}");
        let others = Planted::others();
        let [other] = &others[..] else {
            panic!("{others:?}")
        };
        let note = format!(
            "{} is not a directory of this user's alone; {} is used instead",
            Planted::path().display(),
            other.display()
        );
        assert_eq!(said.matches(&note).count(), 1, "{said}");
        assert_eq!(used.get_or_insert_with(|| other.clone()), other);
    }
    // Who planted it can do nothing about the other one.
    let logs = agent(&["logs", "nobody"]);
    let said = String::from_utf8_lossy(&logs.stderr);
    assert!(said.contains("there is no container \"nobody\""), "{said}");
}

/// Removes a user's directories.
struct Directories([PathBuf; 2]);

impl Drop for Directories {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// Whoever is not told of it, as by cron(8), has state in the user's own directory too; a container that was made before
/// there was one is still found.
#[test]
#[ignore = "needs root"]
fn the_runtime_directory_serves_untold() {
    const OTHER: u32 = 64_013;
    let [runtime, shared] = ["/run/user", "/tmp/agent"].map(PathBuf::from);
    let own = Directories([
        runtime.join(OTHER.to_string()),
        format!("{}-{OTHER}", shared.display()).into(),
    ]);
    let [runtime, shared] = &own.0;
    let place = tempfile::tempdir_in("/tmp").expect("a directory");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).expect("own");
    copy(binary(), &place.path().join("agent"));
    let agent = |arguments: &[&str]| {
        let mut agent = Command::new(place.path().join("agent"));
        let agent = agent.args(arguments).current_dir("/").uid(OTHER).gid(OTHER);
        let agent = agent.env_remove("XDG_RUNTIME_DIR").stdin(Stdio::null());
        let output = agent.output().expect("agent");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    };
    let start = |name: &str| {
        agent(&[
            "run", "-d", "--name", name, "--bin", "sleep", "sleep", "1000",
        ])
    };
    let has = |store: &Path, name: &str| store.join(name).exists();
    start("before");
    assert!(has(&shared.join("containers"), "before"));
    fs::create_dir_all(runtime).expect("a directory");
    fs::set_permissions(runtime, fs::Permissions::from_mode(0o700)).expect("own");
    chown(runtime, Some(OTHER), Some(OTHER)).expect("root");
    agent(&["exec", "before", "sleep", "0"]);
    agent(&["rm", "-f", "before"]);
    start("after");
    assert!(has(&runtime.join("agent-containers"), "after"));
    assert!(!has(&shared.join("containers"), "after"));
    agent(&["rm", "-f", "after"]);
}

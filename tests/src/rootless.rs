//! The containers of an ordinary user.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::agent::binary;
use crate::cgroup::{Cgroup, roots};
use crate::program;
use crate::run::rootfs;
use crate::wait::{PATIENCE, wait_for};

/// Nobody's, who has no ranges of other ids.
pub const USER: u32 = 65_534;

/// The program and a root file system where everybody can read them.
#[derive(Debug)]
pub struct Everybodys {
    user: u32,
    directory: tempfile::TempDir,
    /// The user's `XDG_RUNTIME_DIR`.
    runtime: PathBuf,
}

impl Default for Everybodys {
    fn default() -> Self {
        Self::new()
    }
}

impl Everybodys {
    /// For [`USER`].
    ///
    /// # Panics
    /// Where it cannot be made.
    pub fn new() -> Self {
        Self::of(USER, None)
    }

    /// For a user whose containers' state is where the agent of root looks for it, and whom no other test has.
    ///
    /// # Panics
    /// Where it cannot be made.
    pub fn of_session() -> Self {
        let user = 60_000 + std::process::id() % 5000;
        let runtime = PathBuf::from(format!("/run/user/{user}"));
        fs::create_dir_all("/run/user").expect("a directory");
        fs::create_dir(&runtime).expect("a directory of this test's own");
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700)).expect("permissions");
        chown(&runtime, Some(user), Some(user)).expect("root");
        Self::of(user, Some(runtime))
    }

    fn of(user: u32, runtime: Option<PathBuf>) -> Self {
        let directory = tempfile::tempdir_in("/tmp").expect("a directory");
        let path = directory.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("permissions");
        program::copy(binary(), &path.join("agent"));
        let state = path.join("state");
        fs::create_dir(&state).expect("a directory");
        chown(&state, Some(user), Some(user)).expect("root");
        let mut copy = Command::new("cp");
        let copied = copy.arg("-a").arg(rootfs()).arg(path.join("root")).status();
        assert!(copied.is_ok_and(|status| status.success()));
        Self {
            user,
            runtime: runtime.unwrap_or(state),
            directory,
        }
    }

    /// Whose they are.
    pub fn user(&self) -> u32 {
        self.user
    }

    /// One of the files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The agent with these words, as that user.
    pub fn agent(&self, words: &[&str]) -> Command {
        let mut agent = Command::new(self.path("agent"));
        agent.args(words);
        agent.env("XDG_RUNTIME_DIR", &self.runtime).current_dir("/");
        agent.uid(self.user).gid(self.user).stdin(Stdio::null());
        agent
    }

    /// What is written of a container.
    ///
    /// # Panics
    /// Where nothing is.
    pub fn state(&self, name: &str) -> serde_json::Value {
        let path = self.runtime.join("agent-containers").join(name);
        let text = fs::read(path.join("state.json")).expect("a state");
        serde_json::from_slice(&text).expect("JSON")
    }

    /// # Panics
    /// Where none runs.
    pub fn kill_supervisor(&self, name: &str) {
        let pid = self.state(name)["supervisor"].as_i64();
        let pid = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let pid = pid.expect("a supervisor");
        kill_process(pid, Signal::KILL).expect("a process");
        wait_until_dead(&PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero())));
    }

    /// `agent run`, as that user.
    pub fn run(&self, flags: &[&str], command: &[&str]) -> Command {
        let mut run = Command::new(self.path("agent"));
        run.args(["run", "--rootfs"])
            .arg(self.path("root"))
            .args(flags)
            .args(command);
        run.env("XDG_RUNTIME_DIR", &self.runtime).current_dir("/");
        run.uid(self.user).gid(self.user).stdin(Stdio::null());
        run
    }
}

impl Drop for Everybodys {
    fn drop(&mut self) {
        // For a test that failed.
        let _ = self
            .agent(&["rm", "-f", "web"])
            .stderr(Stdio::null())
            .status();
        if self.runtime.starts_with("/run/user") {
            let _ = fs::remove_dir_all(&self.runtime);
        }
    }
}

/// A cgroup that is delegated to the user, and another one below, in which callers are.
#[derive(Debug)]
pub struct Delegated {
    pub outer: Cgroup,
    pub inner: Cgroup,
}

impl Delegated {
    /// Of the user of these files.
    ///
    /// # Panics
    /// Where it cannot be made.
    pub fn new(name: &str, files: &Everybodys) -> Self {
        // Of no container: what is below it is found by its own name.
        let outer = Cgroup::strangers(name, "outer");
        let inner = outer.child("inner");
        for cgroup in [&outer, &inner] {
            let below = cgroup.path().trim_start_matches('/').to_owned();
            roots().for_each(|root| delegate(&root.join(&below), files.user));
        }
        Self { outer, inner }
    }

    /// The agent with these words, as the user, alone in the inner cgroup.
    pub fn agent(&self, files: &Everybodys, words: &[&str]) -> Command {
        // Into the cgroup as root, then the user.
        let mut enter = self.inner.command("perl");
        let user = files.user;
        let become_user = format!("$( = $) = '{user} {user}'; $< = $> = {user}; exec @ARGV");
        enter.args(["-e", &become_user]).arg(files.path("agent"));
        enter
            .args(words)
            .env("XDG_RUNTIME_DIR", &files.runtime)
            .current_dir("/")
            .stdin(Stdio::null());
        enter
    }

    /// What is below the inner one, in any hierarchy.
    ///
    /// # Panics
    /// Where that cannot be read.
    pub fn left(&self) -> Vec<PathBuf> {
        let inner = self.inner.path();
        let all = roots().map(|root| root.join(inner.trim_start_matches('/')));
        let below = all.flat_map(|inner| fs::read_dir(inner).expect("a cgroup").flatten());
        let paths = below.map(|entry| entry.path());
        paths.filter(|path| path.is_dir()).collect()
    }

    /// # Panics
    /// Where something stays of what was made in them.
    pub fn assert_empty(&self) {
        wait_for("nothing stays", PATIENCE, || {
            self.left().is_empty().then_some(())
        });
        let outer = self.outer.path();
        for root in roots() {
            let agent = root.join(outer.trim_start_matches('/')).join("agent");
            assert!(!agent.exists(), "{}", agent.display());
        }
    }
}

/// Who is to reap it may take its time.
///
/// # Panics
/// Where it does not end.
pub fn wait_until_dead(process: &Path) {
    wait_for("it ends", PATIENCE, || {
        let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    });
}

/// Limits its memory, swap included.
///
/// # Panics
/// Where the kernel refuses.
pub fn limit_memory(cgroup: &Cgroup, bytes: u64) {
    let bytes = &*bytes.to_string();
    if Cgroup::is_v1("memory") {
        let both = "memory.memsw.limit_in_bytes";
        let has_both = cgroup.directory("memory").join(both).exists();
        if has_both {
            // It may not be less than that of memory.
            cgroup.write("memory", both, "-1");
        }
        cgroup.write("memory", "memory.limit_in_bytes", bytes);
        if has_both {
            cgroup.write("memory", both, bytes);
        }
    } else {
        cgroup.write("memory", "memory.max", bytes);
        cgroup.write("memory", "memory.swap.max", "0");
    }
}

/// Gives a cgroup to the user, as systemd's Delegate= does.
fn delegate(directory: &Path, user: u32) {
    for name in [
        "",
        "cgroup.procs",
        "cgroup.subtree_control",
        "tasks",
        "cgroup.threads",
    ] {
        let path = directory.join(name);
        if path.exists() {
            chown(&path, Some(user), Some(user)).expect("root");
        }
    }
}

//! Containers of `agent run`, with a root file system of busybox, and what must not be left of them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::agent::{agent, binary};
use crate::cgroup::roots;
use crate::program::{self, program};
use crate::wait::{PATIENCE, wait_for};

/// Where `agent run` keeps what it knows, for root.
pub const STATE: &str = "/run/agent-containers";

/// What busybox is called in the root file system.
const APPLETS: [&str; 22] = [
    "cat", "env", "echo", "false", "head", "hostname", "id", "kill", "ls", "mount", "od", "ps",
    "pwd", "readlink", "sh", "sleep", "stty", "touch", "true", "tty", "wc", "yes",
];

/// The root file system that all containers of a test program share.
///
/// # Panics
/// Where it cannot be made.
pub fn rootfs() -> &'static Path {
    static ROOTFS: OnceLock<PathBuf> = OnceLock::new();
    ROOTFS.get_or_init(|| {
        // Beside the program, so that it is not made anew for each: nothing writes to it.
        let root = crate::agent::profile().join("busybox-rootfs");
        let bin = root.join("bin");
        fs::create_dir_all(&bin).expect("a directory");
        for directory in ["dev", "etc", "proc", "sys", "tmp"] {
            fs::create_dir_all(root.join(directory)).expect("a directory");
        }
        let busybox = bin.join("busybox");
        let new = bin.join(format!("busybox.{}", std::process::id()));
        program::copy(&program("busybox"), &new);
        fs::rename(new, busybox).expect("a file");
        fs::write(bin.join("data"), "no program").expect("a file");
        for applet in APPLETS {
            // It may be there.
            let _ = symlink("busybox", bin.join(applet));
        }
        root
    })
}

/// A container's name, and a promise that nothing of it stays.
#[derive(Debug)]
pub struct Container {
    pub name: String,
}

impl Container {
    /// A name that no other has.
    pub fn new(name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self {
            name: format!("{name}-{}-{number}", std::process::id()),
        }
    }

    /// `agent run` with these flags, of a command.
    pub fn run(&self, flags: &[&str], command: &[&str]) -> Command {
        let mut run = agent(["run", "--name", &self.name, "--rootfs"]);
        run.arg(rootfs()).args(flags).args(command);
        run.stdin(Stdio::null());
        run
    }

    /// `agent COMMAND FLAGS NAME ARGUMENTS`.
    pub fn agent(&self, command: &str, flags: &[&str], arguments: &[&str]) -> Command {
        let mut call = agent([command]);
        call.args(flags).arg(&self.name).args(arguments);
        call.stdin(Stdio::null());
        call
    }

    /// Starts it detached.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn start(&self, flags: &[&str], command: &[&str]) {
        let output = output(self.run(&["-d"], &[]).args(flags).args(command));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).trim_end(),
            self.name
        );
    }

    /// Its first process, as its state has it.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn pid(&self) -> u32 {
        self.state()["status"]["running"]["pid"]
            .as_u64()
            .and_then(|pid| u32::try_from(pid).ok())
            .expect("a container that runs")
    }

    /// What is written of it.
    ///
    /// # Panics
    /// Where nothing is.
    pub fn state(&self) -> serde_json::Value {
        let path = Path::new(STATE).join(&self.name).join("state.json");
        let text = fs::read(&path).expect("a state");
        serde_json::from_slice(&text).expect("JSON")
    }

    /// What there is of it on the host: directories of its state and cgroups, its interfaces, processes.
    pub fn remains(&self) -> Vec<String> {
        let mut paths = vec![Path::new(STATE).join(&self.name)];
        paths.extend(roots().map(|root| root.join("agent").join(&self.name)));
        paths.retain(|path| path.exists());
        paths.extend(interfaces(&self.name));
        let mut remains: Vec<_> = paths.iter().map(|it| it.display().to_string()).collect();
        remains.extend(self.processes());
        remains
    }

    /// Its processes, and those of the agent that are about it.
    pub fn processes(&self) -> BTreeSet<String> {
        processes()
            .filter_map(|process| self.owns(&process))
            .collect()
    }

    /// What a process is called, where it is of this container: by its cgroup or its command line.
    fn owns(&self, process: &Path) -> Option<String> {
        let own = format!("/proc/{}", std::process::id());
        // One that has ended meanwhile is of nobody.
        let cgroup = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
        let command = fs::read(process.join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let found = cgroup.contains(&self.name) || command.contains(&self.name);
        // One that waits for init, to be reaped, has ended too.
        let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
        let runs = !stat.contains(") Z ") && process != Path::new(&own);
        (found && runs).then(|| format!("{}: {command}", process.display()))
    }

    /// Waits until nothing of it is there.
    ///
    /// # Panics
    /// Where something stays.
    pub fn assert_gone(&self) {
        let mut last = Vec::new();
        let gone = crate::wait::poll(PATIENCE, || {
            last = self.remains();
            last.is_empty().then_some(())
        });
        assert!(gone.is_some(), "{} left: {last:#?}", self.name);
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // For a test that failed.
        let _ = Command::new(binary())
            .args(["rm", "-f", &self.name])
            .stderr(Stdio::null())
            .status();
    }
}

/// Runs it to its end.
///
/// # Panics
/// Where it cannot be run.
pub fn output(command: &mut Command) -> Output {
    command.output().expect("the program can be run")
}

/// Its exit status.
///
/// # Panics
/// Where it cannot be run, or dies of a signal.
pub fn status(command: &mut Command) -> i32 {
    let output = output(command);
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

/// What it wrote to standard output, where it succeeded.
///
/// # Panics
/// Where it did not.
pub fn text(command: &mut Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Lets another command clean up after those that were killed.
///
/// # Panics
/// Where it cannot be run.
pub fn next_command() {
    // There is no such container.
    let ended = output(agent(["wait", "nobody-has-this-name"]).stdin(Stdio::null()));
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
}

/// The host's interfaces that were made for a container, whatever they are called.
fn interfaces(name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir("/sys/class/net").expect("/sys").flatten();
    let paths = entries.map(|entry| entry.path());
    let alias = format!("agent run {name}");
    let is_its = |path: &PathBuf| {
        // One that has gone meanwhile is nobody's.
        let found = fs::read_to_string(path.join("ifalias")).unwrap_or_default();
        found.trim_end() == alias
    };
    paths.filter(is_its).collect()
}

/// The directories of processes.
fn processes() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let numbers = |name: &OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    entries
        .filter(move |entry| numbers(&entry.file_name()))
        .map(|entry| entry.path())
}

/// Waits until a container that was started in the foreground runs its command.
///
/// # Panics
/// Where it does not.
pub fn wait_until_it_runs(container: &Container) -> u32 {
    wait_for("a container runs", PATIENCE, || {
        let path = Path::new(STATE).join(&container.name).join("state.json");
        let state: serde_json::Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        u32::try_from(state["status"]["running"]["pid"].as_u64()?).ok()
    })
}

//! Cgroups with a sleeping process each, which are gone in the end, whatever the end is.

use std::fs;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tests::cgroup::{self, Cgroup};
use tests::process::wait_until_it_is;
use tests::wait::{PATIENCE, poll};

use crate::console;

/// The name of all cgroups here, which a pid follows.
const NAME: &str = "bench";

/// The word that makes this program a guard; the names' prefix follows.
const WORD: &str = "--guard";

/// How many processes are started at once: each is a shell first.
const AT_ONCE: usize = 16;

/// Watches over the cgroups of this process: another process, which removes what is left of them when this one is gone,
/// even by SIGKILL. Not in the terminal's process group, so that Ctrl-C does not end it.
pub struct Guard {
    /// Ends when its standard input does.
    child: Child,
}

impl Guard {
    pub fn start() -> Self {
        let program = std::env::current_exe().expect("this program");
        let prefix = format!("{NAME}-{}-", std::process::id());
        let child = Command::new(program)
            .args([WORD, &prefix])
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("this program can be run");
        Self { child }
    }

    /// The prefix that it was started with, where this process is one.
    pub fn is_asked_for() -> Option<String> {
        let mut words = std::env::args().skip(1);
        (words.next()? == WORD).then(|| words.next())?
    }

    /// A cgroup in its care that no engine made.
    pub fn stranger(&self) -> Cgroup {
        Cgroup::strangers(NAME, "plain")
    }

    /// A cgroup in its care, which is that of a container.
    pub fn cgroup(&self) -> Cgroup {
        Cgroup::new(NAME)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// What a guard does: waits for the end of who started it, then removes the cgroups whose names begin so, and gives the
/// console back its level.
pub fn guard(prefix: &str) {
    let level = console::level();
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    poll(PATIENCE, || {
        let above = cgroup::roots().flat_map(|root| [root.join(cgroup::PARENT), root.to_owned()]);
        let left: Vec<_> = above.flat_map(|above| children(&above, prefix)).collect();
        left.iter().for_each(|directory| kill_members(directory));
        // All are tried, whatever becomes of the first.
        let gone = left
            .iter()
            .filter(|directory| cgroup::remove(directory).is_some());
        (gone.count() == left.len()).then_some(())
    });
    console::restore(level);
}

fn children(parent: &Path, prefix: &str) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let own = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    let paths = own.map(|entry| entry.path());
    paths.filter(|path| path.is_dir()).collect()
}

/// Kills what is in a cgroup and below it.
fn kill_members(directory: &Path) {
    for below in children(directory, "") {
        kill_members(&below);
    }
    let members = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    let pids = members
        .lines()
        .filter_map(|line| Pid::from_raw(line.parse().ok()?));
    for pid in pids {
        // It may have ended meanwhile.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Many containers, a process that sleeps in each.
pub struct Sleepers {
    network: Network,
    all: Vec<Sleeper>,
}

/// Which network the processes are in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Network {
    Host,
    /// Each has one of its own.
    Own,
}

/// A container with a mount namespace of its own.
pub struct Sleeper {
    pub cgroup: Cgroup,
    child: Child,
}

impl Sleepers {
    pub fn start(guard: &Guard, count: u32, network: Network) -> Self {
        let mut sleepers = Self {
            network,
            all: Vec::new(),
        };
        sleepers.grow(guard, count);
        sleepers
    }

    /// Starts more, until there are so many.
    pub fn grow(&mut self, guard: &Guard, count: u32) {
        while self.all.len() < count as usize {
            let from = self.all.len();
            let next = AT_ONCE.min(count as usize - from);
            let network = self.network;
            self.all
                .extend((0..next).map(|_| Sleeper::start(guard.cgroup(), network)));
            for sleeper in &self.all[from..] {
                wait_until_it_is(sleeper.pid(), "sleep");
            }
        }
    }

    pub fn all(&self) -> &[Sleeper] {
        &self.all
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        for sleeper in &mut self.all {
            let _ = sleeper.child.kill();
        }
        for sleeper in &mut self.all {
            let _ = sleeper.child.wait();
        }
    }
}

impl Sleeper {
    /// As engines do: it has namespaces before it enters the cgroup, and executes a program there.
    fn start(cgroup: Cgroup, network: Network) -> Self {
        let mut inside = cgroup.command("sleep");
        inside.arg("infinity");
        let child = Command::new("unshare")
            .args(["--mount", "--propagation", "unchanged"])
            .args((network == Network::Own).then_some("--net"))
            .arg(inside.get_program())
            .args(inside.get_args())
            .stdin(Stdio::null())
            .spawn()
            .expect("unshare can be run");
        Self { cgroup, child }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

//! How long a container takes that does nothing: `/bin/true` from start to end, by `agent run`, by crun with the same
//! spec, and by hand-written floors (`floor.c`): one that makes the same container, and one that makes a lesser one.
//!
//! Three regimes: *back to back*, each side in a row of its own launches; *shuffled*, the sides in turns; and *idle*, each
//! launch after a pause, as people launch. The kernel finishes what a launch left in the time of the next one, and moves
//! a process into a cgroup of v1 sooner where somebody has just done so: each regime has its own ratio.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::agent::{agent, binary};
use tests::cgroup::{Cgroup, PARENT, roots};
use tests::program::program;
use tests::rootfs::Rootfs;

use crate::Size;
use crate::report::{Figure, Unit, median, median_ratio};

/// Launches of each side, one after the other.
const LAUNCHES: u32 = 100;

/// Containers that are started at once.
const AT_ONCE: u32 = 8;

/// Memory, CPU time and processes are limited; `agent run` is told the same in flags.
const LIMITS: [&str; 6] = ["--memory", "64m", "--cpus", "1", "--pids-limit", "100"];

const COMMAND: &str = "/bin/true";

/// The file with the system call filter, for the floor.
const FILTER: &str = "filter";

/// What all hosts have in memory (file-hierarchy(7)), and this machine may have on its disk: states are kept there.
const RUN: &str = "/run";

/// Measured among mounts of this thread's own, without the hierarchy of v2: crun refuses a host that has both.
pub fn measure(size: Size) -> Vec<Figure> {
    let measured = std::thread::scope(|scope| scope.spawn(|| in_own_mounts(size)).join());
    measured.expect("the launches are measured")
}

fn in_own_mounts(size: Size) -> Vec<Figure> {
    // SAFETY: only this thread gets another mount namespace and working directory, and uses neither through another.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.expect("a mount namespace");
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).expect("private mounts");
    for root in roots().filter(|root| root.join("cgroup.controllers").exists()) {
        if roots().count() > 1 {
            unmount(root, UnmountFlags::DETACH).expect("the hierarchy of v2");
            // crun makes directories there all the same: in what ends with this thread.
            mount("none", root, "tmpfs", MountFlags::empty(), None).expect("an empty directory");
        }
    }
    // A record of state is believed only where nobody else may write.
    mount("tmpfs", RUN, "tmpfs", MountFlags::empty(), c"mode=755").expect("a /run in memory");
    let bench = Bench::new();
    let count = size.count.unwrap_or(LAUNCHES).max(2);
    let mut figures: Vec<Figure> = REGIMES
        .iter()
        .flat_map(|regime| regime.figures(&bench.single(regime, count)))
        .collect();
    let [ours_many, crun_many] = bench.at_once((count / AT_ONCE).max(2));
    assert_nothing_left();
    figures.extend([
        Figure::new(
            "launch: 8 at once, agent run",
            Unit::Seconds,
            median(ours_many.clone()),
        ),
        Figure::new(
            "launch: 8 at once, agent run / crun",
            Unit::Ratio,
            median_ratio(&ours_many, &crun_many),
        )
        .at_most(0.7),
    ]);
    figures
}

/// In which order launches come, and what of crun's time and the floor's ours may take.
struct Regime {
    name: &'static str,
    /// How many launches of one side come in a row. The first of several is not counted.
    row: u32,
    pause: Duration,
    of_crun: f64,
}

const REGIMES: [Regime; 3] = [
    Regime {
        name: "back to back",
        row: 11,
        pause: Duration::ZERO,
        of_crun: 0.7,
    },
    Regime {
        name: "shuffled",
        row: 1,
        pause: Duration::ZERO,
        of_crun: 0.7,
    },
    Regime {
        name: "after idle",
        row: 1,
        pause: Duration::from_millis(250),
        of_crun: 0.45,
    },
];

/// Of the floor's time, in each regime.
const OF_FLOOR: f64 = 1.4;

impl Regime {
    fn figures(&self, seconds: &[Vec<f64>; 4]) -> Vec<Figure> {
        let [ours, crun, whole, least] = seconds;
        let figure = |what: &str, unit, value| {
            Figure::new(format!("launch, {}: {what}", self.name), unit, value)
        };
        let time = |what, seconds: &Vec<f64>| figure(what, Unit::Seconds, median(seconds.clone()));
        let ratio = |what, other| figure(what, Unit::Ratio, median_ratio(ours, other));
        let mut figures = vec![
            time("agent run /bin/true", ours),
            time("crun", crun),
            ratio("agent run / crun", crun).at_most(self.of_crun),
        ];
        if !whole.is_empty() {
            figures.extend([
                time("the floor", whole),
                time("the least floor", least),
                ratio("agent run / the floor", whole).at_most(OF_FLOOR),
                ratio("agent run / the least floor", least),
            ]);
        }
        figures
    }
}

/// What launches.
#[derive(Clone, Copy)]
enum Side {
    Agent,
    Crun,
    /// The floor.
    Whole,
    /// The least floor.
    Least,
}

struct Bench {
    rootfs: Rootfs,
    /// OCI bundles of the root file system, and the floor.
    directory: TempDir,
    /// What runs crun.
    crun: Vec<String>,
    /// They are made for cgroups of v1.
    has_floors: bool,
}

/// Names what runs crun: words, with tabs between.
const CRUN: &str = "BENCH_CRUN";

impl Bench {
    fn new() -> Self {
        let crun = env::var(CRUN).unwrap_or_else(|_| program("crun").display().to_string());
        let bench = Self {
            crun: crun.split('\t').map(str::to_owned).collect(),
            has_floors: Cgroup::is_v1("memory"),
            rootfs: Rootfs::new(&[]),
            directory: tempfile::tempdir().expect("a temporary directory"),
        };
        if bench.has_floors {
            bench.compile_floor();
            bench.save_filter();
        }
        for number in 0..AT_ONCE {
            let bundle = bench.bundle(number);
            fs::create_dir(&bundle).expect("a directory");
            let spec = bench.spec(&name(Side::Crun, number)).to_string();
            fs::write(bundle.join("config.json"), spec).expect("a spec");
        }
        bench
    }

    fn compile_floor(&self) {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/bin/bench/floor.c");
        let mut compiler = Command::new(program("cc"));
        let compiler = compiler.args(["-O2", "-static", "-o"]);
        let compiled = compiler.arg(self.path("floor")).arg(source).status();
        assert!(compiled.expect("cc can be run").success(), "the floor");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn bundle(&self, number: u32) -> PathBuf {
        self.path(&format!("bundle-{number}"))
    }

    /// What `agent run` carries out, for crun.
    fn spec(&self, name: &str) -> Value {
        let mut print = self.agent(name);
        let output = print.arg("--print-spec").arg("--").arg(COMMAND).output();
        let output = output.expect("agent run can be run");
        let mut spec: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("agent run --print-spec: {error}: {output:?}"));
        spec["root"] = json!({ "path": self.rootfs.path() });
        spec["process"]["terminal"] = json!(false);
        spec["linux"]["cgroupsPath"] = json!(format!("/{PARENT}/{name}"));
        spec
    }

    fn agent(&self, name: &str) -> Command {
        let mut run = agent(["run", "--rm", "--name", name, "--rootfs"]);
        run.arg(self.rootfs.path()).args(LIMITS);
        run
    }

    fn command(&self, side: Side, number: u32) -> Command {
        let name = name(side, number);
        let mut command = match side {
            Side::Agent => {
                let mut run = self.agent(&name);
                run.arg("--").arg(COMMAND);
                run
            }
            Side::Crun => {
                let mut words = self.crun.iter();
                let mut run = Command::new(words.next().expect("crun"));
                run.args(words).args(["--root", "/run/crun"]);
                run.args(["--cgroup-manager", "cgroupfs", "run", "--bundle"]);
                run.arg(self.bundle(number)).arg(name);
                run
            }
            Side::Whole => self.floor("whole", &name),
            Side::Least => self.floor("least", &name),
        };
        command.stdin(Stdio::null());
        command
    }

    fn floor(&self, which: &str, name: &str) -> Command {
        let mut run = Command::new(self.path("floor"));
        run.args([which, name]).arg(self.rootfs.path());
        run.arg(self.path(FILTER)).arg(COMMAND);
        run
    }

    /// Leaves the system call filter that `agent run` gives its containers where the floor finds it.
    fn save_filter(&self) {
        let name = name(Side::Agent, 0);
        let mut run = agent(["run", "-d", "--rm", "--name", &name, "--rootfs"]);
        succeed(run.arg(self.rootfs.path()).args(["sleep", "1000"]));
        let list = agent(["ps", "--output", "json"]).output();
        let list: Vec<Value> =
            serde_json::from_slice(&list.expect("agent ps can be run").stdout).expect("a list");
        let found = list.iter().find(|it| it["name"] == *name);
        let pid = found.expect("it is listed")["pid"].to_string();
        let mut save = Command::new(self.path("floor"));
        succeed(save.args(["filter", &pid]).arg(self.path(FILTER)));
        succeed(&mut agent(["rm", "-f", &name]));
    }

    /// Seconds of each launch, some of one side after some of another in each round.
    fn single(&self, regime: &Regime, count: u32) -> [Vec<f64>; 4] {
        let all = [Side::Agent, Side::Crun, Side::Whole, Side::Least];
        let sides = if self.has_floors { &all[..] } else { &all[..2] };
        let mut seconds = all.map(|_| Vec::new());
        // The first of each finds nothing in the page cache.
        for round in 0..=count.div_ceil(regime.row) {
            for at in 0..sides.len() {
                // Who comes first changes: a launch leaves work behind, which is done in the next one's time.
                let at = (at + round as usize) % sides.len();
                for number in 0..regime.row {
                    sleep(regime.pause);
                    let started = Instant::now();
                    end(start(&mut self.command(sides[at], 0)));
                    if round > 0 && (number > 0 || regime.row == 1) {
                        seconds[at].push(started.elapsed().as_secs_f64());
                    }
                }
            }
        }
        seconds
    }

    /// Seconds from the start of the first to the end of the last.
    fn at_once(&self, rounds: u32) -> [Vec<f64>; 2] {
        let sides = [Side::Agent, Side::Crun];
        let mut seconds = sides.map(|_| Vec::new());
        for round in 0..rounds {
            for at in 0..sides.len() {
                let at = (at + round as usize) % sides.len();
                let started = Instant::now();
                let numbers = 0..AT_ONCE;
                let all: Vec<_> = numbers
                    .map(|number| start(&mut self.command(sides[at], number)))
                    .collect();
                all.into_iter().for_each(end);
                seconds[at].push(started.elapsed().as_secs_f64());
            }
        }
        seconds
    }
}

fn name(side: Side, number: u32) -> String {
    let side = match side {
        Side::Agent => "agent",
        Side::Crun => "crun",
        Side::Whole => "whole",
        Side::Least => "least",
    };
    format!("bench-{}-{side}-{number}", std::process::id())
}

fn start(command: &mut Command) -> (String, Child) {
    let child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    (format!("{command:?}"), child)
}

fn succeed(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
}

fn end((command, mut child): (String, Child)) {
    let status = child.wait().expect("the end of a launch");
    assert!(status.success(), "{command}: {status}");
}

fn assert_nothing_left() {
    let own = format!("bench-{}-", std::process::id());
    let left = |directory: &Path| {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names
            .filter(|name| name.starts_with(&own))
            .collect::<Vec<_>>()
    };
    for root in roots().filter(|root| root.join("cgroup.procs").exists()) {
        assert_eq!(left(&root.join(PARENT)), [""; 0], "{}", root.display());
    }
    assert_eq!(left(&Path::new(RUN).join("agent-containers")), [""; 0]);
    assert!(binary().exists());
}

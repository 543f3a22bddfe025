//! `cargo xtask vm`: the tests of this workspace on other kernels than this machine's, with cgroup v2.
//!
//! The test programs are those that run here. In the machine tests/vm/init.sh starts tests/src/bin/guest.rs, which
//! runs them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::command::workspace;
use crate::step::step;
use crate::{packages, setup};
use emulator::Emulator;
use kernel::Kernel;
use machine::{Machine, Parts};
use modules::Module;
use programs::Programs;
use report::{Outcome, Report, Told};

mod elsewhere;
mod emulator;
mod image;
mod kernel;
mod machine;
mod modules;
mod programs;
mod report;

/// The kernel of Debian's stable release.
pub const KERNEL: &str = "6.12";

/// How many times slower than a real machine this one is, for tests/src/slow.rs: counts are divided by it, deadlines
/// multiplied.
const SLOWER: u32 = 8;

/// How long a test program may take, and all of them.
const PROGRAM: Duration = Duration::from_secs(600);
const ALL: Duration = Duration::from_secs(3600);

/// What leads to the disk, and what tests need.
const MODULES: [&str; 8] = [
    "virtio_pci",
    "virtio_blk",
    "ext4",
    "loop",
    "veth",
    "bridge",
    "overlay",
    "zram",
];

/// What zram packs with in older kernels.
const OPTIONAL: [&str; 2] = ["lzo-rle", "lz4"];

/// What is to run, and where.
#[derive(Default)]
pub struct Options {
    /// Versions of kernels, and parts of tests' names.
    pub words: Vec<String>,
    /// Test programs; all where there is none.
    pub programs: Vec<String>,
    /// How cgroups are mounted; all ways that the kernel has where there is none.
    pub layout: Option<String>,
}

/// Runs the tests of `options` in machines.
pub fn run(options: &Options) -> Result<()> {
    step("setup", || {
        setup::for_tests()?;
        packages::for_vm()
    })?;
    let is_kernel = |word: &&String| word.starts_with(|first: char| first.is_ascii_digit());
    let mut kernels: Vec<&str> = options
        .words
        .iter()
        .filter(is_kernel)
        .map(|it| &**it)
        .collect();
    if kernels.is_empty() {
        kernels.push(KERNEL);
    }
    let filters: Vec<&str> = options
        .words
        .iter()
        .filter(|it| !is_kernel(it))
        .map(|it| &**it)
        .collect();
    let directory = workspace().join("target/vm");
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let mut suite = None;
    step("programs", || {
        let programs = Programs::build(&options.programs)?;
        suite = Some(Suite::of(&programs, &filters, &directory)?);
        Ok(())
    })?;
    let suite = suite.context("the programs were built")?;
    let emulator = Emulator::get(&directory)?;
    for version in kernels {
        let kernel = Kernel::get(&directory, version)?;
        let initrd = image::initrd(&modules(&kernel)?, &directory)?;
        for layout in kernel.layouts()? {
            if options
                .layout
                .as_deref()
                .is_some_and(|wanted| wanted != layout)
            {
                continue;
            }
            let name = format!("{version}, cgroups {layout}");
            step(&name, || suite.boot(&emulator, &kernel, &initrd, layout))
                .with_context(|| format!("kernel {name}"))?;
        }
    }
    Ok(())
}

fn modules(kernel: &Kernel) -> Result<Vec<Module>> {
    kernel.modules(&MODULES, &OPTIONAL)
}

/// The tests that are to run, on their disk.
struct Suite {
    expected: BTreeMap<String, BTreeSet<String>>,
    disk: PathBuf,
    /// Where the agent is there.
    agent: PathBuf,
}

impl Suite {
    /// The tests of these programs whose names have one of these parts; all where there is none.
    fn of(programs: &Programs, filters: &[&str], directory: &Path) -> Result<Self> {
        let mut expected: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut elsewhere: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut plan = String::new();
        for program in &programs.tests {
            let mut here = BTreeSet::new();
            for test in &program.tests {
                let name = format!("{}::{test}", program.name);
                if !filters.is_empty() && !filters.iter().any(|part| name.contains(part)) {
                    continue;
                }
                match elsewhere::reason(&name) {
                    Some(why) => elsewhere.entry(why).or_default().push(name),
                    None => drop(here.insert(test.clone())),
                }
            }
            if here.is_empty() {
                continue;
            }
            let path = program.path.display();
            write!(plan, "{} {path} {}", program.name, PROGRAM.as_secs())?;
            here.iter().try_for_each(|test| write!(plan, " {test}"))?;
            plan.push('\n');
            expected.insert(program.name.clone(), here);
        }
        for (why, names) in elsewhere {
            println!("   not there, {why}:");
            names.iter().for_each(|name| println!("      {name}"));
        }
        ensure!(!expected.is_empty(), "no test of such a name can run there");
        Ok(Self {
            expected,
            disk: image::build(programs, &plan, directory)?,
            agent: programs.directory()?.join("agent"),
        })
    }

    /// Boots, shows what comes of each test, and fails where one fails or is missing.
    fn boot(
        &self,
        emulator: &Emulator,
        kernel: &Kernel,
        initrd: &Path,
        layout: &str,
    ) -> Result<()> {
        let words = format!(
            "LAYOUT={layout} CI=true AGENT_TEST_OWN_MACHINE=1 AGENT_TEST_SLOWER={SLOWER} AGENT_BINARY={} RUST_BACKTRACE=1",
            self.agent.display()
        );
        let parts = Parts {
            image: &kernel.image,
            initrd,
            disk: &self.disk,
            words: &words,
        };
        let mut machine = Machine::start(emulator, &parts)?;
        let deadline = Instant::now() + ALL;
        let mut report = Report::new(self.expected.clone());
        let stopped = loop {
            match machine.line(deadline) {
                Ok(Some(line)) => report
                    .line(&line)
                    .iter()
                    .for_each(|told| show(told, &machine)),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        if let Some((name, printed)) = report.unfinished() {
            println!("   {name} had printed:");
            printed.iter().for_each(|line| println!("   | {line}"));
        }
        judge(&report)?;
        stopped.map_or(Ok(()), Err)
    }
}

fn show(told: &Told, machine: &Machine) {
    match told {
        Told::Test { name, outcome } => println!("   {}", line(name, outcome)),
        Told::Ended { name, how, printed } => {
            printed.iter().for_each(|line| println!("   | {line}"));
            println!(
                "   {name}: {how}; {:.0} s of CPU so far",
                machine.cpu_time()
            );
        }
        Told::Machine(line) => println!("   : {line}"),
        Told::Done => {}
    }
}

fn line(name: &str, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Ok => format!("ok {name}"),
        Outcome::Failed => format!("FAILED {name}"),
        Outcome::Missing => format!("MISSING {name}: the machine said nothing of it"),
        Outcome::Skipped(why) => format!("skipped {name}: {why}"),
    }
}

/// Fails where a test did not succeed, and names it.
fn judge(report: &Report) -> Result<()> {
    let outcomes = report.outcomes();
    let is_bad = |outcome: &Outcome| matches!(outcome, Outcome::Failed | Outcome::Missing);
    let bad: Vec<_> = outcomes
        .iter()
        .filter(|(_, outcome)| is_bad(outcome))
        .collect();
    let skipped = outcomes
        .values()
        .filter(|it| matches!(it, Outcome::Skipped(_)))
        .count();
    let ok = outcomes.len() - bad.len() - skipped;
    println!(
        "   {ok} tests succeeded, {skipped} said why they cannot run there, {} failed",
        bad.len()
    );
    for (name, outcome) in &bad {
        println!("   {}", line(name, outcome));
    }
    if bad.is_empty() {
        return Ok(());
    }
    bail!("{} of {} tests did not succeed", bad.len(), outcomes.len())
}

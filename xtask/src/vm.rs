//! `cargo xtask vm`: the tests of this workspace on other kernels than this machine's, with cgroup v2.
//!
//! The test programs are those that run here. In the machine tests/vm/init.sh starts tests/src/bin/guest.rs, which
//! runs them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use std::{array, fs, thread};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::command::workspace;
use crate::step::{announce, step};
use crate::{packages, setup};
use elsewhere::MACHINES;
use emulator::Emulator;
use kernel::Kernel;
use machine::{Machine, Parts};
use programs::Programs;
use report::{Outcome, Report, Told};
use suite::{Suite, Wanted};

pub mod bench;
mod debian;
mod elsewhere;
mod emulator;
mod image;
mod kernel;
mod machine;
mod modules;
mod programs;
mod report;
mod suite;

/// The kernel of Debian's stable release.
const KERNEL: &str = "6.12";

/// The word of the kernel's command line for v2 alone.
const LAYOUT_V2: &str = "LAYOUT=v2";

/// How long all of them may take, on a busy machine.
const ALL: Duration = Duration::from_secs(3600);

/// How long those of `cargo xtask test` may take: two CPUs with nothing else to do take six minutes.
const QUICK: Duration = Duration::from_secs(900);

/// What leads to the disk, and what tests need.
const MODULES: [&str; 9] = [
    "virtio_pci",
    "virtio_blk",
    "ext4",
    "loop",
    "veth",
    "bridge",
    "overlay",
    "zram",
    "tcp_diag",
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
    /// In a whole Debian.
    pub debian: bool,
    /// Those alone that take some minutes.
    pub quick: bool,
}

/// Runs the tests of `options` in machines.
pub fn run(options: &Options) -> Result<()> {
    step("setup of machines", || {
        setup::for_tests()?;
        packages::for_vm(options.debian)
    })?;
    let is_kernel = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit());
    let words = options.words.iter().map(|word| &**word);
    let (mut kernels, filters): (Vec<&str>, Vec<&str>) = words.partition(is_kernel);
    if kernels.is_empty() {
        kernels.push(KERNEL);
    }
    let wanted = Wanted {
        filters: &filters,
        debian: options.debian,
        quick: options.quick,
    };
    let directory = workspace().join("target/vm");
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    announce("programs of machines");
    let suite = Suite::of(&Programs::build(&options.programs)?, &wanted, &directory)?;
    let emulator = Emulator::get(&directory)?;
    let deadline = if options.quick { QUICK } else { ALL };
    for version in kernels {
        let kernel = Kernel::get(&directory, version)?;
        let initrd = image::initrd(&kernel.modules(&MODULES, &OPTIONAL)?, &directory)?;
        if options.debian {
            let disk = debian::disk(&directory, &kernel)?;
            let name = format!("{version}, Debian with systemd");
            let parts = Parts {
                image: &kernel.image,
                initrd: &initrd,
                disks: &[&disk, &suite.disk],
                words: "FIRST=init systemd.show_status=0 systemd.log_target=journal psi=1",
                memory: 2048,
                cpus: 2,
            };
            step(&name, || boot(&suite, &emulator, &[parts], deadline))
                .with_context(|| name.clone())?;
            continue;
        }
        for layout in kernel.layouts()? {
            if options
                .layout
                .as_deref()
                .is_some_and(|wanted| wanted != layout)
            {
                continue;
            }
            let name = format!("{version}, cgroups {layout}");
            let words: [String; MACHINES] =
                array::from_fn(|number| format!("LAYOUT={layout} MACHINE={number}"));
            let disks = [&*suite.disk];
            let machines = words.each_ref().map(|words| Parts {
                image: &kernel.image,
                initrd: &initrd,
                disks: &disks,
                words,
                memory: 768,
                cpus: if options.quick { 1 } else { 2 },
            });
            step(&name, || boot(&suite, &emulator, &machines, deadline))
                .with_context(|| name.clone())?;
        }
    }
    Ok(())
}

/// What `cargo xtask test` runs of them, in a machine of its own.
pub fn quick() -> Result<()> {
    run(&Options {
        layout: Some("v2".to_owned()),
        quick: true,
        ..Options::default()
    })
}

/// Boots machines, at once, each of which runs its programs; shows what comes of each test, and fails where one fails or is
/// missing.
fn boot(suite: &Suite, emulator: &Emulator, machines: &[Parts<'_>], limit: Duration) -> Result<()> {
    let (suites, _): (Vec<_>, Vec<_>) = suite
        .expected
        .iter()
        .zip(machines)
        .partition(|(expected, _)| !expected.is_empty());
    let reports: Vec<Result<(Report, Option<anyhow::Error>)>> = thread::scope(|scope| {
        let run = suites.into_iter().map(|(expected, parts)| {
            scope.spawn(move || watch(Report::new(expected.clone()), emulator, parts, limit))
        });
        let run: Vec<_> = run.collect();
        let ended = run.into_iter().map(thread::ScopedJoinHandle::join);
        ended
            .map(|it| it.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let mut outcomes = BTreeMap::new();
    let mut stopped = None;
    for report in reports {
        let (report, why) = report?;
        outcomes.extend(report.outcomes());
        stopped = stopped.or(why);
    }
    judge(&outcomes)?;
    stopped.map_or(Ok(()), Err)
}

/// Boots a machine and shows what it tells, until it is off. Why it was stopped, where it was.
fn watch(
    mut report: Report,
    emulator: &Emulator,
    parts: &Parts<'_>,
    limit: Duration,
) -> Result<(Report, Option<anyhow::Error>)> {
    let mut machine = Machine::start(emulator, parts)?;
    let deadline = Instant::now() + limit;
    let stopped = loop {
        match machine.line(deadline) {
            Ok(Some(line)) => report
                .line(&line)
                .iter()
                .for_each(|told| show(told, &machine)),
            Ok(None) => break None,
            Err(error) => {
                let what = format!("the machine ran for {} s: {error:#}", limit.as_secs());
                println!("   {what}");
                break Some(anyhow!(what));
            }
        }
    };
    if let Some((name, printed)) = report.unfinished() {
        println!("   {name} had printed:");
        printed.iter().for_each(|line| println!("   | {line}"));
    }
    Ok((report, stopped))
}

fn show(told: &Told, machine: &Machine) {
    match told {
        Told::Test {
            name,
            outcome,
            took,
        } => {
            let took = took.as_ref().map(|it| format!(" ({it})"));
            println!("   {}{}", line(name, outcome), took.unwrap_or_default());
        }
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
fn judge(outcomes: &BTreeMap<String, Outcome>) -> Result<()> {
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

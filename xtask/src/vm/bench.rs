//! The benchmark of launches in a virtual machine: on a host with cgroup v2 alone.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::emulator::Emulator;
use super::image::{self, Disk};
use super::kernel::Kernel;
use super::machine::{Machine, Parts};
use super::suite::with_agent;
use super::{KERNEL, LAYOUT_V2, MODULES, OPTIONAL};
use crate::command::workspace;
use crate::step::step;
use crate::{crun, packages};

/// How long it may take.
const DEADLINE: Duration = Duration::from_secs(1800);

/// Runs the benchmark there with these arguments, for this agent; `programs` is where cargo built it.
pub fn run(agent: &Path, programs: &Path, arguments: &[String]) -> Result<()> {
    step("setup of machines", || packages::for_vm(false))?;
    let directory = workspace().join("target/vm");
    let bench = programs.join("bench");
    let crun = crun::words()?;
    let plan = format!(
        "0 bench {} {} {}\n",
        bench.display(),
        DEADLINE.as_secs(),
        arguments.join(" ")
    );
    let disk = Disk {
        guest: programs.join("guest"),
        plan,
        // A line of the file is a variable; blanks part the words.
        environment: with_agent(agent, &[("BENCH_CRUN", crun.join("\t"))]),
    };
    let disk = disk.build(
        [bench, agent.to_owned()].into_iter(),
        &[&crun::root()],
        &directory,
    )?;
    let emulator = Emulator::get(&directory)?;
    let kernel = Kernel::get(&directory, KERNEL)?;
    let initrd = image::initrd(&kernel.modules(&MODULES, &OPTIONAL)?, &directory)?;
    let disks = [&*disk];
    let parts = Parts {
        image: &kernel.image,
        initrd: &initrd,
        disks: &disks,
        words: LAYOUT_V2,
        memory: 1024,
        cpus: 2,
    };
    show(Machine::start(&emulator, &parts)?)
}

/// Shows what it prints, and fails where it does.
fn show(mut machine: Machine) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    let mut ended = None;
    while let Some(line) = machine.line(deadline)? {
        match line.strip_prefix("@ ") {
            Some(mark) if mark.starts_with("ends ") => ended = Some(mark.to_owned()),
            Some(_) => {}
            None => println!("{line}"),
        }
    }
    let ended = ended.context("the machine stopped before the benchmark was done")?;
    ensure!(ended.ends_with("exit status: 0"), "{ended}");
    Ok(())
}

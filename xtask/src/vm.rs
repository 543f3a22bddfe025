//! `cargo xtask vm`: the agent on other kernels than this machine's.
//!
//! What is checked there, and how, is in tests/vm/init.sh.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::command::{self, cargo, workspace};
use crate::step::step;
use crate::{packages, setup};
use emulator::Emulator;
use initramfs::Initramfs;
use kernel::Kernel;

mod emulator;
mod initramfs;
mod kernel;

/// How long a boot and its checks may take. Limits are pressed against for minutes.
const DEADLINE: Duration = Duration::from_secs(540);

/// What the checks need and Debian's kernels do not have built in; lzo-rle is what zram packs with in older ones.
const MODULES: [&str; 7] = [
    "loop", "ext4", "veth", "bridge", "overlay", "lzo-rle", "zram",
];

/// A CPU and half of the memory each.
const NODES: [&str; 2] = [
    "-object memory-backend-ram,size=512M,id=m0 -numa node,memdev=m0,cpus=0",
    "-object memory-backend-ram,size=512M,id=m1 -numa node,memdev=m1,cpus=1",
];

pub fn run(kernels: &[String]) -> Result<()> {
    step("setup", || {
        setup::for_run()?;
        packages::for_vm()
    })?;
    step("agent", || {
        command::run(&mut cargo(&[
            "build",
            "--package",
            "agent",
            "--features",
            "faults",
        ])?)?;
        command::run(&mut cargo(&[
            "build",
            "--package",
            "tests",
            "--bin",
            "storm",
        ])?)?;
        initramfs::build_tests()
    })?;
    let directory = workspace().join("target/vm");
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let emulator = Emulator::get(&directory)?;
    let initramfs = Initramfs::build(&directory)?;
    for version in kernels {
        let kernel = Kernel::get(&directory, version)?;
        let initrd = initramfs.with_modules(&kernel.modules(&MODULES)?, &directory)?;
        for layout in kernel.layouts()? {
            let name = format!("{version}, cgroups {layout}");
            step(&name, || boot(&emulator, &kernel, &initrd, layout))
                .with_context(|| format!("kernel {name}"))?;
        }
    }
    Ok(())
}

/// Boots, shows what the guest says, and fails where a check does.
fn boot(emulator: &Emulator, kernel: &Kernel, initrd: &Path, layout: &str) -> Result<()> {
    let mut machine = Machine::start(emulator, &kernel.image, initrd, layout)?;
    let deadline = Instant::now() + DEADLINE;
    let mut failed = 0;
    let mut complete = false;
    while let Some(line) = machine.line(deadline)? {
        println!("   {line}");
        failed += usize::from(line.starts_with("FAIL "));
        complete |= line == "done";
    }
    ensure!(complete, "the machine stopped before the last check");
    ensure!(failed == 0, "{failed} checks failed");
    Ok(())
}

/// An emulated machine, running. Dropping it switches it off.
struct Machine {
    emulator: Child,
    lines: mpsc::Receiver<String>,
}

impl Machine {
    fn start(emulator: &Emulator, image: &Path, initramfs: &Path, layout: &str) -> Result<Self> {
        // Without KVM: it is missing where the host is itself a virtual machine.
        let mut qemu = emulator.command()?;
        qemu.args(["-accel", "tcg", "-cpu", "max", "-m", "1024", "-smp", "2"]);
        qemu.args([
            "-display",
            "none",
            "-serial",
            "stdio",
            "-no-reboot",
            "-nic",
            "none",
        ])
        // Two nodes, so that memory can be short on one of them.
        .args(NODES.iter().flat_map(|it| it.split(' ')))
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(initramfs)
        // The kernel hands words that it does not know to init, as variables.
        .arg("-append")
        .arg(format!("console=ttyS0 panic=-1 quiet LAYOUT={layout}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
        let mut emulator = qemu.spawn().context("cannot run the emulator")?;
        let output = emulator.stdout.take().context("stdout is piped")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while output
                .read_until(b'\n', &mut line)
                .is_ok_and(|read| read > 0)
            {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(text).is_err() {
                    break;
                }
                line.clear();
            }
        });
        Ok(Self { emulator, lines })
    }

    /// The next line of the console; none once the machine is off.
    fn line(&mut self, deadline: Instant) -> Result<Option<String>> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => {
                bail!("the machine is not done after {} s", DEADLINE.as_secs())
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Where it has ended by itself there is nothing to kill.
        let _ = self.emulator.kill();
        let _ = self.emulator.wait();
    }
}

//! An emulated machine, and its console.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::emulator::Emulator;

/// Without KVM: it is missing where the host is itself a virtual machine. And without instructions that copy byte by byte:
/// kernels that find them copy and clear pages by them, eight times as slowly here. And without what guards the kernel
/// from the memory of processes: a kernel that finds it sets and clears a flag around each copy, which ends a translated
/// block.
const MACHINE: &str =
    "-cpu max,-erms,-fsrm,-smap,-smep,-umip,-pku -display none -serial stdio -no-reboot -nic none";

/// Of a clock in /proc, in a second (`USER_HZ`).
const TICKS: f64 = 100.0;

/// Words of every kernel's command line. Its defences cost an emulated CPU half of its time, and have nothing to defend there.
const WORDS: &str = "console=ttyS0 panic=-1 quiet mitigations=off init_on_alloc=0 no5lvl no_timer_check audit=0 \
                     hardened_usercopy=off randomize_kstack_offset=off apparmor=0";

/// What a machine starts from.
pub struct Parts<'a> {
    pub image: &'a Path,
    pub initrd: &'a Path,
    /// The first of them is the root. What is written to them is thrown away.
    pub disks: &'a [&'a Path],
    /// In MiB.
    pub memory: u32,
    /// 1 or 2. One is emulated without atomic instructions and interrupts between CPUs, which takes a fifth less.
    pub cpus: u32,
    /// Words of the kernel's command line. Those that it does not know it hands to the first process, as variables.
    pub words: &'a str,
}

/// A machine that runs. Dropping it switches it off.
pub struct Machine {
    emulator: Child,
    lines: mpsc::Receiver<String>,
}

impl Machine {
    pub fn start(emulator: &Emulator, parts: &Parts<'_>) -> Result<Self> {
        let mut qemu = emulator.command()?;
        let is_one = parts.cpus == 1;
        let threads = if is_one { "single" } else { "multi" };
        qemu.args(MACHINE.split(' '))
            .args(["-accel", &format!("tcg,thread={threads}")])
            .args(["-smp", &parts.cpus.to_string()])
            .arg("-kernel")
            .arg(parts.image)
            .arg("-initrd")
            .arg(parts.initrd)
            .arg("-append")
            .arg(format!("{WORDS} {}", parts.words))
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        qemu.arg("-m").arg(parts.memory.to_string());
        // Half of the memory each, so that memory can be short on one of them, and a CPU while there are any.
        for node in 0..2 {
            let half = parts.memory / 2;
            qemu.arg("-object");
            qemu.arg(format!("memory-backend-ram,size={half}M,id=m{node}"));
            qemu.arg("-numa");
            let cpu = if node < parts.cpus {
                format!(",cpus={node}")
            } else {
                String::new()
            };
            qemu.arg(format!("node,memdev=m{node}{cpu}"));
        }
        for disk in parts.disks {
            let disk = disk.display();
            qemu.arg("-drive");
            qemu.arg(format!(
                "file={disk},format=raw,if=virtio,cache=unsafe,snapshot=on"
            ));
        }
        let mut emulator = qemu.spawn().context("cannot run the emulator")?;
        let output = emulator.stdout.take().context("stdout is piped")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(text).is_err() {
                    break;
                }
            }
        });
        Ok(Self { emulator, lines })
    }

    /// The CPU time that the emulator took so far, in seconds.
    pub fn cpu_time(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.emulator.id()));
        let stat = stat.unwrap_or_default();
        // The name in parentheses may have blanks; behind it, utime and stime are the fields 14 and 15 (proc(5)).
        let (_, fields) = stat.rsplit_once(") ").unwrap_or_default();
        let ticks = fields.split(' ').skip(11).take(2);
        let ticks: f64 = ticks.filter_map(|it| it.parse::<f64>().ok()).sum();
        ticks / TICKS
    }

    /// The next line of the console; none once the machine is off.
    ///
    /// # Errors
    /// Where none comes until then.
    pub fn line(&mut self, deadline: Instant) -> Result<Option<String>> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => bail!("the machine is not done at its deadline"),
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

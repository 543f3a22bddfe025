//! What a hostile container does to a process that enters it.
//!
//! ```text
//! entering ATTACK SECRET FILE [held]
//! ```
//! looks at every process that appears, until one has stopped by itself and was tried, which then goes on. SECRET is in the
//! environment and the arguments of whoever launches, and in FILE, a file of the host. What came of it is printed: `got
//! WHAT` for each thing that was had, and `over`. With `held`, whoever enters is stopped by somebody else, so that there is
//! time to look.
//!
//! | attack | reads |
//! |---|---|
//! | `environ`, `cmdline` | the process's file of that name |
//! | `memory` | all of its memory, through `/proc/PID/mem` |
//! | `memory-of-1` | the same of pid 1, once |
//! | `ptrace` | the beginning of its stack, word by word |
//! | `root`, `cwd` | FILE, from the link of that name |
//! | `fd` | FILE, from each directory that it has open, through `/proc/PID/fd` |
//! | `getfd` | the same through pidfd_getfd(2) |
//! | `capabilities` | whether it has some that this container does not have |
//! | `filter` | whether no filter of system calls holds it |

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::fs::{Mode, OFlags, openat};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// Up from any directory.
const UP: &str = "../../../../../../../../../../../..";

/// More than a process has as arguments and environment, which are at the beginning of its stack.
const ARGUMENTS: usize = 32 << 10;

/// More than a process that enters has open.
const DESCRIPTORS: i32 = 64;

struct Attacker {
    attack: String,
    secret: String,
    file: String,
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let (Some(attack), Some(secret), Some(file)) = (words.next(), words.next(), words.next())
    else {
        return ExitCode::FAILURE;
    };
    let attacker = Attacker {
        attack,
        secret,
        file,
    };
    if attacker.attack == "memory-of-1" {
        match attacker.memory(Pid::INIT) {
            Ok(true) => println!("got memory-of-1"),
            Ok(false) => println!("nothing"),
            Err(error) => println!("error: {error:#}"),
        }
        return ExitCode::SUCCESS;
    }
    println!("watching");
    // One that is stopped again and again gets nowhere otherwise.
    let is_held = words.next().is_some() || attacker.attack == "ptrace";
    let pause = is_held.then_some(Duration::from_millis(5));
    loop {
        for pid in others() {
            // Looked at before: what stops afterwards is tried once more.
            let stopped = is_stopped(pid);
            if let Ok(true) = attacker.tries(pid, stopped) {
                println!("got {}", attacker.attack);
            }
            if stopped {
                let _ = kill_process(pid, Signal::CONT);
                println!("over");
                // Its end would be that of all in its pid namespace.
                loop {
                    thread::sleep(Duration::from_secs(1));
                }
            }
        }
        pause.into_iter().for_each(thread::sleep);
    }
}

fn others() -> impl Iterator<Item = Pid> {
    let own = rustix::process::getpid();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(Pid::from_raw)
        .filter(move |pid| *pid != own)
}

fn is_stopped(pid: Pid) -> bool {
    let stat = read(pid, "stat").unwrap_or_default();
    String::from_utf8_lossy(&stat).contains(") T ")
}

fn read(pid: Pid, file: &str) -> Result<Vec<u8>> {
    Ok(fs::read(format!("/proc/{}/{file}", pid.as_raw_nonzero()))?)
}

impl Attacker {
    /// Whether it got what it wanted.
    fn tries(&self, pid: Pid, stopped: bool) -> Result<bool> {
        match self.attack.as_str() {
            "environ" | "cmdline" => Ok(self.is_in(&read(pid, &self.attack)?)),
            "memory" => self.memory(pid),
            "ptrace" => self.ptrace(pid, stopped),
            "root" | "cwd" => {
                let path = format!(
                    "/proc/{}/{}/{}",
                    pid.as_raw_nonzero(),
                    self.attack,
                    self.file
                );
                Ok(self.is_in(&fs::read(path)?))
            }
            "fd" => self.descriptors(|number| {
                let path = format!("/proc/{}/fd/{number}", pid.as_raw_nonzero());
                Ok(File::open(path)?.into())
            }),
            "getfd" => {
                let process = pidfd_open(pid, PidfdFlags::empty())?;
                self.descriptors(|number| get(&process, number))
            }
            "capabilities" => {
                Ok(capabilities(pid)? & !capabilities(rustix::process::getpid())? != 0)
            }
            "filter" => Ok(status(pid, "Seccomp:")? == "0"),
            other => anyhow::bail!("{other}: no such attack"),
        }
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        memchr::memmem::find(bytes, self.secret.as_bytes()).is_some()
    }

    fn memory(&self, pid: Pid) -> Result<bool> {
        let memory = File::open(format!("/proc/{}/mem", pid.as_raw_nonzero()))?;
        for (first, last, _) in areas(pid)? {
            let mut bytes = vec![0; last - first];
            let read = memory.read_at(&mut bytes, first as u64).unwrap_or(0);
            if self.is_in(bytes.get(..read).unwrap_or_default()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn ptrace(&self, pid: Pid, stopped: bool) -> Result<bool> {
        let number = pid.as_raw_nonzero().get();
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: the calls write to no memory of this process but the status, which outlives the call.
        unsafe {
            if libc::ptrace(libc::PTRACE_ATTACH, number, none, none) < 0 {
                return Err(std::io::Error::last_os_error().into());
            }
            let mut status = 0;
            libc::waitpid(number, &raw mut status, libc::__WALL);
        }
        let mut bytes = Vec::new();
        for (first, last, name) in areas(pid)? {
            let first = first.max(last.saturating_sub(ARGUMENTS));
            for address in (first..last).step_by(8).filter(|_| name == "[stack]") {
                // SAFETY: the call reads the other process's memory, and returns what is there.
                let word = unsafe { libc::ptrace(libc::PTRACE_PEEKDATA, number, address, none) };
                bytes.extend(word.to_ne_bytes());
            }
        }
        // It stays stopped, or goes on, as it did: it is to stop by itself.
        let signal = if stopped { libc::SIGSTOP } else { 0 };
        // SAFETY: the call takes no pointer.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, number, none, signal) };
        Ok(self.is_in(&bytes))
    }

    /// Whether one of its descriptors is a directory from which the host's file is found.
    fn descriptors(&self, open: impl Fn(i32) -> Result<OwnedFd>) -> Result<bool> {
        for number in 0..DESCRIPTORS {
            let Ok(descriptor) = open(number) else {
                continue;
            };
            let path = format!("{UP}{}", self.file);
            let opened = openat(descriptor.as_fd(), path, OFlags::RDONLY, Mode::empty());
            let mut bytes = Vec::new();
            if let Ok(file) = opened
                && File::from(file).read_to_end(&mut bytes).is_ok()
                && self.is_in(&bytes)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// pidfd_getfd(2).
fn get(process: &OwnedFd, number: i32) -> Result<OwnedFd> {
    // SAFETY: the call takes no pointer.
    let got = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) };
    if got < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    // SAFETY: the kernel has just made it for this process.
    Ok(unsafe { OwnedFd::from_raw_fd(got as i32) })
}

/// Parts of its memory that can be read: from, to, and what is there.
fn areas(pid: Pid) -> Result<Vec<(usize, usize, String)>> {
    let maps = String::from_utf8(read(pid, "maps")?)?;
    let area = |line: &str| {
        let mut words = line.split_whitespace();
        let (first, last) = words.next()?.split_once('-')?;
        let readable = words.next()?.starts_with('r');
        let name = words.nth(3).unwrap_or_default().to_owned();
        let number = |text| usize::from_str_radix(text, 16).ok();
        readable.then_some((number(first)?, number(last)?, name))
    };
    Ok(maps.lines().filter_map(area).collect())
}

fn status(pid: Pid, name: &str) -> Result<String> {
    let text = String::from_utf8(read(pid, "status")?)?;
    let found = text.lines().find_map(|line| line.strip_prefix(name));
    Ok(found.context("a line of the status")?.trim().to_owned())
}

fn capabilities(pid: Pid) -> Result<u64> {
    Ok(u64::from_str_radix(&status(pid, "CapEff:")?, 16)?)
}

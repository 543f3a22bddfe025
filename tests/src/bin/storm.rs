//! Many processes that live less than a millisecond.
//!
//! ```text
//! storm [--procs P] [--rate R] vfork N          N children, which end at once
//! storm [--procs P] [--rate R] exec N [MARK]    N children, which execute `storm end MARK`; it ends at once
//! storm [--procs P] [--rate R] threads PROCESSES THREADS
//!                                               PROCESSES children with THREADS threads each, one of
//!                                               which ends them all by exit_group(2)
//! ```
//! P processes besides share the work. They make no more than R children a second together. Prints `{"processes": N, "seconds": S}`, without those P.

use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::process::ExitCode;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

/// What a child needs between its birth and its exec or end: no more than a few calls.
const STACK: usize = 64 << 10;

/// The shortest time to sleep for a rate.
const REST: Duration = Duration::from_millis(1);

enum Child {
    Ends,
    /// With these arguments.
    Executes([CString; 3]),
    Threads(usize),
}

fn main() -> Result<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let ["end", _] = words[..] {
        return Ok(ExitCode::SUCCESS);
    }
    let mut workers = 0;
    if let ["--procs", number, ref rest @ ..] = words[..] {
        (workers, words) = (parse(number)?, rest.to_vec());
    }
    let mut rate = None;
    if let ["--rate", number, ref rest @ ..] = words[..] {
        (rate, words) = (Some(parse(number)?), rest.to_vec());
    }
    let (child, processes) = match words[..] {
        ["vfork", n] => (Child::Ends, parse(n)?),
        ["exec", n] => (executes("")?, parse(n)?),
        ["exec", n, mark] => (executes(mark)?, parse(n)?),
        ["threads", n, threads] => (Child::Threads(parse(threads)?), parse(n)?),
        _ => bail!("{words:?}: want one of the calls that the head of storm.rs lists"),
    };
    let started = Instant::now();
    if workers == 0 {
        rage(&child, processes, rate)?;
    } else {
        let rate = rate.map(|rate| rate / workers);
        share(&child, processes, workers, rate)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{}", json!({ "processes": processes, "seconds": seconds }));
    Ok(ExitCode::SUCCESS)
}

fn parse(word: &str) -> Result<usize> {
    word.parse()
        .with_context(|| format!("{word}: want a number"))
}

fn executes(mark: &str) -> Result<Child> {
    let mark = CString::new(mark).context("what comes from argv has no NUL")?;
    Ok(Child::Executes([c"storm".into(), c"end".into(), mark]))
}

/// Has `workers` processes make the children, each so many a second.
fn share(child: &Child, processes: usize, workers: usize, rate: Option<usize>) -> Result<()> {
    let mut pids = Vec::new();
    for worker in 0..workers {
        let part = processes / workers + usize::from(worker < processes % workers);
        pids.push(fork(|| c_int::from(rage(child, part, rate).is_err()))?);
    }
    pids.into_iter().try_for_each(wait)
}

/// Makes the children, one after the other.
fn rage(child: &Child, processes: usize, rate: Option<usize>) -> Result<()> {
    let mut stack = vec![0; STACK];
    let started = Instant::now();
    for number in 0..processes {
        if let Some(rate) = rate {
            let due = Duration::from_secs_f64(number as f64 / rate as f64);
            let early = due.saturating_sub(started.elapsed());
            if early > REST {
                thread::sleep(early);
            }
        }
        let pid = match child {
            Child::Ends => vfork(end, std::ptr::null(), &mut stack)?,
            Child::Executes(arguments) => {
                let [program, end, mark] = arguments.each_ref().map(|it| it.as_ptr());
                let argv = [program, end, mark, std::ptr::null()];
                vfork(execute, argv.as_ptr(), &mut stack)?
            }
            Child::Threads(threads) => fork(|| with_threads(*threads))?,
        };
        wait(pid)?;
    }
    Ok(())
}

/// vfork(2), with a stack of its own for the child, which must not return into the parent's.
fn vfork(
    child: extern "C" fn(*mut c_void) -> c_int,
    argv: *const *const c_char,
    stack: &mut [u8],
) -> Result<c_int> {
    // SAFETY: the parent waits, so that the child alone uses the memory, until it executes or ends; its stack is
    // aligned, and as large as two calls need.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(stack.len() & !15);
        let top = top.sub(top as usize % 16);
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        libc::clone(child, top.cast(), flags, argv.cast_mut().cast())
    };
    ensure!(pid > 0, "vfork: {}", io::Error::last_os_error());
    Ok(pid)
}

extern "C" fn end(_: *mut c_void) -> c_int {
    // SAFETY: ends the child alone, and runs nothing that the parent registered.
    unsafe { libc::_exit(0) }
}

extern "C" fn execute(argv: *mut c_void) -> c_int {
    let environment = [std::ptr::null()];
    // SAFETY: all strings end with NUL, and the lists with null; `argv` is the waiting parent's.
    unsafe {
        libc::execve(
            c"/proc/self/exe".as_ptr(),
            argv.cast(),
            environment.as_ptr(),
        );
        libc::_exit(127)
    }
}

/// fork(2): the child ends with what `work` gives.
fn fork(work: impl FnOnce() -> c_int) -> Result<c_int> {
    // SAFETY: this process has one thread, so that the child's copy of its memory is whole.
    match unsafe { libc::fork() } {
        // SAFETY: as in `end`.
        0 => unsafe { libc::_exit(work()) },
        pid => {
            ensure!(pid > 0, "fork: {}", io::Error::last_os_error());
            Ok(pid)
        }
    }
}

/// Has as many threads, and ends them all at once: by one that is not the first, where there are more.
fn with_threads(threads: usize) -> c_int {
    let ready = Arc::new(Barrier::new(threads));
    for number in 1..threads {
        let ready = Arc::clone(&ready);
        thread::spawn(move || {
            ready.wait();
            if number == threads - 1 {
                end(std::ptr::null_mut());
            }
            loop {
                thread::park();
            }
        });
    }
    ready.wait();
    if threads == 1 {
        return 0;
    }
    loop {
        thread::park();
    }
}

/// Waits for a child to end well.
fn wait(pid: c_int) -> Result<()> {
    let mut status = 0;
    // SAFETY: `status` is an int of this process.
    let ended = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    ensure!(ended == pid, "waitpid: {}", io::Error::last_os_error());
    ensure!(status == 0, "a child ended with wait status {status}");
    Ok(())
}

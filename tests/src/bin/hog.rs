//! `hog THREADS BYTES`: THREADS threads write BYTES of memory together, a little at a time. They and what they have written
//! stay until the process is killed, and where memory is short it is the one to be killed. It says `full` once they have.

use std::fs;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::{Arc, Barrier};
use std::thread;

/// What is written at once: enough to be quick, little against a limit.
const STEP: usize = 64 << 10;

fn main() -> ExitCode {
    let numbers: Option<Vec<usize>> = std::env::args()
        .skip(1)
        .map(|word| word.parse().ok())
        .collect();
    let Some([threads @ 1..=1024, bytes]) = numbers.as_deref() else {
        eprintln!("usage: hog THREADS BYTES");
        return ExitCode::FAILURE;
    };
    if let Err(error) = fs::write("/proc/self/oom_score_adj", "1000") {
        eprintln!("/proc/self/oom_score_adj: {error}");
        return ExitCode::FAILURE;
    }
    let share = bytes / threads;
    let ready = Arc::new(Barrier::new(*threads));
    let full = Arc::new(Barrier::new(threads + 1));
    for _ in 0..*threads {
        let (ready, full) = (Arc::clone(&ready), Arc::clone(&full));
        thread::spawn(move || {
            let _memory = write(share, &ready);
            full.wait();
            stay()
        });
    }
    full.wait();
    // Whoever does not listen does not want to know.
    let _ = writeln!(std::io::stdout(), "full");
    stay()
}

fn stay() -> ! {
    loop {
        thread::park();
    }
}

/// Once all have their address space, only page faults are left, which wait where memory is short; calls may fail. Not
/// zeros: for those the kernel may give memory that it has not taken anywhere.
fn write(bytes: usize, ready: &Barrier) -> Vec<u8> {
    let mut memory = Vec::with_capacity(bytes);
    let step = [1; STEP];
    ready.wait();
    while memory.len() < bytes {
        // A copy is quick without optimisation, too.
        let left = bytes - memory.len();
        memory.extend_from_slice(&step[..left.min(STEP)]);
    }
    memory
}

//! `hog THREADS BYTES`: THREADS threads write BYTES of memory together, a little at a time. What they have written they
//! keep until the process is killed, and where memory is short it is the one to be killed. It says `full` once they have.

use std::fs;
use std::io::Write as _;
use std::process::ExitCode;
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
    let steps = bytes / threads / STEP;
    let threads: Vec<_> = (0..*threads)
        .map(|_| thread::spawn(move || write(steps)))
        .collect();
    let written: Result<Vec<_>, _> = threads.into_iter().map(thread::JoinHandle::join).collect();
    if written.is_err() {
        return ExitCode::FAILURE;
    }
    // Whoever does not listen does not want to know.
    let _ = writeln!(std::io::stdout(), "full");
    loop {
        thread::park();
    }
}

/// Not zeros: for those the kernel may give memory that it has not taken anywhere.
fn write(steps: usize) -> Vec<Vec<u8>> {
    (0..steps).map(|_| vec![1; STEP]).collect()
}

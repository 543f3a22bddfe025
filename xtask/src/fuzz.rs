//! `cargo xtask fuzz`: lets libFuzzer look for bytes that the agent's parsers do not stand.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, iter};

use anyhow::{Context as _, Result, ensure};

use crate::command::{self, cargo, output, workspace};
use crate::setup;
use crate::step::step;

/// The package whose programs are the targets.
const PACKAGE: &str = "tests/fuzz";

/// Bytes of an input, at most: more than any limit that a small input cannot reach is worth.
const LONGEST: &str = "-max_len=65536";

/// Seconds that an input may take, and MiB of memory.
const LIMITS: [&str; 2] = ["-timeout=20", "-rss_limit_mb=2048"];

/// Runs a target, or each, for `time`. New inputs go to `target/fuzz`, beside those that are kept (`tests/fuzz/corpus`).
pub fn run(target: Option<&str>, time: Duration) -> Result<()> {
    setup::for_fuzz()?;
    // Without a sanitizer the pinned toolchain builds them: `unsafe` is below agent/sys alone, where no parser is.
    let options = ["--fuzz-dir", PACKAGE];
    let listed = output(cargo(&["fuzz", "list"])?.args(options))?;
    let names: Vec<&str> = listed.lines().collect();
    let chosen: Vec<&str> = match target {
        Some(name) => vec![name],
        None => names.clone(),
    };
    for name in chosen {
        ensure!(
            names.contains(&name),
            "there is no target {name:?}; want one of {}",
            names.join(", ")
        );
        step(name, || fuzz(name, &options, time))?;
    }
    Ok(())
}

fn fuzz(name: &str, options: &[&str], time: Duration) -> Result<()> {
    let found = workspace().join("target/fuzz").join(name);
    fs::create_dir_all(&found).with_context(|| format!("cannot make {}", found.display()))?;
    let kept = Path::new(PACKAGE).join("corpus").join(name);
    let seconds = format!("-max_total_time={}", time.as_secs());
    let mut fuzz = cargo(&["fuzz", "run", "--features", "libfuzzer"])?;
    fuzz.args(["--sanitizer", "none"]).args(options);
    fuzz.arg(name).args([found, workspace().join(kept)]);
    fuzz.arg("--").args(iter::once(LONGEST).chain(LIMITS));
    fuzz.args([&seconds, "-print_final_stats=1"]);
    fuzz.arg(format!("-artifact_prefix={}/", failures(name)?.display()));
    command::run(&mut fuzz).with_context(|| {
        format!(
            "{name} failed; put its input from target/fuzz/failures into {PACKAGE}/corpus/{name}, with what mends it"
        )
    })
}

/// Where inputs go that a target fails with.
fn failures(name: &str) -> Result<PathBuf> {
    let directory = workspace().join("target/fuzz/failures").join(name);
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory)
}

/// A time such as `60s` or `10m`.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let wanted = || format!("{text:?}: want a time such as 60s or 10m");
    let (number, unit) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    let number: u64 = number.parse().map_err(|_| wanted())?;
    let seconds = number.checked_mul(unit).filter(|seconds| *seconds > 0);
    seconds.map(Duration::from_secs).ok_or_else(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, seconds) in [("60s", 60), ("10m", 600), ("5", 5)] {
            assert_eq!(parse_time(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "0s", "m", "1h", "-1s", "18446744073709551615m"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}

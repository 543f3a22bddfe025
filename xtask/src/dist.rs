//! `cargo xtask dist`: the agent as one file that runs on any Linux of its architecture.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::command::{cargo, command, output, run, workspace};
use crate::setup;
use crate::step::step;

/// What one file may take, so that it goes into any image and over any line.
const MOST_BYTES: u64 = 11_000_000;

pub fn dist() -> Result<()> {
    show(&make()?)
}

/// Makes the file, and says where it is.
pub fn make() -> Result<PathBuf> {
    let target = format!("{ARCH}-unknown-linux-musl");
    step("setup", || setup::for_dist(&target))?;
    step("build", || build(&target))?;
    let built = workspace().join(format!("target/{target}/dist/agent"));
    let place = workspace().join("target/dist/agent");
    fs::create_dir_all(place.parent().unwrap_or(&place))?;
    fs::copy(&built, &place)
        .with_context(|| format!("cannot copy {} to {}", built.display(), place.display()))?;
    step("check", || check(&place))?;
    Ok(place)
}

fn build(target: &str) -> Result<()> {
    let build = [
        "build",
        "--package",
        "agent",
        "--profile",
        "dist",
        "--target",
    ];
    run(cargo(&build)?.arg(target))
}

/// That it is one small file which needs no other, has nothing of what only tests need, and runs.
fn check(agent: &Path) -> Result<()> {
    let bytes = fs::metadata(agent)?.len();
    ensure!(
        bytes < MOST_BYTES,
        "{} has {bytes} bytes; {MOST_BYTES} were wanted",
        agent.display()
    );
    // Not ldd, which runs what it looks at.
    let headers = output(
        command(
            "readelf",
            &["--file-header", "--program-headers", "--dynamic", "--wide"],
        )?
        .arg(agent),
    )?;
    let needs = headers
        .lines()
        .find(|line| line.contains("INTERP") || line.contains("(NEEDED)"));
    ensure!(
        needs.is_none(),
        "{} is not static: {}",
        agent.display(),
        needs.unwrap_or_default().trim()
    );
    ensure!(
        headers.contains("EXEC (Executable file)"),
        "{} is to be relocated at each start: RUSTFLAGS replaces what .cargo/config.toml says",
        agent.display()
    );
    let text = fs::read(agent)?;
    let switch = b"AGENT_UNGUARDED";
    ensure!(
        !text.windows(switch.len()).any(|bytes| bytes == switch),
        "{} has the guards that tests turn off: it was built with the feature `faults`",
        agent.display()
    );
    for arguments in [["--version"], ["doctor"]] {
        output(&mut command(agent, &arguments)?)?;
    }
    Ok(())
}

fn show(agent: &Path) -> Result<()> {
    let sum = output(command("sha256sum", &[])?.arg(agent))?;
    let sum = sum.split_whitespace().next().unwrap_or_default();
    let bytes = fs::metadata(agent)?.len();
    println!("{}\n{bytes} bytes\nsha256 {sum}", agent.display());
    Ok(())
}

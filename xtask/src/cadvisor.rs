//! Debian's cAdvisor, which a test compares the agent with: its last package, unpacked beside this machine's own.

use anyhow::{Context as _, Result};

use crate::apt::{Apt, completely};
use crate::command::{output, workspace};

/// The last suite that has it.
const SUITE: &str = "bullseye";

/// Downloads it to `target/cadvisor/root`, once.
pub fn get() -> Result<()> {
    let directory = workspace().join("target/cadvisor");
    completely(&directory.join("root"), |root| {
        println!("setup: getting cadvisor of {SUITE}, which agent serve is compared with");
        let apt = Apt::of(&directory, &[SUITE])?;
        let table = output(&mut apt.command("apt-cache", &["madison", "cadvisor"])?)?;
        let version = table.split('|').nth(1).map(str::trim);
        let version = version.context("this suite does not have it")?;
        apt.unpack("cadvisor", version, root)
    })
    .context("cadvisor is not to be had: tests/tests/cadvisor.rs compares with it")?;
    Ok(())
}

//! A whole Debian, with systemd as its first process, docker and podman: for tests that need one of them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::kernel::Kernel;
use crate::apt::{completely, mirror};
use crate::command::{command, path_of_root, run, workspace};

const SUITE: &str = "trixie";

/// Room for what engines write. Of the file only what is written takes room.
const SIZE: &str = "8G";

/// Its disk: that which is in `directory` already, else made of Debian's packages, which takes some minutes.
pub fn disk(directory: &Path, kernel: &Kernel) -> Result<PathBuf> {
    let complete = directory.join(format!("debian-{SUITE}"));
    completely(&complete, |partial| {
        ensure!(
            rustix::process::geteuid().is_root(),
            "a Debian is made by root alone (debootstrap): call this as root"
        );
        println!(
            "   making a Debian {SUITE}, which is kept in {}",
            complete.display()
        );
        let root = partial.join("root");
        let log = partial.join("log");
        let said =
            fs::File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        // What it mounts is in a namespace that ends with it.
        let arguments = ["--mount", "--propagation", "private", "sh"];
        run(command("unshare", &arguments)?
            .arg(workspace().join("tests/vm/debian.sh"))
            .arg(&root)
            .args([SUITE, &mirror()?])
            .arg(kernel.modules_directory()?)
            .env("PATH", path_of_root()?)
            .stdout(said.try_clone()?)
            .stderr(said))
        .with_context(|| {
            let said = fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<&str> = said.lines().rev().take(20).collect();
            lines.into_iter().rev().collect::<Vec<_>>().join("\n")
        })?;
        let arguments = ["-q", "-F", "-t", "ext4", "-m", "0", "-d"];
        run(command("mke2fs", &arguments)?
            .env("PATH", path_of_root()?)
            .arg(&root)
            .arg(partial.join("disk"))
            .arg(SIZE))?;
        fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))
    })?;
    Ok(complete.join("disk"))
}

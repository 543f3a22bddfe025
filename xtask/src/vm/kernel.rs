//! Kernels to boot: those that Debian builds for clouds, taken out of their packages.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::modules::{Module, Modules};
use crate::apt::{Apt, completely};
use crate::command::{command, output};

/// The packages of kernels. From 7.2 on these hold nothing by themselves, but need the packages [`PARTS`].
const PACKAGES: &str = r"^linux-image-[0-9]+\.[0-9]+\.[0-9]+.*-cloud-amd64$";

/// The packages of a kernel: the first is always there.
const PARTS: [&str; 4] = ["linux-image", "linux-binary", "linux-modules", "linux-base"];

pub struct Kernel {
    pub image: PathBuf,
    /// Where its packages were unpacked.
    directory: PathBuf,
}

impl Kernel {
    /// The newest kernel whose Debian version is or begins with `version`, such as 6.1 or 5.10.218: that which is in
    /// `directory` already, else by apt-get.
    pub fn get(directory: &Path, version: &str) -> Result<Self> {
        let unpacked = directory.join("kernels").join(version);
        completely(&unpacked, |partial| download(directory, version, partial))?;
        Ok(Self {
            image: find(&unpacked, "vmlinuz*")?,
            directory: unpacked,
        })
    }

    /// These modules, each after those that it needs, and of the optional ones those that are there. What is built in is
    /// left out.
    pub fn modules(&self, names: &[&str], optional: &[&str]) -> Result<Vec<Module>> {
        let modules = Modules::of(&self.directory)?;
        let there = optional.iter().filter(|name| modules.has(name));
        let names: Vec<&str> = there.chain(names).copied().collect();
        modules.with_needed(&names)
    }

    /// The directory of its modules, named for its version.
    pub fn modules_directory(&self) -> Result<PathBuf> {
        let list = find(&self.directory, "modules.builtin")?;
        Ok(list
            .parent()
            .context("a file is in a directory")?
            .to_owned())
    }

    /// How cgroups can be mounted: v2, and hybrid where the memory controller still is on v1 too.
    pub fn layouts(&self) -> Result<Vec<&'static str>> {
        let config = find(&self.directory, "config*")?;
        let config = fs::read_to_string(&config)
            .with_context(|| format!("cannot read {}", config.display()))?;
        // The option is newer than the last kernels that have v1 without it.
        Ok(if config.contains("CONFIG_MEMCG_V1 is not set") {
            vec!["v2"]
        } else {
            vec!["v2", "hybrid"]
        })
    }
}

fn download(directory: &Path, version: &str, unpacked: &Path) -> Result<()> {
    let apt = Apt::prepare(directory)?;
    let found = output(&mut apt.command("apt-cache", &["search", "--names-only", PACKAGES])?)?;
    let names = found.lines().filter_map(|line| line.split(' ').next());
    let table = output(apt.command("apt-cache", &["madison"])?.args(names))?;
    let (name, full) = newest(&table, version)
        .with_context(|| format!("Debian has no kernel {version}; it has:\n{table}"))?;
    println!("   getting {name} {full}");
    for part in PARTS {
        let name = name.replace(PARTS[0], part);
        let table = output(&mut apt.command("apt-cache", &["madison", &name])?)?;
        if newest(&table, &full).is_some() {
            apt.unpack(&name, &full, unpacked)?;
        }
    }
    Ok(())
}

/// The newest of a table of `name | version | source` whose version is or begins with `version`.
fn newest(table: &str, version: &str) -> Option<(String, String)> {
    let packages = table.lines().filter_map(|line| {
        let mut columns = line.split('|').map(str::trim);
        Some((columns.next()?, columns.next()?))
    });
    let fitting = packages.filter(|(_, full)| {
        let rest = full.strip_prefix(version);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-', '~']))
    });
    fitting
        .max_by_key(|(_, full)| numbers(full))
        .map(|(name, full)| (name.to_owned(), full.to_owned()))
}

/// The numbers of a version: enough to tell Debian's kernels apart.
fn numbers(version: &str) -> Vec<u64> {
    let digits = version.split(|character: char| !character.is_ascii_digit());
    digits.filter_map(|digits| digits.parse().ok()).collect()
}

/// The first file at or below `directory` whose name is of this pattern.
fn find(directory: &Path, pattern: &str) -> Result<PathBuf> {
    let arguments = ["-type", "f", "-name", pattern, "-print", "-quit"];
    let found = output(command("find", &[])?.arg(directory).args(arguments))?;
    let found = found.trim_end();
    ensure!(
        !found.is_empty(),
        "{} has no file {pattern}; remove it, to get it anew",
        directory.display()
    );
    Ok(found.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
linux-image-5.10.0-30-cloud-amd64 | 5.10.218-1 | repository Packages
linux-image-5.10.0-46-cloud-amd64 | 5.10.262-1 | repository Packages
linux-image-6.1.0-56-cloud-amd64 | 6.1.192-2 | repository Packages
linux-image-6.12.94+deb13-cloud-amd64 | 6.12.94-1 | repository Packages
linux-image-6.12.117+deb12-cloud-amd64 | 6.12.117-1~deb12u1 | repository Packages
linux-image-7.3.1+deb14-cloud-amd64 | 7.3.1-1 | repository Packages
";

    #[test]
    fn the_newest_that_fits_is_taken() {
        for (version, name) in [
            ("6.12", Some("linux-image-6.12.117+deb12-cloud-amd64")),
            ("6.1", Some("linux-image-6.1.0-56-cloud-amd64")),
            ("5.10", Some("linux-image-5.10.0-46-cloud-amd64")),
            ("5.10.218", Some("linux-image-5.10.0-30-cloud-amd64")),
            ("5.10.218-1", Some("linux-image-5.10.0-30-cloud-amd64")),
            ("7.3", Some("linux-image-7.3.1+deb14-cloud-amd64")),
            ("5.10.21", None),
            ("4.19", None),
        ] {
            let newest = newest(TABLE, version).map(|(name, _)| name);
            assert_eq!(newest.as_deref(), name, "{version}");
        }
    }
}

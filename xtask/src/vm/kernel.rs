//! Kernels to boot: those that Debian builds for clouds, taken out of their packages.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::apt::Apt;
use crate::command::{command, output, run};

/// The packages of kernels. Where there is a linux-binary, the image is in that one.
const PACKAGES: &str = r"^linux-(image|binary)-[0-9]+\.[0-9]+\.[0-9]+.*-cloud-amd64$";

/// A module of a kernel.
pub struct Module {
    pub name: String,
    pub bytes: Vec<u8>,
}

pub struct Kernel {
    pub image: PathBuf,
    /// Where its package was unpacked.
    directory: PathBuf,
}

impl Kernel {
    /// The newest kernel whose Debian version is or begins with `version`, such as 6.1 or 5.10.218: that which is in
    /// `directory` already, else by apt-get.
    pub fn get(directory: &Path, version: &str) -> Result<Self> {
        let unpacked = directory.join("kernels").join(version);
        if !unpacked.exists() {
            download(directory, version, &unpacked)?;
        }
        let image = find(&unpacked, "vmlinuz")?;
        Ok(Self {
            image,
            directory: unpacked,
        })
    }

    /// These modules, each after those that it needs. What is built in, or is not there, is left out.
    pub fn modules(&self, names: &[&str]) -> Result<Vec<Module>> {
        let mut modules = Vec::new();
        for name in names {
            add_module(&self.directory, name, &mut modules)?;
        }
        Ok(modules)
    }

    /// How cgroups can be mounted: v2, and hybrid where the memory controller still is on v1 too.
    pub fn layouts(&self) -> Result<Vec<&'static str>> {
        // A linux-binary has no configuration; those kernels have no v1 of memory either.
        let Ok(config) = find(&self.directory, "config-") else {
            return Ok(vec!["v2"]);
        };
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

fn add_module(directory: &Path, name: &str, modules: &mut Vec<Module>) -> Result<()> {
    // The kernel takes both for the same, and files have the one or the other.
    let lines = name.replace('-', "_");
    let dashes = name.replace('_', "-");
    let is_there = modules.iter().any(|module| module.name == lines);
    let mut files = [&lines, &dashes].into_iter();
    let file = files.find_map(|name| find(directory, &format!("{name}.ko")).ok());
    let Some(file) = file.filter(|_| !is_there) else {
        return Ok(());
    };
    let bytes = if file.extension().is_some_and(|it| it == "xz") {
        let unpacked = command("xz", &["--decompress", "--stdout"])?
            .arg(&file)
            .output()?;
        ensure!(
            unpacked.status.success(),
            "xz cannot unpack {}",
            file.display()
        );
        unpacked.stdout
    } else {
        fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?
    };
    for needed in needs(&bytes) {
        add_module(directory, &needed, modules)?;
    }
    let name = lines.clone();
    modules.push(Module { name, bytes });
    Ok(())
}

/// The modules that one needs: it says so as `depends=A,B`, with a NUL behind.
fn needs(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let start = module.windows(KEY.len()).position(|window| window == KEY);
    let names = start.map_or(&[][..], |start| &module[start + KEY.len()..]);
    let names = names.split(|&byte| byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(names);
    let names = names.split(',').filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

fn download(directory: &Path, version: &str, unpacked: &Path) -> Result<()> {
    let apt = Apt::prepare(directory)?;
    let (name, full) = newest_package(&apt, version)?;
    println!("   getting {name} {full}");
    let packages = directory.join("packages");
    fs::create_dir_all(&packages).with_context(|| format!("cannot make {}", packages.display()))?;
    let wanted = format!("{name}={full}");
    run(apt
        .command("apt-get", &["download", "--quiet", &wanted])?
        .current_dir(&packages))?;
    // apt-get writes the colon of a version as dpkg does, so look for the name alone.
    let package = find(&packages, &format!("{name}_{full}"))?;
    // Renamed when it is complete, so that what is there can be relied on.
    let partial = unpacked.with_extension("partial");
    fs::create_dir_all(&partial).with_context(|| format!("cannot make {}", partial.display()))?;
    run(command("dpkg-deb", &["--extract"])?
        .arg(&package)
        .arg(&partial))?;
    fs::rename(&partial, unpacked).with_context(|| {
        format!(
            "cannot rename {} to {}",
            partial.display(),
            unpacked.display()
        )
    })
}

/// Name and version of the newest package for `version`.
fn newest_package(apt: &Apt, version: &str) -> Result<(String, String)> {
    let found = output(&mut apt.command("apt-cache", &["search", "--names-only", PACKAGES])?)?;
    let names = found.lines().filter_map(|line| line.split(' ').next());
    let table = output(apt.command("apt-cache", &["madison"])?.args(names))?;
    newest(&table, version)
        .with_context(|| format!("Debian has no kernel {version}; it has:\n{table}"))
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
        .max_by_key(|(name, full)| (numbers(full), name.starts_with("linux-binary")))
        .map(|(name, full)| (name.to_owned(), full.to_owned()))
}

/// The numbers of a version: enough to tell Debian's kernels apart.
fn numbers(version: &str) -> Vec<u64> {
    let digits = version.split(|character: char| !character.is_ascii_digit());
    digits.filter_map(|digits| digits.parse().ok()).collect()
}

/// The first file at or below `directory` whose name begins with `prefix`.
fn find(directory: &Path, prefix: &str) -> Result<PathBuf> {
    let pattern = format!("{prefix}*");
    let arguments = ["-type", "f", "-name", &pattern, "-print", "-quit"];
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
linux-binary-7.3.1+deb14-cloud-amd64 | 7.3.1-1 | repository Packages
linux-image-7.3.1+deb14-cloud-amd64 | 7.3.1-1 | repository Packages
";

    #[test]
    fn modules_say_what_they_need() {
        let module = b"\x7fELF\0license=GPL\0depends=stp,llc\0name=bridge\0";
        assert_eq!(needs(module), ["stp", "llc"]);
        assert!(needs(b"\0depends=\0").is_empty());
        assert!(needs(b"").is_empty());
    }

    #[test]
    fn the_newest_that_fits_is_taken() {
        for (version, name) in [
            ("6.12", Some("linux-image-6.12.117+deb12-cloud-amd64")),
            ("6.1", Some("linux-image-6.1.0-56-cloud-amd64")),
            ("5.10", Some("linux-image-5.10.0-46-cloud-amd64")),
            ("5.10.218", Some("linux-image-5.10.0-30-cloud-amd64")),
            ("5.10.218-1", Some("linux-image-5.10.0-30-cloud-amd64")),
            ("7.3", Some("linux-binary-7.3.1+deb14-cloud-amd64")),
            ("5.10.21", None),
            ("4.19", None),
        ] {
            let newest = newest(TABLE, version).map(|(name, _)| name);
            assert_eq!(newest.as_deref(), name, "{version}");
        }
    }
}

//! Debian's packages of all suites, downloaded and unpacked beside this machine's own: nothing is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command::{command, output, run};

/// The suites, by the label of the repository that they are in.
const SUITES: [(&str, &str); 7] = [
    ("Debian", "bullseye"),
    ("Debian-Security", "bullseye-security"),
    ("Debian", "bookworm"),
    ("Debian-Security", "bookworm-security"),
    ("Debian", "trixie"),
    ("Debian", "trixie-backports"),
    ("Debian", "sid"),
];

/// apt with lists and a cache of its own: that of the machine is left alone.
pub struct Apt {
    config: PathBuf,
    /// Where it is below.
    own: PathBuf,
}

impl Apt {
    /// Reads the lists of all suites, and keeps them in `directory`.
    pub fn prepare(directory: &Path) -> Result<Self> {
        Self::of(directory, &SUITES.map(|(_, suite)| suite))
    }

    /// Likewise, of these suites.
    pub fn of(directory: &Path, suites: &[&str]) -> Result<Self> {
        let own = directory.join("apt");
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(own.join(part))
                .with_context(|| format!("cannot make {}/{part}", own.display()))?;
        }
        let config = own.join("apt.conf");
        let place = own.display();
        let text = format!(
            "Dir::State::lists \"{place}/lists\";\n\
             Dir::State::status \"/dev/null\";\n\
             Dir::Cache \"{place}/cache\";\n\
             Dir::Etc::sourcelist \"{place}/sources.list\";\n\
             Dir::Etc::sourceparts \"/dev/null\";\n\
             APT::Architecture \"amd64\";\n\
             APT::Sandbox::User \"root\";\n\
             Debug::NoLocking \"true\";\n\
             Acquire::Languages \"none\";\n\
             Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n"
        );
        fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        let list = config.with_file_name("sources.list");
        fs::write(&list, sources(suites)?)
            .with_context(|| format!("cannot write {}", list.display()))?;
        let apt = Self { config, own };
        run(&mut apt.command("apt-get", &["update", "-qq"])?)?;
        Ok(apt)
    }

    /// `apt-get` or another of its programs.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Result<Command> {
        let mut command = command(program, arguments)?;
        command.env("APT_CONFIG", &self.config);
        Ok(command)
    }

    /// Gets one package of this version, and unpacks it into `root`.
    pub fn unpack(&self, name: &str, version: &str, root: &Path) -> Result<()> {
        let packages = self.own.join("packages");
        empty(&packages)?;
        let wanted = format!("{name}={version}");
        run(self
            .command("apt-get", &["download", "-qq", &wanted])?
            .current_dir(&packages))?;
        extract_all(&packages, root)
    }

    /// Gets a package of this suite with all that it depends on, the C library included, and unpacks them into `root`.
    pub fn unpack_whole(&self, name: &str, suite: &str, root: &Path) -> Result<()> {
        let cache = self.own.join("whole");
        empty(&cache)?;
        fs::create_dir_all(cache.join("archives/partial"))?;
        let option = format!("Dir::Cache={}", cache.display());
        let arguments = ["install", "--yes", "-qq", "--download-only"];
        let mut get = self.command("apt-get", &arguments)?;
        get.args(["--no-install-recommends", "--target-release", suite]);
        run(get.args(["--option", &option, name]))?;
        extract_all(&cache.join("archives"), root)
    }
}

fn empty(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)
            .with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))
}

/// Unpacks all packages that are in `packages` into `root`.
fn extract_all(packages: &Path, root: &Path) -> Result<()> {
    fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
    for entry in fs::read_dir(packages)? {
        let package = entry?.path();
        if package.extension().is_some_and(|it| it == "deb") {
            run(command("dpkg-deb", &["--extract"])?.arg(&package).arg(root))?;
        }
    }
    Ok(())
}

/// Makes the directory `complete` by a call of `fill` with another one, which is renamed when it is complete: what is
/// there can be relied on.
pub fn completely(complete: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if complete.exists() {
        return Ok(());
    }
    let mut partial = complete.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    empty(&partial)?;
    fill(&partial)?;
    fs::rename(&partial, complete).with_context(|| {
        format!(
            "cannot rename {} to {}",
            partial.display(),
            complete.display()
        )
    })
}

/// The repository that this machine gets Debian's packages from.
pub fn mirror() -> Result<String> {
    let sources = sources(&["trixie"])?;
    let first = sources.lines().find(|line| line.ends_with(" trixie main"));
    let uri = first.and_then(|line| line.split(' ').nth(1));
    Ok(uri
        .context("Debian's repository is among the sources")?
        .to_owned())
}

/// A sources.list of these of [`SUITES`], in the repositories that this machine gets its packages from.
fn sources(suites: &[&str]) -> Result<String> {
    let format = "$(LABEL) $(REPO_URI)";
    let targets = output(&mut command(
        "apt-get",
        &["indextargets", "--format", format, "Created-By: Packages"],
    )?)?;
    let mut text = String::new();
    for (label, suite) in SUITES.iter().filter(|(_, it)| suites.contains(it)) {
        let uri = targets
            .lines()
            .find_map(|line| line.strip_prefix(label)?.strip_prefix(' '))
            .with_context(|| {
                format!("apt's sources have no repository {label}, to get packages from; add it and run apt-get update")
            })?;
        text += &format!("deb {uri} {suite} main\n");
    }
    Ok(text)
}

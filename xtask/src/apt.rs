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
}

impl Apt {
    /// Reads the lists of all suites, and keeps them in `directory`.
    pub fn prepare(directory: &Path) -> Result<Self> {
        let own = directory.join("apt");
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(own.join(part))
                .with_context(|| format!("cannot make {}/{part}", own.display()))?;
        }
        let config = own.join("apt.conf");
        let own = own.display();
        let text = format!(
            "Dir::State::lists \"{own}/lists\";\n\
             Dir::State::status \"/dev/null\";\n\
             Dir::Cache \"{own}/cache\";\n\
             Dir::Etc::sourcelist \"{own}/sources.list\";\n\
             Dir::Etc::sourceparts \"/dev/null\";\n\
             APT::Architecture \"amd64\";\n\
             APT::Sandbox::User \"root\";\n\
             Acquire::Languages \"none\";\n\
             Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n"
        );
        fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        let list = config.with_file_name("sources.list");
        fs::write(&list, sources()?).with_context(|| format!("cannot write {}", list.display()))?;
        let apt = Self { config };
        run(&mut apt.command("apt-get", &["update", "--quiet"])?)?;
        Ok(apt)
    }

    /// `apt-get` or another of its programs.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Result<Command> {
        let mut command = command(program, arguments)?;
        command.env("APT_CONFIG", &self.config);
        Ok(command)
    }
}

/// A sources.list of [`SUITES`], in the repositories that this machine gets its packages from.
fn sources() -> Result<String> {
    let format = "$(LABEL) $(REPO_URI)";
    let targets = output(&mut command(
        "apt-get",
        &["indextargets", "--format", format, "Created-By: Packages"],
    )?)?;
    let mut text = String::new();
    for (label, suite) in SUITES {
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

//! The emulator: the machine's own, else Debian's, taken out of its packages. Nothing is installed for it, which could
//! remove what another version of it has here (qemu-utils).

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command::{command, find, path, run};

const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";

/// Below the directory of its files: its libraries, and its firmware.
const LIBRARIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];
const FIRMWARE: [&str; 2] = ["usr/share/qemu", "usr/share/seabios"];

pub struct Emulator {
    /// Where its packages were unpacked; none for the machine's own.
    unpacked: Option<PathBuf>,
}

impl Emulator {
    /// That of the machine, or that which is in `directory` already, else by apt-get.
    pub fn get(directory: &Path) -> Result<Self> {
        if find(PROGRAM, &path()?).is_some() {
            return Ok(Self { unpacked: None });
        }
        let unpacked = directory.join("emulator");
        if !unpacked.exists() {
            download(directory, &unpacked)?;
        }
        Ok(Self {
            unpacked: Some(unpacked),
        })
    }

    pub fn command(&self) -> Result<Command> {
        let Some(unpacked) = &self.unpacked else {
            return command(PROGRAM, &[]);
        };
        let mut emulator = command(unpacked.join("usr/bin").join(PROGRAM), &[])?;
        let libraries = env::join_paths(LIBRARIES.map(|it| unpacked.join(it)));
        let libraries = libraries
            .with_context(|| format!("no list of paths can hold {}", unpacked.display()))?;
        emulator.env("LD_LIBRARY_PATH", libraries);
        for firmware in FIRMWARE {
            emulator.arg("-L").arg(unpacked.join(firmware));
        }
        Ok(emulator)
    }
}

/// Its packages, with those that it needs and that are not installed.
fn download(directory: &Path, unpacked: &Path) -> Result<()> {
    println!(
        "   getting {PACKAGE}, to be used from {}",
        unpacked.display()
    );
    let apt = Apt {
        directory: directory.join("emulator-apt"),
    };
    apt.run(&["update", "--quiet"])?;
    let get = ["install", "--yes", "--quiet", "--download-only"];
    apt.run(&[&get[..], &["--no-install-recommends", PACKAGE]].concat())
        .with_context(|| format!("put {PROGRAM} into PATH by hand, then call this again"))?;
    // Renamed when it is complete, so that what is there can be relied on.
    let partial = unpacked.with_extension("partial");
    fs::create_dir_all(&partial).with_context(|| format!("cannot make {}", partial.display()))?;
    for entry in fs::read_dir(apt.archives())? {
        let package = entry?.path();
        if package.extension().is_some_and(|it| it == "deb") {
            run(command("dpkg-deb", &["--extract"])?
                .arg(&package)
                .arg(&partial))?;
        }
    }
    fs::rename(&partial, unpacked)
        .with_context(|| format!("cannot rename it to {}", unpacked.display()))
}

/// apt of this machine, with lists and a cache of its own: any user may fill these.
struct Apt {
    directory: PathBuf,
}

impl Apt {
    fn archives(&self) -> PathBuf {
        self.directory.join("cache/archives")
    }

    fn run(&self, words: &[&str]) -> Result<()> {
        for part in ["lists/partial", "cache/archives/partial"] {
            let part = self.directory.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
        }
        let own = self.directory.display();
        let options = [
            format!("Dir::State::lists={own}/lists"),
            format!("Dir::Cache={own}/cache"),
            // What is installed is looked at, and stays as it is.
            "Debug::NoLocking=true".to_owned(),
        ];
        let options = options.iter().flat_map(|option| ["-o", option]);
        run(command("apt-get", &[])?.args(options).args(words))
    }
}

//! A crun of this year, which the launch benchmark compares with: Debian's newest, with the libraries that it was built
//! against, unpacked beside this machine's own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::apt::Apt;
use crate::command::{command, output, run, workspace};

/// crun, and what it is linked with in that suite.
const PACKAGES: [&str; 13] = [
    "crun",
    "libc6",
    "libblake3-0",
    "libtbb12",
    "libhwloc15",
    "libseccomp2",
    "libcap2",
    "libjson-c5",
    "libsystemd0",
    "libcriu2",
    "libprotobuf-c1",
    "libstdc++6",
    "libgcc-s1",
];

const SUITE: &str = "sid";

/// Below the directory of the packages' files.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const LOADER: &str = "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";

/// The words that run it: its loader, with its libraries, and the program. It is downloaded once.
pub fn words() -> Result<Vec<String>> {
    let root = root();
    if !root.exists() {
        download(&workspace().join("target/crun"), &root)
            .context("crun is not to be had: the benchmark of launches compares with it")?;
    }
    let text = |path: PathBuf| path.display().to_string();
    let words = vec![
        text(root.join(LOADER)),
        "--library-path".to_owned(),
        text(root.join(LIBRARIES)),
        text(root.join("usr/bin/crun")),
    ];
    let version = output(command(&words[0], &[])?.args(&words[1..]).arg("--version"))?;
    ensure!(version.starts_with("crun version"), "{version}");
    Ok(words)
}

/// Where its files are.
pub fn root() -> PathBuf {
    workspace().join("target/crun/root")
}

fn download(directory: &Path, root: &Path) -> Result<()> {
    println!(
        "   getting Debian's newest crun, to be used from {}",
        root.display()
    );
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let apt = Apt::prepare(directory)?;
    let packages = directory.join("packages");
    fs::create_dir_all(&packages).with_context(|| format!("cannot make {}", packages.display()))?;
    let wanted = PACKAGES.map(|name| format!("{name}/{SUITE}"));
    run(apt
        .command("apt-get", &["download", "--quiet"])?
        .args(wanted)
        .current_dir(&packages))?;
    // Renamed when it is complete, so that what is there can be relied on.
    let partial = root.with_extension("partial");
    fs::create_dir_all(&partial).with_context(|| format!("cannot make {}", partial.display()))?;
    for entry in fs::read_dir(&packages)? {
        run(command("dpkg-deb", &["--extract"])?
            .arg(entry?.path())
            .arg(&partial))?;
    }
    fs::rename(&partial, root).with_context(|| format!("cannot rename it to {}", root.display()))
}

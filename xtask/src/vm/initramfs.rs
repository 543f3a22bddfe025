//! The virtual machine's files: the agent, the programs that its checks use, and the libraries of both.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};

use crate::command::{command, output, run, workspace};

/// Directories that the guest mounts on, or puts links into.
const DIRECTORIES: [&str; 6] = ["bin", "dev", "proc", "run", "sys", "tmp"];

/// Of Debian's perl-base, which every Debian has: makes system calls that no other program makes.
const PERL: &str = "/usr/bin/perl";
const BUSYBOX: &str = "/bin/busybox";

pub struct Initramfs {
    pub path: PathBuf,
}

impl Initramfs {
    /// Makes it anew in `directory`.
    pub fn build(directory: &Path) -> Result<Self> {
        let root = directory.join("root");
        if root.exists() {
            fs::remove_dir_all(&root)
                .with_context(|| format!("cannot remove {}", root.display()))?;
        }
        for name in DIRECTORIES {
            fs::create_dir_all(root.join(name))
                .with_context(|| format!("cannot make {}/{name}", root.display()))?;
        }
        let agent = root.join("bin/agent");
        // Debug information is most of it, and of no use there.
        run(command("strip", &["target/debug/agent", "-o"])?.arg(&agent))?;
        let storm = root.join("bin/storm");
        run(command("strip", &["target/debug/storm", "-o"])?.arg(&storm))?;
        let init = workspace().join("tests/vm/init.sh");
        copy(&init, &root.join("init"))?;
        fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
        copy(Path::new(BUSYBOX), &root.join("bin/busybox"))?;
        symlink("/usr/bin/perl", root.join("bin/perl"))?;
        copy(Path::new(PERL), &root.join("usr/bin/perl"))?;
        for program in [&agent, &storm, Path::new(PERL)] {
            for library in libraries(program)? {
                let place = library.strip_prefix("/").unwrap_or(&library);
                copy(&library, &root.join(place))?;
            }
        }
        let path = directory.join("initramfs");
        archive(&root, &path)?;
        Ok(Self { path })
    }
}

/// The shared libraries of `program`, its loader among them.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let said = output(command("ldd", &[])?.arg(program))?;
    let words = said.split_whitespace().filter(|word| word.starts_with('/'));
    Ok(words.map(PathBuf::from).collect())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let directory = to.parent().unwrap_or(to);
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    fs::copy(from, to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// Packs `root` as the kernel wants it: a cpio archive of the format newc
/// (Documentation/driver-api/early-userspace/buffer-format.rst).
fn archive(root: &Path, archive: &Path) -> Result<()> {
    let names = output(command("find", &["."])?.current_dir(root))?;
    let file =
        File::create(archive).with_context(|| format!("cannot make {}", archive.display()))?;
    let mut cpio = command(BUSYBOX, &["cpio", "-o", "-H", "newc"])?
        .current_dir(root)
        .stdin(Stdio::piped())
        .stdout(file)
        .spawn()
        .context("cannot run busybox cpio")?;
    let mut stdin = cpio.stdin.take().context("stdin is piped")?;
    stdin.write_all(names.as_bytes())?;
    drop(stdin);
    let status = cpio.wait()?;
    ensure!(status.success(), "busybox cpio failed ({status})");
    Ok(())
}

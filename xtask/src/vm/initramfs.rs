//! The virtual machine's files: the agent, the programs that its checks use, and the libraries of both.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};

use super::kernel::Module;
use crate::command::{cargo, command, output, run, workspace};

/// Directories that the guest mounts on, or puts links into.
const DIRECTORIES: [&str; 7] = ["bin", "dev", "mnt", "proc", "run", "sys", "tmp"];

/// Of Debian's perl-base, which every Debian has: makes system calls that no other program makes.
const PERL: &str = "/usr/bin/perl";
const BUSYBOX: &str = "/bin/busybox";
const STRESS: &str = "/usr/bin/stress-ng";

/// The tests whose programs run in the guest too.
const TESTS: [&str; 3] = ["run_limits", "run_life", "verify"];

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
        let tests = TESTS.map(|test| root.join("bin").join(test));
        for (test, path) in TESTS.iter().zip(&tests) {
            run(command("strip", &["-o"])?
                .arg(path)
                .arg(test_program(test)?))?;
        }
        let init = workspace().join("tests/vm/init.sh");
        copy(&init, &root.join("init"))?;
        fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
        copy(Path::new(BUSYBOX), &root.join("bin/busybox"))?;
        symlink("/usr/bin/perl", root.join("bin/perl"))?;
        copy(Path::new(PERL), &root.join("usr/bin/perl"))?;
        copy(Path::new(STRESS), &root.join("usr/bin/stress-ng"))?;
        let programs = [&*agent, &*storm, Path::new(PERL), Path::new(STRESS)];
        for program in programs
            .into_iter()
            .chain(tests.iter().map(PathBuf::as_path))
        {
            for library in libraries(program)? {
                let place = library.strip_prefix("/").unwrap_or(&library);
                copy(&library, &root.join(place))?;
            }
        }
        let path = directory.join("initramfs");
        archive(&root, &path)?;
        Ok(Self { path })
    }

    /// It with these modules in `/modules`, named so that their order is that of loading: the kernel takes archives
    /// behind one another.
    pub fn with_modules(&self, modules: &[Module], directory: &Path) -> Result<PathBuf> {
        let root = directory.join("modules");
        if root.exists() {
            fs::remove_dir_all(&root)
                .with_context(|| format!("cannot remove {}", root.display()))?;
        }
        let place = root.join("modules");
        fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
        for (number, Module { name, bytes }) in modules.iter().enumerate() {
            let path = place.join(format!("{number:02}-{name}.ko"));
            fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        }
        let added = directory.join("modules.cpio");
        archive(&root, &added)?;
        let path = directory.join("initrd");
        let mut bytes = fs::read(&self.path)?;
        // Archives begin at a multiple of four.
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(fs::read(&added)?);
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// Builds the tests whose programs run in the guest too.
pub fn build_tests() -> Result<()> {
    let arguments = ["test", "--quiet", "--package", "tests", "--no-run"];
    let mut build = cargo(&arguments)?;
    run(build.args(TESTS.iter().flat_map(|test| ["--test", test])))
}

/// The newest of its programs: cargo puts a hash behind the name.
fn test_program(test: &str) -> Result<PathBuf> {
    let directory = workspace().join("target/debug/deps");
    let mut programs = Vec::new();
    for entry in fs::read_dir(&directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(&format!("{test}-")) && !name.contains('.') {
            programs.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    let newest = programs.into_iter().max();
    let (_, path) = newest.with_context(|| format!("cargo built no {test}"))?;
    Ok(path)
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

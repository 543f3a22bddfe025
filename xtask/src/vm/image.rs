//! The virtual machine's disk: the test programs at the paths that they have here, the programs that they call, and the
//! libraries of all.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::command::{command, find, output, path_of_root, run, workspace};

/// Directories that the first process mounts on, and that tests expect.
const DIRECTORIES: [&str; 12] = [
    "dev",
    "etc",
    "home",
    "mnt",
    "proc",
    "root",
    "run",
    "sys",
    "tmp",
    "usr/bin",
    "usr/lib64",
    "var/tmp",
];

/// A system whose directories are merged into /usr.
const LINKS: [(&str, &str); 7] = [
    ("usr/bin", "bin"),
    ("usr/sbin", "sbin"),
    ("usr/lib", "lib"),
    ("usr/lib64", "lib64"),
    ("bin", "usr/sbin"),
    ("../run", "var/run"),
    ("/proc/self/mounts", "etc/mtab"),
];

/// Programs of this machine that tests call. busybox has what is not among them.
#[rustfmt::skip]
const PROGRAMS: [&str; 76] = [
    "awk", "base64", "basename", "bash", "busybox", "cat", "chgrp", "chmod", "chown", "chroot", "cp", "cut", "date",
    "dash", "dd", "df", "dirname", "dmesg", "du", "echo", "env", "expr", "false", "find", "findmnt", "flock", "getent",
    "grep", "head", "hostname", "id", "install", "ionice", "ip", "kill", "ldd", "ln", "losetup", "ls", "mkdir", "mkfifo",
    "mknod", "mktemp", "mount", "mv", "nice", "nproc", "nsenter", "perl", "prlimit", "ps", "pwd", "readlink", "realpath",
    "rm", "rmdir", "runc", "script", "sed", "seq", "setpriv", "setsid", "sh", "sleep", "sort", "stat", "strace",
    "stress-ng", "stty", "sync", "tail", "tar", "timeout", "tmux", "touch", "true",
];

/// The rest of them.
#[rustfmt::skip]
const MORE_PROGRAMS: [&str; 17] = [
    "ipcmk", "ipcrm", "ipcs", "apt-get", "dot", "tee", "tr", "umount", "unshare", "uname", "wc", "xargs", "yes", "chattr", "setcap", "getcap", "taskset",
];

/// Files and directories of this machine that programs read, where they are there.
const FILES: [&str; 10] = [
    "/usr/lib/x86_64-linux-gnu/graphviz",
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/localtime",
    "/usr/lib/locale/C.utf8",
    "/usr/lib/terminfo",
    "/lib/terminfo",
    "/usr/lib/x86_64-linux-gnu/perl-base",
    "/usr/share/zoneinfo/UTC",
];

/// Files of its own, and their modes.
const WRITTEN: [(&str, &str, u32); 2] = [
    ("etc/hosts", "127.0.0.1 localhost\n", 0o644),
    // Read by root alone.
    ("etc/shadow", "root:*:20000:0:99999:7:::\n", 0o600),
];

/// What tests read of the workspace.
const WORKSPACE: [&str; 4] = ["METRICS.md", "dashboards", "tests/fixtures", "agent/schema"];

/// Room for what tests write. Of the file only what is written takes room.
const SIZE: &str = "6G";

/// Features that the oldest kernel knows, and no journal: the machine's disk is thrown away.
const FEATURES: &str = "none,extent,filetype,flex_bg,sparse_super,large_file,huge_file,dir_index,dir_nlink,extra_isize,ext_attr";

/// The program tests/src/bin/guest.rs, and what it reads there.
pub struct Disk {
    pub guest: PathBuf,
    pub plan: String,
    pub environment: String,
}

impl Disk {
    /// Makes it anew in `directory`, with these programs and what is in these directories. Its path.
    pub fn build(
        &self,
        programs: impl Iterator<Item = PathBuf>,
        trees: &[&Path],
        directory: &Path,
    ) -> Result<PathBuf> {
        let root = Root::empty(&directory.join("root"))?;
        root.skeleton()?;
        let called = PROGRAMS.iter().chain(&MORE_PROGRAMS);
        let path = path_of_root()?;
        // What is not installed is missed by the test that needs it.
        let called = called.filter_map(|name| find(name, &path));
        let mut all: Vec<PathBuf> = called.collect();
        all.extend(programs);
        let mut libraries = BTreeSet::new();
        for program in &all {
            root.add(program, program)?;
            libraries.extend(needed(program)?);
        }
        for library in &libraries {
            root.add(library, library)?;
        }
        root.add(&self.guest, Path::new("/sbin/guest"))?;
        trees.iter().try_for_each(|tree| root.add_tree(tree))?;
        let place = workspace().display().to_string();
        for (name, text) in [
            ("plan", &self.plan),
            ("environment", &self.environment),
            ("workspace", &place),
        ] {
            fs::write(root.0.join(name), text).with_context(|| format!("cannot write {name}"))?;
        }
        let disk = directory.join("disk");
        if disk.exists() {
            fs::remove_file(&disk).with_context(|| format!("cannot remove {}", disk.display()))?;
        }
        let arguments = ["-q", "-F", "-t", "ext4", "-O", FEATURES, "-m", "0", "-d"];
        run(command("mke2fs", &arguments)?
            .env("PATH", &path)
            .arg(&root.0)
            .arg(&disk)
            .arg(SIZE))?;
        Ok(disk)
    }
}

/// The tree that becomes the disk.
struct Root(PathBuf);

impl Root {
    fn empty(path: &Path) -> Result<Self> {
        if path.exists() {
            fs::remove_dir_all(path)
                .with_context(|| format!("cannot remove {}", path.display()))?;
        }
        fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path.to_owned()))
    }

    /// Directories, links, and files that programs read.
    fn skeleton(&self) -> Result<()> {
        for directory in DIRECTORIES {
            self.directory(&self.0.join(directory))?;
        }
        for (target, link) in LINKS {
            symlink(target, self.0.join(link)).with_context(|| format!("cannot link {link}"))?;
        }
        self.directory(&self.0.join("tmp"))?;
        for (file, text, mode) in WRITTEN {
            let path = self.0.join(file);
            fs::write(&path, text).with_context(|| format!("cannot write {file}"))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        }
        for file in FILES.map(Path::new) {
            self.add_tree(file)?;
        }
        for name in WORKSPACE {
            self.add_tree(&workspace().join(name))?;
        }
        self.directory(&self.inside(&workspace().join("target/tmp")))
    }

    /// A file, or a directory with all that is in it, at the path that it has here, where it is there.
    fn add_tree(&self, from: &Path) -> Result<()> {
        let Ok(metadata) = fs::metadata(from) else {
            return Ok(());
        };
        if !metadata.is_dir() {
            return self.add(from, from);
        }
        for entry in
            fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?
        {
            self.add_tree(&entry?.path())?;
        }
        Ok(())
    }

    /// A file of this machine, at another path or the same.
    fn add(&self, from: &Path, at: &Path) -> Result<()> {
        let to = self.inside(at);
        self.directory(to.parent().unwrap_or(&to))?;
        // What links lead to is meant, and it may be there by another path.
        let from = from
            .canonicalize()
            .with_context(|| format!("{} is not there", from.display()))?;
        if to.exists() {
            return Ok(());
        }
        // A link takes no room, where the file system and the kernel's protection of links allow one.
        if fs::hard_link(&from, &to).is_ok() {
            return Ok(());
        }
        fs::copy(&from, &to)
            .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
        Ok(())
    }

    fn inside(&self, path: &Path) -> PathBuf {
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn directory(&self, path: &Path) -> Result<()> {
        fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))
    }
}

/// The shared libraries of `program`, its loader among them; a script has none.
fn needed(program: &Path) -> Result<Vec<PathBuf>> {
    let said = command("ldd", &[])?.arg(program).output();
    let said = said.context("cannot run ldd")?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let words = said.split_whitespace().filter(|word| word.starts_with('/'));
    let words = words.map(|word| word.trim_end_matches(':'));
    Ok(words
        .map(PathBuf::from)
        .filter(|it| it != program)
        .collect())
}

/// Makes the file that the kernel starts with, of the modules that lead to the disk and that tests need, named so that
/// their order is that of loading.
pub fn initrd(modules: &[super::modules::Module], directory: &Path) -> Result<PathBuf> {
    let root = Root::empty(&directory.join("initrd.d"))?;
    let place = root.0.join("modules");
    root.directory(&place)?;
    for (number, module) in modules.iter().enumerate() {
        let path = place.join(format!("{number:02}-{}.ko", module.name));
        fs::write(&path, &module.bytes)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let busybox = find("busybox", &path_of_root()?).context("busybox is not installed")?;
    root.add(&busybox, Path::new("/bin/busybox"))?;
    fs::copy(workspace().join("tests/vm/init.sh"), root.0.join("init"))
        .context("tests/vm/init.sh")?;
    let initrd = directory.join("initrd");
    archive(&root.0, &initrd)?;
    Ok(initrd)
}

/// Packs `root` as the kernel wants it: a cpio archive of the format newc
/// (Documentation/driver-api/early-userspace/buffer-format.rst).
fn archive(root: &Path, archive: &Path) -> Result<()> {
    let names = output(command("find", &["."])?.current_dir(root))?;
    let list = archive.with_extension("list");
    fs::write(&list, names).with_context(|| format!("cannot write {}", list.display()))?;
    let file = |path: &Path| fs::File::open(path).with_context(|| path.display().to_string());
    let written = fs::File::create(archive);
    run(command("busybox", &["cpio", "-o", "-H", "newc"])?
        .current_dir(root)
        .stdin(file(&list)?)
        .stdout(written.with_context(|| format!("cannot make {}", archive.display()))?))
}

//! Copies programs of this host, and the files that their loaders need, into a root file system.

mod cache;
mod elf;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod links;
mod loader;
mod tokens;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use agent_host::regular::{self, Links};
use links::PathEntry;

use super::Error;
use super::budget::UnpackBudget;
use super::inside::{FileAccess, Inside};
use super::owners::OwnerMap;

/// The `PATH` of the container. Programs are also searched for here where the caller has no `PATH`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The bytes of a script's first line that the kernel reads (`BINPRM_BUF_SIZE`).
const FIRST_LINE: u64 = 256;

/// How deep scripts may nest as interpreters of scripts, as in the kernel (execve(2)).
const MOST_INTERPRETERS: usize = 5;

const DIRECTORIES: [(&str, u32); 10] = [
    ("dev", 0o755),
    ("etc", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr/bin", 0o755),
    ("usr/sbin", 0o755),
    ("var/tmp", 0o1777),
];

/// Directories that become symbolic links where they are links on the host, usually into /usr.
const MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// The files about users and hosts that programs expect.
const TEXTS: [(&str, &str); 3] = [
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    ),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    (
        "etc/hosts",
        "127.0.0.1 localhost\n::1 localhost ip6-localhost\n",
    ),
];

/// The files and links that are to be in the root file system.
#[derive(Debug, Default)]
pub(crate) struct CopyPlan {
    pieces: BTreeSet<PathEntry>,
    /// The programs that were asked for.
    programs: Vec<PathBuf>,
    /// The programs that were read already: scripts can share their interpreter.
    seen: BTreeSet<PathBuf>,
}

/// Finds all files that the programs need. A program is a path, or a name that is searched for in PATH.
///
/// # Errors
/// A program does not exist or is not executable, or a library is missing.
pub(crate) fn plan(programs: &[PathBuf]) -> Result<CopyPlan, Error> {
    let mut plan = CopyPlan::default();
    for program in programs {
        let path = find(program)?;
        plan.add_program(&path, 0)?;
        plan.programs.push(path);
    }
    Ok(plan)
}

impl CopyPlan {
    fn add_program(&mut self, path: &Path, interpreters: usize) -> Result<(), Error> {
        if !self.seen.insert(path.to_owned()) {
            return Ok(());
        }
        let file = open(path)?;
        self.add_file(path)?;
        let object = elf::read(&file).map_err(|what| Error::Elf {
            path: path.to_owned(),
            what,
        })?;
        let Some(object) = object else {
            return self.add_script(path, &file, interpreters);
        };
        let needs = loader::needs(path, object)?;
        for file in needs.files {
            self.add_file(&file)?;
        }
        for file in needs.settings {
            // Without this file, the loader searches only its default directories.
            if file.is_file() {
                self.add_file(&file)?;
            }
        }
        Ok(())
    }

    fn add_script(
        &mut self,
        path: &Path,
        mut file: &File,
        interpreters: usize,
    ) -> Result<(), Error> {
        let mut start = Vec::new();
        io::Seek::rewind(&mut file).map_err(Error::io("read", path))?;
        let read = file.take(FIRST_LINE).read_to_end(&mut start);
        read.map_err(Error::io("read", path))?;
        let Some(line) = start.strip_prefix(b"#!") else {
            return Err(Error::NotProgram {
                path: path.to_owned(),
            });
        };
        if interpreters == MOST_INTERPRETERS {
            return Err(Error::TooMany {
                path: path.to_owned(),
                what: "interpreters, each a script",
                most: MOST_INTERPRETERS,
            });
        }
        for interpreter in interpreters_in(line) {
            let found = find(Path::new(&interpreter))?;
            self.add_program(&found, interpreters + 1)?;
        }
        if interpreters_in(line).is_empty() {
            return Err(Error::NoInterpreter {
                path: path.to_owned(),
            });
        }
        Ok(())
    }

    fn add_file(&mut self, path: &Path) -> Result<(), Error> {
        let pieces = links::follow(path).map_err(Error::io("read", path))?;
        self.pieces.extend(pieces);
        Ok(())
    }

    /// Writes the files and links into an empty directory.
    ///
    /// # Errors
    /// A file cannot be read or written, or it exceeds `budget`.
    pub(crate) fn write(
        &self,
        directory: BorrowedFd<'_>,
        budget: &mut UnpackBudget,
    ) -> Result<(), Error> {
        // In a container with a user namespace, an id-mapped mount gives the files the container's owners.
        let owners = OwnerMap::of_caller();
        let mut inside = Inside::new(directory, &owners);
        for name in MERGED {
            let on_host = Path::new("/").join(name);
            let piece = fs::read_link(&on_host).map(|target| PathEntry::Link {
                path: on_host,
                target,
            });
            if let Ok(piece) = piece {
                put(&mut inside, &piece, budget)?;
            }
        }
        for (name, mode) in DIRECTORIES {
            let made = inside.directory(Path::new(name), FileAccess::of_root(mode));
            made.map_err(Error::io("make the root's", Path::new(name)))?;
        }
        for (name, text) in TEXTS {
            let made = inside.file(
                Path::new(name),
                FileAccess::of_root(0o644),
                &mut text.as_bytes(),
            );
            made.map_err(Error::io("write the root's", Path::new(name)))?;
        }
        for piece in &self.pieces {
            put(&mut inside, piece, budget)?;
        }
        self.link_programs(&mut inside, budget)
    }

    /// Links a program from a directory outside of the container's PATH into /usr/bin, so that it can be called by its
    /// name.
    fn link_programs(
        &self,
        inside: &mut Inside<'_>,
        budget: &mut UnpackBudget,
    ) -> Result<(), Error> {
        for program in &self.programs {
            let (Some(directory), Some(name)) = (program.parent(), program.file_name()) else {
                continue;
            };
            if PATH.split(':').any(|it| Path::new(it) == directory) {
                continue;
            }
            let path = Path::new("/usr/bin").join(name);
            let is_there = |piece: &PathEntry| match piece {
                PathEntry::Link { path: it, .. } | PathEntry::File { path: it } => *it == path,
            };
            if !self.pieces.iter().any(is_there) {
                let target = program.clone();
                put(inside, &PathEntry::Link { path, target }, budget)?;
            }
        }
        Ok(())
    }
}

fn put(inside: &mut Inside<'_>, piece: &PathEntry, budget: &mut UnpackBudget) -> Result<(), Error> {
    match piece {
        PathEntry::Link { path, target } => {
            let relative = relative(path);
            let made =
                inside.symbolic_link(relative, target.as_os_str(), FileAccess::of_root(0o777));
            made.map_err(Error::io("make the root's", relative))
        }
        PathEntry::File { path } => {
            let from = open(path)?;
            let found = from.metadata().map_err(Error::io("read", path))?;
            budget.file(found.len()).map_err(|what| Error::Costs {
                path: path.clone(),
                what,
            })?;
            // The set-user-ID bit is dropped, because the copy has another owner.
            let executable = found.permissions().mode() & 0o111 != 0;
            let access = FileAccess::of_root(if executable { 0o755 } else { 0o644 });
            let written = inside.file(relative(path), access, &mut from.take(found.len()));
            written.map(drop).map_err(Error::io("copy", path))
        }
    }
}

fn open(path: &Path) -> Result<File, Error> {
    regular::open(path, Links::Followed).map_err(Error::io("open", path))
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// Returns the programs that the first line of a script names: the interpreter, and the program that `env` is to run.
/// `line` is without `#!`.
fn interpreters_in(line: &[u8]) -> Vec<OsString> {
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut words = line
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
        .map(|word| OsString::from_vec(word.to_vec()));
    let Some(interpreter) = words.next() else {
        return Vec::new();
    };
    if !Path::new(&interpreter).is_absolute() {
        return Vec::new();
    }
    let is_env = Path::new(&interpreter).file_name() == Some(OsStr::new("env"));
    let is_setting =
        |word: &OsString| word.as_bytes().starts_with(b"-") || word.as_bytes().contains(&b'=');
    let run = words.find(|word| !is_setting(word)).filter(|_| is_env);
    std::iter::once(interpreter).chain(run).collect()
}

/// Finds the absolute path of a program.
fn find(program: &Path) -> Result<PathBuf, Error> {
    if program.as_os_str().as_bytes().contains(&b'/') {
        let path = std::path::absolute(program).map_err(Error::io("find", program))?;
        return executable(&path);
    }
    let path = std::env::var_os("PATH").filter(|path| !path.is_empty());
    let path = path.unwrap_or_else(|| PATH.into());
    let mut error = None;
    for directory in std::env::split_paths(&path).filter(|it| it.is_absolute()) {
        match executable(&directory.join(program)) {
            Ok(found) => return Ok(found),
            Err(Error::NoFile { .. }) => {}
            Err(other) => error = error.or(Some(other)),
        }
    }
    Err(error.unwrap_or_else(|| Error::NoProgram {
        name: program.display().to_string(),
        path: path.to_string_lossy().into_owned(),
    }))
}

/// Returns `path`, if it is a regular file with an execute bit.
fn executable(path: &Path) -> Result<PathBuf, Error> {
    let path = path.to_owned();
    match fs::metadata(&path) {
        Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => Ok(path),
        Ok(_) => Err(Error::NotExecutable { path }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::NoFile { path }),
        Err(error) => Err(Error::io("find", &path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines_of_scripts() {
        let cases: [(&str, &[&str]); 7] = [
            ("/bin/sh\necho", &["/bin/sh"]),
            (" /bin/sh -e\n", &["/bin/sh"]),
            ("/usr/bin/env python3\n", &["/usr/bin/env", "python3"]),
            (
                "/usr/bin/env -S A=b python3 -u\n",
                &["/usr/bin/env", "python3"],
            ),
            ("/usr/bin/env", &["/usr/bin/env"]),
            ("sh\n", &[]),
            ("\n/bin/sh", &[]),
        ];
        for (line, wanted) in cases {
            assert_eq!(interpreters_in(line.as_bytes()), wanted, "{line:?}");
        }
    }
}

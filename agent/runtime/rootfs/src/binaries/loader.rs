//! Finds the libraries that a program's loader will load, as ld.so(8) and musl's `ldso/dynlink.c` do.
//!
//! This module only reads the files. ldd(1) may run the program instead, which is safe only with a trusted program.

use std::cell::Cell;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use agent_host::regular::{self, Links};

use super::cache;
use super::elf::{self, ElfFile, ElfTarget};
use super::tokens::LoaderTokens;
use crate::Error;

/// The most files that one program may load. No real program loads as many.
const MOST_FILES: usize = 4096;

/// The most bytes of names in all these files.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// The most look-ups for all libraries of one program.
const MOST_LOOKS: usize = 100_000;

/// The most bytes of a path, with its NUL (`PATH_MAX`).
const LONGEST_PATH: usize = 4096;

/// The most bytes of the file that says where libraries are.
const LARGEST_SETTINGS: u64 = 4 * 1024 * 1024;

const CACHE: &str = "/etc/ld.so.cache";

/// How the names of the libraries begin that are part of musl's loader itself.
const WITHIN_MUSL: [&str; 7] = [
    "libc.",
    "libpthread.",
    "librt.",
    "libm.",
    "libdl.",
    "libutil.",
    "libxnet.",
];

/// The files that a program needs besides itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// The loader and the libraries.
    pub files: Vec<PathBuf>,
    /// The files that the loader reads to find the libraries. They need not exist.
    pub settings: Vec<PathBuf>,
}

/// Finds the files that `program` needs. `object` was read from it.
///
/// # Errors
/// A library is missing or damaged, or the program exceeds a limit of this module.
pub(super) fn needs(program: &Path, object: ElfFile) -> Result<Needs, Error> {
    let Some(interpreter) = object.interpreter.clone() else {
        return Ok(Needs::default());
    };
    let family = LoaderFamily::of(&interpreter);
    let mut search = LibrarySearch {
        settings: regular::read(&family.settings(), Links::Followed, LARGEST_SETTINGS)
            .unwrap_or_default(),
        kind: object.kind,
        loaded: Vec::new(),
        names: HashSet::new(),
        extra: Vec::new(),
        bytes: 0,
        looks: Cell::new(0),
        family,
    };
    let own = open(&interpreter, object.kind)?.ok_or_else(|| Error::NoLibrary {
        name: interpreter.display().to_string(),
        by: program.to_owned(),
        searched: "the path that it says".to_owned(),
    })?;
    // A library with the loader's name is the loader.
    search.names.extend(own.name);
    search.add(program.to_owned(), object, None)?;
    let mut next = 0;
    while next < search.loaded.len() {
        for name in search.loaded[next].object.needed.clone() {
            search.need(name, next)?;
        }
        next += 1;
    }
    let libraries = search.loaded.into_iter().skip(1).map(|it| it.path);
    let files = std::iter::once(interpreter)
        .chain(libraries)
        .chain(search.extra);
    Ok(Needs {
        files: files.collect(),
        settings: vec![search.family.settings()],
    })
}

/// The C library that the loader is from.
#[derive(Debug)]
enum LoaderFamily {
    Glibc,
    Musl {
        /// The architecture in the loader's name, as in `x86_64`.
        architecture: String,
    },
}

impl LoaderFamily {
    fn of(interpreter: &Path) -> Self {
        let name = interpreter
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        let rest = name.strip_prefix("ld-musl-");
        match rest.and_then(|rest| rest.split('.').next()) {
            Some(architecture) => Self::Musl {
                architecture: architecture.to_owned(),
            },
            None => Self::Glibc,
        }
    }

    /// Returns the path of the file that says where libraries are.
    fn settings(&self) -> PathBuf {
        match self {
            Self::Glibc => CACHE.into(),
            Self::Musl { architecture } => format!("/etc/ld-musl-{architecture}.path").into(),
        }
    }

    fn has_within(&self, library: &OsStr) -> bool {
        match self {
            Self::Glibc => false,
            Self::Musl { .. } => {
                let library = library.as_bytes();
                WITHIN_MUSL
                    .iter()
                    .any(|it| library.starts_with(it.as_bytes()))
            }
        }
    }
}

struct LoadedLibrary {
    path: PathBuf,
    object: ElfFile,
    /// The index of the first file that needs it; `None` for the program.
    by: Option<usize>,
}

struct LibrarySearch {
    family: LoaderFamily,
    /// What [`LoaderFamily::settings`] holds.
    settings: Vec<u8>,
    kind: ElfTarget,
    loaded: Vec<LoadedLibrary>,
    /// The names of the loaded files. The loader loads no name twice.
    names: HashSet<OsString>,
    /// Variants of libraries for newer processors, one of which the loader will take.
    extra: Vec<PathBuf>,
    /// The bytes of names in all loaded files.
    bytes: usize,
    looks: Cell<usize>,
}

impl LibrarySearch {
    fn add(&mut self, path: PathBuf, object: ElfFile, by: Option<usize>) -> Result<(), Error> {
        self.bytes += object.bytes() + path.as_os_str().len();
        if self.bytes > MOST_BYTES {
            return Err(self.too_many("bytes of names for its loader", MOST_BYTES));
        }
        self.names.extend(object.name.clone());
        self.loaded.push(LoadedLibrary { path, object, by });
        Ok(())
    }

    /// Counts a look-up.
    fn look(&self) -> Result<(), Error> {
        self.looks.set(self.looks.get() + 1);
        if self.looks.get() > MOST_LOOKS {
            return Err(self.too_many(
                "places where its loader would look for libraries",
                MOST_LOOKS,
            ));
        }
        Ok(())
    }

    fn too_many(&self, what: &'static str, most: usize) -> Error {
        let program = self.loaded.first().map(|it| it.path.clone());
        Error::TooMany {
            path: program.unwrap_or_default(),
            what,
            most,
        }
    }

    /// Finds the library `name`, which the loaded file `by` needs, unless it is loaded already.
    fn need(&mut self, name: OsString, by: usize) -> Result<(), Error> {
        if self.family.has_within(&name) || !self.names.insert(name.clone()) {
            return Ok(());
        }
        if self.loaded.len() == MOST_FILES {
            return Err(self.too_many("libraries", MOST_FILES));
        }
        if name.as_bytes().contains(&b'/') {
            for path in self.expand(&name, by)? {
                if let Some(object) = open(&path, self.kind)? {
                    return self.add(path, object, Some(by));
                }
            }
            return Err(self.not_found(&name, by, &[]));
        }
        let mut directories = self.given_directories(by)?;
        let mut found = self.first_in(&directories, &name)?;
        if found.is_none() && !self.loaded[by].object.own_directories_only {
            found = self.first_in_cache(&name)?;
            if found.is_none() {
                let standard = self.standard_directories();
                found = self.first_in(&standard, &name)?;
                directories.extend(standard);
            }
        }
        let (path, object) = found.ok_or_else(|| self.not_found(&name, by, &directories))?;
        self.add(path, object, Some(by))
    }

    fn not_found(&self, name: &OsStr, by: usize, searched: &[PathBuf]) -> Error {
        let mut searched: Vec<String> =
            searched.iter().map(|it| it.display().to_string()).collect();
        searched.dedup();
        Error::NoLibrary {
            name: name.to_string_lossy().into_owned(),
            by: self.loaded[by].path.clone(),
            searched: searched.join(", "),
        }
    }

    fn first_in(
        &self,
        directories: &[PathBuf],
        name: &OsStr,
    ) -> Result<Option<(PathBuf, ElfFile)>, Error> {
        for directory in directories {
            self.look()?;
            let path = directory.join(name);
            if let Some(object) = open(&path, self.kind)? {
                return Ok(Some((path, object)));
            }
        }
        Ok(None)
    }

    fn first_in_cache(&mut self, name: &OsStr) -> Result<Option<(PathBuf, ElfFile)>, Error> {
        if !matches!(self.family, LoaderFamily::Glibc) {
            return Ok(None);
        }
        let mut first = None;
        for path in cache::find(&self.settings, name) {
            if let Some(object) = open(&path, self.kind)? {
                match first {
                    None => first = Some((path, object)),
                    Some(_) => self.extra.push(path),
                }
            }
        }
        Ok(first)
    }

    /// Returns the directories that `DT_RPATH` and `DT_RUNPATH` name for the libraries of the loaded file `by`.
    fn given_directories(&self, by: usize) -> Result<Vec<PathBuf>, Error> {
        let object = &self.loaded[by].object;
        let musl = matches!(self.family, LoaderFamily::Musl { .. });
        if let (Some(runpath), false) = (&object.runpath, musl) {
            return self.list(runpath, by);
        }
        let mut directories = Vec::new();
        let mut at = Some(by);
        while let Some(index) = at {
            let object = &self.loaded[index].object;
            // glibc ignores the DT_RPATH of a file that has a DT_RUNPATH. musl takes either, of each file on the way
            // from `by` to the program.
            let given = match (&object.runpath, musl) {
                (Some(runpath), true) => Some(runpath),
                (Some(_), false) => None,
                (None, _) => object.rpath.as_ref(),
            };
            if let Some(given) = given {
                directories.extend(self.list(given, index)?);
            }
            at = self.loaded[index].by;
        }
        Ok(directories)
    }

    fn list(&self, given: &OsStr, by: usize) -> Result<Vec<PathBuf>, Error> {
        let parts = given.as_bytes().split(|byte| *byte == b':');
        let mut directories = Vec::new();
        for part in parts.filter(|part| !part.is_empty()) {
            directories.extend(self.expand(OsStr::from_bytes(part), by)?);
        }
        Ok(directories)
    }

    /// Replaces the tokens in `text`, which the loaded file `by` contains. Results that are too long for a path are
    /// left out.
    fn expand(&self, text: &OsStr, by: usize) -> Result<Vec<PathBuf>, Error> {
        self.look()?;
        // Links to the file are resolved, as the loader does for the program (/proc/self/exe).
        let path = &self.loaded[by].path;
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        let origin = path.parent().unwrap_or(Path::new("/"));
        let mut paths = LoaderTokens::of(self.kind).replace_in(text, origin);
        paths.retain(|path| path.as_os_str().len() < LONGEST_PATH);
        Ok(paths)
    }

    fn standard_directories(&self) -> Vec<PathBuf> {
        if let LoaderFamily::Musl { .. } = self.family {
            let given = String::from_utf8_lossy(&self.settings).into_owned();
            let given = if given.trim().is_empty() {
                "/lib:/usr/local/lib:/usr/lib".to_owned()
            } else {
                given
            };
            let directories = given.split([':', '\n']).filter(|it| !it.is_empty());
            return directories.map(PathBuf::from).collect();
        }
        let words = LoaderTokens::of(self.kind);
        let directories = words
            .libraries
            .iter()
            .flat_map(|name| ["/", "/usr"].map(|above| Path::new(above).join(name)));
        directories.collect()
    }
}

/// Reads the ELF file at `path`; `None` where there is none of this kind. A loader skips other files.
fn open(path: &Path, kind: ElfTarget) -> Result<Option<ElfFile>, Error> {
    let Ok(file) = regular::open(path, Links::Followed) else {
        return Ok(None);
    };
    let object = elf::read(&file).map_err(|what| Error::Elf {
        path: path.to_owned(),
        what,
    })?;
    Ok(object.filter(|object| object.kind == kind))
}

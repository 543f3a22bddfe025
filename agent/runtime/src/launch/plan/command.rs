//! Prepares the command, its arguments and environment, and the paths at which the command may be.

use std::cell::OnceCell;
use std::ffi::{CStr, CString};

use agent_sys::launch::Strings;
use oci_spec::runtime::Process;

use super::{path_text, text};
use crate::launch::Error;

/// The search path for a command without a slash where the environment has no PATH: docker's default.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The most bytes of a path, with its NUL, and of a file name (`include/uapi/linux/limits.h`).
const PATH_BYTES: usize = libc::PATH_MAX as usize;
const NAME_BYTES: usize = 255;

/// The most bytes that execve(2) accepts in one argument or variable, with its NUL (`MAX_ARG_STRLEN`). Then the most in
/// all of them, with their pointers (three quarters of `_STK_LIM`).
const STRING_BYTES: usize = 128 << 10;
const ALL_BYTES: usize = 6 << 20;

#[derive(Debug)]
pub(crate) struct Command {
    pub candidates: Candidates,
    pub arguments: Strings,
    pub environment: Strings,
    /// The working directory: an absolute path in the container.
    pub directory: CString,
}

impl Command {
    /// `home` is the value of HOME where the environment has none.
    pub(crate) fn new(process: &Process, home: &str) -> Result<Self, Error> {
        let arguments = process.args().as_deref().unwrap_or_default();
        let [name, ..] = arguments else {
            return Err(Error::invalid("command: empty; say what to run"));
        };
        let given = process.env().as_deref().unwrap_or_default();
        // Both may come from an image that nobody trusts.
        check_length(arguments, given)?;
        let mut environment = given.to_vec();
        if variable(&environment, "HOME").is_none() {
            environment.push(format!("HOME={home}"));
        }
        if !process.cwd().is_absolute() {
            let cwd = process.cwd().display();
            return Err(Error::invalid(format!(
                "working directory {cwd}: not absolute; begin it with /"
            )));
        }
        Ok(Self {
            candidates: Candidates::new(name, &environment)?,
            arguments: strings(arguments)?,
            environment: strings(&environment)?,
            directory: path_text(process.cwd())?,
        })
    }
}

/// Refuses arguments and variables that execve(2) would refuse, before memory is spent on them.
fn check_length(arguments: &[String], environment: &[String]) -> Result<(), Error> {
    let pointer = size_of::<usize>();
    let mut all = 0_usize;
    for (what, strings) in [("command", arguments), ("environment", environment)] {
        for string in strings {
            all = all.saturating_add(string.len() + 1 + pointer);
            if string.len() >= STRING_BYTES {
                let length = string.len();
                return Err(Error::invalid(format!(
                    "{what}: one string has {length} bytes, and the kernel takes fewer than {STRING_BYTES}; make it shorter"
                )));
            }
        }
    }
    if all > ALL_BYTES {
        return Err(Error::invalid(format!(
            "command and environment: {all} bytes, and the kernel takes at most {ALL_BYTES}; pass fewer"
        )));
    }
    Ok(())
}

fn strings(values: &[String]) -> Result<Strings, Error> {
    let strings: Result<Vec<CString>, Error> = values.iter().map(text).collect();
    strings.map(Strings::new)
}

fn variable<'a>(environment: &'a [String], name: &str) -> Option<&'a str> {
    environment
        .iter()
        .find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
}

/// The paths at which the command may be, by the rules of execvp(3). The new process executes the first one that it
/// can. Each path is put together only when it is tried, because the PATH of an image may have a hundred thousand
/// directories.
#[derive(Debug)]
pub(crate) struct Candidates {
    name: String,
    /// The value of PATH. None where the name is a path itself.
    path: Option<String>,
    failed: OnceCell<Candidate>,
}

/// A path that is stored in place, because the new process must not allocate.
#[derive(Clone)]
pub(crate) struct Candidate([u8; PATH_BYTES]);

impl Candidates {
    fn new(name: &str, environment: &[String]) -> Result<Self, Error> {
        // execve(2) would take a name with a NUL for a shorter one.
        text(name)?;
        let is_path = name.is_empty() || name.contains('/');
        let most = if is_path { PATH_BYTES - 1 } else { NAME_BYTES };
        if name.len() > most {
            let (length, what) = (name.len(), if is_path { "path" } else { "file's name" });
            return Err(Error::invalid(format!(
                "command: its name has {length} bytes, and a {what} at most {most}; see what is to run"
            )));
        }
        let path = variable(environment, "PATH").unwrap_or(DEFAULT_PATH);
        text(path)?;
        Ok(Self {
            name: name.to_owned(),
            path: (!is_path).then(|| path.to_owned()),
            failed: OnceCell::new(),
        })
    }

    /// Returns the candidates in their order. A path that would be longer than the kernel accepts is left out.
    pub(crate) fn all(&self) -> impl Iterator<Item = Candidate> {
        let alone = self.path.is_none();
        let alone = alone.then(|| Candidate::of(&[&self.name])).flatten();
        let directories = self.path.iter().flat_map(|path| path.split(':'));
        let below = directories.filter_map(|directory| match directory {
            "" => Candidate::of(&["./", &self.name]),
            directory => Candidate::of(&[directory, "/", &self.name]),
        });
        alone.into_iter().chain(below)
    }

    /// Keeps the candidate whose execution failed, and returns its path for the error.
    pub(crate) fn failed(&self, candidate: Candidate) -> &CStr {
        self.failed.get_or_init(|| candidate).path()
    }
}

impl Candidate {
    fn of(parts: &[&str]) -> Option<Self> {
        let mut bytes = [0; PATH_BYTES];
        let mut end = 0;
        for part in parts {
            let next = end + part.len();
            // The last byte stays 0.
            if next >= PATH_BYTES {
                return None;
            }
            bytes.get_mut(end..next)?.copy_from_slice(part.as_bytes());
            end = next;
        }
        Some(Self(bytes))
    }

    pub(crate) fn path(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or_default()
    }
}

impl std::fmt::Debug for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.path().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, path: &[&str]) -> Vec<String> {
        let environment: Vec<String> = path.iter().map(|path| format!("PATH={path}")).collect();
        let candidates = Candidates::new(name, &environment).unwrap();
        let all = candidates.all();
        all.map(|it| it.path().to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn a_name_is_looked_for_in_path() {
        assert_eq!(found("ls", &["/a:/b"]), ["/a/ls", "/b/ls"]);
        assert_eq!(found("ls", &[":/b"]), ["./ls", "/b/ls"]);
        assert_eq!(found("ls", &[]).last().unwrap(), "/bin/ls");
    }

    #[test]
    fn a_path_is_taken_as_it_is() {
        assert_eq!(found("./ls", &["/a"]), ["./ls"]);
        assert_eq!(found("", &["/a"]), [""]);
    }

    fn refused(arguments: &[&str], environment: &[&str]) -> String {
        let owned = |all: &[&str]| all.iter().map(|&it| it.to_owned()).collect::<Vec<_>>();
        let mut process = Process::default();
        process.set_args(Some(owned(arguments)));
        process.set_env(Some(owned(environment)));
        Command::new(&process, "/").unwrap_err().to_string()
    }

    #[test]
    fn what_the_kernel_never_takes_is_refused_before_memory_is_spent_on_it() {
        let many = format!("PATH={}", "/a:".repeat(40_000));
        let name = "y".repeat(100_000);
        for (arguments, environment, says) in [
            (&[&*name][..], &[&*many][..], "a file's name at most 255"),
            (&[&format!("/{name}")], &[], "a path at most 4095"),
            (
                &["ls"],
                &[&format!("{many}{many}")],
                "environment: one string",
            ),
            (&["ls", &name.repeat(2)], &[], "command: one string"),
            (
                &["ls"],
                &[&*name; 70],
                "bytes, and the kernel takes at most",
            ),
        ] {
            let error = refused(arguments, environment);
            assert!(error.contains(says), "{error}");
            assert!(error.len() < 300);
        }
    }

    #[test]
    fn a_candidate_that_is_no_path_is_none() {
        let long = "/a".repeat(3_000);
        assert_eq!(found("ls", &[&format!("{long}:/b")]), ["/b/ls"]);
        assert_eq!(found("ls", &[&"/a:".repeat(40_000)]).len(), 40_001);
    }
}

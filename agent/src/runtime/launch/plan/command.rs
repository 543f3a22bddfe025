//! What is executed, and where it may be found.

use std::ffi::CString;

use oci_spec::runtime::Process;

use super::{path_text, text};
use crate::runtime::launch::Error;
use crate::sys::launch::Strings;

/// Where a command without a slash is looked for when the environment does not say: docker's.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[derive(Debug)]
pub struct Command {
    /// The first that can be executed, is.
    pub candidates: Vec<CString>,
    pub arguments: Strings,
    pub environment: Strings,
    /// Absolute, in the container.
    pub directory: CString,
}

impl Command {
    /// `home` is for HOME, where the environment lacks it.
    pub fn new(process: &Process, home: &str) -> Result<Self, Error> {
        let arguments = process.args().as_deref().unwrap_or_default();
        let [name, ..] = arguments else {
            return Err(Error::invalid("command: empty; say what to run"));
        };
        let mut environment = process.env().clone().unwrap_or_default();
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
            candidates: candidates(name, &environment)?,
            arguments: strings(arguments)?,
            environment: strings(&environment)?,
            directory: path_text(process.cwd())?,
        })
    }
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

/// execvp(3)'s rules.
fn candidates(name: &str, environment: &[String]) -> Result<Vec<CString>, Error> {
    if name.is_empty() || name.contains('/') {
        return Ok(vec![text(name)?]);
    }
    variable(environment, "PATH")
        .unwrap_or(DEFAULT_PATH)
        .split(':')
        .map(|directory| match directory {
            "" => text(format!("./{name}")),
            directory => text(format!("{directory}/{name}")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, path: &[&str]) -> Vec<String> {
        let environment: Vec<String> = path.iter().map(|path| format!("PATH={path}")).collect();
        candidates(name, &environment)
            .unwrap()
            .iter()
            .map(|candidate| candidate.to_str().unwrap().to_owned())
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
}

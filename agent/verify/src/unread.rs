//! Files that cannot be read. Their values are unknown, and do not count as 0.

use std::fmt;
use std::path::PathBuf;

use agent_host::Error;
use agent_model::text::error_line;

/// A file that exists and could not be read or parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    file: Option<PathBuf>,
    why: String,
}

/// All such files of a run, each once.
#[derive(Clone, Debug, Default)]
pub struct AllUnread(Vec<Unread>);

impl From<Error> for Unread {
    fn from(error: Error) -> Self {
        match error {
            Error::Io { path, source } => Self {
                why: format!("{} cannot be read: {source}", path.display()),
                file: Some(path),
            },
            Error::Malformed { ref path, .. } | Error::Gone { ref path } => Self {
                file: Some(path.clone()),
                why: error_line(&error),
            },
            Error::NoCgroups { .. } => Self {
                file: None,
                why: error_line(&error),
            },
        }
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl AllUnread {
    pub fn add(&mut self, others: &[Unread]) {
        for other in others {
            if self.0.iter().all(|it| it.file != other.file) {
                self.0.push(other.clone());
            }
        }
    }

    /// Returns the first of these files that has one of the names.
    pub fn first(&self, names: &[&str]) -> Option<&Unread> {
        let is_one = |file: &PathBuf| names.iter().any(|name| file.ends_with(name));
        let mut all = self.0.iter();
        all.find(|it| it.file.as_ref().is_some_and(is_one))
    }

    /// Formats why `what` is not known: one of the named files cannot be read, or none of them exists.
    pub fn why(&self, names: &[&str], what: &str) -> String {
        match self.first(names) {
            Some(unread) => format!("{unread}; so {what} is not known"),
            None => {
                let names = names.join(" or ");
                format!("there is no {names} here, so {what} is not known")
            }
        }
    }
}

//! A supervisor of its own for a container that is to outlive the command that started it.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;

use super::relay::pipe;
use crate::sys::fork::{Side, fork, leave_parent};

/// What the supervisor tells its caller, each in a line: a tag, and text.
const NOTE: u8 = b'n';
const STARTED: u8 = b's';
/// With the exit status in front of the text, as three digits.
const FAILED: u8 = b'f';

/// Where the supervisor tells how it goes.
#[derive(Debug)]
pub struct Caller(Option<File>);

/// What the caller heard.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    pub notes: Vec<String>,
    pub started: bool,
    /// The exit status, and why.
    pub failed: Option<(u8, String)>,
}

/// Who goes on.
#[derive(Debug)]
pub enum Split {
    /// The one who was called, once the supervisor has started the container or given up.
    Caller(Heard),
    /// The supervisor.
    Supervisor(Caller),
}

/// Makes the supervisor.
///
/// # Errors
/// No process is to be had.
pub fn split() -> io::Result<Split> {
    let (ours, theirs) = pipe()?;
    match fork()? {
        Side::Child => {
            drop(ours);
            let theirs = leave_parent(theirs)?;
            Ok(Split::Supervisor(Caller(Some(File::from(theirs)))))
        }
        Side::Parent => {
            drop(theirs);
            hear(ours).map(Split::Caller)
        }
    }
}

impl Caller {
    pub fn note(&mut self, text: &str) {
        self.tell(NOTE, text);
    }

    /// The container runs: the caller may go.
    pub fn started(&mut self) {
        self.tell(STARTED, "");
        self.0 = None;
    }

    pub fn failed(&mut self, status: u8, why: &str) {
        self.tell(FAILED, &format!("{status:03}{why}"));
        self.0 = None;
    }

    fn tell(&mut self, tag: u8, text: &str) {
        if let Some(pipe) = &mut self.0 {
            let mut line = vec![tag];
            line.extend(
                text.bytes()
                    .map(|byte| if byte == b'\n' { b' ' } else { byte }),
            );
            line.push(b'\n');
            // The caller may have been killed: the container starts all the same.
            let _ = pipe.write_all(&line);
        }
    }
}

/// Reads to the end.
fn hear(pipe: OwnedFd) -> io::Result<Heard> {
    let mut said = Vec::new();
    File::from(pipe).read_to_end(&mut said)?;
    let mut heard = Heard::default();
    for line in said.split(|&byte| byte == b'\n') {
        let Some((tag, text)) = line.split_first() else {
            continue;
        };
        let text = String::from_utf8_lossy(text);
        match *tag {
            NOTE => heard.notes.push(text.into_owned()),
            STARTED => heard.started = true,
            _ => {
                let split = text.split_at_checked(3);
                let failed =
                    split.and_then(|(status, why)| Some((status.parse().ok()?, why.to_owned())));
                heard.failed = failed.or(heard.failed);
            }
        }
    }
    Ok(heard)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(tell: impl FnOnce(&mut Caller)) -> Heard {
        let (ours, theirs) = pipe().unwrap();
        let mut caller = Caller(Some(File::from(theirs)));
        tell(&mut caller);
        drop(caller);
        hear(ours).unwrap()
    }

    #[test]
    fn the_caller_hears_what_the_supervisor_tells() {
        assert_eq!(heard(|_| {}), Heard::default());
        let told = heard(|caller| {
            caller.note("a\nb");
            caller.started();
            caller.failed(125, "after the start nobody is told");
        });
        assert_eq!(told.notes, ["a b"]);
        assert!(told.started);
        assert_eq!(told.failed, None);
        let told = heard(|caller| caller.failed(7, "x: y"));
        assert_eq!(told.failed, Some((7, "x: y".to_owned())));
    }
}

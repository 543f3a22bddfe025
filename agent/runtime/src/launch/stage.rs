//! The stage of an entry into a container (`entry.rs`): this program, executed for that alone.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use agent_sys::entry::Shared;
use agent_sys::launch::Strings;
use oci_spec::runtime::Process;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::Error;
use super::channel::Channel;
use super::child::{self, ENTER, Step};
use super::plan::command::Command;
use super::plan::identity::Identity;
use super::plan::namespaces::Namespaces;
use super::plan::{Plan, Stdio};

/// The program's name, where it is executed as a stage.
const NAME: &str = "agent-enter";

/// Descriptors before those that the message counts: the streams, the message, the root.
const MESSAGE: usize = 3;
const ROOT: usize = 4;
const FIRST: usize = 5;

/// The step that fails where the stage cannot be executed, which no table has.
pub const EXECUTED: u8 = u8::MAX;

/// What a stage has to know: nothing but what the command gets too.
#[derive(Debug, Serialize, Deserialize)]
pub struct Message {
    pub process: Process,
    /// What is joined through each of the descriptors behind the root (`CLONE_NEW*`).
    pub joins: Vec<i32>,
    /// How many descriptors there are behind those, to enter cgroups by.
    pub cgroups: usize,
    /// The streams are a terminal.
    pub terminal: bool,
    /// The command is to read nothing.
    pub reads_nothing: bool,
    pub filters: Vec<Filter>,
    /// Those that only the copy has.
    pub late: Vec<Filter>,
    /// The step at which the launcher is to die, and the one behind which this process is to stop.
    pub fault: Option<usize>,
    pub hold: Option<String>,
    pub guarded: bool,
}

/// A filter of system calls: flags and instructions.
#[derive(Debug, Serialize, Deserialize)]
pub struct Filter(u32, Vec<(u16, u8, u8, u32)>);

impl Filter {
    pub fn of(program: &agent_seccomp::Program) -> Self {
        let instructions = program.instructions.iter();
        let instructions = instructions.map(|it| (it.code, it.jt, it.jf, it.k));
        Self(program.flags, instructions.collect())
    }

    fn program(&self) -> agent_seccomp::Program {
        let instructions = self.1.iter();
        let instruction = |&(code, jt, jf, k): &_| libc::sock_filter { code, jt, jf, k };
        agent_seccomp::Program {
            instructions: instructions.map(instruction).collect(),
            flags: self.0,
        }
    }
}

/// What only a stage does on its way.
#[derive(Debug)]
pub struct Stage {
    /// Descriptors of namespaces, and what of them is joined.
    pub joins: Vec<(OwnedFd, i32, CString)>,
    pub cgroups: Vec<OwnedFd>,
    pub terminal: bool,
    pub reads_nothing: bool,
    pub oom_score_adjustment: Option<i32>,
    pub late: Vec<agent_seccomp::Program>,
    pub shared: Shared,
}

/// What the stage is called by when it is executed.
pub fn arguments() -> Strings {
    Strings::new(CString::new(NAME).into_iter().collect())
}

/// The name of a step by its number, and the other way.
pub fn name(step: u8) -> &'static str {
    ENTER
        .get(usize::from(step))
        .map_or("execute", |step| step.name)
}

pub fn step(name: &str) -> Option<usize> {
    ENTER.iter().position(|step| step.name == name)
}

/// Whether this process was executed as a stage.
#[must_use]
pub fn is_wanted() -> bool {
    let mut arguments = std::env::args_os();
    arguments.next().is_some_and(|name| name == NAME) && arguments.next().is_none()
}

/// Enters, and becomes the command.
pub fn run() -> ! {
    // Without a message there is nobody to tell.
    let _ = prepare();
    agent_sys::launch::exit(1)
}

fn prepare() -> Result<(), Error> {
    let failed = |source| Error::Step {
        step: "enter",
        subject: NAME.to_owned(),
        source,
    };
    let file = agent_sys::entry::inherited(MESSAGE).map_err(failed)?;
    let shared = Shared::map(std::os::fd::AsFd::as_fd(&file)).map_err(failed)?;
    shared.keep_from_copies().map_err(failed)?;
    let message = read(file.into()).map_err(failed)?;
    let inherited = |number| agent_sys::entry::inherited(number).map_err(failed);
    let numbers = || FIRST..FIRST + message.joins.len();
    let mut joins = Vec::new();
    for ((index, number), kinds) in numbers().enumerate().zip(&message.joins) {
        let index = super::plan::text(index.to_string())?;
        joins.push((inherited(number)?, *kinds, index));
    }
    let first = numbers().end;
    let cgroups: Result<Vec<OwnedFd>, Error> =
        (first..first + message.cgroups).map(inherited).collect();
    let filters: Vec<_> = message.filters.iter().map(Filter::program).collect();
    let steps: &'static [Step] = if message.guarded {
        &ENTER
    } else {
        &child::ENTER_EARLY
    };
    let plan = Plan {
        steps,
        fault: message.fault,
        namespaces: Namespaces::default(),
        container: None,
        joined_root: Some(inherited(ROOT)?),
        stdio: Stdio::Terminal,
        identity: Identity::new(&message.process)?,
        filters: &filters,
        command: Command::new(&message.process, "/")?,
        reaper: None,
        hold: message.hold,
        stage: Some(Stage {
            joins,
            cgroups: cgroups?,
            terminal: message.terminal,
            reads_nothing: message.reads_nothing,
            oom_score_adjustment: message.process.oom_score_adj(),
            late: message.late.iter().map(Filter::program).collect(),
            shared,
        }),
    };
    child::run(&plan, Channel::shared(shared))
}

fn read(file: File) -> std::io::Result<Message> {
    let length = file.metadata()?.len().saturating_sub(Shared::BYTES as u64);
    let length = usize::try_from(length).map_err(|_| Errno::FBIG)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, Shared::BYTES as u64)?;
    Ok(serde_json::from_slice(&bytes)?)
}

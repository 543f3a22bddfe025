//! The stage of an entry into a container (`entry.rs`): this program, executed only to enter.

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
use super::plan::identity::ProcessIdentity;
use super::plan::namespaces::Namespaces;
use super::plan::{Plan, Stage, Stdio};

/// The program's name when it is executed as a stage.
const NAME: &str = "agent-enter";

/// The numbers of the stage's descriptors after the standard streams: the message, the container's root, and the first
/// of those that the message counts.
const MESSAGE: usize = 3;
const ROOT: usize = 4;
const FIRST: usize = 5;

/// The number that is reported in place of a step where the stage cannot be executed. No table has a step of this
/// number.
pub const EXECUTED: u8 = u8::MAX;

/// The message to a stage. The stage's copy has it in memory too, so it holds only what the command may see.
#[derive(Debug, Serialize, Deserialize)]
pub struct Message {
    /// The process of the container's spec, with the command.
    pub process: Process,
    /// The types of namespaces to join through each descriptor after the root (`CLONE_NEW*`).
    pub joins: Vec<i32>,
    /// The number of descriptors after the namespaces, through which the stage joins v1 cgroups.
    pub cgroups: usize,
    /// Whether the standard streams are a terminal.
    pub terminal: bool,
    /// Whether the command has no standard input.
    pub reads_nothing: bool,
    /// The system call filters of the command.
    pub filters: Vec<StoredFilter>,
    /// The filters that only the stage's copy installs.
    pub late: Vec<StoredFilter>,
    /// The step at which a fault point kills the launcher.
    pub fault: Option<usize>,
    /// The step after which a test stops the stage.
    pub hold: Option<String>,
    /// Whether the stage forks last, as the guard `entry` demands. Only tests choose the early fork.
    pub guarded: bool,
}

/// A system call filter: flags and instructions.
#[derive(Debug, Serialize, Deserialize)]
pub struct StoredFilter(u32, Vec<(u16, u8, u8, u32)>);

impl StoredFilter {
    /// Copies the instructions of a filter.
    pub fn of(program: &agent_seccomp::FilterProgram) -> Self {
        let instructions = program.instructions.iter();
        let instructions = instructions.map(|it| (it.code, it.jt, it.jf, it.k));
        Self(program.flags, instructions.collect())
    }

    fn program(&self) -> agent_seccomp::FilterProgram {
        let instructions = self.1.iter();
        let instruction = |&(code, jt, jf, k): &_| libc::sock_filter { code, jt, jf, k };
        agent_seccomp::FilterProgram {
            instructions: instructions.map(instruction).collect(),
            flags: self.0,
        }
    }
}

/// Returns the arguments with which the stage is executed.
pub fn arguments() -> Strings {
    Strings::new(CString::new(NAME).into_iter().collect())
}

/// Returns the name of a step by its number, or `execute` for [`EXECUTED`].
pub fn name(step: u8) -> &'static str {
    ENTER
        .get(usize::from(step))
        .map_or("execute", |step| step.name)
}

/// Returns the index of a step of the stage by its name.
pub fn step(name: &str) -> Option<usize> {
    ENTER.iter().position(|step| step.name == name)
}

/// Tells whether this process was executed as a stage.
#[must_use]
pub fn is_wanted() -> bool {
    let mut arguments = std::env::args_os();
    arguments.next().is_some_and(|name| name == NAME) && arguments.next().is_none()
}

/// Enters the container, and executes the command.
pub fn run() -> ! {
    // An error before the first step cannot be reported. The launcher sees that the stage has made no copy.
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
    let kept = shared.keep_from_copies().map_err(failed)?;
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
    let filters: Vec<_> = message.filters.iter().map(StoredFilter::program).collect();
    let steps: &'static [Step] = if message.guarded {
        &ENTER
    } else {
        &child::ENTER_EARLY
    };
    let plan = Plan {
        fault: message.fault,
        namespaces: Namespaces::default(),
        container: None,
        joined_root: Some(inherited(ROOT)?),
        stdio: Stdio::Terminal,
        identity: ProcessIdentity::new(&message.process)?,
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
            late: message.late.iter().map(StoredFilter::program).collect(),
            shared: kept,
        }),
    };
    child::run(&plan, steps, Channel::shared(shared))
}

fn read(file: File) -> std::io::Result<Message> {
    let length = file.metadata()?.len().saturating_sub(Shared::BYTES as u64);
    let length = usize::try_from(length).map_err(|_| Errno::FBIG)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, Shared::BYTES as u64)?;
    Ok(serde_json::from_slice(&bytes)?)
}

//! Which probe is attached by which mechanism.

use std::{io, os::fd::OwnedFd};

use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, Program, ProgramError, TracePoint},
};
use rustix::{
    fs::{Mode, OFlags},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags},
};
use serde::Serialize;

use crate::{sys, text};

/// How a probe comes to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mechanism {
    /// A BTF tracepoint (`tp_btf`): costs nothing but where it is hit.
    Btf,
    /// A system call's tracepoint: while one is attached, every system call of the host pays.
    Syscall,
}

impl Mechanism {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Btf => "btf",
            Self::Syscall => "syscall",
        }
    }
}

/// A probe: the programs that together see one kind of event.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    pub name: &'static str,
    pub mechanism: Mechanism,
    /// Program, and what it is attached to.
    pub programs: &'static [(&'static str, &'static str)],
    /// What is not seen without it.
    pub loss: &'static str,
}

/// All probes, in the order of attachment: cgroups first, so that no event comes from a cgroup
/// that was born unseen.
pub const PROBES: &[Probe] = &[
    Probe {
        name: "cgroup_mkdir",
        mechanism: Mechanism::Btf,
        programs: &[("cgroup_mkdir", "cgroup_mkdir")],
        loss: "new cgroups: events in them have no container until a scan finds it",
    },
    Probe {
        name: "cgroup_rmdir",
        mechanism: Mechanism::Btf,
        programs: &[("cgroup_rmdir", "cgroup_rmdir")],
        loss: "removals of cgroups: their counters stay until the agent is restarted",
    },
    Probe {
        name: "cgroup_populated",
        mechanism: Mechanism::Btf,
        programs: &[("cgroup_populated", "cgroup_notify_populated")],
        loss: "starts and stops of containers",
    },
    Probe {
        name: "attach",
        mechanism: Mechanism::Btf,
        programs: &[("attach", "cgroup_attach_task")],
        loss: "who comes into a container from outside: engines' runtimes show as escapes",
    },
    Probe {
        name: "fork",
        mechanism: Mechanism::Btf,
        programs: &[("fork", "task_newtask")],
        loss: "births of processes and threads",
    },
    Probe {
        name: "exec",
        mechanism: Mechanism::Btf,
        programs: &[("exec", "sched_process_exec")],
        loss: "execs, which process is a container's first, whose namespaces a setns enters, and escapes",
    },
    Probe {
        name: "exit",
        mechanism: Mechanism::Btf,
        programs: &[("exit", "sched_process_exit")],
        loss: "how processes and containers ended",
    },
    Probe {
        name: "oom",
        mechanism: Mechanism::Btf,
        programs: &[("oom", "mark_victim")],
        loss: "OOM kills",
    },
    Probe {
        name: "clone",
        mechanism: Mechanism::Btf,
        programs: &[("clone", "task_newtask")],
        loss: "namespaces made by clone",
    },
    Probe {
        name: "unshare",
        mechanism: Mechanism::Syscall,
        programs: &[
            ("unshare_exit", "sys_exit_unshare"),
            ("unshare_enter", "sys_enter_unshare"),
        ],
        loss: "namespaces made by unshare",
    },
    Probe {
        name: "setns",
        mechanism: Mechanism::Syscall,
        programs: &[
            ("setns_exit", "sys_exit_setns"),
            ("setns_enter", "sys_enter_setns"),
        ],
        loss: "namespaces entered by setns",
    },
];

/// What became of a probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    Attached,
    /// Not asked for.
    Off,
    Failed {
        /// The name of the errno, where there is one.
        errno: Option<String>,
        reason: String,
    },
}

/// A probe and what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub probe: &'static str,
    pub mechanism: Mechanism,
    #[serde(flatten)]
    pub state: State,
    /// What is not seen without it.
    pub loss: &'static str,
}

impl Status {
    pub fn attached(&self) -> bool {
        self.state == State::Attached
    }
}

/// Whether any kind of event that streams tell of is seen: what makes tracing worth while.
pub fn see_events(statuses: &[Status]) -> bool {
    const EVENTS: [&str; 4] = ["oom", "clone", "unshare", "setns"];
    let mut attached = statuses.iter().filter(|status| status.attached());
    attached.any(|status| EVENTS.contains(&status.probe))
}

/// Why a probe is not attached.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("the BPF object has no program {0} of the right type")]
    NoProgram(&'static str),
    #[error("the kernel refuses the program")]
    Program(#[from] ProgramError),
    #[error("the kernel's tracepoint does not give the task; a newer kernel does")]
    Prototype,
    #[error("tracefs has no event syscalls/{0}")]
    Event(&'static str, #[source] io::Error),
    #[error("the program cannot be attached to syscalls/{0}")]
    Attach(&'static str, #[source] io::Error),
}

impl ProbeError {
    /// The errno at the end of the chain of causes.
    fn errno(&self) -> Option<String> {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(io) = error.downcast_ref::<io::Error>() {
                return io.raw_os_error().and_then(sys::errno_name);
            }
            cause = error.source();
        }
        None
    }
}

impl From<&ProbeError> for State {
    fn from(error: &ProbeError) -> Self {
        Self::Failed {
            errno: error.errno(),
            reason: text::error_line(error),
        }
    }
}

/// Loads and attaches `probe`. What must be kept for it to stay attached, beside `ebpf`, comes
/// back.
///
/// # Errors
/// Where a program is refused, or its hook is not there.
pub fn attach(ebpf: &mut Ebpf, btf: &Btf, probe: &Probe) -> Result<Vec<OwnedFd>, ProbeError> {
    let mut kept = Vec::new();
    for (program, hook) in probe.programs {
        match probe.mechanism {
            Mechanism::Btf => attach_btf(ebpf, btf, program, hook)?,
            Mechanism::Syscall => kept.push(attach_syscall(ebpf, program, hook)?),
        }
    }
    Ok(kept)
}

/// A program of the object, as one of the type `T`.
pub(super) fn find<'a, T>(
    ebpf: &'a mut Ebpf,
    program: &'static str,
) -> Result<&'a mut T, ProbeError>
where
    &'a mut T: TryFrom<&'a mut Program>,
{
    let found = ebpf
        .program_mut(program)
        .ok_or(ProbeError::NoProgram(program))?;
    found.try_into().map_err(|_| ProbeError::NoProgram(program))
}

fn attach_btf(
    ebpf: &mut Ebpf,
    btf: &Btf,
    program: &'static str,
    hook: &'static str,
) -> Result<(), ProbeError> {
    let program: &mut BtfTracePoint = find(ebpf, program)?;
    program.load(hook, btf)?;
    program.attach()?;
    Ok(())
}

fn attach_syscall(
    ebpf: &mut Ebpf,
    program: &'static str,
    event: &'static str,
) -> Result<OwnedFd, ProbeError> {
    let program: &mut TracePoint = find(ebpf, program)?;
    program.load()?;
    let id = tracepoint_id(event).map_err(|error| ProbeError::Event(event, error))?;
    let program = program.fd()?;
    sys::attach_tracepoint(id, std::os::fd::AsFd::as_fd(program))
        .map_err(|error| ProbeError::Attach(event, error))
}

/// tracefs, mounted for this alone and attached to no directory: it may not be mounted on the host,
/// and the host's mounts stay as they are.
///
/// # Errors
/// fsopen(2)'s and fsmount(2)'s; EPERM without CAP_SYS_ADMIN.
pub fn open_tracefs() -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(&context)?;
    let mount = rustix::mount::fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_RDONLY,
    )?;
    Ok(mount)
}

/// The id of an event of the category `syscalls`.
fn tracepoint_id(event: &str) -> io::Result<u64> {
    let mount = open_tracefs()?;
    let path = format!("events/syscalls/{event}/id");
    let file = rustix::fs::openat(
        &mount,
        path,
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let text = io::read_to_string(std::fs::File::from(file))?;
    text.trim().parse().map_err(io::Error::other)
}

//! One BPF program: what it hooks, how it is loaded, and how it is attached.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::config::{KernelFacts, MARK_VICTIM};
use super::object::BpfObject;

/// What a program hooks. The names are those of the kernel's type information.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// A BTF tracepoint, `btf_trace_NAME`.
    Tracepoint(&'static str),
    /// The beginning of a function, by a BPF trampoline.
    Entry(&'static str),
    /// The end of a function, by a BPF trampoline.
    Exit(&'static str),
    /// An iterator, `bpf_iter_NAME`.
    Iterator(&'static str),
    /// A tracepoint of the category `syscalls`.
    Syscall(&'static str),
}

impl Hook {
    /// The numbers of the program type and of the attach type (`include/uapi/linux/bpf.h`).
    fn numbers(self) -> (u32, u32) {
        const BPF_PROG_TYPE_TRACEPOINT: u32 = 5;
        const BPF_PROG_TYPE_TRACING: u32 = 26;
        match self {
            Self::Tracepoint(_) => (BPF_PROG_TYPE_TRACING, agent_sys::bpf::BPF_TRACE_RAW_TP),
            Self::Entry(_) => (BPF_PROG_TYPE_TRACING, agent_sys::bpf::BPF_TRACE_FENTRY),
            Self::Exit(_) => (BPF_PROG_TYPE_TRACING, agent_sys::bpf::BPF_TRACE_FEXIT),
            Self::Iterator(_) => (BPF_PROG_TYPE_TRACING, agent_sys::bpf::BPF_TRACE_ITER),
            Self::Syscall(_) => (BPF_PROG_TYPE_TRACEPOINT, 0),
        }
    }

    /// The name of what is hooked, in the kernel's type information; `None` where it has no type there.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Tracepoint(it) | Self::Entry(it) | Self::Exit(it) | Self::Iterator(it) => {
                Some(it)
            }
            Self::Syscall(_) => None,
        }
    }

    /// The BTF id of what is hooked; 0 where it has no type.
    fn traced(self, facts: &KernelFacts) -> Result<u32, ProbeError> {
        let Some(name) = self.name() else {
            return Ok(0);
        };
        if name == MARK_VICTIM && !facts.mark_victim_gives_task {
            return Err(ProbeError::Prototype);
        }
        facts
            .hooks
            .get(name)
            .copied()
            .ok_or(ProbeError::NoHook(name))
    }
}

/// Why a probe is not attached.
#[derive(Debug, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "the messages say what each variant and its fields are"
)]
pub enum ProbeError {
    #[error("the BPF object has no program {0}")]
    NoProgram(&'static str),
    #[error("this kernel has no {0}")]
    NoHook(&'static str),
    #[error("the kernel refuses the program {program}{said}")]
    Load {
        program: &'static str,
        /// The last line of the verifier's log, if there is one.
        said: String,
        #[source]
        error: io::Error,
    },
    #[error("this kernel's tracepoint does not pass the task; that of newer kernels does")]
    Prototype,
    #[error("tracefs has no event syscalls/{0}")]
    Event(&'static str, #[source] io::Error),
    #[error("the program {0} cannot be attached")]
    Attach(&'static str, #[source] io::Error),
}

impl ProbeError {
    /// The name of the errno at the end of the chain of causes.
    pub fn errno(&self) -> Option<String> {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(io) = error.downcast_ref::<io::Error>() {
                return io.raw_os_error().and_then(agent_sys::errno_name);
            }
            cause = error.source();
        }
        None
    }
}

/// The object and the kernel's facts, from which programs are loaded.
#[derive(Clone, Copy)]
pub struct Loader<'a> {
    /// The object with the maps and the programs' code.
    pub object: &'a BpfObject,
    /// The offsets and ids that this kernel's type information has.
    pub facts: &'a KernelFacts,
}

impl Loader<'_> {
    /// Loads a program, without attaching it.
    ///
    /// # Errors
    /// The kernel refuses it, or does not have what it hooks.
    pub fn load(self, name: &'static str, hook: Hook) -> Result<OwnedFd, ProbeError> {
        let code = self.object.code(name).ok_or(ProbeError::NoProgram(name))?;
        let (kind, attach) = hook.numbers();
        let program = agent_sys::bpf::Program {
            kind,
            attach,
            traced: hook.traced(self.facts)?,
            name: &code.name,
            license: &code.license,
            instructions: &code.instructions,
        };
        agent_sys::bpf::load_program(&program, &mut []).map_err(|error| ProbeError::Load {
            program: name,
            said: last_words(&program, &error),
            error,
        })
    }

    /// Whether the kernel's type information has what a program hooks.
    pub fn has(self, hook: Hook) -> bool {
        hook.traced(self.facts).is_ok()
    }
}

/// Attaches a loaded program, until the returned descriptor is closed.
///
/// # Errors
/// The kernel refuses, or has no such event.
pub fn attach(name: &'static str, hook: Hook, program: &OwnedFd) -> Result<OwnedFd, ProbeError> {
    let program = program.as_fd();
    let attached = match hook {
        Hook::Syscall(event) => {
            let id = tracepoint_id(event).map_err(|error| ProbeError::Event(event, error))?;
            agent_sys::bpf::attach_tracepoint(id, program)
        }
        _ => agent_sys::bpf::attach_tracing(program),
    };
    attached.map_err(|error| ProbeError::Attach(name, error))
}

/// Returns the last line of the verifier's log about a program that it refused, with a colon before it. Empty if there
/// is none.
fn last_words(program: &agent_sys::bpf::Program<'_>, error: &io::Error) -> String {
    // Without the permission to load programs, the verifier does not run, and has no log. The buffer is worth avoiding:
    // it is so large that its memory stays resident after several of them were freed.
    if error.raw_os_error() == Some(libc::EPERM) {
        return String::new();
    }
    // The log must fit whole: older kernels keep the beginning of one that does not.
    const LOG_BYTES: usize = 16 << 20;
    let mut log = vec![0; LOG_BYTES];
    let _ = agent_sys::bpf::load_program(program, &mut log);
    let end = log.iter().position(|&byte| byte == 0).unwrap_or_default();
    let log = String::from_utf8_lossy(&log[..end]);
    tracing::debug!(program = ?program.name, %log, "the verifier");
    let mut lines = log.lines().rev().map(str::trim);
    let last = lines.find(|line| !line.is_empty() && !line.starts_with("processed "));
    last.map_or_else(String::new, |line| format!(": {line}"))
}

/// Opens a new mount of tracefs that is attached to no directory.
///
/// The host may have no tracefs mounted, and its mounts stay as they are. The mount disappears when the descriptor is
/// closed.
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

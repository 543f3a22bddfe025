//! One program: what it hooks, how it is loaded, and how it is attached.

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
    /// The kernel's numbers of the type of program and of the attachment
    /// (`include/uapi/linux/bpf.h`).
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

    /// What is hooked, in the kernel's type information.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Tracepoint(it) | Self::Entry(it) | Self::Exit(it) | Self::Iterator(it) => {
                Some(it)
            }
            Self::Syscall(_) => None,
        }
    }

    /// The id of what is hooked; 0 where it has none.
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
        /// The verifier's last words, if it came to any.
        said: String,
        #[source]
        error: io::Error,
    },
    #[error("the kernel's tracepoint does not give the task; a newer kernel does")]
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

/// What programs are loaded from.
#[derive(Clone, Copy)]
pub struct Loader<'a> {
    /// The loaded maps.
    pub object: &'a BpfObject,
    /// What this kernel's type information says.
    pub facts: &'a KernelFacts,
}

impl Loader<'_> {
    /// Loads a program. Nothing is attached.
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

    /// Whether the kernel has what the program hooks, by its type information.
    pub fn has(self, hook: Hook) -> bool {
        hook.traced(self.facts).is_ok()
    }
}

/// Attaches a loaded program, until the descriptor that comes back is closed.
///
/// # Errors
/// Where the kernel refuses, or has no such event.
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

/// What the verifier says last of a program that it refuses, as the end of a sentence.
fn last_words(program: &agent_sys::bpf::Program<'_>, error: &io::Error) -> String {
    // What this process, or this kernel, may not do at all the verifier does not look at. A buffer
    // as large as this one would stay resident once several were freed.
    if error.raw_os_error() == Some(libc::EPERM) {
        return String::new();
    }
    // Older kernels keep the beginning of what does not fit.
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

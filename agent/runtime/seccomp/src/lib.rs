//! Compiles docker's system call filters to the kernel's classic BPF.
//!
//! A profile (docker's default, or a file) becomes OCI's [`LinuxSeccomp`], which `--print-spec` shows. [`compile()`]
//! makes one program of it for all architectures and actions.

#![warn(missing_docs, unreachable_pub)]

use std::path::PathBuf;

use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction};

mod answer;
mod bpf;
mod calls;
mod compile;
mod default;
mod file;

pub use answer::Call;
pub use compile::compile;
pub use default::default_profile;
pub use file::read_profile;

/// Why a profile cannot be read or compiled.
#[allow(
    missing_docs,
    reason = "the messages document the variants and their fields"
)]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("seccomp profile {}: {source}", path.display())]
    Open {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("seccomp profile {}: {source}; wanted: docker's JSON format", path.display())]
    Format {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("seccomp profile {}: {reason}", path.display())]
    Profile { path: PathBuf, reason: String },
    #[error(
        "seccomp: {0} is not supported: it needs a process that answers it; use SCMP_ACT_ERRNO"
    )]
    Action(LinuxSeccompAction),
    #[error("seccomp: {0} is not one of this machine's architectures ({known})", known = compile::known_architectures())]
    Architecture(Arch),
    #[error("seccomp: {0}: no such system call, and the profile would leave it allowed")]
    Call(String),
    #[error("seccomp: {call}: argument {index}; a system call has arguments 0 to 5")]
    Argument { call: String, index: usize },
    #[error("seccomp: the filter has {0} instructions; the kernel takes at most {max}", max = bpf::MOST)]
    Size(usize),
}

/// A filter in the kernel's format, which [`agent_sys::seccomp::install`] installs.
#[derive(Clone, Debug)]
pub struct FilterProgram {
    /// The instructions of classic BPF.
    pub instructions: Vec<libc::sock_filter>,
    /// `SECCOMP_FILTER_FLAG_*`
    pub flags: u32,
}

/// Returns an entry of a profile's list, in OCI's types.
fn rule(
    names: Vec<String>,
    action: LinuxSeccompAction,
    errno: Option<u32>,
    arguments: Vec<oci_spec::runtime::LinuxSeccompArg>,
) -> oci_spec::runtime::LinuxSyscall {
    let mut rule = oci_spec::runtime::LinuxSyscall::default();
    rule.set_names(names);
    rule.set_action(action);
    rule.set_errno_ret(errno);
    rule.set_args((!arguments.is_empty()).then_some(arguments));
    rule
}

/// Returns a profile whose conditions have been evaluated.
fn profile(
    action: LinuxSeccompAction,
    errno: Option<u32>,
    architectures: Vec<Arch>,
    calls: Vec<oci_spec::runtime::LinuxSyscall>,
) -> LinuxSeccomp {
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(action);
    profile.set_default_errno_ret(errno);
    profile.set_architectures(Some(architectures));
    profile.set_syscalls(Some(calls));
    profile
}

#[cfg(test)]
mod tests;

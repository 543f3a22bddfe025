//! The arguments that choose the mechanisms of tracing.

use agent_tracer::kernel::choice::{MechanismChoice, Mechanisms, SyscallProbes};

#[derive(Clone, Debug, clap::Args)]
pub struct MechanismArgs {
    /// The mechanism for the probes of a group (unshare, setns or oom), or of all: trampoline, btf (oom
    /// only), syscall (unshare and setns only); may be repeated [default: the first of these that loads]
    #[arg(long = "mechanism", value_name = "[GROUP=]MECHANISM")]
    choices: Vec<MechanismChoice>,

    /// Whether to attach system call tracepoints for unshare and setns, which slow every system call of the
    /// host by about 35 ns; auto: only where no cheaper mechanism loads
    #[arg(
        long,
        value_name = "auto|on|off",
        default_value = "auto",
        hide_possible_values = true
    )]
    syscall_probes: SyscallProbes,
}

impl From<MechanismArgs> for Mechanisms {
    fn from(args: MechanismArgs) -> Self {
        Self {
            syscall_probes: args.syscall_probes,
            choices: args.choices,
        }
    }
}

//! The arguments that say by which mechanisms to trace.

use crate::kernel::choice::{Choice, Mechanisms, SyscallProbes};

#[derive(Clone, Debug, clap::Args)]
pub struct MechanismArgs {
    /// The mechanism for unshare, setns, oom, or all of them: trampoline, btf (oom), syscall
    /// (unshare, setns); may be repeated [default: the first of these that loads]
    #[arg(long = "mechanism", value_name = "[GROUP=]MECHANISM")]
    choices: Vec<Choice>,

    /// Probes for unshare and setns that tax every system call of the host by some 35 ns: auto
    /// attaches them where nothing cheaper loads
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

//! The probes, the mechanisms by which each can be attached, and the state of each.

use agent_model::text;
use serde::Serialize;

use super::config::MARK_VICTIM;
use super::program::{Hook, ProbeError};

/// A mechanism by which the kernel runs a probe's programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mechanism {
    /// A BPF trampoline (`fentry`, `fexit`). It costs nothing except where the kernel runs it.
    Trampoline,
    /// A BTF tracepoint (`tp_btf`). It costs nothing except where the kernel runs it.
    Btf,
    /// A system call's tracepoint. While one is attached, every system call of the host takes longer.
    Syscall,
}

impl Mechanism {
    /// All mechanisms, in the order in which they are tried.
    pub const ALL: [Self; 3] = [Self::Trampoline, Self::Btf, Self::Syscall];

    /// The name in `--mechanism` and `agent doctor`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trampoline => "trampoline",
            Self::Btf => "btf",
            Self::Syscall => "syscall",
        }
    }
}

/// The programs that see a probe's events by one mechanism.
#[derive(Debug)]
pub struct MechanismPrograms {
    /// The mechanism.
    pub mechanism: Mechanism,
    /// The programs and what each hooks, in the order of attachment.
    pub programs: &'static [(&'static str, Hook)],
    /// Further programs, attached if the kernel has what they hook.
    pub where_found: &'static [(&'static str, Hook)],
}

impl MechanismPrograms {
    const fn new(mechanism: Mechanism, programs: &'static [(&'static str, Hook)]) -> Self {
        Self {
            mechanism,
            programs,
            where_found: &[],
        }
    }

    const fn and_where_found(mut self, programs: &'static [(&'static str, Hook)]) -> Self {
        self.where_found = programs;
        self
    }

    /// The hooks of all programs.
    pub fn hooks(&self) -> impl Iterator<Item = Hook> {
        let programs = self.programs.iter().chain(self.where_found);
        programs.map(|(_, hook)| *hook)
    }
}

/// A probe: the programs that see one kind of event.
#[derive(Debug)]
pub struct Probe {
    /// The name in `agent doctor` and metrics.
    pub name: &'static str,
    /// The mechanisms by which it can be attached, the best first.
    pub ways: &'static [MechanismPrograms],
    /// What the agent does not see without it.
    pub loss: &'static str,
}

impl Probe {
    /// The programs for this mechanism, if the probe has it.
    pub fn way(&self, mechanism: Mechanism) -> Option<&'static MechanismPrograms> {
        self.ways.iter().find(|way| way.mechanism == mechanism)
    }
}

/// All probes, in the order of attachment. Those of cgroups are first, so that no event comes from a cgroup whose
/// creation no probe saw.
pub const PROBES: &[Probe] = &[
    Probe {
        name: "cgroup_mkdir",
        ways: &[MechanismPrograms::new(
            Mechanism::Btf,
            &[("cgroup_mkdir", Hook::Tracepoint("btf_trace_cgroup_mkdir"))],
        )],
        loss: "new cgroups: events in them have no container until a scan finds it",
    },
    Probe {
        name: "cgroup_rmdir",
        ways: &[MechanismPrograms::new(
            Mechanism::Btf,
            &[("cgroup_rmdir", Hook::Tracepoint("btf_trace_cgroup_rmdir"))],
        )],
        loss: "removals of cgroups: their counters stay until the agent is restarted",
    },
    Probe {
        name: "cgroup_populated",
        ways: &[MechanismPrograms::new(
            Mechanism::Btf,
            &[(
                "cgroup_populated",
                Hook::Tracepoint("btf_trace_cgroup_notify_populated"),
            )],
        )],
        loss: "starts and stops of containers",
    },
    Probe {
        name: "attach",
        ways: &[MechanismPrograms::new(
            Mechanism::Btf,
            &[("attach", Hook::Tracepoint("btf_trace_cgroup_attach_task"))],
        )],
        loss: "processes that enter a container from outside: engines' runtimes are reported as escapes",
    },
    Probe {
        name: "fork",
        ways: &[MechanismPrograms::new(
            Mechanism::Btf,
            &[("fork", Hook::Tracepoint("btf_trace_task_newtask"))],
        )],
        loss: "births of processes and threads, and the namespaces that clone makes",
    },
    Probe {
        name: "exec",
        ways: &[MechanismPrograms::new(
            Mechanism::Btf,
            &[("exec", Hook::Tracepoint("btf_trace_sched_process_exec"))],
        )],
        loss: "execs, which process is a container's init process, whose namespaces a setns enters, and escapes",
    },
    Probe {
        name: "exit",
        ways: &[MechanismPrograms::new(
            Mechanism::Btf,
            &[("exit", Hook::Tracepoint("btf_trace_sched_process_exit"))],
        )],
        loss: "how processes and containers ended",
    },
    Probe {
        name: "oom",
        ways: &[
            MechanismPrograms::new(
                Mechanism::Trampoline,
                &[
                    ("oom_fentry", Hook::Entry("oom_kill_process")),
                    ("oom", Hook::Tracepoint(MARK_VICTIM)),
                ],
            ),
            MechanismPrograms::new(Mechanism::Btf, &[("oom", Hook::Tracepoint(MARK_VICTIM))]),
        ],
        loss: "OOM kills",
    },
    Probe {
        name: "unshare",
        ways: &[
            MechanismPrograms::new(
                Mechanism::Trampoline,
                &[
                    ("unshare_fexit", Hook::Exit("ksys_unshare")),
                    ("unshare_fentry", Hook::Entry("ksys_unshare")),
                ],
            )
            .and_where_found(&[("unshare_done", Hook::Entry("perf_event_namespaces"))]),
            MechanismPrograms::new(
                Mechanism::Syscall,
                &[
                    ("unshare_exit", Hook::Syscall("sys_exit_unshare")),
                    ("unshare_enter", Hook::Syscall("sys_enter_unshare")),
                ],
            ),
        ],
        loss: "namespaces made by unshare",
    },
    Probe {
        name: "setns",
        ways: &[
            MechanismPrograms::new(
                Mechanism::Trampoline,
                &[
                    ("setns_fexit", Hook::Exit("__x64_sys_setns")),
                    ("setns_fentry", Hook::Entry("__x64_sys_setns")),
                ],
            )
            .and_where_found(&[
                ("setns_done", Hook::Entry("perf_event_namespaces")),
                ("setns32_fexit", Hook::Exit("__ia32_sys_setns")),
                ("setns32_fentry", Hook::Entry("__ia32_sys_setns")),
            ]),
            MechanismPrograms::new(
                Mechanism::Syscall,
                &[
                    ("setns_exit", Hook::Syscall("sys_exit_setns")),
                    ("setns_enter", Hook::Syscall("sys_enter_setns")),
                ],
            ),
        ],
        loss: "namespaces entered by setns",
    },
];

/// Whether a probe is attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ProbeState {
    /// It is attached.
    Attached,
    /// The user's choice leaves no mechanism to try.
    Off,
    /// No mechanism works.
    Failed {
        /// The name of the errno, where there is one.
        errno: Option<String>,
        /// The error of the last mechanism that was tried.
        reason: String,
    },
}

/// A mechanism by which a probe cannot be attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PassedOver {
    /// The mechanism that does not work here.
    pub mechanism: Mechanism,
    /// The name of the errno, where there is one.
    pub errno: Option<String>,
    /// The error.
    pub reason: String,
}

impl PassedOver {
    /// Notes why a mechanism does not work here.
    pub fn new(mechanism: Mechanism, error: &ProbeError) -> Self {
        Self {
            mechanism,
            errno: error.errno(),
            reason: text::error_line(error),
        }
    }
}

/// A probe and its state.
#[derive(Clone, Debug, Serialize)]
pub struct ProbeStatus {
    /// The probe's name.
    pub probe: &'static str,
    /// The mechanism that works, or that was tried last.
    pub mechanism: Mechanism,
    /// Whether it is attached.
    #[serde(flatten)]
    pub state: ProbeState,
    /// The mechanisms that were tried before, and why they do not work.
    pub passed_over: Vec<PassedOver>,
    /// What the agent does not see without the probe.
    pub loss: &'static str,
}

impl ProbeStatus {
    /// Whether the probe is attached.
    pub fn attached(&self) -> bool {
        self.state == ProbeState::Attached
    }
}

/// Whether the probes see any kind of event that streams show.
pub fn see_events(statuses: &[ProbeStatus]) -> bool {
    const EVENTS: [&str; 6] = ["oom", "unshare", "setns", "fork", "exec", "exit"];
    let mut attached = statuses.iter().filter(|status| status.attached());
    attached.any(|status| EVENTS.contains(&status.probe))
}

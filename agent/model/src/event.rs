//! Typed events, decoded from the records that the BPF programs send.

use agent_ebpf::{
    CgroupKey, CloneRecord, Constraint, How, NamespaceCallRecord, NamespaceType, OomRecord, Task,
};

/// An event on the host.
#[derive(Clone, Debug)]
pub struct Event {
    /// ns of CLOCK_BOOTTIME.
    pub time: u64,
    /// The task that was running.
    pub caller: Task,
    /// What happened.
    pub body: Body,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Body {
    /// A clone(2) that made a namespace.
    Clone(Box<CloneRecord>),
    /// An unshare(2), successful or not.
    Unshare(NamespaceCallRecord),
    /// A setns(2), successful or not.
    Setns(NamespaceCallRecord),
    /// A kill by the OOM killer, and what was short.
    Oom(Box<OomRecord>, Constraint),
    /// A cgroup was made.
    CgroupMkdir {
        /// Its hierarchy and id.
        cgroup: CgroupKey,
        /// Its path from the hierarchy's root.
        path: String,
    },
    /// A cgroup was removed.
    CgroupRmdir {
        /// Its hierarchy and id.
        cgroup: CgroupKey,
    },
    /// A cgroup with those below it got its first task, or lost its last one.
    CgroupPopulated {
        /// Its hierarchy and id.
        cgroup: CgroupKey,
        /// Whether there are tasks in the cgroup or below it.
        populated: bool,
    },
    /// A process executed a program.
    Exec(Arguments),
    /// A process ended.
    Exit {
        /// The wait status (wait(2)).
        status: u32,
        /// Whether the OOM killer killed the process.
        oom_killed: bool,
    },
    /// A process was born.
    Fork {
        /// The new process.
        child: Task,
    },
    /// A task is in a namespace of the host that its container does not have.
    Escape {
        /// The type of the namespace.
        namespace: NamespaceType,
        /// The inode of the host's namespace.
        inode: u32,
        /// How the task came into the namespace.
        how: How,
    },
}

/// The arguments of an exec, as far as the record has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// The arguments, each followed by a NUL, except an argument that is cut.
    pub bytes: Box<[u8]>,
    /// Whether the exec had more bytes of arguments than the record.
    pub cut: bool,
}

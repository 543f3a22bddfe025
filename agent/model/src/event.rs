//! What happened on the host, as the kernel saw it.

use agent_ebpf::{
    CgroupKey, CloneRecord, Constraint, How, NamespaceCallRecord, NamespaceType, OomRecord, Task,
};

/// Something that happened, as the kernel saw it.
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
    /// A kill by the OOM killer, and the constraint under which memory ran out.
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
    /// A cgroup got its first task, or lost its last one.
    CgroupPopulated {
        /// Its hierarchy and id.
        cgroup: CgroupKey,
        /// Whether it has tasks.
        populated: bool,
    },
    /// A process executed a program.
    Exec(Arguments),
    /// The wait status of the process (wait(2)), and whether the OOM killer chose it.
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
        /// The host's namespace.
        inode: u32,
        /// How the task came there.
        how: How,
    },
}

/// The arguments of an exec, as far as the record has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// Each ends with a NUL, but for one that is cut.
    pub bytes: Box<[u8]>,
    /// Whether there were more.
    pub cut: bool,
}

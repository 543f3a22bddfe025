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
    pub body: Body,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Body {
    Clone(Box<CloneRecord>),
    Unshare(NamespaceCallRecord),
    Setns(NamespaceCallRecord),
    Oom(Box<OomRecord>, Constraint),
    CgroupMkdir {
        cgroup: CgroupKey,
        path: String,
    },
    CgroupRmdir {
        cgroup: CgroupKey,
    },
    CgroupPopulated {
        cgroup: CgroupKey,
        populated: bool,
    },
    Exec(Arguments),
    /// The wait status of the process (wait(2)), and whether the OOM killer chose it.
    Exit {
        status: u32,
        oom_killed: bool,
    },
    Fork {
        child: Task,
    },
    Escape {
        namespace: NamespaceType,
        inode: u32,
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

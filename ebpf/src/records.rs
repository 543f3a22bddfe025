//! The bytes that the programs and the agent exchange: records of the rings, and the keys and values of maps. Every
//! struct is `repr(C)`, has no padding, and holds only numbers, so any bytes are a valid value.

use crate::{ARGV_MAX, CALLS, ENDINGS, Ending, HIERARCHIES, NAMESPACE_TYPES, NAMESPACES, PATH_MAX};

/// A limit that is not set.
pub const UNLIMITED: u64 = u64::MAX;

/// A cgroup: its hierarchy (`cgroup_root.hierarchy_id`; 0 is v2) and its id there.
///
/// The id is that of the directory's kernfs node. A 64-bit kernel never reuses such an id while the hierarchy is
/// mounted (`fs/kernfs/dir.c`, `id_highbits`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CgroupKey {
    /// The cgroup's id in its hierarchy.
    pub id: u64,
    /// The hierarchy's id; 0: v2.
    pub hierarchy: u32,
    /// Padding, always 0.
    pub zero: u32,
}

/// The key of the counts that are shared by all cgroups for which the map had no room.
pub const OVERFLOW: CgroupKey = CgroupKey {
    id: 0,
    hierarchy: u32::MAX,
    zero: 0,
};

/// A task's cgroups, by [`crate::Hierarchy`]. Id 0: there is no such hierarchy.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskCgroups {
    /// The cgroup's id in each hierarchy.
    pub ids: [u64; HIERARCHIES],
    /// The hierarchy's id; 0: v2.
    pub hierarchies: [u32; HIERARCHIES],
    /// The cgroup's depth below the root of its hierarchy; 0 is the root.
    pub levels: [u32; HIERARCHIES],
}

/// Inode numbers by [`crate::Namespace`]. 0: the kernel has no such namespace, or the task is in none any more.
pub type NamespaceInodes = [u32; NAMESPACES];

/// A task, in its state at the hook.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Task {
    /// When the process (its thread group's leader) started, in ns of CLOCK_BOOTTIME.
    pub start_time: u64,
    /// The task's cgroups.
    pub cgroups: TaskCgroups,
    /// The process id in the host's pid namespace.
    pub pid: u32,
    /// The thread id in the host's pid namespace.
    pub tid: u32,
    /// The parent's process id.
    pub ppid: u32,
    /// The process id in the task's own pid namespace.
    pub ns_pid: u32,
    /// The real user id in the initial user namespace.
    pub uid: u32,
    /// The inode of the outermost pid namespace that the task is in below the initial one; 0 if the task is in the
    /// initial one only.
    pub outer_pid_namespace: u32,
    /// The task's namespaces.
    pub namespaces: NamespaceInodes,
    /// The thread's name, followed by a NUL.
    pub comm: [u8; 16],
}

impl Task {
    /// All zeros.
    pub const EMPTY: Self = Self {
        start_time: 0,
        cgroups: TaskCgroups {
            ids: [0; HIERARCHIES],
            hierarchies: [0; HIERARCHIES],
            levels: [0; HIERARCHIES],
        },
        pid: 0,
        tid: 0,
        ppid: 0,
        ns_pid: 0,
        uid: 0,
        outer_pid_namespace: 0,
        namespaces: [0; NAMESPACES],
        comm: [0; 16],
    };
}

/// A thread, as the iterator `threads` writes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadState {
    /// The cgroup that the thread counts under.
    pub cgroup: CgroupKey,
    /// The process id in the host's pid namespace.
    pub pid: u32,
    /// The thread id in the host's pid namespace: that of a process's leader is its process id.
    pub tid: u32,
    /// `task_struct.__state`: 0, or bits `TASK_*` (`include/linux/sched.h`).
    pub state: u32,
    /// 1 if the thread waits for I/O, else 0.
    pub in_iowait: u32,
}

const _: () = assert!(size_of::<ThreadState>() == size_of::<CgroupKey>() + 16);

/// What every record begins with.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// A [`crate::RecordKind`].
    pub kind: u32,
    /// Padding, always 0.
    pub zero: u32,
    /// ns of CLOCK_BOOTTIME.
    pub time: u64,
    /// The task that was running: the caller.
    pub task: Task,
}

/// A clone(2) or clone3(2) with a `CLONE_NEW*` flag.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CloneRecord {
    /// The kind, the time and the task that caused the record.
    pub header: Header,
    /// The new process.
    pub child: Task,
    /// The `CLONE_NEW*` bits that the call requested.
    pub flags: u64,
}

/// An unshare(2) or setns(2). The header's namespaces are those after the call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NamespaceCallRecord {
    /// The kind, the time and the task that caused the record.
    pub header: Header,
    /// The caller's namespaces before the call.
    pub before: NamespaceInodes,
    /// The `CLONE_NEW*` bits that the call requested.
    pub flags: u64,
    /// 0 or a negative errno.
    pub result: i64,
}

/// A kill by the OOM killer. The header's task is the one whose allocation triggered it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct OomRecord {
    /// The kind, the time and the task that caused the record.
    pub header: Header,
    /// The process that the OOM killer killed.
    pub victim: Task,
    /// The memory cgroup whose limit was hit; id 0 where none was.
    pub owner: CgroupKey,
    /// The limit in bytes, or [`UNLIMITED`].
    pub limit: u64,
    /// The memory in use, in bytes.
    pub usage: u64,
    /// The limit on swap (v2) or on memory and swap together (v1) in bytes, or [`UNLIMITED`].
    pub swap_limit: u64,
    /// The swap (v2) or the memory and swap together (v1) in use, in bytes.
    pub swap_usage: u64,
    /// The victim's anonymous memory, in bytes.
    pub anon: u64,
    /// The victim's mapped files, in bytes.
    pub file: u64,
    /// The victim's shared memory, in bytes.
    pub shmem: u64,
    /// Kills in the victim's memory cgroup so far, as the kernel counts them (`oom_kill` of `memory.events.local`).
    pub kills: u64,
    /// A [`crate::Constraint`].
    pub constraint: u32,
    /// 1 where the victim is the init process of its cgroup.
    pub init_killed: u32,
}

/// A cgroup was made.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CgroupMkdirRecord {
    /// The kind, the time and the task that caused the record.
    pub header: Header,
    /// The new cgroup.
    pub cgroup: CgroupKey,
    /// The length of `path` in bytes without the NUL, at most [`PATH_MAX`] - 1.
    pub path_len: u64,
    /// The path from the hierarchy's root, followed by a NUL.
    pub path: [u8; PATH_MAX],
}

/// A cgroup was removed, or became populated or empty.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CgroupChangeRecord {
    /// The kind, the time and the task that caused the record.
    pub header: Header,
    /// The cgroup.
    pub cgroup: CgroupKey,
    /// 1 where there are tasks in the cgroup or below it.
    pub populated: u64,
}

/// The birth of a process. The header's task is the one that called clone(2).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ForkRecord {
    /// The kind, the time and the task that caused the record.
    pub header: Header,
    /// The new process.
    pub child: Task,
}

/// The birth of a process that differs from its parent, the header's task, only in its ids and its start time. It has
/// the parent's cgroups, namespaces, name and user.
///
/// Most new processes are like that. The record is half as long as a [`ForkRecord`]: most of the cost of a fork's
/// record is the writing of its bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ForkBesideRecord {
    /// The kind, the time and the task that caused the record.
    pub header: Header,
    /// When the child started, in ns of CLOCK_BOOTTIME.
    pub start_time: u64,
    /// The child's process id in the host's pid namespace.
    pub pid: u32,
    /// The child's process id in its own pid namespace.
    pub ns_pid: u32,
}

impl ForkBesideRecord {
    /// The new process, with what it has from its parent.
    pub fn child(&self) -> Task {
        Task {
            start_time: self.start_time,
            pid: self.pid,
            tid: self.pid,
            ppid: self.header.task.pid,
            ns_pid: self.ns_pid,
            ..self.header.task
        }
    }
}

/// An exec. The header's task is the process with its new name.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ExecRecord {
    /// The kind, the time and the task that caused the record.
    pub header: Header,
    /// The bytes of all arguments with their NULs; `argv` has the first [`ARGV_MAX`] of them. 0 if the arguments could
    /// not be read.
    pub argv_len: u64,
    /// The arguments, each followed by a NUL. The bytes beyond `argv_len` mean nothing.
    pub argv: [u8; ARGV_MAX],
}

/// The end of a process. The header's task is its last thread, with the `tid` and `comm` of the
/// leader.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ExitRecord {
    /// The kind, the time and the task that caused the record.
    pub header: Header,
    /// The status that wait(2) returns: the signal in the low 7 bits, the exit code in bits 8 to 15.
    pub status: u32,
    /// 1 where the OOM killer chose the process.
    pub oom_killed: u32,
}

/// A process of a container is in a namespace of the host that its container does not have.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct EscapeRecord {
    /// The kind, the time and the task that caused the record.
    pub header: Header,
    /// A [`crate::NamespaceType`].
    pub namespace: u32,
    /// The inode of the host's namespace.
    pub inode: u32,
    /// A [`crate::How`].
    pub how: u32,
    /// Padding, always 0.
    pub zero: u32,
}

/// The outcomes of the records of one kind on one CPU: `seen` is the sum of the others.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordOutcomes {
    /// Events of the kind that the programs saw.
    pub seen: u64,
    /// Records that are in a ring.
    pub submitted: u64,
    /// Records that are lost because a ring or a map was full, or because no program saw the end of the call.
    pub no_room: u64,
    /// Events that no watcher wanted.
    pub unwanted: u64,
    /// Records that were not sent because their cgroup exceeded its [`crate::RareBounds`].
    pub suppressed: u64,
}

/// How many namespace calls, or how many escapes, a cgroup sent lately, to be held against [`crate::RareBounds`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// The second (CLOCK_BOOTTIME) that `in_second` counts in.
    pub second: u64,
    /// Records that the cgroup sent in that second.
    pub in_second: u64,
    /// The position in the ring at which the batch began. The batch ends when the reader has read up to it.
    pub batch: u64,
    /// Records that the cgroup sent in that batch.
    pub in_batch: u64,
}

/// The counts of what happened in one cgroup.
///
/// A CPU that adds to a counter fetches the counter's cache line of 64 bytes from the CPU that wrote it last, which
/// takes half a microsecond. So three groups of fields have lines of their own: the counters of the parents of new
/// processes, the counters of the processes themselves, mostly on another CPU, and the fields that all events read.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Processes that tasks of the cgroup made.
    pub forks: u64,
    /// Threads that tasks of the cgroup made, the first thread of each process left out.
    pub threads: u64,
    /// Padding to a cache line, always 0.
    pub birth_zeros: [u64; 6],

    /// Execs.
    pub execs: u64,
    /// Processes that ended, by [`crate::Ending`].
    pub exits: [u64; ENDINGS],
    /// Cgroups below this container's whose processes are watched for escapes.
    pub below: u64,
    /// Padding to a cache line, always 0.
    pub end_zeros: [u64; 2],

    /// The number in the `EPOCH` map when a program last found that the cgroup belongs to no container.
    pub plain: u64,
    /// Bit 0: the cgroup has, or had, an init process. [`SHARED`]: many cgroups share these counts.
    pub had_first: u64,
    /// OOM kills of processes in this cgroup, without those in cgroups below.
    pub oom_kills: u64,
    /// OOM kills, here or below, because this cgroup's limit was hit.
    pub oom_limit_kills: u64,
    /// Namespace calls that failed, by [`crate::Call`].
    pub failed: [u64; CALLS],
    /// Cgroups whose processes are not checked for escapes because a map or [`crate::WATCHED_BELOW`] left no room: this
    /// cgroup, and those that were made below it.
    pub unwatched: u64,

    /// Namespace calls that succeeded, by [`crate::Call`] and the [`crate::NamespaceType`]s asked for.
    pub calls: [[u64; NAMESPACE_TYPES]; CALLS],
    /// Escapes, by [`crate::NamespaceType`]. Those from cgroups below a container's count for the container's cgroup.
    pub escapes: [u64; NAMESPACE_TYPES],
    /// The records of namespace calls that were sent lately.
    pub calls_sent: Sent,
    /// The records of escapes that were sent lately.
    pub escapes_sent: Sent,
}

/// The bytes of a cache line.
const LINE: usize = 64;

// In the map, the kernel puts the 48 bytes of `struct htab_elem` (`kernel/bpf/hashtab.c`) and the 16 of the key before
// each value: together one line.
const _: () = assert!(
    core::mem::offset_of!(Counts, execs) == LINE
        && core::mem::offset_of!(Counts, plain) == 2 * LINE
        && size_of::<Counts>().is_multiple_of(LINE)
);

impl Counts {
    /// Adds the counters of `other` to these. What is not a counter of events stays: `below`, `plain`, `had_first`,
    /// `calls_sent`, `escapes_sent`.
    pub fn add(&mut self, other: &Self) {
        let ours = self.calls.iter_mut().flatten().chain(&mut self.failed);
        let ours = ours.chain(&mut self.exits).chain(&mut self.escapes);
        let theirs = other.calls.iter().flatten().chain(&other.failed);
        let theirs = theirs.chain(&other.exits).chain(&other.escapes);
        for (counter, n) in ours.zip(theirs) {
            *counter += n;
        }
        self.oom_kills += other.oom_kills;
        self.oom_limit_kills += other.oom_limit_kills;
        self.forks += other.forks;
        self.threads += other.threads;
        self.execs += other.execs;
        self.unwatched += other.unwatched;
    }

    /// The number of all events counted here.
    pub fn total(&self) -> u64 {
        let many = self.calls.iter().flatten().chain(&self.failed);
        let many = many.chain(&self.exits).chain(&self.escapes);
        let few = [
            self.oom_kills,
            self.oom_limit_kills,
            self.forks,
            self.threads,
            self.execs,
        ];
        many.chain(&few).sum()
    }
}

/// The bit of [`Counts::had_first`] that marks counts shared by many cgroups, some of which may be containers'.
pub const SHARED: u64 = 2;

/// A process. No two processes since boot have the same key: the kernel reuses a pid only later.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ProcessKey {
    /// When the process started, in ns of CLOCK_BOOTTIME.
    pub start_time: u64,
    /// The process id in the host's pid namespace.
    pub pid: u32,
    /// Padding, always 0.
    pub zero: u32,
}

/// The namespaces that the processes of a cgroup are expected in: those of the cgroup's init process when it first
/// executed a program.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Baseline {
    /// The cgroup of that init process, also where a cgroup below it is looked up: a cgroup below a container's has no
    /// init process of its own.
    pub cgroup: CgroupKey,
    /// The namespaces of that init process.
    pub namespaces: NamespaceInodes,
}

/// How a process ended. `status` is what wait(2) returns; `oom_killed` says whether the OOM killer chose the process.
pub const fn ending(status: u32, oom_killed: bool) -> Ending {
    match (status & 0x7f, status >> 8 & 0xff) {
        (0, 0) => Ending::Success,
        (0, _) => Ending::Failure,
        (9, _) if oom_killed => Ending::OomKilled,
        _ => Ending::Signal,
    }
}

/// What a program at the beginning of a namespace call stores for the program at its end.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PendingCall {
    /// The caller's namespaces before the call.
    pub before: NamespaceInodes,
    /// The `CLONE_NEW*` bits that the call requested.
    pub flags: u64,
    /// The number of the call's [`crate::RecordKind`].
    pub kind: u64,
}

/// Checks at compile time that each type has the size of its fields, that is no padding.
macro_rules! no_padding {
    ($($type:ty = $bytes:expr;)*) => {
        $(const _: () = assert!(size_of::<$type>() == $bytes && align_of::<$type>() <= 8);)*
    };
}

no_padding! {
    CgroupKey = 16;
    TaskCgroups = 64;
    Task = 8 + 64 + 6 * 4 + 40 + 16;
    Header = 16 + 152;
    CloneRecord = 168 + 152 + 8;
    NamespaceCallRecord = 168 + 40 + 16;
    OomRecord = 168 + 152 + 16 + 8 * 8 + 8;
    CgroupMkdirRecord = 168 + 16 + 8 + 1024;
    CgroupChangeRecord = 168 + 16 + 8;
    ForkRecord = 168 + 152;
    ForkBesideRecord = 168 + 16;
    ExecRecord = 168 + 8 + 1024;
    ExitRecord = 168 + 8;
    EscapeRecord = 168 + 16;
    RecordOutcomes = 40;
    Sent = 32;
    Counts = 8 * LINE;
    ProcessKey = 16;
    Baseline = 56;
    PendingCall = 56;
}

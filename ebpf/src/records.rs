//! The bytes that cross from the kernel: records of the ring, and the values of maps. Every struct
//! is `repr(C)`, has no padding, and holds numbers only: any bytes are a valid value.

use crate::{ARGV_MAX, CALLS, ENDINGS, Ending, HIERARCHIES, NAMESPACE_TYPES, NAMESPACES, PATH_MAX};

/// A limit that is not set.
pub const UNLIMITED: u64 = u64::MAX;

/// A cgroup: its hierarchy (`cgroup_root.hierarchy_id`; 0 is v2) and its id there.
///
/// The id is that of the directory's kernfs node, which on 64-bit kernels is never given out twice
/// while the hierarchy is mounted (`fs/kernfs/dir.c`, `id_highbits`).
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

/// The key under which all is counted that found no room of its own.
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

/// Inode numbers by [`crate::Namespace`]. 0: the kernel has no such namespace, or the task none.
pub type NamespaceInodes = [u32; NAMESPACES];

/// A task, as it was at the hook.
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
    /// The pid in the task's own pid namespace.
    pub ns_pid: u32,
    /// The real user id in the initial user namespace.
    pub uid: u32,
    /// Inode of the outermost pid namespace below the initial one; 0 where the task is in the
    /// initial one itself.
    pub outer_pid_namespace: u32,
    /// The task's namespaces.
    pub namespaces: NamespaceInodes,
    /// The thread's name, ended by a NUL.
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
    /// Of swap on v2, of memory and swap together on v1, as the kernel counts.
    pub swap_limit: u64,
    /// The swap in use on v2, memory and swap together on v1, in bytes.
    pub swap_usage: u64,
    /// The victim's anonymous memory, in bytes.
    pub anon: u64,
    /// The victim's mapped files, in bytes.
    pub file: u64,
    /// The victim's shared memory, in bytes.
    pub shmem: u64,
    /// Kills in the victim's memory cgroup so far: the kernel's own `oom_kill`.
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
    /// Bytes of `path`, at most [`PATH_MAX`] - 1.
    pub path_len: u64,
    /// The path from the hierarchy's root.
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

/// A birth of a process that is in all cgroups and namespaces of its parent, as most are: it has the parent's name and
/// user, and is its child. Half as long, for most of what a birth costs is what is written of it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ForkBesideRecord {
    /// The kind, the time and the task that caused the record.
    pub header: Header,
    /// As [`Task`] has them.
    pub start_time: u64,
    /// The child's process id in the host's pid namespace.
    pub pid: u32,
    /// The child's process id in its own pid namespace.
    pub ns_pid: u32,
}

impl ForkBesideRecord {
    /// The new process: the parent but for its ids and its start.
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

/// An exec.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ExecRecord {
    /// The kind, the time and the task that caused the record.
    pub header: Header,
    /// Bytes of the arguments, each with its NUL; `argv` has the first [`ARGV_MAX`] of them.
    pub argv_len: u64,
    /// The arguments, each followed by a NUL.
    pub argv: [u8; ARGV_MAX],
}

/// The end of a process. The header's task is its last thread, with the `tid` and `comm` of the
/// leader.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ExitRecord {
    /// The kind, the time and the task that caused the record.
    pub header: Header,
    /// As wait(2) gives it: the signal in the low 7 bits, the exit code in bits 8 to 15.
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
    /// The host's namespace.
    pub inode: u32,
    /// A [`crate::How`].
    pub how: u32,
    /// Padding, always 0.
    pub zero: u32,
}

/// What became of the records of one kind on one CPU: `seen` is the sum of the others.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordOutcomes {
    /// Records that a program wanted to send.
    pub seen: u64,
    /// Records that are in the ring.
    pub submitted: u64,
    /// The ring was full.
    pub no_room: u64,
    /// Nobody asked for it.
    pub unwanted: u64,
    /// One cgroup sent too many.
    pub suppressed: u64,
}

/// How many records of one sort a cgroup sent lately, for [`crate::RareBounds`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// The second (CLOCK_BOOTTIME) that `in_second` counts in.
    pub second: u64,
    /// Records that the cgroup sent in that second.
    pub in_second: u64,
    /// The position in the ring from which on `in_batch` counts.
    pub batch: u64,
    /// Records that the cgroup sent in that batch.
    pub in_batch: u64,
}

/// What happened in one cgroup. A CPU takes the line of 64 bytes that it adds to from the one that had it
/// last, which takes half a microsecond: so what the makers of processes add to, what processes do themselves,
/// mostly on another CPU, and what all read are lines apart.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Processes born, by the cgroup of their parent.
    pub forks: u64,
    /// Threads born beside the first one of a process.
    pub threads: u64,
    /// Padding to a cache line, always 0.
    pub birth_zeros: [u64; 6],

    /// Programs that processes executed.
    pub execs: u64,
    /// Processes ended, by [`crate::Ending`].
    pub exits: [u64; ENDINGS],
    /// Cgroups below this container's whose processes are watched for escapes.
    pub below: u64,
    /// Padding to a cache line, always 0.
    pub end_zeros: [u64; 2],

    /// The epoch of the `EPOCH` map in which the cgroup was found to be of no container.
    pub plain: u64,
    /// 1 where an init process was, or is; with [`SHARED`], of what many cgroups share.
    pub had_first: u64,
    /// Kills in this very cgroup.
    pub oom_kills: u64,
    /// Kills, here or below, for this cgroup's limit.
    pub oom_limit_kills: u64,
    /// Calls that failed, by [`crate::Call`].
    pub failed: [u64; CALLS],
    /// Cgroups whose processes are not watched for escapes, for want of room: this one, and those made in this container.
    pub unwatched: u64,

    /// By [`crate::Call`] and [`crate::NamespaceType`] asked for.
    pub calls: [[u64; NAMESPACE_TYPES]; CALLS],
    /// By [`crate::NamespaceType`]; those of the cgroups below a container's are the container's.
    pub escapes: [u64; NAMESPACE_TYPES],
    /// Records of namespace calls.
    pub calls_sent: Sent,
    /// Records of escapes.
    pub escapes_sent: Sent,
}

/// Bytes of what CPUs take from one another.
const LINE: usize = 64;

// In the map, 48 bytes of the kernel's (`struct htab_elem`, `kernel/bpf/hashtab.c`) and the key come
// before each: a line.
const _: () = assert!(
    core::mem::offset_of!(Counts, execs) == LINE
        && core::mem::offset_of!(Counts, plain) == 2 * LINE
        && size_of::<Counts>().is_multiple_of(LINE)
);

impl Counts {
    /// Adds what was counted elsewhere.
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

    /// How many happenings were counted, of whatever kind.
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

/// The bit of `had_first` in the counts of many cgroups, of which some may be containers'.
pub const SHARED: u64 = 2;

/// A process: no two on a host are alike, as a pid is given out again only later.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ProcessKey {
    /// ns of CLOCK_BOOTTIME.
    pub start_time: u64,
    /// The process id in the host's pid namespace.
    pub pid: u32,
    /// Padding, always 0.
    pub zero: u32,
}

/// The namespaces that the processes of a cgroup are expected in: those of its init process when
/// that first executed a program.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Baseline {
    /// The cgroup of that init process. In what is made below it is the same: what is in a container
    /// stays in it, and has no init process of its own.
    pub cgroup: CgroupKey,
    /// The namespaces of its init process.
    pub namespaces: NamespaceInodes,
}

/// How a process ended, by what wait(2) says and whether the OOM killer chose it.
pub const fn ending(status: u32, oom_killed: bool) -> Ending {
    match (status & 0x7f, status >> 8 & 0xff) {
        (0, 0) => Ending::Success,
        (0, _) => Ending::Failure,
        (9, _) if oom_killed => Ending::OomKilled,
        _ => Ending::Signal,
    }
}

/// A system call under way: what its end needs to know of its beginning.
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

/// Size of `T`, and a compile-time check that its fields leave no padding.
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

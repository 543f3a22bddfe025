//! Names and bounds: the kinds of records, the namespaces, the hierarchies, the limits of maps and rings.

/// Declares an enum whose discriminants count from 0, with its names in the same order.
macro_rules! named {
    ($(#[$meta:meta])* $type:ident, $count:ident { $($(#[$vmeta:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$meta])*
        #[allow(missing_docs, reason = "a variant without a doc is said by its name")]
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $type { $($(#[$vmeta])* $variant,)* }

        impl $type {
            /// Every value, in the order of the discriminants.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name that metrics, the stream and the command line use.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The value with discriminant `number`, if there is one.
            pub fn from_number(number: u32) -> Option<Self> {
                Self::ALL.get(number as usize).copied()
            }
        }

        #[doc = concat!("How many values [`", stringify!($type), "`] has.")]
        pub const $count: usize = $type::ALL.len();
    };
}

named! {
    /// The kind of a record.
    RecordKind, KINDS {
        Clone = "clone",
        Unshare = "unshare",
        Setns = "setns",
        Oom = "oom",
        CgroupMkdir = "cgroup_mkdir",
        CgroupRmdir = "cgroup_rmdir",
        CgroupPopulated = "cgroup_populated",
        /// An exec. Sent while a watcher wants it, and always for the init process of a cgroup with
        /// a mount namespace of its own.
        Exec = "exec",
        /// The end of a process. Sent while a watcher wants it, and always for an init process.
        Exit = "exit",
        /// The birth of a process. Sent while a watcher wants it.
        Fork = "fork",
        /// A process of a container is in a namespace of the host that the container does not have.
        Escape = "escape",
    }
}

named! {
    /// The ten entries of `/proc/PID/ns` (namespaces(7)), in alphabetical order.
    Namespace, NAMESPACES {
        Cgroup = "cgroup",
        Ipc = "ipc",
        Mnt = "mnt",
        Net = "net",
        Pid = "pid",
        PidForChildren = "pid_for_children",
        Time = "time",
        TimeForChildren = "time_for_children",
        User = "user",
        Uts = "uts",
    }
}

named! {
    /// The eight namespace types (namespaces(7)).
    NamespaceType, NAMESPACE_TYPES {
        Cgroup = "cgroup",
        Ipc = "ipc",
        Mnt = "mnt",
        Net = "net",
        Pid = "pid",
        Time = "time",
        User = "user",
        Uts = "uts",
    }
}

impl NamespaceType {
    /// The `CLONE_NEW*` flag (`include/uapi/linux/sched.h`).
    pub const fn clone_flag(self) -> u64 {
        match self {
            Self::Cgroup => 0x0200_0000,
            Self::Ipc => 0x0800_0000,
            Self::Mnt => 0x0002_0000,
            Self::Net => 0x4000_0000,
            Self::Pid => 0x2000_0000,
            Self::Time => 0x0000_0080,
            Self::User => 0x1000_0000,
            Self::Uts => 0x0400_0000,
        }
    }

    /// The namespace that a process itself is in.
    pub const fn own(self) -> Namespace {
        match self {
            Self::Pid => Namespace::Pid,
            Self::Time => Namespace::Time,
            _ => self.namespace(),
        }
    }

    /// The namespace that unshare(2) and setns(2) change at once: a pid or time namespace is the
    /// children's first.
    pub const fn namespace(self) -> Namespace {
        match self {
            Self::Cgroup => Namespace::Cgroup,
            Self::Ipc => Namespace::Ipc,
            Self::Mnt => Namespace::Mnt,
            Self::Net => Namespace::Net,
            Self::Pid => Namespace::PidForChildren,
            Self::Time => Namespace::TimeForChildren,
            Self::User => Namespace::User,
            Self::Uts => Namespace::Uts,
        }
    }
}

/// All eight `CLONE_NEW*` flags.
pub const CLONE_NEW_ANY: u64 = {
    let mut flags = 0;
    let mut i = 0;
    while i < NAMESPACE_TYPES {
        flags |= NamespaceType::ALL[i].clone_flag();
        i += 1;
    }
    flags
};

named! {
    /// The calls that make or enter namespaces, in the order of their kinds.
    Call, CALLS {
        Clone = "clone",
        Unshare = "unshare",
        Setns = "setns",
    }
}

named! {
    /// The hierarchies in which a task's cgroup is captured: those of three v1 controllers, and
    /// v2. A task is counted under the first non-root cgroup in this order. A controller that is
    /// on v2 has no hierarchy of its own.
    Hierarchy, HIERARCHIES {
        Memory = "memory",
        Pids = "pids",
        Cpu = "cpu",
        V2 = "v2",
    }
}

named! {
    /// What was short when the OOM killer ran (`enum oom_constraint`, `include/linux/oom.h`).
    Constraint, CONSTRAINTS {
        /// The host's memory.
        None = "none",
        Cpuset = "cpuset",
        MemoryPolicy = "mempolicy",
        Memcg = "memcg",
    }
}

named! {
    /// How a process ended.
    Ending, ENDINGS {
        /// With exit code 0.
        Success = "success",
        /// With another exit code.
        Failure = "failure",
        Signal = "signal",
        /// By the OOM killer's SIGKILL.
        OomKilled = "oom_killed",
    }
}

named! {
    /// By what a process came into a namespace of the host.
    How, HOWS {
        Setns = "setns",
        Unshare = "unshare",
        /// By nothing that a probe saw, or could tell of: it was there at an exec, or at a look at all processes.
        Unseen = "unseen",
    }
}

/// The longest cgroup path that a record carries, in bytes; a longer one is cut.
pub const PATH_MAX: usize = 1024;

/// Entries of the map of counts: cgroups counted apart; more of them are counted together.
pub const COUNTED_CGROUPS: u32 = 16_384;

/// Cgroups made below one container's whose processes are watched for escapes, at most.
pub const WATCHED_BELOW: u64 = 1024;

/// How many records of one sort a cgroup may send to the rare ring; more are counted as suppressed.
#[derive(Clone, Copy, Debug)]
pub struct RareBounds {
    /// Records that one cgroup may send in a second.
    pub per_second: u64,
    /// Before what was in the ring is read: at most twice as many of its are unread.
    pub unread: u64,
    /// Bytes of the ring that they leave free.
    pub reserve: u64,
}

/// The bounds of namespace calls: a cgroup's unread are about half of the ring.
pub const CALL_BOUNDS: RareBounds = RareBounds {
    per_second: 10_000,
    unread: 1500,
    reserve: RARE_RING_RESERVE,
};

/// The bounds of escapes, of which namespace calls use up nothing: a container cannot hide one behind
/// calls.
pub const ESCAPE_BOUNDS: RareBounds = RareBounds {
    per_second: 100,
    unread: 200,
    reserve: OOM_RESERVE,
};

/// Bytes of an exec's arguments that a record carries, with the NULs between them; what is longer is
/// cut.
pub const ARGV_MAX: usize = 1024;

/// Bytes of all rings of frequent records together: forks, execs and exits that somebody wants.
pub const FREQUENT_BYTES: u32 = 1 << 25;

/// As many rings they are at most, a power of two.
pub const FREQUENT_RINGS: u32 = 8;

/// The reader of the frequent records is woken when the bytes unread of one ring come to this.
pub const FREQUENT_WAKE_BYTES: u64 = 256 << 10;

/// The bit of `WANTED` that says to look into `EXCLUDED`; the others are `1 << Kind`.
pub const WANTED_FILTERED: u64 = 1 << 63;

/// Bytes of the ring of rare records.
pub const RARE_RING_BYTES: u32 = 1 << 21;

/// Bytes of the rare ring that records of namespace calls leave free for those of OOM kills, cgroups
/// and escapes, so that no container can push these out.
pub const RARE_RING_RESERVE: u64 = RARE_RING_BYTES as u64 / 4;

/// Bytes of the rare ring that records of cgroups, init processes and escapes leave free for those of
/// OOM kills. A scan finds what such a record would have reported.
pub const OOM_RESERVE: u64 = RARE_RING_RESERVE / 2;

//! Names and bounds: the kinds of records, the namespaces, the hierarchies, the limits of maps and rings.

/// Declares an enum whose discriminants count from 0, with its names in the same order.
macro_rules! named {
    ($(#[$meta:meta])* $type:ident, $count:ident { $($(#[$vmeta:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$meta])*
        #[allow(missing_docs, reason = "a variant without a doc is explained by its name")]
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
        /// An exec. The program sends it while a watcher wants it. It always sends the exec by which a process in
        /// another mount namespace than the host's becomes the init process of its cgroup.
        Exec = "exec",
        /// The end of a process. The program sends it while a watcher wants it, and always for an init process.
        Exit = "exit",
        /// The birth of a process. The program sends it while a watcher wants it.
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

    /// The namespace that unshare(2) and setns(2) change at once. For the pid and time types it is that of the caller's
    /// future children.
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
    /// The calls that make or enter namespaces, in the order of their [`RecordKind`]s.
    Call, CALLS {
        Clone = "clone",
        Unshare = "unshare",
        Setns = "setns",
    }
}

named! {
    /// The hierarchies in which the programs capture a task's cgroup: those of three v1 controllers, and v2. They count
    /// a task under the first non-root cgroup in this order. A controller that is on v2 has no hierarchy of its own.
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
        /// The host's memory, not that of a cpuset, memory policy or memory cgroup.
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
    /// How a process came into a namespace of the host.
    How, HOWS {
        Setns = "setns",
        Unshare = "unshare",
        /// No probe saw how, or the record of it found no room. The process was found in the namespace at an exec, or
        /// at a check of all processes.
        Unseen = "unseen",
    }
}

/// The bytes that a record has for a cgroup's path and its NUL. The program cuts a longer path.
pub const PATH_MAX: usize = 1024;

/// The most cgroups that the programs count each by itself: the entries of the map of counts. Further cgroups are
/// counted together under [`crate::OVERFLOW`].
pub const COUNTED_CGROUPS: u32 = 16_384;

/// The most cgroups below one container's whose processes the programs check for escapes.
pub const WATCHED_BELOW: u64 = 1024;

/// The bounds on the records of namespace calls, or of escapes, that one cgroup may send to the rare ring. Records
/// beyond the bounds are counted as suppressed.
#[derive(Clone, Copy, Debug)]
pub struct RareBounds {
    /// Records that one cgroup may send in a second.
    pub per_second: u64,
    /// Records that one cgroup may send in a batch, which ends when the reader has read up to where it began. At most
    /// twice as many of the cgroup's records are unread at a time.
    pub unread: u64,
    /// The bytes of the ring that these records leave free.
    pub reserve: u64,
}

/// The bounds on namespace calls. The unread records of one cgroup take at most about half of the ring.
pub const CALL_BOUNDS: RareBounds = RareBounds {
    per_second: 10_000,
    unread: 1500,
    reserve: RARE_RING_RESERVE,
};

/// The bounds on escapes. They are apart from those on namespace calls: a container cannot hide an escape behind many
/// calls.
pub const ESCAPE_BOUNDS: RareBounds = RareBounds {
    per_second: 100,
    unread: 200,
    reserve: OOM_RESERVE,
};

/// The bytes that a record has for an exec's arguments with their NULs. The program cuts longer ones.
pub const ARGV_MAX: usize = 1024;

/// The bytes of all rings of frequent records together: forks, execs and exits that a watcher wants.
pub const FREQUENT_BYTES: u32 = 1 << 25;

/// The most rings of frequent records: a power of two.
pub const FREQUENT_RINGS: u32 = 8;

/// The number of unread bytes in one ring of frequent records at which a program wakes the reader.
pub const FREQUENT_WAKE_BYTES: u64 = 256 << 10;

/// The bit of the map `WANTED` that excludes the cgroups in the map `EXCLUDED`. The other bits are
/// `1 << RecordKind`.
pub const WANTED_FILTERED: u64 = 1 << 63;

/// The bytes of the ring of rare records.
pub const RARE_RING_BYTES: u32 = 1 << 21;

/// The bytes of the rare ring that records of namespace calls leave free. They are for OOM kills, cgroups, init processes
/// and escapes, so that no container can push these out.
pub const RARE_RING_RESERVE: u64 = RARE_RING_BYTES as u64 / 4;

/// The bytes of the rare ring that records of cgroups, init processes and escapes leave free for those of OOM kills.
/// When such a record is lost, the agent's next scan finds what it would have reported.
pub const OOM_RESERVE: u64 = RARE_RING_RESERVE / 2;

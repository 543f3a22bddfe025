//! The kernel fields that the programs read. Rust's BPF target has no CO-RE relocations, so the agent finds the offset
//! of each field in the running kernel's BTF and passes the offsets to the programs as constants.

/// A value that the agent looks up in the kernel's BTF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The offset in bytes of `member` or `member.member` in a struct.
    Member(&'static str, &'static str),
    /// Likewise, of a member that older kernels have by the second name.
    Renamed(&'static str, &'static str, &'static str),
    /// The offset in bits of a member of one bit.
    Bit(&'static str, &'static str),
    /// The size of a struct in bytes.
    Size(&'static str),
    /// The BTF id of a struct.
    Id(&'static str),
    /// The value of an enumerator of an enum.
    Enumerator(&'static str, &'static str),
}

/// The value of an optional field that the running kernel does not have, because it is older or built without it.
pub const ABSENT: u32 = u32::MAX;

/// The number that marks a call of `bpf_rdonly_cast` in the object; no helper has this number. The agent replaces each
/// such call before it loads a program.
pub const CAST: i32 = 0x0ca5_7000;

macro_rules! fields {
    ($($field:ident: $need:ident $lookup:ident($($arg:literal),+),)*) => {
        /// One value of [`ProgramConfig::fields`].
        #[repr(usize)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the table names the field of the kernel")]
        pub enum Field { $($field,)* }

        /// How the agent finds each [`Field`], and whether a kernel must have it.
        pub const FIELDS: &[(Field, Need, Lookup)] =
            &[$((Field::$field, Need::$need, Lookup::$lookup($($arg),+)),)*];

        /// How many fields there are.
        pub const FIELD_COUNT: usize = FIELDS.len();
    };
}

/// Whether a kernel must have a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing can be captured without it.
    Required,
    /// [`ABSENT`] where the kernel lacks it.
    Optional,
}

fields! {
    TaskId: Required Id("task_struct"),
    CgroupId: Required Id("cgroup"),
    TaskPid: Required Member("task_struct", "pid"),
    TaskTgid: Required Member("task_struct", "tgid"),
    TaskRealParent: Required Member("task_struct", "real_parent"),
    TaskGroupLeader: Required Member("task_struct", "group_leader"),
    TaskStartBoottime: Required Member("task_struct", "start_boottime"),
    TaskComm: Required Member("task_struct", "comm"),
    TaskNsproxy: Required Member("task_struct", "nsproxy"),
    TaskRealCred: Required Member("task_struct", "real_cred"),
    TaskThreadPid: Required Member("task_struct", "thread_pid"),
    TaskCgroups: Required Member("task_struct", "cgroups"),
    TaskMm: Required Member("task_struct", "mm"),
    TaskSignal: Required Member("task_struct", "signal"),
    TaskState: Required Renamed("task_struct", "__state", "state"),
    TaskInIowait: Optional Bit("task_struct", "in_iowait"),
    TaskExitCode: Required Member("task_struct", "exit_code"),
    SignalOomMm: Optional Member("signal_struct", "oom_mm"),
    SignalFlags: Required Member("signal_struct", "flags"),
    SignalGroupExitCode: Required Member("signal_struct", "group_exit_code"),
    SignalLive: Required Member("signal_struct", "live.counter"),
    NsproxyUts: Required Member("nsproxy", "uts_ns"),
    NsproxyIpc: Required Member("nsproxy", "ipc_ns"),
    NsproxyMnt: Required Member("nsproxy", "mnt_ns"),
    NsproxyPidForChildren: Required Member("nsproxy", "pid_ns_for_children"),
    NsproxyNet: Required Member("nsproxy", "net_ns"),
    NsproxyCgroup: Required Member("nsproxy", "cgroup_ns"),
    NsproxyTime: Optional Member("nsproxy", "time_ns"),
    NsproxyTimeForChildren: Optional Member("nsproxy", "time_ns_for_children"),
    UtsInum: Required Member("uts_namespace", "ns.inum"),
    IpcInum: Required Member("ipc_namespace", "ns.inum"),
    MntInum: Required Member("mnt_namespace", "ns.inum"),
    PidInum: Required Member("pid_namespace", "ns.inum"),
    NetInum: Required Member("net", "ns.inum"),
    CgroupInum: Required Member("cgroup_namespace", "ns.inum"),
    UserInum: Required Member("user_namespace", "ns.inum"),
    TimeInum: Optional Member("time_namespace", "ns.inum"),
    CredUid: Required Member("cred", "uid"),
    CredUserNs: Required Member("cred", "user_ns"),
    PidLevel: Required Member("pid", "level"),
    PidNumbers: Required Member("pid", "numbers"),
    UpidSize: Required Size("upid"),
    UpidNr: Required Member("upid", "nr"),
    UpidNs: Required Member("upid", "ns"),
    CssSetDflCgrp: Required Member("css_set", "dfl_cgrp"),
    CssSetSubsys: Required Member("css_set", "subsys"),
    CssCgroup: Required Member("cgroup_subsys_state", "cgroup"),
    CssParent: Required Member("cgroup_subsys_state", "parent"),
    CgroupSelf: Required Member("cgroup", "self"),
    CgroupKn: Required Member("cgroup", "kn"),
    CgroupRoot: Required Member("cgroup", "root"),
    CgroupLevel: Required Member("cgroup", "level"),
    KernfsId: Required Member("kernfs_node", "id"),
    RootHierarchyId: Required Member("cgroup_root", "hierarchy_id"),
    SubsysMemory: Optional Enumerator("cgroup_subsys_id", "memory_cgrp_id"),
    SubsysPids: Optional Enumerator("cgroup_subsys_id", "pids_cgrp_id"),
    SubsysCpu: Optional Enumerator("cgroup_subsys_id", "cpu_cgrp_id"),
    MemcgMemory: Optional Member("mem_cgroup", "memory"),
    MemcgSwap: Optional Member("mem_cgroup", "swap"),
    MemcgEventsLocal: Optional Member("mem_cgroup", "memory_events_local"),
    MemcgOomLock: Optional Member("mem_cgroup", "oom_lock"),
    MemcgOomKillDisable: Optional Member("mem_cgroup", "oom_kill_disable"),
    CounterUsage: Optional Member("page_counter", "usage"),
    CounterMax: Optional Member("page_counter", "max"),
    EventOom: Optional Enumerator("memcg_memory_event", "MEMCG_OOM"),
    EventOomKill: Optional Enumerator("memcg_memory_event", "MEMCG_OOM_KILL"),
    MmRssStat: Required Member("mm_struct", "rss_stat"),
    MmArgStart: Required Member("mm_struct", "arg_start"),
    MmArgEnd: Required Member("mm_struct", "arg_end"),
    MmOwner: Optional Member("mm_struct", "owner"),
    PercpuCounterSize: Required Size("percpu_counter"),
    PercpuCounterCount: Required Member("percpu_counter", "count"),
    OomMemcg: Optional Member("oom_control", "memcg"),
    OomConstraint: Optional Member("oom_control", "constraint"),
    RegsSi: Optional Member("pt_regs", "si"),
    RegsCx: Optional Member("pt_regs", "cx"),
}

/// The constants that the agent passes to the programs when it loads them.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramConfig {
    /// The programs run only while the `ACTIVE` map holds this number.
    pub generation: u64,
    /// The binary logarithm of the page size in bytes.
    pub page_shift: u64,
    /// The number of rings of frequent records, which is a power of two, less 1.
    pub rings_mask: u64,
    /// The value of each [`Field`], by its discriminant.
    pub fields: [u32; FIELD_COUNT],
    /// 1 if `mm_struct.rss_stat` is an array of `percpu_counter` (from Linux 6.2 on), 0 if it is one of
    /// `atomic_long_t`.
    pub rss_percpu: u32,
    /// 1 if the tracepoint `sched_process_exit` has the argument `group_dead`, else 0.
    pub exit_group_dead: u32,
}

const _: () = assert!(
    size_of::<ProgramConfig>() == 24 + (FIELD_COUNT + 2) * 4 && FIELD_COUNT.is_multiple_of(2)
);

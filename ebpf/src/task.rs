//! The ids, cgroups and namespaces of tasks. No other module reads tasks from kernel memory.

use agent_ebpf::{
    ABSENT, CAST, CgroupKey, Field, HIERARCHIES, Hierarchy, Namespace, NamespaceInodes, ProcessKey,
    Task, TaskCgroups,
};
use aya_ebpf::helpers::{bpf_get_current_task, generated::bpf_probe_read_kernel};

use crate::config::field;

/// A pointer into kernel memory, and how it may be read.
///
/// If it is `TYPED`, the verifier knows the type that it points to: it is an argument of a BTF tracepoint, or was
/// loaded through one. The verifier allows plain loads through it, which are several times cheaper than the helper.
/// Any other pointer is read through by the helper. Either way, a bad address reads as 0.
#[derive(Clone, Copy)]
pub struct Pointer<const TYPED: bool>(*const u8);

/// A kernel pointer of which the verifier knows nothing.
pub type Probed = Pointer<false>;

/// A kernel pointer of which the verifier knows the type.
pub type Typed = Pointer<true>;

impl Typed {
    /// An argument of a BTF tracepoint, which points to a struct whose BTF id is `of`.
    ///
    /// From Linux 6.2 on, the verifier trusts such an argument. For each pointer that is loaded through one, it
    /// searches all of the kernel's types up to four times (`btf_nested_type_is_trusted`, `kernel/bpf/btf.c`). Each
    /// search takes half a millisecond; together they are most of the time that loading takes. The verifier does not
    /// search for pointers that are loaded through a cast one.
    #[inline(always)]
    pub fn argument(address: *const u8, of: Field) -> Self {
        // SAFETY: before the agent loads the program, it replaces the call of `CAST` by one of `bpf_rdonly_cast`
        // (`kernel/bpf/helpers.c`), or by a move of the first argument's register into the result's.
        let cast: unsafe extern "C" fn(*const u8, u32) -> *const u8 =
            unsafe { core::mem::transmute(CAST as usize) };
        // SAFETY: the kernel's function and the move both return `address`, and do nothing else.
        Self(unsafe { cast(address, field(of)) })
    }
}

impl<const TYPED: bool> Pointer<TYPED> {
    pub const NULL: Self = Self(core::ptr::null());

    #[inline(always)]
    pub fn new(address: *const u8) -> Self {
        Self(address)
    }

    #[inline(always)]
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// Whether both are the same address.
    #[inline(always)]
    pub fn is<const OTHER: bool>(self, other: Pointer<OTHER>) -> bool {
        self.0 == other.0
    }

    #[inline(always)]
    pub fn probed(self) -> Probed {
        Pointer(self.0)
    }

    /// The `T` at `offset` bytes.
    #[inline(always)]
    pub fn load_at<T: Copy + Default>(self, offset: usize) -> T {
        let address = self.0.wrapping_add(offset).cast::<T>();
        if TYPED {
            // SAFETY: the verifier accepts a plain load only through a pointer whose type it knows, and the kernel
            // makes a load that faults read as 0.
            unsafe { core::ptr::read_volatile(address) }
        } else {
            read(address)
        }
    }

    #[inline(always)]
    pub fn load<T: Copy + Default>(self, at: Field) -> T {
        self.load_at(field(at) as usize)
    }

    /// The pointer at `offset` bytes.
    #[inline(always)]
    pub fn follow_at(self, offset: usize) -> Self {
        let address = self.0.wrapping_add(offset).cast::<*const u8>();
        if TYPED {
            // SAFETY: the verifier accepts a plain load only through a pointer whose type it knows, and the kernel
            // makes a load that faults read as 0.
            Self(unsafe { core::ptr::read_volatile(address) })
        } else {
            Self(read::<usize>(address.cast()) as *const u8)
        }
    }

    #[inline(always)]
    pub fn follow(self, at: Field) -> Self {
        self.follow_at(field(at) as usize)
    }

    /// The address of the struct that is embedded at `at`.
    #[inline(always)]
    pub fn embedded(self, at: Field) -> Probed {
        Pointer(self.0.wrapping_add(field(at) as usize))
    }
}

/// The `T` at a kernel address, read by the helper; all zeros where the helper fails.
///
/// The helper writes the zeros itself, so its result is not checked: each check would be a branch, which doubles the
/// number of paths that older verifiers follow through a program.
#[inline(always)]
fn read<T: Copy + Default>(address: *const T) -> T {
    let mut value = T::default();
    // SAFETY: the helper checks the address, and writes the whole of `value` even where it fails
    // (`bpf_probe_read_kernel_common`, `kernel/trace/bpf_trace.c`). `T` is a number, an address or an array of numbers,
    // for which any bytes are valid.
    unsafe {
        bpf_probe_read_kernel(
            (&raw mut value).cast(),
            size_of::<T>() as u32,
            address.cast(),
        )
    };
    value
}

/// The running task.
#[inline(always)]
pub fn current() -> Probed {
    // SAFETY: the helper has no preconditions.
    Pointer::new(unsafe { bpf_get_current_task() } as *const u8)
}

/// Fills `out` with the present state of `task`.
#[inline(always)]
pub fn capture<const TYPED: bool>(task: Pointer<TYPED>, out: *mut Task) {
    let leader = task.follow(Field::TaskGroupLeader);
    let parent = task.follow(Field::TaskRealParent);
    let cred = task.follow(Field::TaskRealCred);
    // SAFETY: `out` points to a `Task` in memory reserved in the ring, or on the stack.
    let out = unsafe { &mut *out };
    out.start_time = leader.load(Field::TaskStartBoottime);
    let (tgid, tid): (u32, u32) = (task.load(Field::TaskTgid), task.load(Field::TaskPid));
    (out.pid, out.tid) = (tgid, tid);
    out.ppid = parent.load(Field::TaskTgid);
    out.uid = cred.load(Field::CredUid);
    comm(task, out);
    capture_cgroups(task, &mut out.cgroups);
    capture_namespaces(task, &mut out.namespaces);

    let pid = task.follow(Field::TaskThreadPid);
    let level: u32 = pid.load(Field::PidLevel);
    out.ns_pid = number(pid, level);
    out.outer_pid_namespace = if level == 0 { 0 } else { pid_namespace(pid, 1) };
    // `pid` is the thread's; the process has the number of its leader.
    if tgid != tid {
        let leader_pid = leader.follow(Field::TaskThreadPid);
        out.ns_pid = number(leader_pid, level);
    }
}

/// The number of `pid` in the pid namespace at `level`, from 0 for the host's to the level of its own.
#[inline(always)]
fn number<const TYPED: bool>(pid: Pointer<TYPED>, level: u32) -> u32 {
    if TYPED && level == 0 {
        return pid.load_at(outermost(Field::UpidNr));
    }
    numbers(pid, level).load(Field::UpidNr)
}

/// The inode of the pid namespace of `pid` at `level`.
#[inline(always)]
fn pid_namespace<const TYPED: bool>(pid: Pointer<TYPED>, level: u32) -> u32 {
    if TYPED && level == 0 {
        return pid.follow_at(outermost(Field::UpidNs)).load(Field::PidInum);
    }
    numbers(pid, level)
        .follow(Field::UpidNs)
        .load(Field::PidInum)
}

/// The offset of a field of `pid->numbers[0]` in `struct pid`.
///
/// Most processes of a host have no other number. Since the offset is constant, the number can be loaded; the helper
/// takes ten times as long.
#[inline(always)]
fn outermost(of_upid: Field) -> usize {
    field(Field::PidNumbers) as usize + field(of_upid) as usize
}

/// The address of `pid->numbers[level]`, to be read by the helper: older verifiers refuse a typed load at an offset
/// that is not constant.
///
/// They also refuse an offset without a bound, and cannot tell the bound of a product. The masks show it to them.
#[inline(always)]
fn numbers<const TYPED: bool>(pid: Pointer<TYPED>, level: u32) -> Probed {
    let numbers = pid.embedded(Field::PidNumbers);
    let upid = (level & 63) as usize * field(Field::UpidSize) as usize;
    Pointer(numbers.0.wrapping_add(upid & 0xfff))
}

/// 1 if `task` waits for I/O, else 0. It is 0 where the kernel's type information does not have the bit.
#[inline(always)]
pub fn in_iowait<const TYPED: bool>(task: Pointer<TYPED>) -> u32 {
    let bit = field(Field::TaskInIowait);
    if bit == ABSENT {
        return 0;
    }
    u32::from(task.load_at::<u8>((bit / 8) as usize) >> (bit % 8) & 1)
}

/// The number of `task` in its own pid namespace.
#[inline(always)]
pub fn own_number<const TYPED: bool>(task: Pointer<TYPED>) -> u32 {
    let pid = task.follow(Field::TaskThreadPid);
    number(pid, pid.load(Field::PidLevel))
}

/// Whether a new process has the cgroups, namespaces and name of its caller. It does not compare user namespaces: the
/// new process may have one that was made with it.
///
/// A new process at the depth of its caller is in the caller's pid namespace: clone(2) makes a deeper one or none. A
/// kernel thread has no memory (`mm`), and has a name of its own: it is never beside its caller.
#[inline(always)]
pub fn is_beside<const ONE: bool, const OTHER: bool>(
    child: Pointer<ONE>,
    caller: Pointer<OTHER>,
) -> bool {
    let nsproxy = child.follow(Field::TaskNsproxy);
    let level: u32 = child.follow(Field::TaskThreadPid).load(Field::PidLevel);
    share_cgroups(child, caller)
        && !child.follow(Field::TaskMm).is_null()
        && nsproxy.is(caller.follow(Field::TaskNsproxy))
        && level == caller.follow(Field::TaskThreadPid).load(Field::PidLevel)
}

/// Writes the name of `task` into `out`. It copies the 16 bytes as two numbers: to load them byte by byte, or to read
/// them by the helper, takes several times as long.
#[inline(always)]
pub fn comm<const TYPED: bool>(task: Pointer<TYPED>, out: &mut Task) {
    const HALF: usize = size_of::<u64>();
    const _: () = assert!(core::mem::offset_of!(Task, comm).is_multiple_of(HALF));
    let name: &mut [u8; 2 * HALF] = &mut out.comm;
    let at = field(Field::TaskComm) as usize;
    let halves = if TYPED {
        [task.load_at(at), task.load_at(at + HALF)]
    } else {
        task.load_at::<[u64; 2]>(at)
    };
    // SAFETY: `name` is as long as `halves`, and aligned to 8 bytes: a `Task` is, and so is the name's offset in it.
    unsafe { (&raw mut *name).cast::<[u64; 2]>().write(halves) };
}

/// Fills `out` with the inodes of the ten namespaces of `task`; 0 where the kernel has no such namespace, or the task
/// has none any more.
#[inline(always)]
pub fn capture_namespaces<const TYPED: bool>(task: Pointer<TYPED>, out: &mut NamespaceInodes) {
    let nsproxy = task.follow(Field::TaskNsproxy);
    let cred = task.follow(Field::TaskRealCred);
    let pid = task.follow(Field::TaskThreadPid);
    let level: u32 = pid.load(Field::PidLevel);
    let inum = |at: Field, inum: Field| -> u32 {
        if field(at) == ABSENT {
            return 0;
        }
        // An exiting task has no nsproxy. A field behind a null pointer reads as 0.
        nsproxy.follow(at).load(inum)
    };
    out[Namespace::Cgroup as usize] = inum(Field::NsproxyCgroup, Field::CgroupInum);
    out[Namespace::Ipc as usize] = inum(Field::NsproxyIpc, Field::IpcInum);
    out[Namespace::Mnt as usize] = inum(Field::NsproxyMnt, Field::MntInum);
    out[Namespace::Net as usize] = inum(Field::NsproxyNet, Field::NetInum);
    out[Namespace::Pid as usize] = pid_namespace(pid, level);
    out[Namespace::PidForChildren as usize] = inum(Field::NsproxyPidForChildren, Field::PidInum);
    out[Namespace::Time as usize] = inum(Field::NsproxyTime, Field::TimeInum);
    out[Namespace::TimeForChildren as usize] = inum(Field::NsproxyTimeForChildren, Field::TimeInum);
    out[Namespace::User as usize] = cred.follow(Field::CredUserNs).load(Field::UserInum);
    out[Namespace::Uts as usize] = inum(Field::NsproxyUts, Field::UtsInum);
}

/// The key of the process of `task`.
#[inline(always)]
pub fn process<const TYPED: bool>(task: Pointer<TYPED>) -> ProcessKey {
    let leader = task.follow(Field::TaskGroupLeader);
    ProcessKey {
        start_time: leader.load(Field::TaskStartBoottime),
        pid: task.load(Field::TaskTgid),
        zero: 0,
    }
}

/// The inode of the mount namespace of `task`.
#[inline(always)]
pub fn mnt_namespace<const TYPED: bool>(task: Pointer<TYPED>) -> u32 {
    let nsproxy = task.follow(Field::TaskNsproxy);
    nsproxy.follow(Field::NsproxyMnt).load(Field::MntInum)
}

/// Fills `out` with the cgroups of `task` in each hierarchy.
#[inline(always)]
pub fn capture_cgroups<const TYPED: bool>(task: Pointer<TYPED>, out: &mut TaskCgroups) {
    let css_set = task.follow(Field::TaskCgroups);
    let mut i = 0;
    while i < HIERARCHIES {
        let hierarchy = Hierarchy::ALL[i];
        let place = cgroup(css_set, hierarchy)
            .and_then(|cgroup| Some((key_in(cgroup, hierarchy)?, cgroup.load(Field::CgroupLevel))));
        let (key, level) = place.unwrap_or_default();
        out.ids[i] = key.id;
        out.hierarchies[i] = key.hierarchy;
        out.levels[i] = level;
        i += 1;
    }
}

/// The cgroup that `task` is counted under: the first non-root one in the order of
/// [`Hierarchy`], else the root of v2.
#[inline(always)]
pub fn counted_cgroup<const TYPED: bool>(task: Pointer<TYPED>) -> CgroupKey {
    let css_set = task.follow(Field::TaskCgroups);
    let mut i = 0;
    while i < HIERARCHIES {
        let hierarchy = Hierarchy::ALL[i];
        // The level is checked first: most cgroups that a task is not counted under are roots.
        if let Some(cgroup) = cgroup(css_set, hierarchy)
            && cgroup.load::<u32>(Field::CgroupLevel) > 0
            && let Some(key) = key_in(cgroup, hierarchy)
        {
            return key;
        }
        i += 1;
    }
    CgroupKey {
        id: 1,
        hierarchy: 0,
        zero: 0,
    }
}

/// The cgroup of a `css_set` in one hierarchy; that of v2 where the hierarchy's controller is on v2. `None` where the
/// kernel lacks the controller.
#[inline(always)]
fn cgroup<const TYPED: bool>(
    css_set: Pointer<TYPED>,
    hierarchy: Hierarchy,
) -> Option<Pointer<TYPED>> {
    let subsys = match hierarchy {
        Hierarchy::Memory => field(Field::SubsysMemory),
        Hierarchy::Pids => field(Field::SubsysPids),
        Hierarchy::Cpu => field(Field::SubsysCpu),
        Hierarchy::V2 => return Some(css_set.follow(Field::CssSetDflCgrp)),
    };
    if subsys == ABSENT {
        return None;
    }
    let css = css_set.follow_at(field(Field::CssSetSubsys) as usize + subsys as usize * 8);
    Some(css.follow(Field::CssCgroup))
}

/// The key of the cgroup that [`cgroup`] returned for `hierarchy`; `None` where it returned that of v2 for a v1
/// controller.
#[inline(always)]
fn key_in<const TYPED: bool>(cgroup: Pointer<TYPED>, hierarchy: Hierarchy) -> Option<CgroupKey> {
    let key = key(cgroup);
    (key.hierarchy != 0 || matches!(hierarchy, Hierarchy::V2)).then_some(key)
}

/// The key of the parent of a `struct cgroup`.
#[inline(always)]
pub fn parent_key(cgroup: Typed) -> CgroupKey {
    let css = field(Field::CgroupSelf) as usize + field(Field::CssParent) as usize;
    key(cgroup.follow_at(css).follow(Field::CssCgroup))
}

/// Whether two tasks share a `css_set`, and so are in the same cgroup of every hierarchy. Most new processes share that
/// of their caller, and this comparison is cheaper than one of the cgroups.
#[inline(always)]
pub fn share_cgroups<const ONE: bool, const OTHER: bool>(
    one: Pointer<ONE>,
    other: Pointer<OTHER>,
) -> bool {
    one.follow(Field::TaskCgroups)
        .is(other.follow(Field::TaskCgroups))
}

/// The key of a `struct cgroup`.
#[inline(always)]
pub fn key<const TYPED: bool>(cgroup: Pointer<TYPED>) -> CgroupKey {
    CgroupKey {
        id: cgroup.follow(Field::CgroupKn).load(Field::KernfsId),
        hierarchy: cgroup
            .follow(Field::CgroupRoot)
            .load(Field::RootHierarchyId),
        zero: 0,
    }
}

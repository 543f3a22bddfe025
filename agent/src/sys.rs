//! The few raw system calls no crate offers, and the bytes of the contract with the kernel: the
//! only `unsafe` in the agent.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use agent_ebpf as contract;

/// A struct of the contract with the BPF programs: `repr(C)`, no padding, any bytes are valid.
///
/// # Safety
/// All of that must hold of the type. `agent_ebpf` checks the first two when it is compiled.
pub unsafe trait Contract: Copy + 'static {}

/// A value of a BPF map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Plain<T>(pub T);

// SAFETY: `Contract` asks for what `Pod` does.
unsafe impl<T: Contract> aya::Pod for Plain<T> {}

macro_rules! contract {
    ($($type:ident),*) => {
        // SAFETY: a `repr(C)` struct of integers whose size `agent_ebpf` asserts to be that of its
        // fields.
        $(unsafe impl Contract for contract::$type {})*
    };
}

contract!(
    CgroupChange,
    CgroupKey,
    CgroupMkdir,
    Clone,
    Config,
    Baseline,
    Counts,
    Escape,
    Exec,
    Exit,
    Fork,
    Header,
    NamespaceCall,
    ProcessKey,
    Oom,
    Outcomes,
    Task
);

/// The struct that `bytes` are; `None` where the size is another.
pub fn from_bytes<T: Contract>(bytes: &[u8]) -> Option<T> {
    if bytes.len() != size_of::<T>() {
        return None;
    }
    // SAFETY: the length is right, any bytes are a valid `T`, and the read needs no alignment.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// The bytes that `value` is.
pub fn as_bytes<T: Contract>(value: &T) -> &[u8] {
    // SAFETY: `T` has no padding, so that all of its bytes are initialized.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// Attaches a BPF program to the tracepoint with this id (tracefs, `events/*/*/id`), on all CPUs,
/// until the descriptor that comes back is closed.
///
/// # Errors
/// perf_event_open(2)'s and those of its ioctls; EACCES without CAP_PERFMON.
pub fn attach_tracepoint(id: u64, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    /// `struct perf_event_attr` as of `PERF_ATTR_SIZE_VER0` (`include/uapi/linux/perf_event.h`).
    #[repr(C)]
    #[derive(Default)]
    struct Attributes {
        kind: u32,
        size: u32,
        config: u64,
        sample_period: u64,
        sample_type: u64,
        read_format: u64,
        flags: u64,
        wakeup_events: u32,
        bp_type: u32,
        bp_address: u64,
    }
    const PERF_TYPE_TRACEPOINT: u32 = 2;
    const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;
    const PERF_EVENT_IOC_ENABLE: libc::Ioctl = 0x2400;
    const PERF_EVENT_IOC_SET_BPF: libc::Ioctl = 0x4004_2408;

    let attributes = Attributes {
        kind: PERF_TYPE_TRACEPOINT,
        size: size_of::<Attributes>() as u32,
        config: id,
        sample_period: 1,
        wakeup_events: 1,
        ..Attributes::default()
    };
    // A program on a tracepoint runs on every CPU, whichever the event was opened on.
    let (any_process, cpu, no_group) = (-1, 0, -1);
    // SAFETY: `attributes` is a valid perf_event_attr of the size that it says, and outlives the
    // call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            any_process,
            cpu,
            no_group,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call returned a new descriptor that nothing else owns.
    let event = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    for (request, argument) in [
        (PERF_EVENT_IOC_SET_BPF, program.as_raw_fd()),
        (PERF_EVENT_IOC_ENABLE, 0),
    ] {
        // SAFETY: both requests take an integer, and the descriptor is open.
        if unsafe { libc::ioctl(event.as_raw_fd(), request, argument) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(event)
}

/// The name of an errno (errno(3)), such as `EPERM`; `None` for one that Linux does not have.
pub fn errno_name(errno: i32) -> Option<String> {
    let errno = nix::errno::Errno::from_raw(errno);
    (errno != nix::errno::Errno::UnknownErrno).then(|| format!("{errno:?}"))
}

//! The few raw system calls no crate offers, and the bytes of the contract with the kernel: the
//! only `unsafe` in the agent.

pub mod bpf;
#[cfg(all(target_arch = "x86_64", any(target_env = "musl", test)))]
mod copy;
pub mod descriptor;
pub mod entry;
pub mod forget;
pub mod fork;
pub mod interface;
pub mod last;
pub mod launch;
pub mod ring;
pub mod seccomp;
pub mod start;
pub mod start_area;
pub mod threads;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use agent_ebpf as contract;
use tokio::io::unix::AsyncFd;

/// A descriptor that tokio waits for. Needs a tokio runtime.
///
/// # Errors
/// It is none that can be waited for.
pub fn awaited(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: what is owned stays open, and the same, until it is dropped.
    unsafe { AsyncFd::register(fd) }.map_err(io::Error::from)
}

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
    CgroupChangeRecord,
    CgroupKey,
    CgroupMkdirRecord,
    CloneRecord,
    ProgramConfig,
    Baseline,
    Counts,
    EscapeRecord,
    ExecRecord,
    ExitRecord,
    ForkRecord,
    ForkBesideRecord,
    Header,
    NamespaceCallRecord,
    ProcessKey,
    OomRecord,
    RecordOutcomes,
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

/// The user namespace that owns a namespace (ioctl_ns(2)).
///
/// # Errors
/// EPERM where that is none of this process's nor below.
pub fn user_namespace_of(namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    /// `include/uapi/linux/nsfs.h`
    const NS_GET_USERNS: libc::c_ulong = 0xb701;
    // SAFETY: the call takes no argument but the descriptor, which is open.
    let fd = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS as _) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for this process; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Gives free memory of the heap back to the kernel, where the C library keeps it (glibc does, for
/// each thread).
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time, by any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// One heap for all threads, where the C library would make one for each (glibc does): free memory in one is of no use to
/// the others. Before there are threads.
pub fn share_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it changes a number that the C library reads when a thread first allocates.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// The name of an errno (errno(3)), such as `EPERM`; `None` for one that Linux does not have.
pub fn errno_name(errno: i32) -> Option<String> {
    let errno = nix::errno::Errno::from_raw(errno);
    (errno != nix::errno::Errno::UnknownErrno).then(|| format!("{errno:?}"))
}

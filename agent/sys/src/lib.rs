//! The system calls that no crate offers, and the conversion of the contract's structs to bytes and back. No other
//! crate of the agent has `unsafe` code.

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

/// Registers a descriptor with tokio, which can then wait for it. The caller must be in a tokio runtime.
///
/// # Errors
/// epoll(7) cannot wait for a descriptor of this kind.
pub fn awaited(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` keeps its descriptor open, and does not change its number, until it is dropped.
    unsafe { AsyncFd::register(fd) }.map_err(io::Error::from)
}

/// A struct of the contract with the BPF programs.
///
/// # Safety
/// The type must be `repr(C)`, must have no padding, and any bytes must be a valid value. `agent_ebpf` checks the sizes
/// when it is compiled.
pub unsafe trait Contract: Copy + 'static {}

/// A key or value of a BPF map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Plain<T>(pub T);

// SAFETY: `Contract` requires that any bytes are a valid value, as `Pod` does, and `Plain` is transparent.
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
    Task,
    ThreadState
);

/// Reads a struct from its bytes; `None` if `bytes` do not have the size of `T`.
pub fn from_bytes<T: Contract>(bytes: &[u8]) -> Option<T> {
    if bytes.len() != size_of::<T>() {
        return None;
    }
    // SAFETY: the length is right, any bytes are a valid `T`, and the read needs no alignment.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// The bytes of `value`.
pub fn as_bytes<T: Contract>(value: &T) -> &[u8] {
    // SAFETY: `T` has no padding, so that all of its bytes are initialized.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// Opens the user namespace that owns a namespace (ioctl_ns(2)).
///
/// # Errors
/// EPERM where the owner is neither this process's user namespace nor below it.
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

/// Gives free memory of the heap back to the kernel, where the C library keeps it. glibc does, for each thread.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) may be called at any time, by any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Makes all threads share one heap, where the C library would make one for each thread (glibc does): a thread cannot
/// use free memory of another thread's heap. To be called before there are other threads.
pub fn share_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) changes only a number that the C library reads when a thread first allocates.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// The name of an errno (errno(3)), such as `EPERM`; `None` for one that Linux does not have.
pub fn errno_name(errno: i32) -> Option<String> {
    let errno = nix::errno::Errno::from_raw(errno);
    (errno != nix::errno::Errno::UnknownErrno).then(|| format!("{errno:?}"))
}

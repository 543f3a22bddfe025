//! Runs this program again from a mount where no container can write to its file.
//!
//! The shipped file does this before the C library and Rust's runtime start, so that a launch does not wait for their
//! start twice.

use std::convert::Infallible;
#[cfg(all(target_arch = "x86_64", target_env = "musl"))]
use std::ffi::CStr;
use std::ffi::c_char;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags, fstatvfs};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

/// This program's file.
pub const OWN_EXECUTABLE: &str = "/proc/self/exe";

/// Opens this program's file. It does not use the C library, which may not have started.
///
/// # Errors
/// There is no `/proc`.
pub fn own_executable() -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(OWN_EXECUTABLE, flags, Mode::empty())
}

/// A null-terminated array of strings, as execve(2) takes it.
type Strings = *const *const c_char;

/// Whether a file is on a mount like the one that [`again`] runs this program from: read-only and with
/// `MOUNT_ATTR_NOSYMFOLLOW`, flags that no other mount is expected to have together.
///
/// # Errors
/// fstatfs(2)'s.
pub fn is_out_of_reach(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    /// `include/linux/statfs.h`
    const ST_NOSYMFOLLOW: u64 = 0x2000;
    let flags = fstatvfs(file)?.f_flag;
    Ok(flags.contains(StatVfsMountFlags::RDONLY) && flags.bits() & ST_NOSYMFOLLOW != 0)
}

/// Executes this program again, from a read-only mount that is in no mount namespace.
///
/// # Safety
/// `arguments` and `environment` must be null-terminated arrays of strings.
///
/// # Errors
/// The kernel refuses a step. The function returns only then.
pub unsafe fn again(arguments: Strings, environment: Strings) -> Result<Infallible, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let file = open_tree(CWD, OWN_EXECUTABLE, flags)?;
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSYMFOLLOW,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    let mount = file.as_fd().as_raw_fd() as usize;
    let empty = c"".as_ptr() as usize;
    let flags = libc::AT_EMPTY_PATH as usize;
    // SAFETY: the attributes outlive the call, which gets their size.
    unsafe {
        call(
            libc::SYS_mount_setattr,
            [
                mount,
                empty,
                flags,
                &raw const attributes as usize,
                size_of_val(&attributes),
            ],
        )?;
    }
    // SAFETY: the arrays outlive the call; the caller guarantees that they and their strings end.
    unsafe {
        let strings = [arguments as usize, environment as usize];
        call(
            libc::SYS_execveat,
            [mount, empty, strings[0], strings[1], flags],
        )?;
    }
    Err(Errno::INVAL)
}

/// Makes a system call without the C library, which may not have started.
///
/// # Safety
/// `words` must be valid arguments of the system call `number`.
#[cfg(target_arch = "x86_64")]
unsafe fn call(number: i64, words: [usize; 5]) -> Result<(), Errno> {
    let result: isize;
    // SAFETY: the caller guarantees the arguments. The kernel changes no other registers than these.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") words[0],
            in("rsi") words[1],
            in("rdx") words[2],
            in("r10") words[3],
            in("r8") words[4],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack)
        );
    }
    if result < 0 {
        Err(Errno::from_raw_os_error(-result as i32))
    } else {
        Ok(())
    }
}

/// Makes a system call.
///
/// # Safety
/// `words` must be valid arguments of the system call `number`.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn call(number: i64, words: [usize; 5]) -> Result<(), Errno> {
    let [a, b, c, d, e] = words;
    // SAFETY: the caller guarantees the arguments.
    if unsafe { libc::syscall(number, a, b, c, d, e) } < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::INVAL));
    }
    Ok(())
}

/// The entry point of the shipped file, which agent/build.rs passes to the linker.
///
/// If [`first`] does not execute the program again, this jumps to the C library's entry point with the stack that the
/// kernel made.
#[cfg(all(target_arch = "x86_64", target_env = "musl"))]
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn agent_start() -> ! {
    std::arch::naked_asm!(
        "xor ebp, ebp",
        "mov rdi, rsp",
        "call {first}",
        // A dynamic loader passes a function here that is to be called at exit. There is none.
        "xor edx, edx",
        "jmp _start",
        first = sym first,
    )
}

/// Makes the linker keep [`agent_start`], which no code calls.
#[cfg(all(target_arch = "x86_64", target_env = "musl"))]
#[used]
static START: unsafe extern "C" fn() -> ! = agent_start;

/// Executes the program again from a read-only mount if it is root's `agent run` or `agent exec` and is not there yet.
/// Else, or if the kernel refuses, it returns.
///
/// # Safety
/// `stack` must be what the kernel makes (`create_elf_tables`, fs/binfmt_elf.c): the number of arguments, the
/// arguments, a null, the environment, a null.
#[cfg(all(target_arch = "x86_64", target_env = "musl"))]
unsafe extern "C" fn first(stack: *const usize) {
    /// The subcommands that launch processes in containers.
    const COMMANDS: [&[u8]; 2] = [b"run", b"exec"];
    // SAFETY: the caller guarantees the layout of the stack, and the kernel ends each string with a NUL.
    unsafe {
        let arguments: Strings = stack.add(1).cast();
        let environment: Strings = arguments.add(*stack + 1);
        if *stack < 2 || !COMMANDS.contains(&CStr::from_ptr(*arguments.add(1)).to_bytes()) {
            return;
        }
        let is_done = || is_out_of_reach(own_executable()?.as_fd());
        if rustix::process::geteuid().is_root() && is_done() == Ok(false) {
            // If it fails, the subcommand tries again and reports the error.
            let _ = again(arguments, environment);
        }
    }
}

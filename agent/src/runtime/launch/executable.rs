//! This program's own file, which no container may write (CVE-2019-5736).

use std::ffi::CString;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStringExt as _;

use rustix::fs::{CWD, StatVfsMountFlags, fstatvfs};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::Error;
use crate::host;
use crate::sys::launch::{MountAttributes, Strings, execute_file, set_mount};

const STEP: &str = "protect the agent's executable";

/// Sees to it that no container can write to this program through a `/proc/PID/exe`: runs it again from a read-only
/// mount that is in nobody's mount namespace, with the same arguments, unless it already does. To be called first of
/// all by whatever launches.
///
/// # Errors
/// The kernel refuses; without CAP_SYS_ADMIN.
pub fn protect_executable() -> Result<(), Error> {
    let path = host::launch::OWN_EXECUTABLE;
    let failed = |errno| Error::step(STEP, path, errno);
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if is_protected().map_err(failed)? {
        return Ok(());
    }
    let file = open_tree(CWD, path, flags).map_err(failed)?;
    let attributes = MountAttributes {
        set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSYMFOLLOW,
        clear: 0,
        propagation: libc::MS_PRIVATE,
    };
    set_mount(file.as_fd(), &attributes, false).map_err(failed)?;
    again(file.as_fd())
}

/// Whether the file is on such a mount: no other file system has this look.
fn is_protected() -> Result<bool, Errno> {
    /// `include/linux/statfs.h`
    const ST_NOSYMFOLLOW: u64 = 0x2000;
    let file = host::launch::own_executable()?;
    let flags = fstatvfs(&file)?.f_flag;
    Ok(flags.contains(StatVfsMountFlags::RDONLY) && flags.bits() & ST_NOSYMFOLLOW != 0)
}

fn again(file: BorrowedFd<'_>) -> Result<(), Error> {
    let zero = |bytes: Vec<u8>| super::plan::text(bytes);
    let arguments: Result<Vec<CString>, Error> = std::env::args_os()
        .map(|argument| zero(argument.into_vec()))
        .collect();
    let environment: Result<Vec<CString>, Error> = std::env::vars_os()
        .map(|(name, value)| {
            let mut entry = name.into_vec();
            entry.push(b'=');
            entry.extend(value.into_vec());
            zero(entry)
        })
        .collect();
    let (arguments, environment) = (Strings::new(arguments?), Strings::new(environment?));
    let Err(errno) = execute_file(file, &arguments, &environment);
    Err(Error::step(STEP, host::launch::OWN_EXECUTABLE, errno))
}

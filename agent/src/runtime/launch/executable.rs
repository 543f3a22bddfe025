//! This program's own file, which no container may write (CVE-2019-5736).

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;

use rustix::fs::{
    Access, CWD, MemfdFlags, SealFlags, StatVfsMountFlags, access, fcntl_add_seals,
    fcntl_get_seals, fstatvfs, memfd_create,
};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::thread::set_name;

use super::Error;
use crate::host;
use crate::sys::launch::{MountAttributes, Strings, execute_file, set_mount};

const NAME: &CStr = c"agent";
const STEP: &str = "protect the agent's executable";

/// Sees to it that no container can write to this program through a `/proc/PID/exe`: runs it again from a read-only
/// mount that is in nobody's mount namespace, with the same arguments, unless it already does. To be called first of
/// all by whatever launches.
///
/// An ordinary user, who may not mount, runs a copy in memory that nobody can write; unless the file is not this user's to
/// write, nor then a container's.
///
/// # Errors
/// The kernel refuses.
pub fn protect_executable() -> Result<(), Error> {
    let path = host::launch::OWN_EXECUTABLE;
    let failed = |errno| Error::step(STEP, path, errno);
    if is_protected().map_err(failed)? {
        // The kernel has called it by the number of a descriptor.
        return set_name(NAME).map_err(failed);
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let file = match open_tree(CWD, path, flags) {
        Err(Errno::PERM) if access(path, Access::WRITE_OK).is_err() => return Ok(()),
        Err(Errno::PERM) => return again(copy().map_err(failed)?.as_fd()),
        file => file.map_err(failed)?,
    };
    let attributes = MountAttributes {
        set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSYMFOLLOW,
        clear: 0,
        propagation: libc::MS_PRIVATE,
    };
    set_mount(file.as_fd(), &attributes, false).map_err(failed)?;
    again(file.as_fd())
}

/// A copy of this program in memory, which nothing can change any more.
fn copy() -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = File::from(memfd_create(NAME, flags)?);
    File::open(host::launch::OWN_EXECUTABLE)
        .and_then(|mut file| std::io::copy(&mut file, &mut copy))
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&copy, seals)?;
    Ok(copy.into())
}

/// Whether the file is such a copy, or on such a mount: no other file system has this look.
fn is_protected() -> Result<bool, Errno> {
    /// `include/linux/statfs.h`
    const ST_NOSYMFOLLOW: u64 = 0x2000;
    let file = host::launch::own_executable()?;
    let flags = fstatvfs(&file)?.f_flag;
    let is_mount = flags.contains(StatVfsMountFlags::RDONLY) && flags.bits() & ST_NOSYMFOLLOW != 0;
    // No file but one in memory has seals.
    Ok(is_mount || fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SealFlags::WRITE)))
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

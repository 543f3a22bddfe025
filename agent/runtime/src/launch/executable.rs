//! Protects this program's file, which no container may write to (CVE-2019-5736).

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use agent_sys::launch::{Strings, execute_file, run_again};
use agent_sys::start::{OWN_EXECUTABLE, is_out_of_reach, own_executable};
use rustix::fs::{
    Access, MemfdFlags, SealFlags, access, fcntl_add_seals, fcntl_get_seals, memfd_create,
};
use rustix::io::Errno;
use rustix::thread::set_name;

use super::Error;

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
    let path = OWN_EXECUTABLE;
    let failed = |errno| Error::step(STEP, path, errno);
    if is_protected().map_err(failed)? {
        // The kernel has called it by the number of a descriptor.
        return set_name(NAME).map_err(failed);
    }
    let (arguments, environment) = (arguments()?, environment()?);
    let Err(errno) = run_again(&arguments, &environment);
    match errno {
        Errno::PERM if access(path, Access::WRITE_OK).is_err() => Ok(()),
        Errno::PERM => {
            let copy = copy().map_err(failed)?;
            let Err(errno) = execute_file(copy.as_fd(), &arguments, &environment);
            Err(failed(errno))
        }
        errno => Err(failed(errno)),
    }
}

/// A copy of this program in memory, which nothing can change any more.
fn copy() -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = File::from(memfd_create(NAME, flags)?);
    File::open(OWN_EXECUTABLE)
        .and_then(|mut file| std::io::copy(&mut file, &mut copy))
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&copy, seals)?;
    Ok(copy.into())
}

/// Whether the file is such a copy, or on such a mount.
fn is_protected() -> Result<bool, Errno> {
    let file = own_executable()?;
    // No file but one in memory has seals.
    let is_sealed = || fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SealFlags::WRITE));
    Ok(is_out_of_reach(file.as_fd())? || is_sealed())
}

fn arguments() -> Result<Strings, Error> {
    let arguments = std::env::args_os().map(OsStringExt::into_vec);
    strings(arguments)
}

fn environment() -> Result<Strings, Error> {
    let entries = std::env::vars_os().map(|(name, value)| {
        let mut entry = name.into_vec();
        entry.push(b'=');
        entry.extend(value.into_vec());
        entry
    });
    strings(entries)
}

fn strings(all: impl Iterator<Item = Vec<u8>>) -> Result<Strings, Error> {
    let all: Result<Vec<CString>, Error> = all.map(super::plan::text).collect();
    Ok(Strings::new(all?))
}

//! Protects this program's executable file from containers, which could otherwise overwrite it (CVE-2019-5736).

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

/// Prevents containers from writing to this program through `/proc/PID/exe`. Unless the program already runs protected,
/// executes it again, with the same arguments, from a read-only mount that is in no mount namespace. Every command that
/// launches a process calls this first.
///
/// An ordinary user may not mount, and executes a sealed copy in memory instead. Where this user may not write to the
/// file, a container of this user may not either, and nothing is done.
///
/// # Errors
/// A system call failed.
pub fn protect_executable() -> Result<(), Error> {
    let path = OWN_EXECUTABLE;
    let failed = |errno| Error::step(STEP, path, errno);
    if is_protected().map_err(failed)? {
        // execveat(2) has named the process after the number of a descriptor.
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

/// Makes a copy of this program in memory, whose seals prevent every change.
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

/// Tells whether the program runs from a sealed copy, or from a read-only mount in no mount namespace.
fn is_protected() -> Result<bool, Errno> {
    let file = own_executable()?;
    // Only a file of memfd_create(2) can have this seal.
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

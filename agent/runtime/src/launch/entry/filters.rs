//! Checks that the container's system call filters allow a process to enter, and prepares the filters of that process.

use agent_seccomp::Call;
use agent_sys::entry::LAST_FORK;
use oci_spec::runtime::Process;

use crate::launch::Error;
use crate::launch::stage::StoredFilter;

/// Returns the filters of the stage, and those that its copy installs on top. Normally the stage has the container's
/// filters, and the copy has no others. A filter may refuse a call by which the copy is made. The stage's filters then
/// allow these calls, and the copy installs the container's filters last.
pub(super) fn split(
    filters: &[agent_seccomp::FilterProgram],
    process: &Process,
    terminal: bool,
) -> Result<(Vec<StoredFilter>, Vec<StoredFilter>), Error> {
    let mut calls = vec![
        Call::new("clone", libc::SYS_clone, [Some(LAST_FORK), None]),
        Call::new("setsid", libc::SYS_setsid, [None; 2]),
        Call::new(
            "prctl",
            libc::SYS_prctl,
            [
                Some(libc::PR_SET_PDEATHSIG as u64),
                Some(libc::SIGKILL as u64),
            ],
        ),
    ];
    if terminal {
        // The type of the C library's constant differs between targets. The value is from asm-generic/ioctls.h.
        const TIOCSCTTY: u64 = 0x540e;
        let arguments = [Some(0), Some(TIOCSCTTY)];
        calls.push(Call::new("ioctl", libc::SYS_ioctl, arguments));
    }
    let refused = |call: &&Call| filters.iter().any(|filter| !filter.allows(call));
    let Some(refused) = calls.iter().find(refused) else {
        return Ok((filters.iter().map(StoredFilter::of).collect(), Vec::new()));
    };
    if process.no_new_privileges() != Some(true) {
        return Err(Error::invalid(format!(
            "seccomp: the profile refuses {}, by which a process enters the container; allow it there, or keep \
             no_new_privs on",
            refused.name
        )));
    }
    calls.push(Call::new("seccomp", libc::SYS_seccomp, [None; 2]));
    let relaxed = filters.iter().map(|filter| filter.but_for(&calls));
    let relaxed: Result<Vec<_>, _> = relaxed.collect();
    let relaxed = relaxed.map_err(|error| Error::invalid(error.to_string()))?;
    Ok((
        relaxed.iter().map(StoredFilter::of).collect(),
        filters.iter().map(StoredFilter::of).collect(),
    ))
}

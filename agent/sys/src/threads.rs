//! Checks that this process has one thread. A child of such a process finds no lock held by another thread, and no
//! other thread reads this process's memory.

use rustix::io::Errno;

/// Checks that the caller is the only thread, by unshare(2) with CLONE_THREAD. The call changes nothing, and the kernel
/// refuses it to a process with more than one thread.
///
/// Only the caller can then make another thread.
///
/// # Errors
/// EBUSY if there are more threads.
pub(super) fn expect_one() -> Result<(), Errno> {
    // SAFETY: the call takes no pointer, and changes nothing.
    match unsafe { libc::unshare(libc::CLONE_THREAD) } {
        0 => Ok(()),
        _ => Err(Errno::BUSY),
    }
}

/// For tests, which run in processes with several threads.
#[cfg(any(test, feature = "fixture"))]
pub mod fixture {
    /// Whether `test` holds in a child of this process, which has one thread however many this process has.
    pub fn holds_in_copy(test: impl FnOnce() -> bool) -> bool {
        // SAFETY: the C library's fork(3) releases the heap's locks in the child, and the test takes no other locks.
        match unsafe { libc::fork() } {
            0 => crate::fork::exit(i32::from(!test())),
            child => {
                let mut status = 0;
                // SAFETY: the status outlives the call.
                let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
                waited == child && status == 0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::holds_in_copy;
    use super::*;
    use crate::fork::{Side, exit, fork};
    use crate::launch::{Kin, clone};

    #[test]
    fn a_process_with_more_threads_makes_no_copy() {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || stopped.recv());
        assert_eq!(expect_one(), Err(Errno::BUSY));
        assert!(fork().is_err());
        assert_eq!(clone(0, None, Kin::Child).unwrap_err(), Errno::BUSY);
        drop(stop);
        let _ = other.join();
    }

    #[test]
    fn a_process_with_one_thread_does() {
        assert!(holds_in_copy(|| expect_one().is_ok()));
        assert!(holds_in_copy(|| match fork() {
            Ok(Side::Child) => exit(0),
            Ok(Side::Parent(child)) => {
                let ended =
                    rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty());
                matches!(ended, Ok(Some((_, status))) if status.exit_status() == Some(0))
            }
            Err(_) => false,
        }));
    }

    #[test]
    fn only_namespaces_are_flags_of_a_copy() {
        assert!(holds_in_copy(|| {
            let flags = [libc::CLONE_VM, libc::CLONE_FILES, libc::CLONE_THREAD];
            flags
                .iter()
                .all(|flag| matches!(clone(*flag as u64, None, Kin::Child), Err(Errno::INVAL)))
        }));
    }
}

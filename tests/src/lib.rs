//! Whole-program tests on a real kernel, and what they share: `tests/tests/` has the tests, one subject a file.

use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub mod agent;
pub mod archive;
pub mod attacks;
pub mod bounded;
pub mod cadvisor;
pub mod cgroup;
pub mod container;
pub mod containerd;
pub mod dashboard;
pub mod disk;
pub mod docker;
pub mod law;
pub mod limited;
pub mod mechanism;
pub mod memory;
pub mod metrics;
pub mod mounts;
pub mod nscall;
pub mod process;
pub mod program;
pub mod prometheus;
pub mod pty;
pub mod rootfs;
pub mod rootless;
pub mod run;
pub mod serve;
pub mod shared;
pub mod slow;
pub mod state;
pub mod storm;
pub mod subtree;
pub mod swap;
pub mod veth;
pub mod wait;
pub mod watch;

/// For tests that watch the whole host: of those of one program, one at a time.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    // A test that failed leaves nothing behind.
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

static ROOM: RwLock<()> = RwLock::new(());

/// For tests of one program, some of which make a [`flood`]: not beside one.
pub fn quiet() -> RwLockReadGuard<'static, ()> {
    ROOM.read().unwrap_or_else(PoisonError::into_inner)
}

/// For a test that makes so many calls that the record of another one's may find no room, or no program that runs.
pub fn flood() -> RwLockWriteGuard<'static, ()> {
    ROOM.write().unwrap_or_else(PoisonError::into_inner)
}

/// Says why this test cannot run on this machine. libtest captures the first line, which `cargo xtask vm` reads; the second
/// goes past libtest to the terminal, so that no test is left out in silence.
pub fn skip(why: impl std::fmt::Display) {
    println!("SKIPPED: {why}");
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a test");
    let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {why}");
}

/// Whether the machine is the tests' own, as a virtual one of `cargo xtask vm` is: a test may use up all of its memory.
/// Where it is not, the skip is printed.
#[must_use]
pub fn own_machine() -> bool {
    if std::env::var_os("AGENT_TEST_OWN_MACHINE").is_some() {
        return true;
    }
    skip("needs a machine of the tests' own: `cargo xtask vm` has one");
    false
}

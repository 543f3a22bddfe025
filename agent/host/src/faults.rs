//! Fault points and guards, for the tests of this program.
//!
//! Without the cargo feature `faults` these functions do nothing, and the compiler leaves them out. `cargo xtask dist`
//! checks that the released file has none of them.
//!
//! - At a *fault point* a test makes the launcher die, as by `kill -9`: `AGENT_FAULT=STEP`.
//! - At the same points a test stops a process, to inspect it: `AGENT_HOLD=STEP`. The process continues at a SIGCONT. A
//!   step of a launch stops after it is done. `fork` of an entry stops in the process that has become visible.
//! - A *guard* stops one kind of attack. A test turns it off, to show that the attack works without it:
//!   `AGENT_UNGUARDED=GUARD,GUARD`.

/// A guard: a check that stops one kind of attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// No path in a root file system leads out of it.
    RootLookup,
    /// A process that enters a container does not expose anything of the host to it.
    Entry,
    /// No standard stream of a container is an open file of the host.
    Streams,
    /// A cgroup is a container's only if its engine confirms it.
    Identity,
    /// An ordinary user's container is in its caller's cgroup or below it.
    Placement,
}

pub use switches::{die, guarded, held, hold, point, wanted};

#[cfg(feature = "faults")]
mod switches {
    use std::env;
    use std::sync::OnceLock;

    use rustix::process::{Signal, getpid, kill_process};

    use super::Guard;

    const FAULT: &str = "AGENT_FAULT";
    const HOLD: &str = "AGENT_HOLD";
    const UNGUARDED: &str = "AGENT_UNGUARDED";

    impl Guard {
        const ALL: [Self; 5] = [
            Self::RootLookup,
            Self::Entry,
            Self::Streams,
            Self::Identity,
            Self::Placement,
        ];

        const fn name(self) -> &'static str {
            match self {
                Self::RootLookup => "root-lookup",
                Self::Entry => "entry",
                Self::Streams => "streams",
                Self::Identity => "identity",
                Self::Placement => "placement",
            }
        }

        const fn bit(self) -> u8 {
            1 << self as u8
        }
    }

    /// Whether this guard is on. After the first call it neither allocates nor locks.
    #[must_use]
    pub fn guarded(guard: Guard) -> bool {
        static OFF: OnceLock<u8> = OnceLock::new();
        let off = OFF.get_or_init(|| {
            let names = env::var(UNGUARDED).unwrap_or_default();
            let off = |guard: &Guard| names.split(',').any(|name| name == guard.name());
            let off = Guard::ALL.into_iter().filter(off);
            off.fold(0, |bits, guard| bits | guard.bit())
        });
        off & guard.bit() == 0
    }

    /// The step at which this process is to die, if a test wants that.
    #[must_use]
    pub fn wanted() -> Option<String> {
        env::var(FAULT).ok()
    }

    /// The step at which this process is to stop, if a test wants that.
    #[must_use]
    pub fn held() -> Option<String> {
        env::var(HOLD).ok()
    }

    /// Dies or stops here where a test wants that.
    pub fn point(step: &str) {
        if wanted().is_some_and(|wanted| wanted == step) {
            die();
        }
        if held().is_some_and(|held| held == step) {
            hold();
        }
    }

    /// Stops, until a SIGCONT.
    pub fn hold() {
        let _ = kill_process(getpid(), Signal::STOP);
    }

    /// Dies as by `kill -9`.
    pub fn die() {
        let _ = kill_process(getpid(), Signal::KILL);
    }
}

#[cfg(not(feature = "faults"))]
mod switches {
    use super::Guard;

    /// Whether this guard is on: always.
    #[must_use]
    pub const fn guarded(_: Guard) -> bool {
        true
    }

    /// The step at which this process is to die: none without the feature.
    #[must_use]
    pub const fn wanted() -> Option<String> {
        None
    }

    /// The step at which this process is to stop: none without the feature.
    #[must_use]
    pub const fn held() -> Option<String> {
        None
    }

    /// Does nothing: without the feature there are no fault points.
    pub const fn hold() {}

    /// Does nothing: without the feature there are no fault points.
    pub const fn point(_: &str) {}

    /// Does nothing: without the feature there are no fault points.
    pub const fn die() {}
}

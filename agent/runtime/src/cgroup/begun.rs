//! Makes a container's cgroup. In v2 it exists before the init process, which is cloned into it. In v1 it is made while
//! the init process already runs, and that process joins it later.

use std::os::fd::BorrowedFd;

use agent_host::control::{PROCESSES, TASKS};
use agent_host::system::page_size;
use agent_model::hierarchy::Version;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};

use super::apply::Limiter;
use super::ground::Ground;
use super::place::Place;
use super::{Cgroup, Error, Note, Wanted, devices, enable, names};

/// A cgroup that is being made: it exists in v2, if v2 is mounted, and not yet in v1. Dropping this value removes the
/// cgroup, unless [`Begun::complete`] has returned it.
#[derive(Debug)]
pub struct Begun<'a> {
    cgroup: Cgroup,
    /// The hierarchies of v1 in which the cgroup is still to be made.
    places: Vec<Place>,
    names: Vec<&'a str>,
    /// The limits of the controllers on v1.
    wanted: Wanted,
    /// The device rules, if a hierarchy of v1 applies them.
    devices: &'a [LinuxDeviceCgroup],
    swap_implied: bool,
    notes: Vec<Note>,
    /// Whether the cgroup exists in all hierarchies.
    is_whole: bool,
}

impl<'a> Begun<'a> {
    /// Makes the cgroup `path`, as in `/agent/NAME`, in v2, below the base of `ground`. Writes the limits of the
    /// controllers there, and reads each back. With `swap_implied`, the limit of memory and swap together is left out
    /// where the kernel does not count swap.
    ///
    /// # Errors
    /// The cgroup exists already; a controller is not available; the kernel refuses a limit, or keeps another value.
    pub fn new(
        ground: &Ground,
        path: &'a str,
        resources: &'a LinuxResources,
        swap_implied: bool,
    ) -> Result<Self, Error> {
        let mut wanted = Wanted::of(resources, page_size())?;
        let names = names(path)?;
        let places = ground.places()?;
        let (v2, v1): (Vec<_>, Vec<_>) = places
            .into_iter()
            .partition(|place| place.version == Version::V2);
        let in_v1 = |controller: &str| v1.iter().any(|place| place.has(controller));
        let is_later = |controller: &str| v2.is_empty() || in_v1(controller);
        let later = wanted.split_off(is_later);
        let rules = resources.devices().as_deref().unwrap_or_default();
        let (rules, later_rules) = if is_later("devices") {
            (&[][..], rules)
        } else {
            (rules, &[][..])
        };
        let mut begun = Self {
            cgroup: Cgroup::new(path),
            places: v1,
            names,
            wanted: later,
            devices: later_rules,
            swap_implied,
            notes: Vec::new(),
            is_whole: false,
        };
        begun.make(v2, &wanted)?;
        devices::apply(&begun.cgroup.made, rules)?;
        Ok(begun)
    }

    /// Whether the cgroup will be in no hierarchy, because none is delegated to an ordinary user.
    pub fn is_nowhere(&self) -> bool {
        self.cgroup.made.is_empty() && self.places.is_empty()
    }

    /// Checks that a process that is cloned into the cgroup can run, like [`Cgroup::check`].
    ///
    /// # Errors
    /// Those of [`Cgroup::check`].
    pub fn check(&self) -> Result<(), Error> {
        self.cgroup.check()
    }

    /// Returns the cgroup's directory in v2, like [`Cgroup::v2_fd`].
    pub fn v2_fd(&self) -> Option<BorrowedFd<'_>> {
        self.cgroup.v2_fd()
    }

    /// Makes the cgroup in all hierarchies of v1, and writes the limits of the controllers there. Returns the cgroup,
    /// which the caller now owns, and notes for the user.
    ///
    /// # Errors
    /// Those of [`Begun::new`].
    pub fn complete(&mut self) -> Result<(Cgroup, Vec<Note>), Error> {
        self.make_all()?;
        let nothing = Cgroup::new("");
        let cgroup = std::mem::replace(&mut self.cgroup, nothing);
        Ok((cgroup, std::mem::take(&mut self.notes)))
    }

    /// Makes the cgroup in all hierarchies of v1, like [`Begun::complete`], but keeps it. Does nothing the second time.
    ///
    /// # Errors
    /// Those of [`Begun::new`].
    pub fn make_all(&mut self) -> Result<(), Error> {
        if self.is_whole {
            return Ok(());
        }
        let places = std::mem::take(&mut self.places);
        let wanted = std::mem::take(&mut self.wanted);
        self.make(places, &wanted)?;
        devices::apply(&self.cgroup.made, self.devices)?;
        self.is_whole = true;
        Ok(())
    }

    /// Makes the cgroup in these hierarchies, and writes the limits in `wanted`.
    fn make(&mut self, places: Vec<Place>, wanted: &Wanted) -> Result<(), Error> {
        for place in places {
            let way = place.make(&self.names)?;
            if place.version == Version::V2 {
                enable::usual(&way);
            }
            self.cgroup.add(place, way, &self.names);
        }
        let limiter = Limiter {
            made: &self.cgroup.made,
            page: page_size(),
            swap_implied: self.swap_implied,
        };
        let (evidence, notes) = limiter.apply(wanted)?;
        self.cgroup.evidence.extend(evidence);
        self.notes.extend(notes);
        Ok(())
    }

    /// Returns the cgroup's path, like [`Cgroup::path`].
    pub fn path(&self) -> &str {
        self.cgroup.path()
    }

    /// Moves this process, which has one thread, into the container's cgroup of the memory controller. From then on,
    /// the kernel charges the memory that the process uses to the container. Without such a cgroup, the process stays
    /// where it is.
    ///
    /// # Errors
    /// The kernel refuses the move.
    pub fn charge_this_process(&self) -> Result<(), Error> {
        let counting = self
            .cgroup
            .made
            .iter()
            .find(|(place, _)| place.has("memory"));
        let Some(cgroup) = counting.and_then(|(_, way)| way.cgroups.last()) else {
            return Ok(());
        };
        // On v1, a thread that moves itself through `tasks` does not wait for an RCU grace period.
        let file = match cgroup.version {
            Version::V1 => TASKS,
            Version::V2 => PROCESSES,
        };
        let moved = cgroup.write(file, "0");
        moved.map_err(Error::io(&cgroup.path.join(file)))
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        // The launch has failed already, and that error is the one to report.
        let _ = self.cgroup.remove();
    }
}

//! Making a container's cgroup: in v2 before its first process, which is born there; in v1, which it is attached to, beside
//! what that process does meanwhile.

use std::os::fd::BorrowedFd;

use agent_host::control::{PROCESSES, TASKS};
use agent_host::system::page_size;
use agent_model::hierarchy::Version;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};

use super::apply::Limiter;
use super::ground::Ground;
use super::place::Place;
use super::{Cgroup, Error, Note, Wanted, devices, enable, names};

/// A cgroup that is there in v2, where that is mounted, and in no hierarchy of v1 yet. Dropped, nothing of it stays.
#[derive(Debug)]
pub struct Begun<'a> {
    cgroup: Cgroup,
    /// Those of v1.
    places: Vec<Place>,
    names: Vec<&'a str>,
    /// What is limited there.
    wanted: Wanted,
    /// The devices, where they are limited there.
    devices: &'a [LinuxDeviceCgroup],
    swap_implied: bool,
    notes: Vec<Note>,
    /// Whether it is in all hierarchies.
    is_whole: bool,
}

impl<'a> Begun<'a> {
    /// Makes the cgroup `path`, as `/agent/NAME`, in v2, with the limits of the controllers there, each of which is read
    /// back. With `swap_implied`, the limit of memory and swap together is left
    /// out where the kernel does not count swap. An ordinary user's is made below the base of their [`Ground`].
    ///
    /// # Errors
    /// The cgroup is there already; a controller is not to be had; the kernel refuses a limit, or keeps another.
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

    /// Whether it will be in no hierarchy: an ordinary user's, to whom none is delegated.
    pub fn is_nowhere(&self) -> bool {
        self.cgroup.made.is_empty() && self.places.is_empty()
    }

    /// Whether what is born in it would get on: see [`Cgroup::check`].
    ///
    /// # Errors
    /// It would not.
    pub fn check(&self) -> Result<(), Error> {
        self.cgroup.check()
    }

    /// Its directory in v2, as [`Cgroup::v2_fd`].
    pub fn v2_fd(&self) -> Option<BorrowedFd<'_>> {
        self.cgroup.v2_fd()
    }

    /// Makes it in all hierarchies of v1, with the limits of the controllers there.
    ///
    /// # Errors
    /// As of [`Begun::new`].
    pub fn complete(&mut self) -> Result<(Cgroup, Vec<Note>), Error> {
        self.make_all()?;
        let nothing = Cgroup::new("");
        let cgroup = std::mem::replace(&mut self.cgroup, nothing);
        Ok((cgroup, std::mem::take(&mut self.notes)))
    }

    /// Makes it where it is not yet, as [`Begun::complete`], and keeps it.
    ///
    /// # Errors
    /// As of [`Begun::new`].
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

    /// Makes it in these hierarchies, with what is to be limited there.
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

    /// Its path, as [`Cgroup::path`].
    pub fn path(&self) -> &str {
        self.cgroup.path()
    }

    /// Moves this process, which has one thread, to where the container's memory is counted: what it puts into memory is
    /// charged to the container from here on. Where no memory is counted, it stays where it is.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn charge_this_process(&self) -> Result<(), Error> {
        let counting = self
            .cgroup
            .made
            .iter()
            .find(|(place, _)| place.has("memory"));
        let Some(cgroup) = counting.and_then(|(_, way)| way.cgroups.last()) else {
            return Ok(());
        };
        // A thread of v1 that moves itself waits for no grace period.
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
        // Whatever ended it says why.
        let _ = self.cgroup.remove();
    }
}

//! Attaches each probe by the best of its mechanisms that works on this kernel.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::probes::{Mechanism, MechanismPrograms, PassedOver, Probe, ProbeState, ProbeStatus};
use super::program::{self, Hook, Loader, ProbeError};

/// A program that is loaded.
struct LoadedProgram {
    name: &'static str,
    hook: Hook,
    descriptor: OwnedFd,
}

/// A probe, loaded by one mechanism.
pub(super) struct Attempt {
    probe: &'static Probe,
    loaded: Option<(Mechanism, Vec<LoadedProgram>)>,
    /// The ways that are left to try if the loaded programs cannot be attached.
    others: std::vec::IntoIter<&'static MechanismPrograms>,
    passed_over: Vec<PassedOver>,
}

/// The descriptors that keep a probe attached while they are open.
#[derive(Default)]
pub(super) struct Attached {
    pub programs: Vec<OwnedFd>,
    pub links: Vec<OwnedFd>,
}

impl Attempt {
    /// Loads the programs of the first of `ways` whose programs the kernel accepts.
    fn begin(
        loader: Loader<'_>,
        probe: &'static Probe,
        ways: Vec<&'static MechanismPrograms>,
    ) -> Self {
        let mut attempt = Self {
            probe,
            loaded: None,
            others: ways.into_iter(),
            passed_over: Vec::new(),
        };
        attempt.load_next(loader);
        attempt
    }

    fn load_next(&mut self, loader: Loader<'_>) {
        while self.loaded.is_none()
            && let Some(way) = self.others.next()
        {
            match load(loader, way) {
                Ok(programs) => self.loaded = Some((way.mechanism, programs)),
                Err(error) => self.pass_over(way.mechanism, &error),
            }
        }
    }

    fn pass_over(&mut self, mechanism: Mechanism, error: &ProbeError) {
        let probe = self.probe.name;
        tracing::debug!(probe, mechanism = mechanism.name(), ?error, "not attached");
        self.passed_over.push(PassedOver::new(mechanism, error));
    }

    /// The programs that are loaded.
    pub(super) fn programs(&self) -> impl Iterator<Item = &OwnedFd> {
        let programs = self.loaded.iter().flat_map(|(_, programs)| programs);
        programs.map(|program| &program.descriptor)
    }

    /// Attaches the loaded programs. If that fails, loads and attaches those of the next way, until one works.
    pub(super) fn attach(mut self, loader: Loader<'_>) -> (ProbeStatus, Attached) {
        while let Some((mechanism, programs)) = self.loaded.take() {
            match attach(programs) {
                Ok(attached) => return (self.status(mechanism, ProbeState::Attached), attached),
                Err(error) => self.pass_over(mechanism, &error),
            }
            self.load_next(loader);
        }
        let status = match self.passed_over.pop() {
            Some(last) => {
                let PassedOver { errno, reason, .. } = last;
                self.status(last.mechanism, ProbeState::Failed { errno, reason })
            }
            None => {
                let last = self.probe.ways.last();
                let mechanism = last.map_or(Mechanism::Btf, |way| way.mechanism);
                self.status(mechanism, ProbeState::Off)
            }
        };
        (status, Attached::default())
    }

    fn status(self, mechanism: Mechanism, state: ProbeState) -> ProbeStatus {
        ProbeStatus {
            probe: self.probe.name,
            mechanism,
            state,
            passed_over: self.passed_over,
            loss: self.probe.loss,
        }
    }
}

fn load(loader: Loader<'_>, way: &MechanismPrograms) -> Result<Vec<LoadedProgram>, ProbeError> {
    let found = way.where_found.iter().filter(|(_, hook)| loader.has(*hook));
    let programs = way.programs.iter().chain(found).map(|&(name, hook)| {
        let descriptor = loader.load(name, hook)?;
        Ok(LoadedProgram {
            name,
            hook,
            descriptor,
        })
    });
    programs.collect()
}

fn attach(programs: Vec<LoadedProgram>) -> Result<Attached, ProbeError> {
    let mut attached = Attached::default();
    for LoadedProgram {
        name,
        hook,
        descriptor,
    } in programs
    {
        attached
            .links
            .push(program::attach(name, hook, &descriptor)?);
        attached.programs.push(descriptor);
    }
    Ok(attached)
}

/// Loads the programs of all probes, in threads on all CPUs, and returns the attempts in the order of `probes`.
///
/// The verifier takes milliseconds for each program, and can check several at once.
pub(super) fn begin_all(
    loader: Loader<'_>,
    probes: &'static [Probe],
    ways: impl Fn(&'static Probe) -> Vec<&'static MechanismPrograms> + Sync,
) -> Vec<Attempt> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(probe) = probes.get(index) else {
                return done;
            };
            done.push((index, Attempt::begin(loader, probe, ways(probe))));
        }
    };
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let mut attempts = thread::scope(|scope| {
        let others: Vec<_> = (1..cpus.min(probes.len()))
            .map(|_| scope.spawn(work))
            .collect();
        let mut attempts = work();
        for thread in others {
            match thread.join() {
                Ok(done) => attempts.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        attempts
    });
    attempts.sort_by_key(|(index, _)| *index);
    attempts.into_iter().map(|(_, attempt)| attempt).collect()
}

//! A run: repeated looks at a workload that the agent launches, or at a cgroup that exists already, until the end.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use agent_host::devices::written;
use agent_host::hierarchy::Hierarchies;
use agent_host::hits::written_bytes;
use agent_host::reading::Field;
use agent_host::writes::Writes;
use agent_limits::limit::chain::Chain;
use agent_model::limit::{Device, Kind};
use agent_model::units::size;
use agent_runtime::supervise::observer::{Limited, Written};
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use super::caller::CallerLimits;
use super::claim::LimitClaim;
use super::error::Error;
use super::judge::{Dirtied, Host, Run, Undone};
use super::members::Members;
use super::peaks::{PAUSE, Peaks};
use super::sample::{Gauge, Sample};
use super::supervised::Supervised;
use super::trace::{Trace, Window};
use super::unread::AllUnread;

/// The observations of a cgroup so far.
pub struct Watch {
    /// The reader of the cgroup.
    pub gauge: Gauge,
    /// The limits that are judged.
    pub claims: Vec<LimitClaim>,
    /// The sample at the start.
    pub before: Sample,
    /// The first sample after the start of the workload.
    pub first: Sample,
    /// The last sample.
    pub after: Sample,
    /// What other processes did to the limits, in the order of the claims.
    pub undone: Vec<Option<Undone>>,
    members: Vec<Members>,
    writes: Writes,
    peaks: Peaks,
    unread: AllUnread,
    /// What was written to each limited block device before the run.
    disks: BTreeMap<Device, u64>,
}

impl Watch {
    /// Begins to observe a cgroup, with a first look.
    ///
    /// # Errors
    /// The cgroup cannot be read.
    pub fn begin(mut gauge: Gauge, claims: Vec<LimitClaim>) -> Result<Self, Error> {
        let before = gauge.sample(&claims)?;
        let mut writes = Writes::begin();
        for file in before.chains.iter().flatten().flat_map(Chain::own_files) {
            writes.watch(&file);
        }
        let mut watch = Self {
            undone: vec![None; claims.len()],
            members: claims.iter().map(|_| Members::default()).collect(),
            writes,
            disks: written_to_disks(&claims),
            gauge,
            claims,
            first: before.clone(),
            after: before.clone(),
            before,
            peaks: Peaks::default(),
            unread: AllUnread::default(),
        };
        watch.add();
        Ok(watch)
    }

    /// Marks the start of the workload.
    ///
    /// # Errors
    /// The errors of [`Self::look`].
    pub fn mark(&mut self) -> Result<(), Error> {
        self.look()?;
        self.first = self.after.clone();
        Ok(())
    }

    /// Takes the next sample.
    ///
    /// # Errors
    /// [`Error::Vanished`] where the cgroup does not exist any more.
    pub fn look(&mut self) -> Result<(), Error> {
        self.after = match self.gauge.sample(&self.claims) {
            Err(agent_host::Error::Gone { .. }) => {
                let kind = self.claims.first().map_or(Kind::Memory, |claim| claim.kind);
                let cgroup = self.gauge.path(kind).unwrap_or_default().to_owned();
                return Err(Error::Vanished { cgroup });
            }
            sample => sample?,
        };
        self.add();
        Ok(())
    }

    fn add(&mut self) {
        self.peaks.add(&self.after);
        self.unread.add(&self.after.unread);
        let written = self.writes.take();
        let looks = self.before.chains.iter().zip(&self.after.chains);
        let looks = looks.zip(&mut self.members).zip(&mut self.undone);
        for ((((before, after), members), undone), claim) in looks.zip(&self.claims) {
            let Ok(before) = before else { continue };
            let moved = match after {
                Ok(after) if claim.is_where_the_caller_is(after) => None,
                _ => members.look(&self.gauge, before.kind),
            };
            if matches!(undone, Some(Undone::Changed(_) | Undone::Moved(_))) {
                continue;
            }
            let found = match (after, moved) {
                (Ok(after), _) if !before.is_same(after) => Some(Undone::Changed(after.clone())),
                (_, Some(moved)) => Some(Undone::Moved(moved)),
                (Err(unread), None) => Some(Undone::Unread(unread.clone())),
                (Ok(after), None) => {
                    let mut files = after.own_files();
                    files
                        .find(|file| written.contains(file))
                        .map(Undone::Written)
                }
            };
            if found.is_some() {
                *undone = found;
            }
        }
    }

    /// Waits until a process writes to a file of a limit. The caller looks at once then, because the value may change
    /// again.
    pub async fn written(&self) {
        self.writes.any().await;
    }

    /// Formats the use of each limit now, in one line.
    pub fn line(&self) -> String {
        let time = self.after.at.saturating_duration_since(self.first.at);
        let parts = self.after.chains.iter().flatten().filter_map(|chain| {
            let held = chain.quantity(&chain.effective()?.held).text;
            let used = self.used(chain.kind)?;
            Some(format!("{} {used} / {held}", chain.kind.flag()))
        });
        let parts: Vec<String> = parts.collect();
        format!("{:.0}s  {}", time.as_secs_f64(), parts.join("  "))
    }

    fn used(&self, kind: Kind) -> Option<String> {
        let now = |field| self.after.reading.number(field);
        Some(match kind {
            Kind::Memory | Kind::MemoryHigh => size(now(Field::MemoryUsage)?),
            Kind::MemorySwap => size(now(Field::Swap)?),
            Kind::Pids => now(Field::Threads)?.to_string(),
            Kind::CpuQuota => {
                let before = self.first.reading.number(Field::CpuUsage)?;
                let used = now(Field::CpuUsage)?.saturating_sub(before) as f64 / 1e9;
                let time = self.after.at.saturating_duration_since(self.first.at);
                format!("{:.2}", used / time.as_secs_f64().max(f64::EPSILON))
            }
            _ => return None,
        })
    }

    /// Ends the observation, and returns it with the traced kills. `last` is the sample at the end of the workload.
    pub async fn end(&self, last: Sample, trace: Option<&Trace>, dirtied: Dirtied) -> Run {
        let kills = |sample: &Sample| sample.hits.oom_kills;
        let counted = kills(&self.after).zip(kills(&self.before));
        let counted = counted.map_or(0, |(after, before)| after.saturating_sub(before));
        let victims = match trace {
            Some(trace) => {
                let window = Window {
                    begin: self.before.counted,
                    end: self.after.counted,
                };
                trace.kills(counted, &window).await
            }
            None => None,
        };
        let mut reached = written_to_disks(&self.claims);
        for (device, written) in &mut reached {
            let before = self.disks.get(device).unwrap_or(written);
            *written = written.saturating_sub(*before);
        }
        let host = Host::read(Path::new("/"));
        Run {
            before: self.before.clone(),
            after: self.after.clone(),
            first: self.first.clone(),
            last,
            peaks: self.peaks.clone(),
            unread: self.unread.clone(),
            victims,
            dirtied,
            reached,
            host,
            cpus: self.gauge.cpus().unwrap_or(host.cpus).min(host.cpus),
        }
    }
}

/// Returns how many bytes were written to each limited block device until now.
fn written_to_disks(claims: &[LimitClaim]) -> BTreeMap<Device, u64> {
    let devices = claims.iter().filter_map(|claim| claim.device);
    devices
        .filter_map(|device| Some((device, written(Path::new("/"), device.major, device.minor)?)))
        .collect()
}

/// A workload that ran.
pub struct Ran {
    /// The samples of the run.
    pub watch: Watch,
    /// The observations, as the judges take them.
    pub run: Run,
    /// The limits that the supervisor wrote.
    pub written: Vec<Written>,
    /// The exit status of the workload; `None` where the agent ended it.
    pub code: Option<u8>,
    /// Notes for the user.
    pub notes: Vec<String>,
}

/// The function that is called at each tick to show the progress.
pub type Progress<'a> = &'a mut dyn FnMut(&Watch);

/// Launches a workload and watches it to its end, or for `time`.
///
/// # Errors
/// The workload cannot be launched, or its cgroup cannot be read. [`Error::Interrupted`] after Ctrl-C.
pub async fn launch(
    mut supervised: Supervised,
    claims: Vec<LimitClaim>,
    caller: &CallerLimits,
    trace: Option<&Trace>,
    time: Option<Duration>,
    progress: Progress<'_>,
) -> Result<Ran, Error> {
    let mut interrupt = interrupt()?;
    let limited = supervised.limit().await?;
    let gauge = gauge(&limited)?;
    supervised.notes.extend(caller.note(&gauge.limits()));
    about(trace, &gauge);
    let mut watch = Watch::begin(gauge, caller.beside(claims))?;
    let pid = supervised.start().await?;
    watch.mark()?;
    let deadline = time.map(|time| watch.first.at + time);
    let mut ticks = ticks();
    let mut code = None;
    let mut interrupted = false;
    loop {
        tokio::select! {
            ended = supervised.end() => {
                code = Some(ended?);
                break;
            }
            () = until(deadline) => break,
            _ = interrupt.recv() => {
                interrupted = true;
                break;
            }
            () = watch.written() => watch.look()?,
            _ = ticks.tick() => {
                watch.look()?;
                progress(&watch);
            }
        }
    }
    watch.look()?;
    let last = watch.after.clone();
    if code.is_none() {
        supervised.stop().await?;
        supervised.end().await?;
        watch.look()?;
    }
    let dirtied = match written_bytes(Path::new("/"), pid) {
        Some(bytes) => Dirtied::Bytes(bytes),
        None => Dirtied::Unknown { pid },
    };
    let run = watch.end(last, trace, dirtied).await;
    let notes = supervised.remove().await?;
    if interrupted {
        return Err(Error::Interrupted);
    }
    Ok(Ran {
        watch,
        run,
        written: limited.written,
        code,
        notes,
    })
}

/// Watches a cgroup for `time`.
///
/// # Errors
/// The cgroup cannot be read, or another process removes it. [`Error::Interrupted`] after Ctrl-C.
pub async fn watch(
    gauge: Gauge,
    claims: Vec<LimitClaim>,
    trace: Option<&Trace>,
    time: Duration,
    progress: Progress<'_>,
) -> Result<(Watch, Run), Error> {
    about(trace, &gauge);
    let mut watch = Watch::begin(gauge, claims)?;
    let deadline = Some(watch.before.at + time);
    let mut ticks = ticks();
    let mut interrupt = interrupt()?;
    loop {
        tokio::select! {
            () = until(deadline) => break,
            _ = interrupt.recv() => return Err(Error::Interrupted),
            () = watch.written() => watch.look()?,
            _ = ticks.tick() => {
                watch.look()?;
                progress(&watch);
            }
        }
    }
    watch.look()?;
    let run = watch
        .end(watch.after.clone(), trace, Dirtied::NotAsked)
        .await;
    Ok((watch, run))
}

/// Tells the trace which cgroup's kills to keep.
fn about(trace: Option<&Trace>, gauge: &Gauge) {
    if let (Some(trace), Some(path)) = (trace, gauge.path(Kind::Memory)) {
        trace.about(path);
    }
}

pub(super) fn gauge(limited: &Limited) -> Result<Gauge, Error> {
    let hierarchies = Hierarchies::discover(Path::new("/"))?;
    Ok(Gauge::new(hierarchies, limited.membership.clone()))
}

pub(super) fn ticks() -> tokio::time::Interval {
    let mut ticks = interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

pub(super) fn interrupt() -> io::Result<tokio::signal::unix::Signal> {
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
}

pub(super) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

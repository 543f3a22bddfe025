//! Judges limits on the bytes and operations of a block device.

use agent_host::reading::{DeviceUse, Operation};
use agent_limits::limit::chain::Chain;
use agent_model::hierarchy::Version;
use agent_model::limit::{Device, Kind, Link};
use agent_model::units::size;

use super::{Dirtied, Finding, Run, number};
use crate::report::{Observed, Stimulus, Tolerance, Verdict};

/// The tolerance, as a share of what the limit gives.
const SHARE: f64 = 0.1;

/// The seconds by which I/O may be ahead of the limit: one throttling slice (`DFL_THROTL_SLICE_HD`,
/// block/blk-throttle.h).
const SLICE: f64 = 0.1;

/// A workload that reaches this share of the limit presses against it.
const PRESSED: f64 = 0.8;

const WHY: &str =
    "10 % and what one slice of the throttling, 100 ms, gives: rates are kept slice by slice";

/// The files with the bytes and operations on block devices.
const COUNTS: [&str; 5] = [
    "io.stat",
    "blkio.throttle.io_service_bytes",
    "blkio.throttle.io_serviced",
    "blkio.throttle.io_service_bytes_recursive",
    "blkio.throttle.io_serviced_recursive",
];

/// The limited operation, and how much of it the run did.
struct Rate {
    operation: Operation,
    of_bytes: bool,
    limit: f64,
    seconds: f64,
    bytes: u64,
    ios: u64,
    /// What everybody on the host wrote to the device, in bytes; `None` where it cannot be read.
    reached: Option<u64>,
}

/// The bytes that the workload wrote past a limit, because they went through the page cache.
#[derive(Clone, Copy, Debug)]
struct Aside {
    bytes: u64,
    /// Whether more than the limit allows reached the limited device. The kernel does not report which device each byte
    /// goes to.
    reached: bool,
}

impl Rate {
    fn of(kind: Kind, device: Device, limit: u64, run: &Run) -> Self {
        let (operation, of_bytes) = match kind {
            Kind::ReadBps => (Operation::Read, true),
            Kind::WriteBps => (Operation::Write, true),
            Kind::ReadIops => (Operation::Read, false),
            _ => (Operation::Write, false),
        };
        let (bytes, ios) = used(run, device, operation);
        Self {
            operation,
            of_bytes,
            limit: limit as f64,
            seconds: run.seconds(),
            bytes,
            ios,
            reached: run.reached.get(&device).copied(),
        }
    }

    fn amount(&self) -> f64 {
        let amount = if self.of_bytes { self.bytes } else { self.ios };
        amount as f64
    }

    fn rate(&self) -> f64 {
        self.amount() / self.seconds.max(f64::EPSILON)
    }

    fn allowed(&self) -> f64 {
        self.limit * self.seconds
    }

    fn slack(&self) -> f64 {
        self.allowed() * SHARE + self.limit * SLICE
    }

    fn shown(&self, rate: f64) -> String {
        if self.of_bytes {
            format!("{}/s", size(rate as u64))
        } else {
            format!("{rate:.0} I/Os/s")
        }
    }

    /// Returns the bytes that the workload wrote, if more of them bypassed the limit than the limit allows. On v1,
    /// kernel threads write what is in the page cache, and no limit binds these.
    fn aside(&self, version: Version, dirtied: Dirtied) -> Option<Aside> {
        let Dirtied::Bytes(dirtied) = dirtied else {
            return None;
        };
        let exceeds = |written: u64| {
            let unlimited = written.saturating_sub(self.bytes) as f64;
            unlimited > self.allowed() + self.slack()
        };
        let is_aside = self.passes_the_cache(version) && exceeds(dirtied);
        is_aside.then(|| Aside {
            bytes: dirtied,
            reached: self.reached.is_some_and(exceeds),
        })
    }

    fn passes_the_cache(&self, version: Version) -> bool {
        version == Version::V1 && self.of_bytes && self.operation == Operation::Write
    }

    fn judge(&self, version: Version, run: &Run) -> Finding {
        if run.unread.first(&COUNTS).is_some() {
            return run.unseen(&COUNTS, "how much was read and written");
        }
        let (rate, limit) = (self.shown(self.rate()), self.shown(self.limit));
        if self.amount() > self.allowed() + self.slack() {
            let reason = format!("{rate} on average, and {limit} is the limit");
            return Finding::of(Verdict::Fail, reason);
        }
        if let Some(aside) = self.aside(version, run.dirtied) {
            let (verdict, unknown) = match aside.reached {
                true => (Verdict::Fail, ""),
                false => (
                    Verdict::Inconclusive,
                    ", and they have not reached this device yet, or go to another one",
                ),
            };
            let reason = format!(
                "{} were written in {:.1} s through the page cache, which v1 does not limit{unknown}; write with O_DIRECT, or use cgroup v2",
                size(aside.bytes),
                self.seconds
            );
            return Finding::of(verdict, reason);
        }
        if self.rate() < self.limit * PRESSED {
            let reason = format!("{rate} on average, and nothing pressed against {limit}");
            return Finding::of(Verdict::Inconclusive, reason);
        }
        match run.dirtied {
            Dirtied::Unknown { pid } if self.passes_the_cache(version) => Finding::of(
                Verdict::Inconclusive,
                format!(
                    "what process {pid} wrote cannot be read (its io in procfs), so what went through the page cache is not known"
                ),
            ),
            _ => Finding::of(Verdict::Pass, format!("held at {limit}: {rate} on average")),
        }
    }
}

pub(super) fn rate(chain: &Chain, effective: &Link, run: &Run) -> Finding {
    let Some(device) = chain.device else {
        return Finding::of(Verdict::Inconclusive, "no device is named");
    };
    let rate = Rate::of(chain.kind, device, number(&effective.held), run);
    let Finding {
        verdict, reason, ..
    } = rate.judge(chain.version, run);
    let aside = rate.aside(chain.version, run.dirtied);
    let known = run.unread.first(&COUNTS).is_none();
    let dirtied = match run.dirtied {
        Dirtied::Bytes(bytes) if rate.operation == Operation::Write => Some(bytes),
        _ => None,
    };
    Finding {
        stimulus: known.then(|| Stimulus {
            pressed: rate.rate() >= rate.limit * PRESSED || aside.is_some(),
            what: format!("{} on average", rate.shown(rate.rate())),
        }),
        observed: known.then(|| Observed::Rate {
            bytes: rate.bytes,
            ios: rate.ios,
            seconds: rate.seconds,
            rate: rate.rate(),
            dirtied_bytes: dirtied,
        }),
        tolerance: Some(Tolerance {
            value: rate.shown(rate.slack() / rate.seconds.max(f64::EPSILON)),
            why: WHY,
        }),
        verdict,
        reason,
    }
}

/// Returns the bytes and the number of operations in the run.
fn used(run: &Run, device: Device, operation: Operation) -> (u64, u64) {
    let at = operation as usize;
    let of = |devices: &[DeviceUse]| {
        let mut devices = devices.iter();
        let found = devices.find(|it| (it.major, it.minor) == (device.major, device.minor));
        let both = found.map(|it| (it.bytes[at].unwrap_or(0), it.count[at].unwrap_or(0)));
        both.unwrap_or_default()
    };
    let (before, after) = (
        of(&run.first.reading.devices),
        of(&run.last.reading.devices),
    );
    (
        after.0.saturating_sub(before.0),
        after.1.saturating_sub(before.1),
    )
}

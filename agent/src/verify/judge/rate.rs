//! Bytes and I/Os in a second, of a block device.

use super::{Finding, Run, number};
use crate::host::hierarchy::Version;
use crate::host::reading::{DeviceUse, Operation};
use crate::limit::chain::{Chain, Link};
use crate::limit::{Device, Kind};
use crate::units::size;
use crate::verify::report::{Observed, Stimulus, Tolerance, Verdict};

/// Of what the limit gives.
const SHARE: f64 = 0.1;

/// Seconds that a device may be ahead: a slice of the kernel's (`DFL_THROTL_SLICE_HD`, block/blk-throttle.h).
const SLICE: f64 = 0.1;

/// From this share of the limit on, the workload pressed against it.
const PRESSED: f64 = 0.8;

const WHY: &str =
    "10 % and what one slice of the throttling, 100 ms, gives: rates are kept slice by slice";

pub fn rate(chain: &Chain, effective: &Link, run: &Run) -> Finding {
    let limit = number(&effective.held) as f64;
    let (operation, of_bytes) = match chain.kind {
        Kind::ReadBps => (Operation::Read, true),
        Kind::WriteBps => (Operation::Write, true),
        Kind::ReadIops => (Operation::Read, false),
        _ => (Operation::Write, false),
    };
    let Some(device) = chain.device else {
        return Finding::of(Verdict::Inconclusive, "no device is named");
    };
    let (bytes, ios) = used(run, device, operation);
    let amount = if of_bytes { bytes } else { ios } as f64;
    let seconds = run.seconds();
    let rate = amount / seconds.max(f64::EPSILON);
    let allowed = limit * seconds;
    let slack = allowed * SHARE + limit * SLICE;
    let pressed = rate >= limit * PRESSED;
    let shown = |rate: f64| {
        if of_bytes {
            format!("{}/s", size(rate as u64))
        } else {
            format!("{rate:.0} I/Os/s")
        }
    };
    // On v1 what goes through the page cache is written by the kernel's own threads, and limited by nobody.
    let dirtied = run.dirtied.filter(|_| operation == Operation::Write);
    let aside = dirtied.filter(|dirtied| {
        let unlimited = dirtied.saturating_sub(bytes) as f64;
        chain.version == Version::V1 && of_bytes && unlimited > allowed + slack
    });
    let (verdict, reason) = if amount > allowed + slack {
        let reason = format!(
            "{} on average, and {} is the limit",
            shown(rate),
            shown(limit)
        );
        (Verdict::Fail, reason)
    } else if let Some(dirtied) = aside {
        let reason = format!(
            "{} were written in {seconds:.1} s through the page cache, which v1 does not limit; write with O_DIRECT, or use cgroup v2",
            size(dirtied)
        );
        (Verdict::Fail, reason)
    } else if pressed {
        let reason = format!("held at {}: {} on average", shown(limit), shown(rate));
        (Verdict::Pass, reason)
    } else {
        let reason = format!(
            "{} on average, and nothing pressed against {}",
            shown(rate),
            shown(limit)
        );
        (Verdict::Inconclusive, reason)
    };
    Finding {
        stimulus: Some(Stimulus {
            pressed: pressed || aside.is_some(),
            what: format!("{} on average", shown(rate)),
        }),
        observed: Some(Observed::Rate {
            bytes,
            ios,
            seconds,
            rate,
            dirtied_bytes: dirtied,
        }),
        tolerance: Some(Tolerance {
            value: shown(slack / seconds.max(f64::EPSILON)),
            why: WHY,
        }),
        verdict,
        reason,
    }
}

/// Bytes and I/Os in the run.
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

//! CPU time: a quota holds where no more was used than it gives in the time.

use super::{Finding, Run};
use crate::host::cgroup::Limit;
use crate::host::reading::Field;
use crate::limit::Held;
use crate::verify::report::{Cpu, Observed, Stimulus, Tolerance, Verdict};

/// Of the time that the quota gives.
const SHARE: f64 = 0.02;

/// Seconds that each CPU may have taken of a period before (`sched_cfs_bandwidth_slice_us`, kernel/sched/fair.c).
const SLICE: f64 = 0.005;

const WHY: &str = "2 % of what the quota gives, or one period's quota and a slice of 5 ms of each CPU: the run begins and ends within a period";

pub fn quota(limit: &Held, run: &Run) -> Finding {
    let Held::Quota {
        quota: Limit::Value(quota),
        period,
    } = *limit
    else {
        return Finding::of(Verdict::Inconclusive, "no quota holds");
    };
    let cpus = quota as f64 / period.max(1) as f64;
    let seconds = run.seconds();
    let allowed = cpus * seconds;
    let edges = quota as f64 / 1e6 + SLICE * run.host.cpus as f64;
    let slack = (allowed * SHARE).max(edges);
    let cpu = observed(run);
    let throttled = cpu.throttled_periods.unwrap_or(0);
    let used = cpu.cpu_seconds;
    let pressed = throttled > 0 || used > allowed - slack;
    let (verdict, reason) = if used > allowed + slack {
        let reason = format!(
            "used {used:.2} s of CPU time in {seconds:.2} s, and {cpus} CPUs give {allowed:.2} s"
        );
        (Verdict::Fail, reason)
    } else if cpus > run.cpus as f64 {
        let reason = format!("{cpus} CPUs cannot be used up: it can run on {}", run.cpus);
        (Verdict::Inconclusive, reason)
    } else if !pressed {
        let reason = format!(
            "used {:.2} of {cpus} CPUs and was never throttled; stress-ng --cpu {} would press",
            cpu.cpus,
            cpus.ceil()
        );
        (Verdict::Inconclusive, reason)
    } else {
        let periods = cpu.periods.unwrap_or(0);
        let reason = format!(
            "held at {cpus} CPUs: used {:.3}, throttled in {throttled} of {periods} periods",
            cpu.cpus
        );
        (Verdict::Pass, reason)
    };
    Finding {
        stimulus: Some(Stimulus {
            pressed,
            what: format!("throttled in {throttled} periods"),
        }),
        observed: Some(Observed::Cpu(cpu)),
        tolerance: Some(Tolerance {
            value: format!("{slack:.3} s"),
            why: WHY,
        }),
        verdict,
        reason,
    }
}

fn observed(run: &Run) -> Cpu {
    let difference = |field| {
        let after = run.last.reading.number(field)?;
        let before = run.first.reading.number(field).unwrap_or(0);
        Some(after.saturating_sub(before))
    };
    let in_seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
    let cpu_seconds = difference(Field::CpuUsage).map_or(0.0, in_seconds);
    let seconds = run.seconds();
    Cpu {
        cpu_seconds,
        seconds,
        cpus: cpu_seconds / seconds.max(f64::EPSILON),
        periods: difference(Field::Periods),
        throttled_periods: difference(Field::ThrottledPeriods),
        throttled_seconds: difference(Field::ThrottledTime).map(in_seconds),
    }
}

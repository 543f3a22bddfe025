//! Judges CPU quotas. A quota holds where the cgroup used no more than the quota gives in that time.
//!
//! Only a throttled period shows that the processes wanted more CPU time.

use agent_host::hits::BURST;
use agent_host::reading::Field;
use agent_model::limit::{Held, Limit};

use super::{Finding, Run};
use crate::report::{Cpu, Observed, Stimulus, Tolerance, Verdict};

/// The tolerance, as a share of the time that the quota gives.
const SHARE: f64 = 0.02;

/// The seconds of quota that each CPU may hold from an earlier period (`sched_cfs_bandwidth_slice_us`,
/// kernel/sched/fair.c).
const SLICE: f64 = 0.005;

const WHY: &str = "2 % of what the quota gives, or one period's quota and a slice of 5 ms of each CPU: the run begins and ends within a period";

/// The files with the CPU time that was used, and those with the throttled periods.
const USAGE: [&str; 2] = ["cpuacct.usage", "cpu.stat"];
const STAT: [&str; 1] = ["cpu.stat"];

pub(super) fn quota(limit: &Held, run: &Run) -> Finding {
    let Held::Quota {
        quota: Limit::Value(quota),
        period,
    } = *limit
    else {
        return Finding::of(Verdict::Inconclusive, "no quota holds");
    };
    let cpus = quota as f64 / period.max(1) as f64;
    let allowed = cpus * run.seconds();
    let edges = quota as f64 / 1e6 + SLICE * run.host.cpus as f64;
    let slack = (allowed * SHARE).max(edges);
    let cpu = observed(run);
    let Finding {
        verdict, reason, ..
    } = verdict(cpus, allowed, slack, &cpu, run);
    Finding {
        stimulus: cpu.throttled_periods.map(|periods| Stimulus {
            pressed: periods > 0,
            what: format!("throttled in {periods} periods"),
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

fn verdict(cpus: f64, allowed: f64, slack: f64, cpu: &Cpu, run: &Run) -> Finding {
    let (Some(used), Some(rate)) = (cpu.cpu_seconds, cpu.cpus) else {
        return run.unseen(&USAGE, "how much CPU time was used");
    };
    if used > allowed + slack {
        return above(cpus, (used, allowed, slack), cpu, run);
    }
    if cpus > run.cpus as f64 {
        let reason = format!("{cpus} CPUs cannot be used up: it can run on {}", run.cpus);
        return Finding::of(Verdict::Inconclusive, reason);
    }
    let Some(throttled) = cpu.throttled_periods else {
        return run.unseen(&STAT, "whether it was throttled");
    };
    if throttled == 0 {
        let reason = format!(
            "used {rate:.2} of {cpus} CPUs and was never throttled; stress-ng --cpu {} would press",
            cpus.ceil()
        );
        return Finding::of(Verdict::Inconclusive, reason);
    }
    let periods = cpu.periods.map(|periods| format!(" of {periods}"));
    let periods = periods.unwrap_or_default();
    let reason =
        format!("held at {cpus} CPUs: used {rate:.3}, throttled in {throttled}{periods} periods");
    Finding::of(Verdict::Pass, reason)
}

/// Judges usage above what the quota gives in the time. A burst may have allowed it.
fn above(cpus: f64, (used, allowed, slack): (f64, f64, f64), cpu: &Cpu, run: &Run) -> Finding {
    if cpu.burst_seconds.is_none()
        && let Some(unread) = run.unread.first(&BURST)
    {
        let reason = format!("{unread}; so whether a burst was allowed is not known");
        return Finding::of(Verdict::Inconclusive, reason);
    }
    let burst = cpu.burst_seconds.filter(|burst| *burst > 0.0);
    let seconds = run.seconds();
    let mut reason = format!("used {used:.2} s of CPU time in {seconds:.2} s, and {cpus} CPUs");
    let within = burst.is_some_and(|burst| used <= allowed + slack + burst);
    if let Some(burst) = burst {
        reason += &format!(" with a burst of {burst:.3} s");
    }
    reason += &format!(" give {:.2} s", allowed + burst.unwrap_or(0.0));
    if !within {
        return Finding::of(Verdict::Fail, reason);
    }
    match cpu.throttled_periods {
        None => run.unseen(&STAT, "whether it was throttled"),
        Some(0) => {
            let reason = format!("{reason}, and it was never throttled");
            Finding::of(Verdict::Inconclusive, reason)
        }
        Some(throttled) => {
            let reason = format!(
                "held at {cpus} CPUs and its burst: {reason}; throttled in {throttled} periods"
            );
            Finding::of(Verdict::Pass, reason)
        }
    }
}

fn observed(run: &Run) -> Cpu {
    let counted = |field| run.counted_meanwhile(|it| it.reading.number(field));
    let in_seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
    let cpu_seconds = counted(Field::CpuUsage).map(in_seconds);
    let seconds = run.seconds();
    Cpu {
        cpu_seconds,
        seconds,
        cpus: cpu_seconds.map(|used| used / seconds.max(f64::EPSILON)),
        periods: counted(Field::Periods),
        throttled_periods: counted(Field::ThrottledPeriods),
        throttled_seconds: counted(Field::ThrottledTime).map(in_seconds),
        burst_seconds: run.peaks.burst.map(|burst| burst as f64 / 1e6),
    }
}

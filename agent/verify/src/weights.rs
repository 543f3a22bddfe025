//! Judges CPU weights: runs siblings on one CPU, and compares their shares.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use agent_host::hits::{Wanted, wanted_cpu};
use agent_host::reading::Field;
use agent_model::limit::{Held, Kind, Limit};
use futures_util::future::select_all;

use super::caller::{CallerLimits, once};
use super::claim::LimitClaim;
use super::error::Error;
use super::judge;
use super::report::{Check, Observed, Stimulus, Tolerance, Verdict};
use super::run::{Watch, gauge, interrupt, ticks, until};
use super::supervised::Supervised;
use super::unread::AllUnread;

/// How long siblings are observed without `--for`.
pub const USUAL: Duration = Duration::from_secs(10);

/// The tolerance, as a share of the expected CPU time.
const SHARE: f64 = 0.05;

/// The least tolerance, in seconds of CPU time.
const LEAST: f64 = 0.02;

/// Threads that wanted the CPU for this share of the time count as wanting it all the time.
const WANTING: f64 = 0.9;

const WHY: &str = "5 % of the expected time, or 20 ms: a few slices of the scheduler (sched_base_slice_ns) at the ends";

/// One of the siblings, while it runs.
struct Sibling {
    supervised: Supervised,
    watch: Watch,
    /// Its threads, by tid.
    wants: BTreeMap<i32, Want>,
    has_ended: bool,
}

/// How much a thread wanted the CPU.
#[derive(Clone, Copy, Debug)]
struct Want {
    /// The time at the begin of the measurement, in nanoseconds.
    before: u64,
    last: Wanted,
    /// The time of the first look that found `last`.
    since: Instant,
}

/// The use of the CPU by one sibling.
#[derive(Clone, Copy, Debug)]
struct CpuShare {
    weight: f64,
    /// The CPU time that the sibling used, in seconds; `None` where it cannot be read.
    used: Option<f64>,
    wanting: f64,
}

/// Launches siblings, observes for `time` how they share their CPU, and judges each. The claims of a sibling are its
/// weight, which comes first, and the limits of the caller.
///
/// # Errors
/// A sibling cannot be launched, or its cgroup cannot be read. [`Error::Interrupted`] after Ctrl-C.
pub async fn split(
    supervised: Vec<Supervised>,
    claims: Vec<LimitClaim>,
    caller: &CallerLimits,
    time: Duration,
) -> Result<(Vec<Check>, Vec<String>), Error> {
    let mut interrupt = interrupt()?;
    let mut siblings = Vec::new();
    for (mut supervised, claim) in supervised.into_iter().zip(claims) {
        let limited = supervised.limit().await?;
        let gauge = gauge(&limited)?;
        if siblings.is_empty() {
            supervised.notes.extend(caller.note(&gauge.limits()));
        }
        let watch = Watch::begin(gauge, caller.beside(vec![claim]))?;
        siblings.push(Sibling {
            supervised,
            watch,
            wants: BTreeMap::new(),
            has_ended: false,
        });
    }
    for sibling in &mut siblings {
        sibling.supervised.start().await?;
    }
    begin(&mut siblings)?;
    let deadline = Some(Instant::now() + time);
    let mut ticks = ticks();
    let mut interrupted = false;
    loop {
        tokio::select! {
            // The siblings share the CPU no more after one has ended.
            ended = first_end(&mut siblings) => {
                siblings[ended?].has_ended = true;
                break;
            }
            () = until(deadline) => {
                look(&mut siblings)?;
                break;
            }
            _ = interrupt.recv() => {
                interrupted = true;
                break;
            }
            _ = ticks.tick() => look(&mut siblings)?,
        }
    }
    let checks = judge_all(&siblings);
    let mut notes = Vec::new();
    for mut sibling in siblings {
        if !sibling.has_ended {
            sibling.supervised.stop().await?;
            sibling.supervised.end().await?;
        }
        notes.extend(sibling.supervised.remove().await?);
    }
    if interrupted {
        return Err(Error::Interrupted);
    }
    Ok((checks, notes))
}

/// Waits until a sibling has ended, and returns its index.
async fn first_end(siblings: &mut [Sibling]) -> Result<usize, Error> {
    let ends = siblings.iter_mut().map(|it| Box::pin(it.supervised.end()));
    let (ended, at, _) = select_all(ends).await;
    ended.map(|_| at)
}

/// Begins the measurement of all siblings together.
fn begin(siblings: &mut [Sibling]) -> Result<(), Error> {
    look(siblings)?;
    for Sibling { watch, wants, .. } in siblings {
        watch.before = watch.after.clone();
        for want in wants.values_mut() {
            want.before = want.last.time;
        }
    }
    Ok(())
}

fn look(siblings: &mut [Sibling]) -> Result<(), Error> {
    for Sibling { watch, wants, .. } in siblings {
        watch.look()?;
        let processes = watch.gauge.processes(Kind::CpuWeight);
        let now = wanted_cpu(Path::new("/"), &processes).into_iter();
        let now = now.map(|last| {
            (
                last.tid,
                Want::next(wants.get(&last.tid), last, watch.after.at),
            )
        });
        *wants = now.collect();
    }
    Ok(())
}

impl Want {
    fn next(before: Option<&Self>, last: Wanted, at: Instant) -> Self {
        match before {
            Some(before) if before.last == last => *before,
            Some(Self { before, .. }) => Self {
                before: *before,
                last,
                since: at,
            },
            None => Self {
                before: 0,
                last,
                since: at,
            },
        }
    }

    /// Returns how long the thread ran or waited for a CPU, in nanoseconds. A thread that wants a CPU and whose counter has
    /// not changed has waited since: to sleep, it would have had to run.
    fn time(&self, at: Instant) -> u64 {
        let waits = match self.last.now {
            true => at.saturating_duration_since(self.since),
            false => Duration::ZERO,
        };
        let waits = u64::try_from(waits.as_nanos()).unwrap_or(u64::MAX);
        self.last
            .time
            .saturating_sub(self.before)
            .saturating_add(waits)
    }
}

impl Sibling {
    /// Judges a claim by the files alone.
    fn configured(&self, at: usize) -> Check {
        judge::judge(judge::ClaimFacts {
            claim: &self.watch.claims[at],
            written: None,
            chain: &self.watch.before.chains[at],
            undone: self.watch.undone[at].as_ref(),
            run: None,
        })
    }

    fn share(&self) -> CpuShare {
        let (before, after) = (&self.watch.before, &self.watch.after);
        let usage = |it: &super::sample::Sample| it.reading.number(Field::CpuUsage);
        let used = usage(after).zip(usage(before));
        let used = used.map(|(after, before)| after.saturating_sub(before) as f64 / 1e9);
        let wanted = self.wants.values().map(|want| want.time(after.at));
        let time = after.at.saturating_duration_since(before.at).as_secs_f64();
        let own = before
            .chains
            .first()
            .and_then(|chain| chain.as_ref().ok()?.own.as_ref().ok());
        let weight = match own.map(|own| &own.held) {
            Some(Held::Amount(Limit::Value(weight))) => *weight as f64,
            _ => 0.0,
        };
        CpuShare {
            weight,
            used,
            wanting: wanted.sum::<u64>() as f64 / 1e9 / time.max(f64::EPSILON),
        }
    }
}

fn judge_all(siblings: &[Sibling]) -> Vec<Check> {
    let shares: Vec<CpuShare> = siblings.iter().map(Sibling::share).collect();
    let of_weight = siblings.iter().enumerate().map(|(at, sibling)| {
        let configured = sibling.configured(0);
        if configured.verdict == Verdict::Pass {
            match shares
                .iter()
                .map(|it| it.used)
                .collect::<Option<Vec<f64>>>()
            {
                Some(used) => judged(&shares, &used, at, configured),
                None => unseen(siblings, configured),
            }
        } else {
            configured
        }
    });
    let of_caller = siblings
        .iter()
        .flat_map(|it| (1..it.watch.claims.len()).map(|at| it.configured(at)));
    once(of_weight.chain(of_caller).collect())
}

/// Makes a check inconclusive, because the CPU time of a sibling is not known, and so the shares are not.
fn unseen(siblings: &[Sibling], check: Check) -> Check {
    let mut unread = AllUnread::default();
    for sibling in siblings {
        unread.add(&sibling.watch.before.unread);
        unread.add(&sibling.watch.after.unread);
    }
    let files = ["cpuacct.usage", "cpu.stat"];
    Check {
        verdict: Verdict::Inconclusive,
        reason: unread.why(&files, "how much CPU time each of them used"),
        ..check
    }
}

/// Judges the share of one sibling. Only the CPU time of the siblings counts, not that of other processes.
fn judged(shares: &[CpuShare], used: &[f64], at: usize, check: Check) -> Check {
    let all: f64 = used.iter().sum();
    let weights: f64 = shares.iter().map(|it| it.weight).sum();
    let CpuShare {
        weight, wanting, ..
    } = shares[at];
    let used = used[at];
    let expected_share = weight / weights.max(1.0);
    let expected = all * expected_share;
    let slack = (expected * SHARE).max(LEAST);
    let share = used / all.max(f64::EPSILON);
    let idle = shares.iter().find(|it| it.wanting < WANTING);
    let (verdict, reason) = if let Some(idle) = idle {
        let reason = format!(
            "not all of them wanted the CPU all the time: one did for {:.0} %; stress-ng --cpu 1 would",
            idle.wanting * 100.0
        );
        (Verdict::Inconclusive, reason)
    } else if used == 0.0 && expected <= slack {
        let reason =
            format!("got nothing yet where {expected:.3} s were due: watch longer, --for 10s");
        (Verdict::Inconclusive, reason)
    } else if (used - expected).abs() > slack {
        let reason = format!(
            "used {used:.3} s, {:.2} % of the CPU time, and {:.2} % was due",
            share * 100.0,
            expected_share * 100.0
        );
        (Verdict::Fail, reason)
    } else {
        let reason = format!(
            "got {:.2} % of the CPU time, and {:.2} % was due",
            share * 100.0,
            expected_share * 100.0
        );
        (Verdict::Pass, reason)
    };
    Check {
        stimulus: Some(Stimulus {
            pressed: idle.is_none(),
            what: format!("wanted the CPU {:.0} % of the time", wanting * 100.0),
        }),
        observed: Some(Observed::Weight {
            cpu_seconds: used,
            expected_seconds: expected,
            share,
            expected_share,
            wanting,
        }),
        tolerance: Some(Tolerance {
            value: format!("{slack:.3} s"),
            why: WHY,
        }),
        verdict,
        reason,
        ..check
    }
}

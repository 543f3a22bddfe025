//! CPUs: a set holds where nothing of the cgroup could run, or ran, anywhere else.

use super::{Finding, Run};
use crate::host::reading::Field;
use crate::limit::{Held, Numbers};
use crate::verify::report::{Observed, Stimulus, Verdict};

pub fn cpus(limit: &Held, run: &Run) -> Finding {
    let Held::Numbers(set) = limit else {
        return Finding::of(Verdict::Inconclusive, "no set holds");
    };
    let allowed = run.allowed.iter().filter_map(|text| Numbers::parse(text));
    let allowed = allowed.fold(Numbers::default(), |all, one| all.with(&one));
    let used = used(run);
    let usage = |sample: &super::Sample| sample.reading.number(Field::CpuUsage).unwrap_or(0);
    let seconds = usage(&run.after).saturating_sub(usage(&run.before)) as f64 / 1e9;
    let is_within = |numbers: &Numbers| numbers.of_both(set) == *numbers;
    let ran = !allowed.is_empty() || used.as_ref().is_some_and(|used| !used.is_empty());
    let (verdict, reason) = if !is_within(&allowed) {
        (
            Verdict::Fail,
            format!("processes of it may run on CPUs {allowed}, and {set} is the set"),
        )
    } else if used.as_ref().is_some_and(|used| !is_within(used)) {
        let used = used.clone().unwrap_or_default();
        (
            Verdict::Fail,
            format!("it ran on CPUs {used}, and {set} is the set"),
        )
    } else if !ran {
        (Verdict::Inconclusive, "nothing ran in it".to_owned())
    } else {
        (
            Verdict::Pass,
            format!("all of {seconds:.2} s of CPU time was used on CPUs {set}"),
        )
    };
    Finding {
        stimulus: Some(Stimulus {
            pressed: ran,
            what: format!("used {seconds:.2} s of CPU time"),
        }),
        observed: Some(Observed::Set {
            allowed: allowed.to_string(),
            used: used.map(|used| used.to_string()),
            cpu_seconds: seconds,
        }),
        tolerance: None,
        verdict,
        reason,
    }
}

/// v1 counts each CPU's time.
fn used(run: &Run) -> Option<Numbers> {
    let (before, after) = (&run.before.hits.cpus, &run.after.hits.cpus);
    if after.is_empty() {
        return None;
    }
    let before = before.iter().copied().chain(std::iter::repeat(0));
    let grown = after.iter().zip(before).enumerate();
    let used = grown.filter(|(_, (after, before))| *after > before);
    Some(
        used.filter_map(|(cpu, _)| u32::try_from(cpu).ok())
            .collect(),
    )
}

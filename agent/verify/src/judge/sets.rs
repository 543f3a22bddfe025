//! Judges sets of CPUs. A set holds where no task could run elsewhere, although more tasks wanted a CPU than the set
//! has.

use agent_host::reading::Field;
use agent_limits::limit::chain::Chain;
use agent_model::limit::{Held, Numbers};

use super::{Finding, Run};
use crate::report::{Observed, Stimulus, Verdict};

/// The file with the CPU time on each CPU, and the one with the allowed CPUs and the state of a process.
const PER_CPU: [&str; 1] = ["cpuacct.usage_percpu"];
const STATUS: [&str; 1] = ["status of a process"];

pub(super) fn cpus(limit: &Held, chain: &Chain, run: &Run) -> Finding {
    let Held::Numbers(set) = limit else {
        return Finding::of(Verdict::Inconclusive, "no set holds");
    };
    let allowed = run
        .peaks
        .allowed
        .iter()
        .filter_map(|text| Numbers::parse(text));
    let allowed = allowed.fold(Numbers::default(), |all, one| all.with(&one));
    let used = used(run);
    let usage = run.counted(|it| it.reading.number(Field::CpuUsage));
    let seconds = usage.map(|nanoseconds| nanoseconds as f64 / 1e9);
    let wanting = run.peaks.wanting();
    let Finding {
        verdict, reason, ..
    } = verdict(set, chain, &allowed, used.as_ref(), run);
    Finding {
        stimulus: wanting.map(|wanting| Stimulus {
            pressed: wanting > set.len(),
            what: format!(
                "{wanting} threads wanted a CPU at the same time, of {}",
                set.len()
            ),
        }),
        observed: Some(Observed::Set {
            allowed: allowed.to_string(),
            used: used.map(|used| used.to_string()),
            cpu_seconds: seconds,
            wanting,
        }),
        tolerance: None,
        verdict,
        reason,
    }
}

fn verdict(
    set: &Numbers,
    chain: &Chain,
    allowed: &Numbers,
    used: Option<&Numbers>,
    run: &Run,
) -> Finding {
    let is_within = |numbers: &Numbers| numbers.of_both(set) == *numbers;
    if !is_within(allowed) {
        let reason = format!("processes of it may run on CPUs {allowed}, and {set} is the set");
        return Finding::of(Verdict::Fail, reason);
    }
    if let Some(used) = used.filter(|used| !is_within(used)) {
        let reason = format!("it ran on CPUs {used}, and {set} is the set");
        return Finding::of(Verdict::Fail, reason);
    }
    if run.unread.first(&PER_CPU).is_some() {
        return run.unseen(&PER_CPU, "which CPUs it ran on");
    }
    let open = |reason: String| Finding::of(Verdict::Inconclusive, reason);
    let mut links = chain.own.iter().chain(&chain.above);
    let root = links.find(|link| link.cgroup == "/");
    let is_all = |root: &Numbers| root.of_both(set) == *root;
    match root.map(|root| &root.held) {
        Some(Held::Numbers(root)) if is_all(root) => {
            return open(format!(
                "{set} are all CPUs that this host has, so nothing can run elsewhere"
            ));
        }
        _ => {}
    }
    let ran = !allowed.is_empty() || used.is_some_and(|used| !used.is_empty());
    if !ran {
        return open("nothing ran in it".to_owned());
    }
    let Some(wanting) = run.peaks.wanting() else {
        return run.unseen(&STATUS, "how many threads wanted a CPU");
    };
    let count = set.len();
    if wanting <= count {
        return open(format!(
            "at most {wanting} threads wanted a CPU at the same time, and the set {set} has {count}; stress-ng --cpu {} would press",
            2 * count
        ));
    }
    let reason = format!(
        "held on CPUs {set}: nothing ran or could run elsewhere while {wanting} threads wanted a CPU"
    );
    Finding::of(Verdict::Pass, reason)
}

/// Returns the CPUs whose CPU time grew in the run; `None` where a sample does not have the time of each CPU. v2 does not
/// count it.
fn used(run: &Run) -> Option<Numbers> {
    let (before, after) = (&run.before.hits.cpus, &run.after.hits.cpus);
    if before.is_empty() || after.is_empty() {
        return None;
    }
    let grown = after.iter().zip(before).enumerate();
    let used = grown.filter(|(_, (after, before))| after > before);
    Some(
        used.filter_map(|(cpu, _)| u32::try_from(cpu).ok())
            .collect(),
    )
}

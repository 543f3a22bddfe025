//! Verdicts on runs that differ in one fact.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use agent_host::hits::Hits;
use agent_host::reading::{Field, Operation, Reading};
use agent_model::hierarchy::Version;
use agent_model::limit::{Limit, Numbers, Value};

use super::*;
use crate::sample::Processes;

mod unknown;

const MIB: u64 = 1 << 20;

fn link(cgroup: &str, held: Held) -> Link {
    Link {
        cgroup: cgroup.to_owned(),
        file: PathBuf::from("/cg/memory.max"),
        text: held.to_string(),
        held,
    }
}

fn bytes(mib: u64) -> Held {
    Held::Amount(Limit::Value(mib * MIB))
}

fn claim(kind: Kind, value: Value) -> LimitClaim {
    LimitClaim::new(kind, value, "--flag")
}

fn chain(kind: Kind, own: Held) -> Chain {
    Chain {
        kind,
        version: Version::V2,
        device: None,
        own: Ok(link("/agent/a", own)),
        above: Vec::new(),
    }
}

fn sample(at: Instant, fields: &[(Field, u64)], hits: Hits) -> Sample {
    let mut reading = Reading::default();
    for (field, value) in fields {
        reading.set(*field, *value);
    }
    Sample {
        at,
        reading,
        hits,
        counted: [agent_model::clock::Moment::now(); 2],
        chains: Vec::new(),
        processes: Processes::default(),
        unread: Vec::new(),
    }
}

/// Counters that are 0 at the begin.
const COUNTED: [Field; 6] = [
    Field::Failcnt,
    Field::MaxUsage,
    Field::MemoryUsage,
    Field::CpuUsage,
    Field::Periods,
    Field::ThrottledPeriods,
];

/// The reading of a cgroup in which nothing has happened.
fn nothing() -> (Vec<(Field, u64)>, Hits) {
    let hits = Hits {
        oom_kills: Some(0),
        high: Some(0),
        both_peak: Some(0),
        both_hits: Some(0),
        swap_peak: Some(0),
        swap_hits: Some(0),
        forks_refused: Some(0),
        pids_peak: Some(0),
        cpus: vec![0, 0],
        ..Hits::default()
    };
    (COUNTED.map(|field| (field, 0)).to_vec(), hits)
}

/// Ten seconds in which nothing happened.
fn run() -> Run {
    let start = Instant::now();
    let end = start + Duration::from_secs(10);
    let quiet = |at| {
        let (fields, hits) = nothing();
        sample(at, &fields, hits)
    };
    Run {
        before: quiet(start),
        after: quiet(end),
        first: quiet(start),
        last: quiet(end),
        peaks: Peaks {
            memory: Some(0),
            swap: Some(0),
            both: Some(0),
            pids: Some(0),
            ..Peaks::default()
        },
        unread: AllUnread::default(),
        victims: None,
        dirtied: Dirtied::NotAsked,
        reached: BTreeMap::new(),
        host: Host {
            cpus: 2,
            swap: Some(0),
            page: 4096,
        },
        cpus: 2,
    }
}

fn judged(claim: &LimitClaim, chain: &Chain, run: Option<&Run>) -> (Verdict, String) {
    let check = judge(ClaimFacts {
        claim,
        written: None,
        chain: &Ok(chain.clone()),
        undone: None,
        run,
    });
    (check.verdict, check.reason)
}

fn memory_claim() -> LimitClaim {
    claim(Kind::Memory, Value::Amount(Limit::Value(150 * MIB)))
}

#[test]
fn a_limit_that_is_not_set_as_intended_fails() {
    let claim = memory_claim();
    let good = chain(Kind::Memory, bytes(150));
    assert_eq!(judged(&claim, &good, None).0, Verdict::Pass);

    let other = chain(Kind::Memory, bytes(100));
    let (verdict, reason) = judged(&claim, &other, None);
    assert_eq!(verdict, Verdict::Fail);
    assert_eq!(
        reason,
        "/cg/memory.max holds 100.0M, and 150.0M was intended"
    );

    let mut shadowed = good.clone();
    shadowed.above = vec![link("/agent", bytes(100))];
    let (verdict, reason) = judged(&claim, &shadowed, None);
    assert_eq!(verdict, Verdict::Fail);
    assert_eq!(reason, "limited by /agent: 100.0M < 150.0M");

    let mut missing = good.clone();
    missing.own = Err(agent_limits::limit::chain::Missing::NotEnabled {
        controller: "memory".to_owned(),
        file: "/cg/cgroup.subtree_control".into(),
        advice: "as root: echo +memory > /cg/cgroup.subtree_control".to_owned(),
    });
    let (verdict, reason) = judged(&claim, &missing, None);
    assert_eq!(verdict, Verdict::Fail);
    assert!(
        reason.ends_with("echo +memory > /cg/cgroup.subtree_control"),
        "{reason}"
    );

    let undone = chain(Kind::Memory, Held::Amount(Limit::Max));
    let check = judge(ClaimFacts {
        claim: &claim,
        written: None,
        chain: &Ok(good.clone()),
        undone: Some(&Undone::Changed(undone)),
        run: Some(&run()),
    });
    assert_eq!(check.verdict, Verdict::Fail);
    assert!(
        check.reason.ends_with("it held no limit"),
        "{}",
        check.reason
    );
}

#[test]
fn what_somebody_does_meanwhile_is_no_pass() {
    let (claim, good, run) = (memory_claim(), chain(Kind::Memory, bytes(150)), pressed());
    let mut above = good.clone();
    above.above = vec![link("/agent", bytes(100))];
    let moved = Moved {
        pid: 7,
        to: "/b".to_owned(),
    };
    let written = PathBuf::from("/cg/memory.max");
    for (undone, wanted, part) in [
        (Undone::Changed(above), Verdict::Fail, "it held 100.0M"),
        (
            Undone::Moved(moved),
            Verdict::Fail,
            "process 7 was moved to the cgroup /b",
        ),
        (
            Undone::Written(written),
            Verdict::Inconclusive,
            "/cg/memory.max",
        ),
    ] {
        let check = judge(ClaimFacts {
            claim: &claim,
            written: None,
            chain: &Ok(good.clone()),
            undone: Some(&undone),
            run: Some(&run),
        });
        assert_eq!(check.verdict, wanted, "{undone:?}");
        assert!(check.reason.contains(part), "{}", check.reason);
    }
}

/// A run in which the limit of 150 MiB was hit, and one process killed.
fn pressed() -> Run {
    let mut run = run();
    let hits = Hits {
        oom_kills: Some(1),
        ..Hits::default()
    };
    let fields = [(Field::MaxUsage, 150 * MIB), (Field::Failcnt, 9)];
    run.after = sample(run.after.at, &fields, hits);
    run
}

#[test]
fn memory() {
    let (claim, chain) = (memory_claim(), chain(Kind::Memory, bytes(150)));
    let held = pressed();
    let (verdict, reason) = judged(&claim, &chain, Some(&held));
    assert_eq!(verdict, Verdict::Pass);
    assert_eq!(
        reason,
        "held at 150.0M, run into 9 times, 1 process OOM-killed"
    );

    let mut above = pressed();
    above.after.reading.set(Field::MaxUsage, 152 * MIB);
    assert_eq!(judged(&claim, &chain, Some(&above)).0, Verdict::Fail);

    let mut idle = run();
    idle.peaks.memory = Some(40 * MIB);
    let (verdict, reason) = judged(&claim, &chain, Some(&idle));
    assert_eq!(verdict, Verdict::Inconclusive);
    assert!(reason.contains("40.0M of 150.0M"), "{reason}");

    let mut untraced = pressed();
    untraced.victims = Some(Vec::new());
    assert_eq!(
        judged(&claim, &chain, Some(&untraced)).0,
        Verdict::Inconclusive
    );

    let mut swapped = pressed();
    swapped.peaks.swap = Some(100 * MIB);
    swapped.after.reading.set(Field::Swap, 100 * MIB);
    let (verdict, reason) = judged(&claim, &chain, Some(&swapped));
    assert_eq!(verdict, Verdict::Pass);
    assert!(reason.ends_with("; 100.0M went to swap"), "{reason}");

    // A peak from before the run says nothing about the run.
    let mut before = pressed();
    before.before.reading.set(Field::MaxUsage, 200 * MIB);
    before.after.reading.set(Field::MaxUsage, 200 * MIB);
    before.peaks.memory = Some(150 * MIB);
    assert_eq!(judged(&claim, &chain, Some(&before)).0, Verdict::Pass);
    before.before.reading = Reading::default();
    assert_eq!(judged(&claim, &chain, Some(&before)).0, Verdict::Pass);
}

/// The highest usage of memory and that of swap need not be of the same time.
#[test]
fn memory_and_swap_together_are_what_they_were_at_one_time() {
    let value = Value::Swap {
        memory: 100 * MIB,
        both: Limit::Value(100 * MIB),
        earlier: None,
    };
    let claim = claim(Kind::MemorySwap, value);
    let chain = Chain {
        version: Version::V1,
        ..chain(Kind::MemorySwap, bytes(100))
    };
    // The limit was reached before the run: the kernel's peak does not grow any more.
    let swapping = |looks: [[u64; 2]; 2], peak| {
        let mut run = run();
        for [memory, swap] in looks {
            let mut look = run.after.clone();
            look.reading.set(Field::MemoryUsage, memory * MIB);
            look.reading.set(Field::Swap, swap * MIB);
            run.peaks.add(&look);
        }
        (run.before.hits.both_peak, run.after.hits.both_peak) = (Some(peak), Some(peak));
        run.after.hits.both_hits = Some(7);
        run
    };
    for (looks, peak, wanted) in [
        ([[90, 0], [40, 60]], 100 * MIB, Verdict::Pass),
        // A page that moves to swap between two readings counts twice.
        ([[90, 0], [60, 60]], 100 * MIB, Verdict::Pass),
        ([[90, 0], [60, 60]], 200 * MIB, Verdict::Fail),
    ] {
        let run = swapping(looks, peak);
        let (verdict, reason) = judged(&claim, &chain, Some(&run));
        assert_eq!(verdict, wanted, "{looks:?} {peak}: {reason}");
    }
}

fn quota(cpus: f64) -> (LimitClaim, Chain) {
    let quota = Limit::Value((cpus * 100_000.0) as u64);
    let period = 100_000;
    (
        claim(Kind::CpuQuota, Value::Quota { quota, period }),
        chain(Kind::CpuQuota, Held::Quota { quota, period }),
    )
}

#[test]
fn cpu() {
    for (cpus, used_ms, throttled, wanted) in [
        (0.5, 5_000, 90, Verdict::Pass),
        (0.5, 5_090, 90, Verdict::Pass),
        (0.5, 5_200, 90, Verdict::Fail),
        (0.5, 1_000, 0, Verdict::Inconclusive),
        (0.5, 1_000, 3, Verdict::Pass),
        (4.0, 20_000, 0, Verdict::Inconclusive),
        (4.0, 42_000, 0, Verdict::Fail),
    ] {
        let (claim, chain) = quota(cpus);
        let mut run = run();
        let fields = [
            (Field::CpuUsage, used_ms * 1_000_000),
            (Field::Periods, 100),
            (Field::ThrottledPeriods, throttled),
        ];
        run.last = sample(run.last.at, &fields, Hits::default());
        let (verdict, reason) = judged(&claim, &chain, Some(&run));
        assert_eq!(verdict, wanted, "{cpus} {used_ms}: {reason}");
    }
}

#[test]
fn pids() {
    let value = Value::Amount(Limit::Value(50));
    let (claim, chain) = (
        claim(Kind::Pids, value),
        chain(Kind::Pids, Held::Amount(Limit::Value(50))),
    );
    for (peak, refused, wanted) in [
        (50, 3, Verdict::Pass),
        (51, 3, Verdict::Fail),
        (50, 0, Verdict::Inconclusive),
        (4, 0, Verdict::Inconclusive),
    ] {
        let mut run = run();
        run.after.hits = Hits {
            pids_peak: Some(peak),
            forks_refused: Some(refused),
            ..Hits::default()
        };
        let (verdict, reason) = judged(&claim, &chain, Some(&run));
        assert_eq!(verdict, wanted, "{reason}");
    }
}

#[test]
fn rates() {
    let device = Device { major: 7, minor: 0 };
    let limit = Limit::Value(MIB);
    let claim = claim(Kind::WriteBps, Value::Rate { device, limit });
    for (version, mib, dirtied, reached, wanted) in [
        (Version::V2, 10, None, 10, Verdict::Pass),
        (Version::V2, 13, None, 13, Verdict::Fail),
        (Version::V2, 2, None, 2, Verdict::Inconclusive),
        (Version::V1, 0, Some(200 * MIB), 200, Verdict::Fail),
        // It may have gone to another disk.
        (Version::V1, 0, Some(200 * MIB), 0, Verdict::Inconclusive),
        (Version::V1, 10, Some(10 * MIB), 10, Verdict::Pass),
        (Version::V2, 10, Some(200 * MIB), 200, Verdict::Pass),
    ] {
        let chain = Chain {
            version,
            device: Some(device),
            ..chain(Kind::WriteBps, Held::Amount(limit))
        };
        let mut run = run();
        run.dirtied = dirtied.map_or(Dirtied::NotAsked, Dirtied::Bytes);
        let of = Device { major: 7, minor: 0 };
        run.reached.insert(of, reached * MIB);
        let used = run.last.reading.device(of).unwrap();
        used.bytes[Operation::Write as usize] = Some(mib * MIB);
        used.count[Operation::Write as usize] = Some(mib);
        let (verdict, reason) = judged(&claim, &chain, Some(&run));
        assert_eq!(verdict, wanted, "{version:?} {mib} {dirtied:?}: {reason}");
    }
}

#[test]
fn sets_of_cpus() {
    let set = |text| Numbers::parse(text).unwrap();
    let claim = claim(Kind::CpusetCpus, Value::Numbers(set("0")));
    let mut chain = chain(Kind::CpusetCpus, Held::Numbers(set("0")));
    chain.above = vec![link("/", Held::Numbers(set("0-1")))];
    for (allowed, used, wanting, wanted) in [
        ("0", vec![5, 0], Some(4), Verdict::Pass),
        ("0-1", vec![5, 0], Some(4), Verdict::Fail),
        ("0", vec![5, 1], Some(4), Verdict::Fail),
        ("0", vec![], Some(2), Verdict::Pass),
        // Of what the first sample lacks, the last one says nothing of the run.
        // No more threads want a CPU than the set has CPUs.
        ("0", vec![5, 0], Some(1), Verdict::Inconclusive),
        ("0", vec![5, 0], None, Verdict::Inconclusive),
    ] {
        let mut run = run();
        for second in 0..2 {
            let mut look = run.after.clone();
            look.at += Duration::from_secs(second);
            look.processes = Processes {
                allowed: vec![allowed.to_owned()],
                runnable: wanting,
            };
            run.peaks.add(&look);
        }
        run.after.hits.cpus = used;
        let (verdict, reason) = judged(&claim, &chain, Some(&run));
        assert_eq!(verdict, wanted, "{allowed}: {reason}");
    }
    assert_eq!(
        judged(&claim, &chain, Some(&run())).0,
        Verdict::Inconclusive
    );
}

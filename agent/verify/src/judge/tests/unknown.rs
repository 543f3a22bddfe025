//! Limits that are not known, that were not requested, or that nothing pressed against: they neither pass nor fail.

use super::*;

/// A file of a run that could not be read.
fn unread(run: &mut Run, file: &str) {
    let source = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    let path = PathBuf::from(file);
    let error = agent_host::Error::Io { path, source };
    run.unread.add(&[error.into()]);
}

#[test]
fn what_cannot_be_read_is_not_0_and_the_file_is_named() {
    type Take = fn(&mut Run);
    let (quota_claim, quota_chain) = quota(0.5);
    let tasks = Held::Amount(Limit::Value(50));
    let pids_claim = claim(Kind::Pids, Value::Amount(Limit::Value(50)));
    let cases: [(&str, LimitClaim, Chain, Take); 6] = [
        (
            "cpu.stat",
            quota_claim.clone(),
            quota_chain.clone(),
            |run| {
                run.last = sample(
                    run.last.at,
                    &[(Field::CpuUsage, 5_000_000_000)],
                    Hits::default(),
                );
            },
        ),
        ("cpuacct.usage", quota_claim, quota_chain, |run| {
            run.last = sample(
                run.last.at,
                &[(Field::ThrottledPeriods, 9)],
                Hits::default(),
            );
        }),
        (
            "memory.failcnt",
            memory_claim(),
            chain(Kind::Memory, bytes(150)),
            |run| {
                run.after = sample(run.after.at, &[(Field::MemoryUsage, 9)], Hits::default());
            },
        ),
        (
            "memory.usage_in_bytes",
            memory_claim(),
            chain(Kind::Memory, bytes(150)),
            |run| {
                run.after = sample(run.after.at, &[(Field::Failcnt, 9)], Hits::default());
                run.peaks.memory = None;
            },
        ),
        (
            "pids.events",
            pids_claim.clone(),
            chain(Kind::Pids, tasks.clone()),
            |run| {
                run.after.hits.forks_refused = None;
            },
        ),
        (
            "pids.current",
            pids_claim,
            chain(Kind::Pids, tasks),
            |run| {
                run.after.hits.forks_refused = Some(3);
                run.peaks.pids = None;
            },
        ),
    ];
    for (name, claim, chain, take) in cases {
        let mut run = run();
        take(&mut run);
        unread(&mut run, &format!("/cg/a/{name}"));
        let (verdict, reason) = judged(&claim, &chain, Some(&run));
        assert_eq!(verdict, Verdict::Inconclusive, "{name}: {reason}");
        assert!(
            reason.starts_with(&format!("/cg/a/{name} cannot be read")),
            "{reason}"
        );
    }
}

#[test]
fn a_limit_that_cannot_be_read_is_no_verdict() {
    let error = agent_host::Error::Io {
        path: PathBuf::from("/cg/a/memory.max"),
        source: std::io::Error::from(std::io::ErrorKind::PermissionDenied),
    };
    let check = judge(ClaimFacts {
        claim: &memory_claim(),
        written: None,
        chain: &Err(error.into()),
        undone: None,
        run: None,
    });
    assert_eq!(check.verdict, Verdict::Inconclusive);
    assert!(
        check.reason.starts_with("/cg/a/memory.max cannot be read"),
        "{}",
        check.reason
    );
    assert_eq!(check.intended.unwrap().value.text, "150.0M");
}

#[test]
fn what_nobody_intended_does_not_pass() {
    let own = LimitClaim::own(Kind::Memory, None, "--expect LIMIT=VALUE says it");
    let good = chain(Kind::Memory, bytes(150));
    let mut shadowed = good.clone();
    shadowed.above = vec![link("/agent", bytes(100))];
    let pressed = pressed();
    for (chain, run) in [(&good, None), (&good, Some(&pressed)), (&shadowed, None)] {
        let (verdict, reason) = judged(&own, chain, run);
        assert_eq!(verdict, Verdict::Inconclusive, "{reason}");
        assert!(
            reason.ends_with("nobody says what was intended: --expect LIMIT=VALUE says it"),
            "{reason}"
        );
    }
    // A fail is reported even where no source intended the limit.
    let mut above = pressed.clone();
    above.after.reading.set(Field::MaxUsage, 200 * MIB);
    assert_eq!(judged(&own, &good, Some(&above)).0, Verdict::Fail);
}

#[test]
fn a_tolerance_is_no_pressure() {
    // 1 MiB is less than what 64 CPUs charge ahead.
    let claim = claim(Kind::Memory, Value::Amount(Limit::Value(MIB)));
    let chain = chain(Kind::Memory, bytes(1));
    let mut idle = run();
    idle.host.cpus = 64;
    idle.peaks.memory = Some(8192);
    assert_eq!(judged(&claim, &chain, Some(&idle)).0, Verdict::Inconclusive);
    // A run that is shorter than its tolerance.
    let (claim, chain) = quota(0.5);
    let mut short = run();
    let fields = [
        (Field::CpuUsage, 1_000),
        (Field::Periods, 0),
        (Field::ThrottledPeriods, 0),
    ];
    short.last = sample(
        short.first.at + Duration::from_millis(1),
        &fields,
        Hits::default(),
    );
    short.host.cpus = 64;
    let (verdict, reason) = judged(&claim, &chain, Some(&short));
    assert_eq!(verdict, Verdict::Inconclusive, "{reason}");
    assert!(reason.contains("never throttled"), "{reason}");
}

#[test]
fn a_burst_is_allowed() {
    let (claim, chain) = quota(0.5);
    for (burst, used_ms, wanted) in [
        (None, 5_130, Verdict::Fail),
        (Some(0), 5_130, Verdict::Fail),
        (Some(50_000), 5_130, Verdict::Pass),
        (Some(50_000), 5_200, Verdict::Fail),
    ] {
        let mut run = run();
        let fields = [
            (Field::CpuUsage, used_ms * 1_000_000),
            (Field::Periods, 100),
            (Field::ThrottledPeriods, 90),
        ];
        run.last = sample(run.last.at, &fields, Hits::default());
        run.peaks.burst = burst;
        let (verdict, reason) = judged(&claim, &chain, Some(&run));
        assert_eq!(verdict, wanted, "{burst:?} {used_ms}: {reason}");
    }
    let mut run = run();
    run.last = sample(
        run.last.at,
        &[(Field::CpuUsage, 5_130_000_000)],
        Hits::default(),
    );
    unread(&mut run, "/cg/a/cpu.max.burst");
    let (verdict, reason) = judged(&claim, &chain, Some(&run));
    assert_eq!(verdict, Verdict::Inconclusive);
    assert!(reason.contains("cpu.max.burst"), "{reason}");
}

#[test]
fn forks_that_are_refused_below_press() {
    let claim = claim(Kind::Pids, Value::Amount(Limit::Value(50)));
    let chain = chain(Kind::Pids, Held::Amount(Limit::Value(50)));
    for (below, wanted) in [(3, Verdict::Pass), (0, Verdict::Inconclusive)] {
        let mut run = run();
        run.before.hits.forks_refused_below = Some(0);
        run.after.hits = Hits {
            forks_refused: Some(0),
            forks_refused_below: Some(below),
            ..Hits::default()
        };
        assert_eq!(judged(&claim, &chain, Some(&run)).0, wanted);
    }
}

#[test]
fn a_kill_by_a_limit_below_is_no_pressure() {
    let (claim, chain) = (memory_claim(), chain(Kind::Memory, bytes(150)));
    let mut run = run();
    run.after.hits.oom_kills = Some(4);
    run.peaks.memory = Some(16 * MIB);
    assert_eq!(judged(&claim, &chain, Some(&run)).0, Verdict::Inconclusive);
}

#[test]
fn both_weights_of_shares_are_as_intended() {
    let claim = claim(Kind::CpuWeight, Value::Shares(512));
    for (weight, wanted) in [
        (20, Verdict::Pass),
        (59, Verdict::Pass),
        (58, Verdict::Fail),
    ] {
        let chain = chain(Kind::CpuWeight, Held::Amount(Limit::Value(weight)));
        let (verdict, reason) = judged(&claim, &chain, None);
        assert_eq!(verdict, wanted, "{reason}");
    }
}

#[test]
fn what_follows_from_another_limit_does_not_decide() {
    let both = Limit::Value(300 * MIB);
    let value = Value::Swap {
        memory: 150 * MIB,
        both,
        earlier: None,
    };
    let claim = LimitClaim {
        by_default: true,
        ..claim(Kind::MemorySwap, value)
    };
    let chain = chain(Kind::MemorySwap, bytes(150));
    let check = |run| {
        judge(ClaimFacts {
            claim: &claim,
            written: None,
            chain: &Ok(chain.clone()),
            undone: None,
            run,
        })
    };
    let quiet = run();
    let open = check(Some(&quiet));
    assert_eq!(open.verdict, Verdict::Inconclusive);
    assert!(!open.decides() && check(None).decides());
    let pass = judge(ClaimFacts {
        claim: &memory_claim(),
        written: None,
        chain: &Ok(self::chain(Kind::Memory, bytes(150))),
        undone: None,
        run: Some(&pressed()),
    });
    assert_eq!(crate::report::Report::overall(&[pass, open]), Verdict::Pass);
}

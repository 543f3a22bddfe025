//! Limits that differ from the intended ones, and limits of which that is not known.

use std::collections::HashSet;

use super::*;

/// Returns the limit and the kind of each drift of a container below `/a` that should have 4096 bytes of memory and
/// half a CPU.
fn drifting(version: Version, set: impl Fn(&mut Reading, &mut Reading)) -> Vec<String> {
    let drifts = |sample: &&str| sample.ends_with(" 1");
    drifts_of(version, set, drifts, 2)
}

/// Returns the limits of the container that have drift series.
fn judged(version: Version, set: impl Fn(&mut Reading, &mut Reading)) -> Vec<String> {
    drifts_of(version, set, |_| true, 1)
}

/// Returns the first labels of the drift series.
fn drifts_of(
    version: Version,
    set: impl Fn(&mut Reading, &mut Reading),
    which: impl Fn(&&str) -> bool,
    words: usize,
) -> Vec<String> {
    let mut above = living("/a");
    let mut container = Cgroup {
        is_container: true,
        ..living("/a/c")
    };
    let quota = agent_model::limit::Value::Quota {
        quota: Limit::Value(50_000),
        period: 100_000,
    };
    let memory = agent_model::limit::Value::Amount(Limit::Value(4096));
    container.intended = Some(Arc::new(Intent::new(
        vec![(Kind::Memory, memory), (Kind::CpuQuota, quota)],
        agent_model::limit::Source::Docker,
    )));
    let reading = &mut container.reading;
    reading.set(Field::MemoryUsage, 1);
    reading.set_limit(Field::MemoryLimit, Limit::Value(4096));
    reading.set_limit(Field::ThreadsMax, Limit::Max);
    reading.set(Field::CpuQuota, 50_000);
    reading.set(Field::CpuPeriod, 100_000);
    set(&mut above.reading, reading);
    let mut cgroups = [above, container];
    bound(&mut cgroups, &["/a", "/a/c"], version);
    let text = written(&cgroups);
    let samples = samples(&text, &catalogue::LIMIT_DRIFT);
    let drifting = samples.iter().filter(|it| which(it));
    let labels = |sample: &&str| {
        sample
            .split('"')
            .skip(1)
            .step_by(2)
            .take(words)
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(samples.len() % 3, 0);
    drifting.map(labels).collect()
}

#[test]
fn what_nobody_is_known_to_have_asked_for_has_no_drift() {
    let mut container = Cgroup {
        is_container: true,
        ..living("/c")
    };
    let reading = &mut container.reading;
    reading.set_limit(Field::MemoryLimit, Limit::Value(4096));
    reading.set_limit(Field::ThreadsMax, Limit::Value(9));
    for intended in [None, Some(Vec::new())] {
        container.intended = intended.map(|limits| {
            let source = agent_model::limit::Source::AgentRun;
            Arc::new(Intent::new(limits, source))
        });
        let mut cgroups = [container.clone()];
        bound(&mut cgroups, &["/c"], Version::V2);
        let text = written(&cgroups);
        assert_eq!(samples(&text, &catalogue::LIMIT_DRIFT), [""; 0]);
    }
}

#[test]
fn drift_is_told_of_each_limit() {
    let none = Vec::<String>::new();
    for version in [Version::V1, Version::V2] {
        assert_eq!(drifting(version, |_, _| {}), none);
        let written = drifting(version, |_, own| {
            own.set_limit(Field::MemoryLimit, Limit::Value(8192));
            own.set(Field::CpuPeriod, 50_000);
        });
        assert_eq!(written, ["memory written", "cpu-quota written"]);
        let shadowed = drifting(version, |above, own| {
            above.set_limit(Field::MemoryLimit, Limit::Value(1024));
            // No source reports an intended limit.
            own.set_limit(Field::ThreadsMax, Limit::Value(9));
            above.set_limit(Field::ThreadsMax, Limit::Value(5));
        });
        assert_eq!(shadowed, ["memory shadowed"]);
        let lifted = drifting(version, |_, own| {
            own.set_limit(Field::MemoryLimit, Limit::Max)
        });
        assert_eq!(lifted, ["memory written"]);
    }
    // On v1 the effective limit that the kernel reports counts, whether or not a mount shows the ancestors.
    let unseen = drifting(Version::V1, |_, own| {
        own.set_limit(Field::TreeMemoryLimit, Limit::Value(2048));
    });
    assert_eq!(unseen, ["memory shadowed"]);
    let apart = drifting(Version::V1, |above, own| {
        above.set_limit(Field::MemoryLimit, Limit::Value(1024));
        own.set_limit(Field::TreeMemoryLimit, Limit::Value(4096));
    });
    assert_eq!(apart, none);
    let missing = drifting(Version::V2, |_, own| {
        *own = Reading::default();
        own.set(Field::CpuUsage, 1);
    });
    assert_eq!(missing, ["memory missing", "cpu-quota missing"]);
    // The cgroup was removed while its files were read.
    assert_eq!(
        drifting(Version::V2, |_, own| *own = Reading::default()),
        none
    );
}

/// A limit whose file could not be read has no series: it may be missing or as intended.
#[test]
fn what_could_not_be_read_has_no_drift_and_no_effective_limit() {
    let known = |version, set: &dyn Fn(&mut Reading, &mut Reading)| {
        judged(version, set).into_iter().collect::<HashSet<_>>()
    };
    let of = |words: &[&str]| words.iter().map(|it| (*it).to_owned()).collect();
    for version in [Version::V1, Version::V2] {
        let unread = known(version, &|_, own| {
            *own = Reading::default();
            own.set(Field::CpuQuota, 50_000);
            own.set_unread(&[Field::MemoryLimit, Field::CpuPeriod]);
        });
        assert_eq!(unread, HashSet::new());
        let unread_above = known(version, &|above, own| {
            *above = Reading::default();
            above.set_unread(&[Field::MemoryLimit]);
            own.set(Field::CpuPeriod, 50_000);
        });
        assert_eq!(unread_above, of(&["cpu-quota"]));
        let both = known(version, &|above, own| {
            *above = Reading::default();
            above.set_unread(&[Field::MemoryLimit]);
            own.set_limit(Field::MemoryLimit, Limit::Value(1));
        });
        assert_eq!(both, of(&["memory", "cpu-quota"]));
    }
    let unasked = known(Version::V1, &|_, own| {
        own.set_unread(&[Field::TreeMemoryLimit])
    });
    assert_eq!(unasked, of(&["cpu-quota"]));

    let effective = |version, tree: Option<u64>| {
        let mut cgroups = ["/a", "/a/b", "/d"].map(living);
        cgroups[0].reading.set_unread(&[Field::MemoryLimit]);
        let below = Limit::Value(1024);
        cgroups[1].reading.set_limit(Field::MemoryLimit, below);
        cgroups[2].reading.set_limit(Field::MemoryLimit, below);
        for cgroup in &mut cgroups {
            if let Some(tree) = tree {
                cgroup.reading.set(Field::TreeMemoryLimit, tree);
            }
        }
        bound(&mut cgroups, &["/a", "/a/b", "/d"], version);
        let text = written(&cgroups);
        let found = samples(&text, &catalogue::EFFECTIVE_MEMORY_LIMIT);
        found.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>()
    };
    let of = |id: &str, value: u64| format!(r#"{{id="{id}",image="",name=""}} {value}"#);
    assert_eq!(effective(Version::V2, None), [of("/d", 1024)]);
    // On v1 the kernel reports the effective limit even if the own file cannot be read.
    let told = [("/a", 512), ("/a/b", 512), ("/d", 512)].map(|(id, value)| of(id, value));
    assert_eq!(effective(Version::V1, Some(512)), told);
}

//! Tests which file gets which part of the resources.

use super::*;

fn of(json: &str) -> Result<Wanted, Error> {
    let resources = serde_json::from_str(json).unwrap();
    Wanted::of(&resources, 4096)
}

#[test]
fn all_limits_in_the_order_of_writing() {
    let wanted = of(r#"{
        "unified": {"memory.high": "9000", "cpu.weight": "300", "io.weight": "default 7"},
        "blockIO": {"throttleWriteBpsDevice": [{"major": 7, "minor": 0, "rate": 1}]},
        "pids": {"limit": 50},
        "cpu": {"quota": 50000, "cpus": "0", "mems": "0"},
        "memory": {"swap": 8192, "limit": 4096, "reservation": 4096}
    }"#)
    .unwrap();
    let kinds: Vec<_> = wanted.limits.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(
        kinds,
        [
            Kind::Memory,
            Kind::MemorySwap,
            Kind::MemoryReservation,
            Kind::MemoryHigh,
            Kind::CpuQuota,
            Kind::CpuWeight,
            Kind::CpusetCpus,
            Kind::CpusetMems,
            Kind::Pids,
            Kind::WriteBps,
        ]
    );
    assert_eq!(wanted.files["io.weight"], "default 7");
}

#[test]
fn nothing_is_asked() {
    for json in [
        "{}",
        r#"{"memory": {"limit": 0}, "pids": {"limit": 0}, "cpu": {"quota": 0, "shares": 0}}"#,
    ] {
        assert!(of(json).unwrap().limits.is_empty(), "{json}");
    }
    let wanted =
        of(r#"{"memory": {"limit": -1, "swap": -1}, "pids": {"limit": -1}, "cpu": {"quota": -1}}"#);
    assert_eq!(wanted.unwrap().limits.len(), 4);
}

#[test]
fn what_no_kernel_takes_is_refused() {
    for (json, flag) in [
        (r#"{"memory": {"limit": 4095}}"#, "--memory "),
        (r#"{"memory": {"swap": 8192}}"#, "--memory-swap "),
        (
            r#"{"memory": {"limit": 8192, "swap": 4096}}"#,
            "--memory-swap ",
        ),
        (r#"{"cpu": {"quota": 999}}"#, "--cpu-quota "),
        (r#"{"cpu": {"period": 1000001}}"#, "--cpu-quota "),
        (r#"{"cpu": {"shares": 1}}"#, "--cpu-weight "),
        (r#"{"cpu": {"cpus": "1-0"}}"#, "--cpuset-cpus "),
        (r#"{"unified": {"cpu.weight": "0"}}"#, "--cpu-weight "),
        (r#"{"unified": {"memory.high": "many"}}"#, "--memory-high "),
        (
            r#"{"blockIO": {"throttleReadIOPSDevice": [{"major": 7, "minor": 0, "rate": 4294967296}]}}"#,
            "--device-read-iops ",
        ),
        (
            r#"{"blockIO": {"throttleReadBpsDevice": [{"major": 7, "minor": 0, "rate": 0}]}}"#,
            "--device-read-bps ",
        ),
    ] {
        let error = of(json).unwrap_err();
        assert!(matches!(error, Error::Range { .. }), "{json}: {error:?}");
        assert!(error.to_string().starts_with(flag), "{error}");
    }
}

#[test]
fn what_is_not_known_is_refused() {
    for json in [
        r#"{"memory": {"swappiness": 0}}"#,
        r#"{"memory": {"disableOOMKiller": true}}"#,
        r#"{"cpu": {"realtimeRuntime": 5}}"#,
        r#"{"blockIO": {"weight": 10}}"#,
        r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}"#,
        r#"{"unified": {"cgroup.freeze": "1"}}"#,
        r#"{"unified": {"../memory.max": "1"}}"#,
    ] {
        assert!(matches!(of(json), Err(Error::Unsupported { .. })), "{json}");
    }
}

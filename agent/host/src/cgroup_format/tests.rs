//! Every format of the table, read and written.

use agent_model::hierarchy::Version;
use agent_model::limit::Value;
use proptest::prelude::*;

use super::*;
use crate::cgroup_files::{FILES, files_of};
use crate::reading::DEVICES_AT_MOST;

const LOOP: Device = Device { major: 7, minor: 3 };

fn file(version: Version, name: &str) -> &'static CgroupFile {
    let mut files = FILES.iter();
    let found = files.find(|file| file.version == version && file.name == name);
    found.unwrap_or_else(|| panic!("{name}"))
}

fn parsed(version: Version, name: &str, text: &str) -> Result<Reading, &'static str> {
    let mut reading = Reading::default();
    file(version, name).parse(text.as_bytes(), &mut reading)?;
    Ok(reading)
}

#[test]
fn rows_in_any_order() {
    let stat = |text| parsed(Version::V1, "cpuacct.stat", text);
    for text in ["user 7\nsystem 3\n", "system 3\nother x\nuser 7\n"] {
        let reading = stat(text).unwrap();
        assert_eq!(reading.number(Field::CpuUser), Some(70_000_000));
        assert_eq!(reading.number(Field::CpuSystem), Some(30_000_000));
        assert_eq!(reading.number(Field::Rss), None);
    }
    assert_eq!(stat("gibberish\n"), Err("user"));
    assert!(stat("user x\n").is_err());
}

#[test]
fn limits() {
    for (text, wanted) in [
        ("max\n", Some(Limit::Max)),
        ("-1\n", Some(Limit::Max)),
        ("9223372036854771712\n", Some(Limit::Max)),
        ("9223372036854710272", Some(Limit::Max)),
        (
            "9223372036854710271",
            Some(Limit::Value(9_223_372_036_854_710_271)),
        ),
        ("0\n", Some(Limit::Value(0))),
        ("4096\n", Some(Limit::Value(4096))),
        ("-2", None),
        ("many", None),
    ] {
        let reading = parsed(Version::V1, "memory.limit_in_bytes", text).ok();
        let found = reading.and_then(|it| it.limit(Field::MemoryLimit));
        assert_eq!(found, wanted, "{text}");
    }
    let cpu = |text| parsed(Version::V2, "cpu.max", text).unwrap();
    assert_eq!(cpu("max 100000\n").limit(Field::CpuQuota), Some(Limit::Max));
    let half = cpu("50000 100000\n");
    assert_eq!(half.number(Field::CpuQuota), Some(50_000));
    assert_eq!(half.number(Field::CpuPeriod), Some(100_000));
}

#[test]
fn pressure() {
    let text = "some avg10=0.00 avg60=0.00 avg300=0.00 total=12\n\
                full avg10=0.00 avg60=0.00 avg300=0.00 total=3\n";
    let reading = parsed(Version::V2, "cpu.pressure", text).unwrap();
    assert_eq!(reading.number(Field::CpuWaiting), Some(12_000));
    assert_eq!(reading.number(Field::CpuStalled), Some(3_000));
}

const BYTES: &str = "blkio.throttle.io_service_bytes_recursive";

#[test]
fn devices() {
    let text = "253:0 Read 4096\n253:0 Write 8192\n253:0 Total 12288\nTotal 12288\n";
    let mut v1 = parsed(Version::V1, BYTES, text).unwrap();
    file(Version::V1, "blkio.throttle.io_serviced_recursive")
        .parse(b"253:0 Read 1\nTotal 1\n", &mut v1)
        .unwrap();
    let mut wanted = DeviceUse {
        major: 253,
        ..DeviceUse::default()
    };
    wanted.bytes[Operation::Read as usize] = Some(4096);
    wanted.bytes[Operation::Write as usize] = Some(8192);
    wanted.count[Operation::Read as usize] = Some(1);
    let v2 = "253:0 rbytes=4096 wbytes=8192 rios=1 cost.usage=5\n8:0 \n";
    let v2 = parsed(Version::V2, "io.stat", v2).unwrap();
    assert_eq!(v2.devices, [wanted.clone()]);
    wanted.bytes[Operation::Total as usize] = Some(12_288);
    assert_eq!(v1.devices, [wanted]);
}

#[test]
fn devices_are_bounded() {
    let text: String = (0..1000)
        .map(|minor| format!("7:{minor} Read 1\n"))
        .collect();
    let reading = parsed(Version::V1, BYTES, &text).unwrap();
    assert_eq!(reading.devices.len(), DEVICES_AT_MOST);
}

/// The texts that are written to the files of a limit, in the order of the table.
fn written(kind: Kind, version: Version, value: &Value) -> Vec<String> {
    let texts = files_of(kind, version).map(|file| {
        let text = file.write(kind, value).unwrap();
        let device = value.device();
        assert!(file.held(kind, text.as_bytes(), device).is_some(), "{text}");
        text
    });
    texts.collect()
}

#[test]
fn each_version_has_its_own_text_for_a_limit() {
    let amount = Value::Amount;
    let (max, some) = (amount(Limit::Max), amount(Limit::Value(300_000_001)));
    let quota = |quota| Value::Quota {
        quota,
        period: 50_000,
    };
    let swap = |both| Value::Swap {
        memory: 100,
        both,
        earlier: None,
    };
    let rate = |limit| Value::Rate {
        device: LOOP,
        limit,
    };
    let value = Limit::Value;
    for (kind, value, v1, v2) in [
        (Kind::Memory, some, &["300000001"][..], "300000001"),
        (Kind::Memory, max.clone(), &["-1"], "max"),
        (Kind::MemoryReservation, max.clone(), &["-1"], "max"),
        (Kind::MemoryHigh, max.clone(), &[], "max"),
        (Kind::MemorySwap, swap(value(300)), &["300"], "200"),
        (Kind::MemorySwap, swap(Limit::Max), &["-1"], "max"),
        (Kind::Pids, max, &["max"], "max"),
        (
            Kind::CpuQuota,
            quota(value(9000)),
            &["9000", "50000"],
            "9000 50000",
        ),
        (
            Kind::CpuQuota,
            quota(Limit::Max),
            &["-1", "50000"],
            "max 50000",
        ),
        (Kind::CpuWeight, Value::Shares(1024), &["1024"], "100"),
        (Kind::CpuWeight, Value::Weight(100), &["1024"], "100"),
        (Kind::WriteBps, rate(value(9)), &["7:3 9"], "7:3 wbps=9"),
        (
            Kind::ReadIops,
            rate(Limit::Max),
            &["7:3 0"],
            "7:3 riops=max",
        ),
    ] {
        assert_eq!(written(kind, Version::V1, &value), v1, "{kind:?} {value}");
        assert_eq!(written(kind, Version::V2, &value), [v2], "{kind:?} {value}");
    }
    let weight = file(Version::V2, "cpu.weight");
    assert_eq!(weight.write(Kind::CpuWeight, &quota(Limit::Max)), None);
}

#[test]
fn the_kernel_keeps_whole_pages() {
    let bytes = Held::Amount(Limit::Value(300_000_001));
    let pages = Held::Amount(Limit::Value(299_999_232));
    let memory = file(Version::V2, "memory.max");
    assert_eq!(memory.kept(bytes.clone(), 4096), pages);
    assert_eq!(
        file(Version::V2, "pids.max").kept(bytes.clone(), 4096),
        bytes
    );
}

#[test]
fn rates_of_devices() {
    let amount = |number| Some(Held::Amount(Limit::Value(number)));
    let none = Some(Held::Amount(Limit::Max));
    let v1 = file(Version::V1, "blkio.throttle.read_bps_device");
    let of_v1 = |text: &str| v1.held(Kind::ReadBps, text.as_bytes(), Some(LOOP));
    assert_eq!(of_v1("7:30 5\n7:3 9\n"), amount(9));
    assert_eq!(of_v1("7:30 5\n"), none);
    let v2 = file(Version::V2, "io.max");
    let of_v2 = |kind, text: &str| v2.held(kind, text.as_bytes(), Some(LOOP));
    let keys = "8:0 rbps=1 wbps=2 riops=3 wiops=4\n7:3 rbps=max wbps=6 riops=7 wiops=8\n";
    assert_eq!(of_v2(Kind::WriteBps, keys), amount(6));
    assert_eq!(of_v2(Kind::ReadBps, keys), none);
    assert_eq!(of_v2(Kind::ReadBps, ""), none);
    assert_eq!(v2.devices(keys.as_bytes()).len(), 2);
}

#[test]
fn every_limit_has_its_files() {
    use crate::cgroup_files::{controller_of, is_in_pages};

    for kind in Kind::ALL {
        assert!(files_of(kind, Version::V2).count() == 1, "{kind:?}");
        let is_of_v2_alone = kind == Kind::MemoryHigh;
        assert_eq!(files_of(kind, Version::V1).count() == 0, is_of_v2_alone);
        for version in [Version::V1, Version::V2] {
            let controller = controller_of(kind, version);
            let mut files = files_of(kind, version);
            assert!(
                files.all(|file| file.controller == Some(controller)),
                "{kind:?}"
            );
        }
        let is_memory = controller_of(kind, Version::V1) == "memory";
        assert_eq!(is_in_pages(kind), is_memory, "{kind:?}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "([0-9]{1,25}|:|=|total|rbytes|rbps=|7:3|Read|user|max|-|,|\n| ){0,30}") {
        for file in FILES {
            let _ = file.parse(text.as_bytes(), &mut Reading::default());
            for kind in file.limits {
                let _ = file.held(*kind, text.as_bytes(), Some(LOOP));
            }
            let _ = file.devices(text.as_bytes());
        }
    }
}

//! Docker's configuration of a container as limits.

use agent_model::limit::{Kind, Limit, Value};
use agent_runtime::cgroup::{Error, Wanted};
use bollard::models::{HostConfig, ThrottleDevice};
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, LinuxThrottleDevice,
    LinuxThrottleDeviceBuilder,
};

/// The period in which docker counts `--cpus`, in microseconds.
const PERIOD: i64 = 100_000;

/// The limits that a container's configuration asks for. `device` gives the major and minor number of a block device; a
/// removed device has no limit.
///
/// # Errors
/// The configuration has a number that no kernel takes.
pub(super) fn limits(
    config: &HostConfig,
    device: impl Fn(&str) -> Option<(u32, u32)>,
    page: u64,
) -> Result<Vec<(Kind, Value)>, Error> {
    let mut limits = Wanted::of(&resources(config, device), page)?.limits;
    limits
        .iter_mut()
        .for_each(|(_, value)| may_be_of_earlier(value));
    Ok(limits)
}

/// Sets the memory limit from which a swap limit may stem. `docker update` of memory alone changes neither docker's
/// limit of memory and swap together nor v2's swap file. If nobody asked for a limit of both, that limit is twice the
/// memory limit before the update.
fn may_be_of_earlier(value: &mut Value) {
    if let Value::Swap {
        memory,
        both: Limit::Value(both),
        earlier,
    } = value
    {
        *earlier = (*both != memory.saturating_mul(2)).then_some(*both / 2);
    }
}

/// The OCI resources that docker makes of the configuration (`WithResources`, daemon/oci_linux.go).
fn resources(config: &HostConfig, device: impl Fn(&str) -> Option<(u32, u32)>) -> LinuxResources {
    let mut memory = LinuxMemory::default();
    memory.set_limit(config.memory);
    memory.set_swap(config.memory_swap);
    memory.set_reservation(config.memory_reservation);

    let positive = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(positive(config.cpu_shares));
    cpu.set_quota(config.cpu_quota);
    cpu.set_period(positive(config.cpu_period));
    if let Some(billionths) = config.nano_cpus.filter(|billionths| *billionths > 0) {
        let quota = i128::from(billionths) * i128::from(PERIOD) / 1_000_000_000;
        cpu.set_quota(i64::try_from(quota).ok());
        cpu.set_period(Some(PERIOD.unsigned_abs()));
    }
    cpu.set_cpus(config.cpuset_cpus.clone());
    cpu.set_mems(config.cpuset_mems.clone());

    let rates = |rates: &Option<Vec<ThrottleDevice>>| {
        let rates = rates.iter().flatten();
        let rates: Vec<_> = rates.filter_map(|rate| throttle(rate, &device)).collect();
        (!rates.is_empty()).then_some(rates)
    };
    let mut io = LinuxBlockIo::default();
    io.set_throttle_read_bps_device(rates(&config.blkio_device_read_bps));
    io.set_throttle_write_bps_device(rates(&config.blkio_device_write_bps));
    io.set_throttle_read_iops_device(rates(&config.blkio_device_read_iops));
    io.set_throttle_write_iops_device(rates(&config.blkio_device_write_iops));

    let mut resources = LinuxResources::default();
    resources.set_memory(Some(memory));
    resources.set_cpu(Some(cpu));
    resources.set_block_io(Some(io));
    resources.set_pids(config.pids_limit.map(|limit| {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        pids
    }));
    resources
}

fn throttle(
    rate: &ThrottleDevice,
    device: impl Fn(&str) -> Option<(u32, u32)>,
) -> Option<LinuxThrottleDevice> {
    let (major, minor) = device(rate.path.as_deref()?)?;
    let rate = u64::try_from(rate.rate?).ok().filter(|rate| *rate > 0)?;
    let throttle = LinuxThrottleDeviceBuilder::default()
        .major(major)
        .minor(minor)
        .rate(rate);
    throttle.build().ok()
}

#[cfg(test)]
mod tests {
    use agent_model::limit::Device;
    use proptest::prelude::*;

    use super::*;

    /// What `docker inspect` says in `HostConfig`.
    fn of(json: &str) -> Result<Vec<(Kind, Value)>, Error> {
        let config = serde_json::from_str(json).unwrap();
        let device = |path: &str| (path == "/dev/loop3").then_some((7, 3));
        limits(&config, device, 4096)
    }

    fn amount(kind: Kind, number: u64) -> (Kind, Value) {
        (kind, Value::Amount(Limit::Value(number)))
    }

    fn quota(quota: Limit, period: u64) -> (Kind, Value) {
        (Kind::CpuQuota, Value::Quota { quota, period })
    }

    #[test]
    fn a_container_without_limits() {
        // The second is of docker 20.10, the others of a docker that leaves out what is not asked for.
        for json in [
            "{}",
            r#"{"CpuShares":0,"Memory":0,"NanoCpus":0,"CgroupParent":"","BlkioWeight":0,"BlkioDeviceReadBps":null,
                "CpuPeriod":0,"CpuQuota":0,"CpuRealtimePeriod":0,"CpuRealtimeRuntime":0,"CpusetCpus":"","CpusetMems":"",
                "Devices":[],"KernelMemory":0,"MemoryReservation":0,"MemorySwap":0,"MemorySwappiness":null,
                "OomKillDisable":false,"PidsLimit":null,"Ulimits":null}"#,
            r#"{"PidsLimit":0,"BlkioDeviceReadBps":[],"BlkioDeviceWriteBps":[{"Path":"/dev/gone","Rate":1}]}"#,
        ] {
            assert_eq!(of(json).unwrap(), [], "{json}");
        }
    }

    #[test]
    fn every_limit() {
        let json = r#"{"Memory":67108864,"MemorySwap":134217728,"MemoryReservation":33554432,"NanoCpus":500000000,
            "CpuShares":512,"CpusetCpus":"0-1","CpusetMems":"0","PidsLimit":50,
            "BlkioDeviceReadBps":[{"Path":"/dev/loop3","Rate":1048576}],
            "BlkioDeviceWriteIOps":[{"Path":"/dev/loop3","Rate":9}]}"#;
        let numbers = |text| Value::Numbers(agent_model::limit::Numbers::parse(text).unwrap());
        let device = Device { major: 7, minor: 3 };
        let rate = |rate| Value::Rate {
            device,
            limit: Limit::Value(rate),
        };
        let swap = Value::Swap {
            memory: 64 << 20,
            both: Limit::Value(128 << 20),
            earlier: None,
        };
        let wanted = [
            amount(Kind::Memory, 64 << 20),
            (Kind::MemorySwap, swap),
            amount(Kind::MemoryReservation, 32 << 20),
            quota(Limit::Value(50_000), 100_000),
            (Kind::CpuWeight, Value::Shares(512)),
            (Kind::CpusetCpus, numbers("0-1")),
            (Kind::CpusetMems, numbers("0")),
            amount(Kind::Pids, 50),
            (Kind::ReadBps, rate(1 << 20)),
            (Kind::WriteIops, rate(9)),
        ];
        assert_eq!(of(json).unwrap(), wanted);
    }

    #[test]
    fn no_limit_is_a_wish_too() {
        let swap = Value::Swap {
            memory: 8192,
            both: Limit::Max,
            earlier: None,
        };
        let pids = (Kind::Pids, Value::Amount(Limit::Max));
        for (json, wanted) in [
            (
                r#"{"Memory":8192,"MemorySwap":-1}"#,
                vec![amount(Kind::Memory, 8192), (Kind::MemorySwap, swap)],
            ),
            (r#"{"CpuQuota":-1}"#, vec![quota(Limit::Max, 100_000)]),
            (
                r#"{"CpuPeriod":50000,"CpuQuota":25000}"#,
                vec![quota(Limit::Value(25_000), 50_000)],
            ),
            (r#"{"PidsLimit":-1}"#, vec![pids]),
        ] {
            assert_eq!(of(json).unwrap(), wanted, "{json}");
        }
        assert!(matches!(of(r#"{"Memory":1}"#), Err(Error::Range { .. })));
    }

    #[test]
    fn what_is_not_twice_the_memory_may_be_twice_that_of_earlier() {
        for (memory, both, wanted) in [(64, 128, None), (32, 128, Some(64)), (64, 64, Some(32))] {
            let json = format!(
                r#"{{"Memory":{},"MemorySwap":{}}}"#,
                memory << 20,
                both << 20
            );
            let limits = of(&json).unwrap();
            let swap = Value::Swap {
                memory: memory << 20,
                both: Limit::Value(both << 20),
                earlier: wanted.map(|it: u64| it << 20),
            };
            assert_eq!(limits[1], (Kind::MemorySwap, swap), "{json}");
        }
    }

    proptest! {
        #[test]
        fn no_configuration_panics(
            numbers in prop::array::uniform8(any::<Option<i64>>()),
            text in "[0-9,-]{0,8}",
        ) {
            let [memory, memory_swap, nano_cpus, cpu_quota, cpu_period, cpu_shares, pids_limit, rate] = numbers;
            let device = ThrottleDevice { path: Some("/dev/loop3".to_owned()), rate };
            let config = HostConfig {
                memory, memory_swap, nano_cpus, cpu_quota, cpu_period, cpu_shares, pids_limit,
                cpuset_cpus: Some(text),
                blkio_device_write_bps: Some(vec![device]),
                ..HostConfig::default()
            };
            let _ = limits(&config, |_| Some((7, 3)), 4096);
        }
    }
}

//! Compiles the flags of limits to OCI's resources.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use agent_model::limit::{Kind, Limit, Value};
use agent_model::units::parse::Size;
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxPids,
    LinuxResources, LinuxThrottleDevice, LinuxThrottleDeviceBuilder,
};

use super::flags::Limits;
use super::value::{Cpus, DeviceRate, MaybeNumber, MaybeSize};
use super::{Error, SpecFacts};
use crate::cgroup::unified;

/// The least memory that docker accepts. With less, a container fails before it runs its command.
const LEAST_MEMORY: Size = Size(6 << 20);

/// The period that `--cpus` uses, in microseconds.
const PERIOD: u64 = 100_000;

/// The least quota that the kernel accepts, in microseconds (`min_cfs_quota_period`).
const LEAST_QUOTA: i64 = 1_000;

const UNLIMITED: i64 = -1;

/// The major and minor numbers of block devices, by path.
type Devices = HashMap<String, (u32, u32)>;

/// Returns the resources of a new container, and whether `--memory` implies its limit of memory and swap together.
pub(super) fn compile(limits: &Limits, found: &SpecFacts) -> Result<(LinuxResources, bool), Error> {
    check_memory(limits)?;
    check_cpus(limits, found)?;
    let mut limits = limits.clone();
    // As with docker, memory and swap together get twice the memory.
    let implied = match (limits.memory, limits.memory_swap) {
        (Some(Size(memory)), None) => Some(MaybeSize::Size(Size(memory.saturating_mul(2)))),
        _ => None,
    };
    limits.memory_swap = limits.memory_swap.or(implied);
    let resources = asked(&limits, &found.devices)?;
    Ok((resources, implied.is_some()))
}

fn check_memory(limits: &Limits) -> Result<(), Error> {
    if limits.memory.is_some_and(|memory| memory < LEAST_MEMORY) {
        let wanted = "at least 6m, to come as far as the command";
        return Err(size_error("--memory", limits.memory, wanted));
    }
    Ok(())
}

fn check_cpus(limits: &Limits, found: &SpecFacts) -> Result<(), Error> {
    if let (Some(Cpus(billionths)), Some(cpus)) = (limits.cpus, found.cpus)
        && billionths > cpus as u64 * 1_000_000_000
    {
        let shown = (billionths as f64 / 1e9).to_string();
        let reason = format!("this host has {cpus}");
        return Err(Error::flag("--cpus", &shown, &reason));
    }
    Ok(())
}

/// Returns the limits that the flags ask for, without implied ones.
pub(super) fn asked(limits: &Limits, devices: &Devices) -> Result<LinuxResources, Error> {
    let mut resources = LinuxResources::default();
    resources.set_memory(memory(limits)?);
    resources.set_cpu(cpu(limits)?);
    resources.set_pids(limits.pids_limit.map(|limit| {
        let mut pids = LinuxPids::default();
        pids.set_limit(signed(limit));
        pids
    }));
    resources.set_block_io(block_io(limits, devices)?);
    resources.set_unified(unified(limits));
    Ok(resources)
}

fn memory(limits: &Limits) -> Result<Option<LinuxMemory>, Error> {
    let (memory, swap) = (limits.memory, limits.memory_swap);
    if let (Some(reservation), Some(memory)) = (limits.memory_reservation, memory)
        && reservation > memory
    {
        return Err(size_error(
            "--memory-reservation",
            Some(reservation),
            "at most --memory",
        ));
    }
    let total = match (memory, swap) {
        (None, Some(_)) => {
            return Err(Error::MissingFlag {
                flag: "--memory-swap",
                wants: "--memory: it is the limit of both together",
            });
        }
        (Some(memory), Some(MaybeSize::Size(total))) if total < memory => {
            return Err(size_error(
                "--memory-swap",
                Some(total),
                "at least --memory: it is the limit of memory and swap together",
            ));
        }
        (_, Some(MaybeSize::Size(total))) => Some(bytes(total)),
        (_, Some(MaybeSize::Unlimited)) => Some(UNLIMITED),
        (_, None) => None,
    };
    if memory.is_none() && limits.memory_reservation.is_none() {
        return Ok(None);
    }
    let mut oci = LinuxMemory::default();
    oci.set_limit(memory.map(bytes));
    oci.set_swap(total);
    oci.set_reservation(limits.memory_reservation.map(bytes));
    Ok(Some(oci))
}

fn cpu(limits: &Limits) -> Result<Option<LinuxCpu>, Error> {
    let (quota, period) = bandwidth(limits)?;
    if limits.cpu_shares.is_some() && limits.cpu_weight.is_some() {
        return Err(Error::together(
            "--cpu-shares",
            "--cpu-weight",
            "they say the same in two ways",
        ));
    }
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(limits.cpu_shares);
    cpu.set_quota(quota);
    cpu.set_period(period);
    cpu.set_cpus(limits.cpuset_cpus.as_ref().map(|set| set.0.clone()));
    cpu.set_mems(limits.cpuset_mems.as_ref().map(|set| set.0.clone()));
    Ok((cpu != LinuxCpu::default()).then_some(cpu))
}

/// Returns the quota of CPU time and its period, in microseconds.
fn bandwidth(limits: &Limits) -> Result<(Option<i64>, Option<u64>), Error> {
    let quota = limits.cpu_quota.map(signed);
    if let Some(quota) = quota
        && (0..LEAST_QUOTA).contains(&quota)
    {
        let wanted = "at least 1000, the kernel's minimum, or -1 for no limit";
        return Err(Error::flag("--cpu-quota", &quota.to_string(), wanted));
    }
    let Some(Cpus(billionths)) = limits.cpus else {
        return Ok((quota, limits.cpu_period));
    };
    for (flag, given) in [
        ("--cpu-quota", quota.is_some()),
        ("--cpu-period", limits.cpu_period.is_some()),
    ] {
        if given {
            return Err(Error::together(
                "--cpus",
                flag,
                "they say the same in two ways",
            ));
        }
    }
    let quota = u128::from(billionths) * u128::from(PERIOD) / 1_000_000_000;
    Ok((Some(i64::try_from(quota).unwrap_or(i64::MAX)), Some(PERIOD)))
}

/// Returns `linux.resources.unified`: the limits for which OCI has no other member.
fn unified(limits: &Limits) -> Option<HashMap<String, String>> {
    let high = limits.memory_high.map(|Size(bytes)| {
        let limit = Limit::Value(bytes);
        (Kind::MemoryHigh, Value::Amount(limit))
    });
    let weight = limits.cpu_weight;
    let weight = weight.map(|weight| (Kind::CpuWeight, Value::Weight(weight)));
    let both = [high, weight].into_iter().flatten();
    let members: HashMap<_, _> = both
        .filter_map(|(kind, value)| unified::member(kind, &value))
        .collect();
    (!members.is_empty()).then_some(members)
}

fn block_io(limits: &Limits, devices: &Devices) -> Result<Option<LinuxBlockIo>, Error> {
    let sizes = |flag, rates: &[DeviceRate<Size>]| throttles(flag, rates, devices, |rate| rate.0);
    let numbers = |flag, rates: &[DeviceRate<u64>]| throttles(flag, rates, devices, |rate| *rate);
    let mut oci = LinuxBlockIo::default();
    oci.set_throttle_read_bps_device(sizes("--device-read-bps", &limits.device_read_bps)?);
    oci.set_throttle_write_bps_device(sizes("--device-write-bps", &limits.device_write_bps)?);
    oci.set_throttle_read_iops_device(numbers("--device-read-iops", &limits.device_read_iops)?);
    oci.set_throttle_write_iops_device(numbers("--device-write-iops", &limits.device_write_iops)?);
    Ok((oci != LinuxBlockIo::default()).then_some(oci))
}

fn throttles<T>(
    flag: &'static str,
    rates: &[DeviceRate<T>],
    devices: &Devices,
    number: impl Fn(&T) -> u64,
) -> Result<Option<Vec<LinuxThrottleDevice>>, Error> {
    let throttle = |it: &DeviceRate<T>| {
        let device = devices.get(&it.path);
        let (major, minor) =
            device.ok_or_else(|| Error::flag(flag, &it.path, "no block device"))?;
        let rate = number(&it.rate);
        if rate == 0 {
            return Err(Error::flag(
                flag,
                &format!("{}:0", it.path),
                "wanted: a rate of at least 1",
            ));
        }
        let throttle = LinuxThrottleDeviceBuilder::default()
            .major(*major)
            .minor(*minor)
            .rate(rate);
        Ok(throttle.build()?)
    };
    let throttles = rates.iter().map(throttle).collect::<Result<Vec<_>, _>>()?;
    Ok((!throttles.is_empty()).then_some(throttles))
}

/// Returns docker's rules for the devices that a container may open or make. Without rules, a container with CAP_MKNOD
/// could make and open a node of the host's disk.
pub(super) fn devices() -> Vec<LinuxDeviceCgroup> {
    use LinuxDeviceType::{A, B, C};
    let usual = [
        (1, Some(3)), // null
        (1, Some(5)), // zero
        (1, Some(7)), // full
        (1, Some(8)), // random
        (1, Some(9)), // urandom
        (5, Some(0)), // tty
        (5, Some(1)), // console
        (5, Some(2)), // ptmx
        (136, None),  // terminals
    ];
    let mut rules = vec![
        rule(false, A, None, None, "rwm"),
        rule(true, C, None, None, "m"),
        rule(true, B, None, None, "m"),
    ];
    rules.extend(usual.map(|(major, minor)| rule(true, C, Some(major), minor, "rwm")));
    rules
}

/// Makes a rule for a device. None stands for any number.
pub(super) fn rule(
    allow: bool,
    kind: LinuxDeviceType,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow);
    rule.set_typ(Some(kind));
    rule.set_major(major);
    rule.set_minor(minor);
    rule.set_access(Some(access.to_owned()));
    rule
}

/// Returns the cgroup's path below the root of each hierarchy, `PARENT/agent/NAME`.
pub(super) fn path(parent: Option<&Path>, name: &str) -> Result<PathBuf, Error> {
    let Some(parent) = parent else {
        return Ok(Path::new("/agent").join(name));
    };
    let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    if !parent.components().all(plain) || parent.as_os_str().is_empty() {
        let wanted = "wanted: the path of a cgroup below the root of the hierarchies, as in /batch";
        return Err(Error::flag(
            "--cgroup-parent",
            &parent.display().to_string(),
            wanted,
        ));
    }
    Ok(Path::new("/").join(parent).join("agent").join(name))
}

fn bytes(size: Size) -> i64 {
    i64::try_from(size.0).unwrap_or(i64::MAX)
}

fn signed(number: MaybeNumber) -> i64 {
    match number {
        MaybeNumber::Unlimited => UNLIMITED,
        MaybeNumber::Number(number) => number,
    }
}

fn size_error(flag: &'static str, size: Option<Size>, wanted: &str) -> Error {
    let shown = size.map(|size| size.0.to_string()).unwrap_or_default();
    Error::flag(flag, &shown, &format!("wanted: {wanted}"))
}

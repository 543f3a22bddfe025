//! The limits that an OCI spec asks for.

use std::collections::BTreeMap;

use agent_host::cgroup_files::controller_of;
use agent_model::hierarchy::Version;
use agent_model::limit::{Device, Kind, Limit, Numbers, Value};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::range::{check, out_of_range};
use super::{Error, unified};

/// The kernel's default period of a quota, in microseconds.
const USUAL_PERIOD: u64 = 100_000;

/// The limits, in the order in which they are to be written, and what else is to be written to files of v2.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Each limit, with its value.
    pub limits: Vec<(Kind, Value)>,
    /// Other files of v2, and the text for each.
    pub files: BTreeMap<String, String>,
}

impl Wanted {
    /// Reads the limits. As with docker and runc, 0 means that none is given, and a negative number means no limit.
    ///
    /// # Errors
    /// The kernel does not accept a value, or the agent does not support a limit.
    pub fn of(resources: &LinuxResources, page: u64) -> Result<Self, Error> {
        refuse_unknown(resources)?;
        Self::supported(resources, page)
    }

    /// As [`Self::of`], for resources that another program applies: limits that the agent does not support are passed
    /// over.
    ///
    /// # Errors
    /// The kernel does not accept a value.
    pub fn supported(resources: &LinuxResources, page: u64) -> Result<Self, Error> {
        let mut wanted = Self::default();
        if let Some(memory) = resources.memory() {
            wanted.add_memory(memory)?;
        }
        if let Some(cpu) = resources.cpu() {
            wanted.add_cpu(cpu)?;
        }
        if let Some(limit) = resources
            .pids()
            .as_ref()
            .and_then(|pids| signed(Some(pids.limit())))
        {
            wanted.limits.push((Kind::Pids, Value::Amount(limit)));
        }
        if let Some(io) = resources.block_io() {
            wanted.add_rates(io)?;
        }
        for (file, text) in resources.unified().iter().flatten() {
            wanted.add_file(file, text)?;
        }
        wanted.limits.sort_by_key(|(kind, _)| *kind);
        for (kind, value) in &wanted.limits {
            check(*kind, value, page)?;
        }
        Ok(wanted)
    }

    /// Returns the name of the first limit or file, for an error; `None` where there is none.
    pub fn first(&self) -> Option<String> {
        let flag = self
            .limits
            .first()
            .map(|(kind, _)| format!("--{}", kind.flag()));
        let file = || {
            let file = self.files.keys().next()?;
            Some(format!("linux.resources.unified {file:?}"))
        };
        flag.or_else(file)
    }

    /// Moves the limits and files of the controllers for which `is` returns true to a new value. A limit's controller
    /// has its name on v1; a file's is the part before the first dot.
    pub fn split_off(&mut self, is: impl Fn(&str) -> bool) -> Self {
        let of_file = |file: &str| is(file.split('.').next().unwrap_or(file));
        let limits = self
            .limits
            .extract_if(.., |(kind, _)| is(controller_of(*kind, Version::V1)));
        let files = self.files.extract_if(.., |file, _| of_file(file));
        Self {
            limits: limits.collect(),
            files: files.collect(),
        }
    }

    fn add_memory(&mut self, memory: &LinuxMemory) -> Result<(), Error> {
        let limit = signed(memory.limit());
        if let Some(limit) = limit {
            self.limits.push((Kind::Memory, Value::Amount(limit)));
        }
        if let Some(both) = signed(memory.swap()) {
            let memory = match (limit, both) {
                (Some(Limit::Value(memory)), _) => memory,
                (_, Limit::Max) => 0,
                (_, Limit::Value(both)) => {
                    return Err(out_of_range(Kind::MemorySwap, &both.to_string()));
                }
            };
            let value = Value::Swap {
                memory,
                both,
                earlier: None,
            };
            self.limits.push((Kind::MemorySwap, value));
        }
        if let Some(limit) = signed(memory.reservation()) {
            let kind = Kind::MemoryReservation;
            self.limits.push((kind, Value::Amount(limit)));
        }
        Ok(())
    }

    fn add_cpu(&mut self, cpu: &LinuxCpu) -> Result<(), Error> {
        let period = cpu.period().filter(|period| *period != 0);
        let quota = signed(cpu.quota());
        if quota.is_some() || period.is_some() {
            let value = Value::Quota {
                quota: quota.unwrap_or(Limit::Max),
                period: period.unwrap_or(USUAL_PERIOD),
            };
            self.limits.push((Kind::CpuQuota, value));
        }
        if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
            self.limits.push((Kind::CpuWeight, Value::Shares(shares)));
        }
        for (kind, text) in [
            (Kind::CpusetCpus, cpu.cpus()),
            (Kind::CpusetMems, cpu.mems()),
        ] {
            if let Some(text) = text.as_ref().filter(|text| !text.is_empty()) {
                let numbers = Numbers::parse(text).ok_or_else(|| out_of_range(kind, text))?;
                self.limits.push((kind, Value::Numbers(numbers)));
            }
        }
        Ok(())
    }

    fn add_rates(&mut self, io: &LinuxBlockIo) -> Result<(), Error> {
        for (kind, devices) in [
            (Kind::ReadBps, io.throttle_read_bps_device()),
            (Kind::WriteBps, io.throttle_write_bps_device()),
            (Kind::ReadIops, io.throttle_read_iops_device()),
            (Kind::WriteIops, io.throttle_write_iops_device()),
        ] {
            for device in devices.iter().flatten() {
                self.limits.push((kind, rate(kind, device)?));
            }
        }
        Ok(())
    }

    /// Adds a member of `linux.resources.unified`. A limit for which OCI has no other member becomes an ordinary limit,
    /// which works on v1 too if v1 has it.
    fn add_file(&mut self, name: &str, text: &str) -> Result<(), Error> {
        if let Some(kind) = unified::limit(name) {
            let value = unified::value(kind, text).ok_or_else(|| out_of_range(kind, text))?;
            self.limits.push((kind, value));
        } else if is_file(name) {
            self.files.insert(name.to_owned(), text.to_owned());
        } else {
            let name = format!("unified {name:?}");
            return Err(Error::Unsupported { name });
        }
        Ok(())
    }
}

/// Whether the name is that of a controller's file. The files of the core (`cgroup.…`) are not limits.
fn is_file(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_');
    let core = name.starts_with("cgroup.") || name.starts_with('.');
    name.contains('.') && !core && name.bytes().all(allowed)
}

fn signed(number: Option<i64>) -> Option<Limit> {
    match number? {
        0 => None,
        number => Some(u64::try_from(number).map_or(Limit::Max, Limit::Value)),
    }
}

fn rate(kind: Kind, device: &LinuxThrottleDevice) -> Result<Value, Error> {
    let number =
        |number: i64| u32::try_from(number).map_err(|_| out_of_range(kind, &number.to_string()));
    Ok(Value::Rate {
        device: Device {
            major: number(device.major())?,
            minor: number(device.minor())?,
        },
        limit: Limit::Value(device.rate()),
    })
}

/// Refuses the limits of a bundle that the agent does not support, so that no limit is silently left out.
fn refuse_unknown(resources: &LinuxResources) -> Result<(), Error> {
    let memory = resources.memory().as_ref();
    let cpu = resources.cpu().as_ref();
    let io = resources.block_io().as_ref();
    let positive = |number: Option<i64>| number.is_some_and(|number| number > 0);
    let weight = |number: Option<u16>| number.is_some_and(|number| number != 0);
    let unknown = [
        (
            "memory.kernel",
            memory.is_some_and(|it| positive(it.kernel())),
        ),
        (
            "memory.kernelTCP",
            memory.is_some_and(|it| positive(it.kernel_tcp())),
        ),
        (
            "memory.swappiness",
            memory.is_some_and(|it| it.swappiness().is_some()),
        ),
        (
            "memory.disableOOMKiller",
            memory.is_some_and(|it| it.disable_oom_killer() == Some(true)),
        ),
        (
            "memory.useHierarchy",
            memory.is_some_and(|it| it.use_hierarchy() == Some(false)),
        ),
        (
            "cpu.burst",
            cpu.is_some_and(|it| it.burst().is_some_and(|burst| burst != 0)),
        ),
        ("cpu.idle", cpu.is_some_and(|it| positive(it.idle()))),
        (
            "cpu.realtimeRuntime",
            cpu.is_some_and(|it| positive(it.realtime_runtime())),
        ),
        (
            "cpu.realtimePeriod",
            cpu.is_some_and(|it| it.realtime_period().is_some_and(|it| it != 0)),
        ),
        (
            "blockIO.weight",
            io.is_some_and(|it| weight(it.weight()) || weight(it.leaf_weight())),
        ),
        (
            "blockIO.weightDevice",
            io.is_some_and(|it| it.weight_device().as_ref().is_some_and(|it| !it.is_empty())),
        ),
        (
            "hugepageLimits",
            resources
                .hugepage_limits()
                .as_ref()
                .is_some_and(|it| !it.is_empty()),
        ),
        (
            "network",
            resources
                .network()
                .as_ref()
                .is_some_and(|it| it.class_id().is_some() || it.priorities().is_some()),
        ),
        (
            "rdma",
            resources.rdma().as_ref().is_some_and(|it| !it.is_empty()),
        ),
    ];
    match unknown.into_iter().find(|(_, is_set)| *is_set) {
        None => Ok(()),
        Some((name, _)) => Err(Error::Unsupported {
            name: format!("linux.resources.{name}"),
        }),
    }
}

#[cfg(test)]
mod tests;

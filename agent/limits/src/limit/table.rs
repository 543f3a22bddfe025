//! Which file holds which limit.

use super::{Form, Kind};

/// A limit, and where it is on v1 and on v2; no files where that version does not have it.
pub struct Row {
    pub kind: Kind,
    /// The flag of `agent run`, without its dashes.
    pub flag: &'static str,
    pub controller: Controller,
    pub v1: &'static [File],
    pub v2: &'static [File],
    /// What the kernel takes, for people.
    pub wanted: &'static str,
    /// Why the kernel may refuse what is in that range.
    pub refusal: &'static str,
}

/// What a controller is called.
pub struct Controller {
    pub v1: &'static str,
    pub v2: &'static str,
}

/// A file that holds a limit, or a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    pub name: &'static str,
    pub form: Form,
}

const fn file(name: &'static str, form: Form) -> File {
    File { name, form }
}

const fn both(name: &'static str) -> Controller {
    Controller { v1: name, v2: name }
}

const IO: Controller = Controller {
    v1: "blkio",
    v2: "io",
};

const BYTES: &str = "at least a page, in bytes";
const NOT_LIMITED: &str = "; see memory.stat there for what is in use";
const NO_DEVICE: &str = "; wanted is a whole block device, not a partition";
const NOT_THERE: &str =
    "; all must be among those of the cgroup above, and online: see the file of that name there";

/// All limits, in the order in which they are written to a new cgroup: on v1 memory is to be limited before memory and
/// swap, which may not be less, and a period is to be there before its quota.
pub const TABLE: &[Row] = &[
    Row {
        kind: Kind::Memory,
        flag: "memory",
        controller: both("memory"),
        v1: &[file("memory.limit_in_bytes", Form::Bytes)],
        v2: &[file("memory.max", Form::Bytes)],
        wanted: BYTES,
        refusal: NOT_LIMITED,
    },
    Row {
        kind: Kind::MemorySwap,
        flag: "memory-swap",
        controller: both("memory"),
        v1: &[file("memory.memsw.limit_in_bytes", Form::Bytes)],
        v2: &[file("memory.swap.max", Form::SwapAlone)],
        wanted: "memory and swap together: no less than --memory, which must be given too",
        refusal: NOT_LIMITED,
    },
    Row {
        kind: Kind::MemoryReservation,
        flag: "memory-reservation",
        controller: both("memory"),
        v1: &[file("memory.soft_limit_in_bytes", Form::Bytes)],
        v2: &[file("memory.low", Form::Bytes)],
        wanted: BYTES,
        refusal: "",
    },
    Row {
        kind: Kind::MemoryHigh,
        flag: "memory-high",
        controller: both("memory"),
        v1: &[],
        v2: &[file("memory.high", Form::Bytes)],
        wanted: BYTES,
        refusal: "",
    },
    Row {
        kind: Kind::CpuQuota,
        flag: "cpu-quota",
        controller: both("cpu"),
        v1: &[
            file("cpu.cfs_period_us", Form::Period),
            file("cpu.cfs_quota_us", Form::Quota),
        ],
        v2: &[file("cpu.max", Form::QuotaAndPeriod)],
        wanted: "a quota of at least 1000 µs and a period of 1000 to 1000000 µs",
        refusal: "; on v1 it may not be more than that of the cgroup above",
    },
    Row {
        kind: Kind::CpuWeight,
        flag: "cpu-weight",
        controller: both("cpu"),
        v1: &[file("cpu.shares", Form::Shares)],
        v2: &[file("cpu.weight", Form::Weight)],
        wanted: "a weight of 1 to 10000, or shares of 2 to 262144",
        refusal: "",
    },
    Row {
        kind: Kind::CpusetCpus,
        flag: "cpuset-cpus",
        controller: both("cpuset"),
        v1: &[file("cpuset.cpus", Form::Numbers)],
        v2: &[file("cpuset.cpus", Form::Numbers)],
        wanted: "numbers and ranges of CPUs, as 0-2,4",
        refusal: NOT_THERE,
    },
    Row {
        kind: Kind::CpusetMems,
        flag: "cpuset-mems",
        controller: both("cpuset"),
        v1: &[file("cpuset.mems", Form::Numbers)],
        v2: &[file("cpuset.mems", Form::Numbers)],
        wanted: "numbers and ranges of memory nodes, as 0-2,4",
        refusal: NOT_THERE,
    },
    Row {
        kind: Kind::Pids,
        flag: "pids-limit",
        controller: both("pids"),
        v1: &[file("pids.max", Form::Count)],
        v2: &[file("pids.max", Form::Count)],
        wanted: "at least 1",
        refusal: "",
    },
    rate(
        Kind::ReadBps,
        "device-read-bps",
        &[file("blkio.throttle.read_bps_device", Form::DeviceRow)],
        &[file("io.max", Form::DeviceKey("rbps"))],
    ),
    rate(
        Kind::WriteBps,
        "device-write-bps",
        &[file("blkio.throttle.write_bps_device", Form::DeviceRow)],
        &[file("io.max", Form::DeviceKey("wbps"))],
    ),
    rate(
        Kind::ReadIops,
        "device-read-iops",
        &[file("blkio.throttle.read_iops_device", Form::DeviceRow)],
        &[file("io.max", Form::DeviceKey("riops"))],
    ),
    rate(
        Kind::WriteIops,
        "device-write-iops",
        &[file("blkio.throttle.write_iops_device", Form::DeviceRow)],
        &[file("io.max", Form::DeviceKey("wiops"))],
    ),
];

const fn rate(kind: Kind, flag: &'static str, v1: &'static [File], v2: &'static [File]) -> Row {
    Row {
        kind,
        flag,
        controller: IO,
        v1,
        v2,
        wanted: "at least 1 a second; of I/Os at most 4294967295",
        refusal: NO_DEVICE,
    }
}

//! The values that the kernel accepts for each limit.

use agent_model::limit::{Kind, Limit, Value};

use super::Error;

/// Describes the accepted values, for an error.
pub(super) fn wanted(kind: Kind) -> &'static str {
    match kind {
        Kind::Memory | Kind::MemoryReservation | Kind::MemoryHigh => "at least a page, in bytes",
        Kind::MemorySwap => {
            "memory and swap together: no less than --memory, which must be given too"
        }
        Kind::CpuQuota => "a quota of at least 1000 µs and a period of 1000 to 1000000 µs",
        Kind::CpuWeight => "a weight of 1 to 10000, or shares of 2 to 262144",
        Kind::CpusetCpus => "numbers and ranges of CPUs, as 0-2,4",
        Kind::CpusetMems => "numbers and ranges of memory nodes, as 0-2,4",
        Kind::Pids => "at least 1",
        Kind::ReadBps | Kind::WriteBps | Kind::ReadIops | Kind::WriteIops => {
            "at least 1 a second; of I/Os at most 4294967295"
        }
    }
}

/// Returns a hint why the kernel may refuse a value in that range.
pub(super) fn refusal(kind: Kind) -> &'static str {
    match kind {
        Kind::Memory | Kind::MemorySwap => "; see memory.stat there for what is in use",
        Kind::CpuQuota => "; on v1 it may not be more than that of the cgroup above",
        Kind::CpusetCpus | Kind::CpusetMems => {
            "; all must be among those of the cgroup above, and online: see the file of that name there"
        }
        kind if kind.is_rate() => "; wanted is a whole block device, not a partition",
        _ => "",
    }
}

/// Checks that the kernel accepts a value as it is. A value that the kernel would clamp is refused too, because it is
/// not what was asked for.
pub(super) fn check(kind: Kind, value: &Value, page: u64) -> Result<(), Error> {
    let is_iops = matches!(kind, Kind::ReadIops | Kind::WriteIops);
    let fits = match value {
        Value::Amount(Limit::Value(number)) if kind == Kind::Pids => *number >= 1,
        Value::Amount(Limit::Value(bytes)) => *bytes >= page,
        Value::Swap {
            memory,
            both: Limit::Value(both),
            ..
        } => both >= memory,
        Value::Amount(Limit::Max) | Value::Swap { .. } => true,
        Value::Quota { quota, period } => {
            let enough = !matches!(quota, Limit::Value(..1000));
            enough && (1000..=1_000_000).contains(period)
        }
        Value::Shares(shares) => (2..=262_144).contains(shares),
        Value::Weight(weight) => (1..=10_000).contains(weight),
        Value::Numbers(numbers) => !numbers.is_empty(),
        Value::Rate {
            limit: Limit::Value(rate),
            ..
        } => *rate >= 1 && !(is_iops && *rate > u64::from(u32::MAX)),
        Value::Rate { .. } => true,
    };
    if fits {
        Ok(())
    } else {
        Err(out_of_range(kind, &value.to_string()))
    }
}

/// Returns the error for a value that is out of range.
pub(super) fn out_of_range(kind: Kind, value: &str) -> Error {
    Error::Range {
        name: format!("--{}", kind.flag()),
        value: value.to_owned(),
        wanted: wanted(kind).to_owned(),
    }
}

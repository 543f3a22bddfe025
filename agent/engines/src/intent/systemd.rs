//! The limits of systemd's units, on hosts where systemd runs.

pub(crate) mod bus;

use std::path::Path;

use agent_model::container::Container;
use agent_model::limit::{Kind, Limit, Value};

use self::bus::{Odd, Properties, Sockets};
use super::{Error, Intent, Source};

/// The directory exists where systemd is the init process (sd_booted(3)).
const RUNS: &str = "/run/systemd/system";

/// In microseconds: the default period of systemd, and the bounds of a period that the kernel accepts.
const USUAL_PERIOD: u64 = 100_000;
const LEAST: u64 = 1_000;
const SECOND: u64 = 1_000_000;

/// Whether systemd is the host's init process.
pub fn systemd_runs() -> bool {
    Path::new(RUNS).is_dir()
}

/// Returns the limits of a unit. Returns `None` where systemd does not run, or does not know the unit. It does not know
/// the units of a user's own systemd.
pub(super) async fn of_unit(container: &Container) -> Result<Option<Intent>, Error> {
    let limits = of_properties(container, Properties::limits).await?;
    Ok(limits.map(|limits| Intent::new(limits, Source::Systemd)))
}

/// Returns the pid of a service's main process. Returns `None` where it has none, and in the same cases as `of_unit`.
///
/// # Errors
/// systemd does not answer.
pub async fn main_process(unit: &Container) -> Result<Option<u32>, Error> {
    let main = of_properties(unit, |properties| properties.pid("MainPID")).await?;
    Ok(main.flatten())
}

/// Returns what `read` finds in the properties of a unit. Returns `None` in the same cases as [`of_unit`].
pub(crate) async fn of_properties<T>(
    container: &Container,
    read: impl Fn(&Properties) -> Result<T, Odd>,
) -> Result<Option<T>, Error> {
    let unit = &container.name;
    if !systemd_runs() {
        return Ok(None);
    }
    let asked = Sockets::default().properties(unit).await;
    let properties = asked.map_err(|source| Error::Systemd {
        unit: unit.clone(),
        source,
    })?;
    let found = properties.map(|it| it.of(&container.cgroup, read));
    let found = found.transpose().map_err(|odd| Error::Property {
        unit: unit.clone(),
        property: odd.property,
        value: odd.value,
        wanted: odd.wanted,
    })?;
    Ok(found.flatten())
}

impl Properties {
    /// Returns what `read` finds, if the unit is in this cgroup. A unit of a user's own systemd may have the same name.
    pub(super) fn of<T>(
        &self,
        cgroup: &str,
        read: impl Fn(&Self) -> Result<T, Odd>,
    ) -> Result<Option<T>, Odd> {
        let is_it = self.text("ControlGroup")? == cgroup;
        is_it.then(|| read(self)).transpose()
    }

    /// All limits of the unit, in the order of their kinds (systemd.resource-control(5)).
    pub(crate) fn limits(&self) -> Result<Vec<(Kind, Value)>, Odd> {
        let amount = |number: u64| Value::Amount(Limit::Value(number));
        let memory = self.number("MemoryMax")?;
        // MemorySwapMax limits swap alone, on v2 only.
        let swap = self.number("MemorySwapMax")?.map(|swap| {
            let memory = memory.unwrap_or(0);
            let both = Limit::Value(memory.saturating_add(swap));
            Value::Swap {
                memory,
                both,
                earlier: None,
            }
        });
        let low = self.number("MemoryLow")?.filter(|low| *low > 0);
        // 0 stands for the idle class, which is below all weights (cpu.idle).
        let weight = self.number("CPUWeight")?.filter(|weight| *weight > 0);
        let limits = [
            (Kind::Memory, memory.map(amount)),
            (Kind::MemorySwap, swap),
            (Kind::MemoryReservation, low.map(amount)),
            (Kind::MemoryHigh, self.number("MemoryHigh")?.map(amount)),
            (Kind::CpuQuota, self.quota()?),
            (Kind::CpuWeight, weight.map(Value::Weight)),
            (
                Kind::CpusetCpus,
                self.numbers("AllowedCPUs")?.map(Value::Numbers),
            ),
            (Kind::Pids, self.number("TasksMax")?.map(amount)),
        ];
        let asked = limits.into_iter();
        Ok(asked
            .filter_map(|(kind, value)| Some((kind, value?)))
            .collect())
    }

    /// The quota and period that systemd writes. systemd lengthens a period in which the quota would be less than the
    /// kernel accepts (`cgroup_cpu_adjust_period`, src/core/cgroup.c).
    fn quota(&self) -> Result<Option<Value>, Odd> {
        let period = self.number("CPUQuotaPeriodUSec")?.unwrap_or(USUAL_PERIOD);
        let Some(each_second) = self.number("CPUQuotaPerSecUSec")? else {
            return Ok(None);
        };
        let least = (LEAST * SECOND).div_ceil(each_second.max(1)).max(LEAST);
        let period = period.max(least).min(SECOND);
        let quota = u128::from(each_second) * u128::from(period) / u128::from(SECOND);
        let quota = u64::try_from(quota).unwrap_or(u64::MAX).max(LEAST);
        let quota = Limit::Value(quota);
        Ok(Some(Value::Quota { quota, period }))
    }
}

#[cfg(test)]
mod tests {
    use agent_model::limit::Numbers;
    use zbus::Variant;

    use super::*;

    const INFINITY: u64 = u64::MAX;

    fn quota(quota: u64, period: u64) -> (Kind, Value) {
        let quota = Limit::Value(quota);
        (Kind::CpuQuota, Value::Quota { quota, period })
    }

    fn amount(kind: Kind, number: u64) -> (Kind, Value) {
        (kind, Value::Amount(Limit::Value(number)))
    }

    fn numbers<const N: usize>(all: [(&str, u64); N]) -> Properties {
        Properties::from(all.map(|(name, number)| (name, Variant::from(number))))
    }

    #[test]
    fn a_unit_without_limits() {
        let properties = numbers([
            ("CPUWeight", INFINITY),
            ("CPUQuotaPerSecUSec", INFINITY),
            ("CPUQuotaPeriodUSec", INFINITY),
            ("MemoryLow", 0),
            ("MemoryHigh", INFINITY),
            ("MemoryMax", INFINITY),
            ("MemorySwapMax", INFINITY),
            ("TasksMax", INFINITY),
        ]);
        assert_eq!(properties.limits(), Ok(Vec::new()));
        assert_eq!(Properties::default().limits(), Ok(Vec::new()));
        assert_eq!(numbers([("CPUWeight", 0)]).limits(), Ok(Vec::new()));
    }

    #[test]
    fn every_limit() {
        let number = |number: u64| Variant::from(number);
        let properties = Properties::from([
            ("CPUWeight", number(300)),
            ("CPUQuotaPerSecUSec", number(500_000)),
            ("CPUQuotaPeriodUSec", number(10_000)),
            ("AllowedCPUs", Variant::from(vec![0b1011_u8])),
            ("MemoryLow", number(4096)),
            ("MemoryHigh", number(48 << 20)),
            ("MemoryMax", number(64 << 20)),
            ("MemorySwapMax", number(0)),
            ("TasksMax", number(18_956)),
        ]);
        let swap = Value::Swap {
            memory: 64 << 20,
            both: Limit::Value(64 << 20),
            earlier: None,
        };
        let cpus = Value::Numbers(Numbers::parse("0,1,3").unwrap());
        let wanted = vec![
            amount(Kind::Memory, 64 << 20),
            (Kind::MemorySwap, swap),
            amount(Kind::MemoryReservation, 4096),
            amount(Kind::MemoryHigh, 48 << 20),
            quota(5_000, 10_000),
            (Kind::CpuWeight, Value::Weight(300)),
            (Kind::CpusetCpus, cpus),
            amount(Kind::Pids, 18_956),
        ];
        assert_eq!(properties.limits(), Ok(wanted));
    }

    #[test]
    fn quotas_and_periods() {
        for (each_second, period, wanted) in [
            (1_500_000, INFINITY, quota(150_000, 100_000)),
            (90_000_000, INFINITY, quota(9_000_000, 100_000)),
            (5_000, INFINITY, quota(1_000, 200_000)),
            (1, INFINITY, quota(1_000, 1_000_000)),
            (2_000_000, 1, quota(2_000, 1_000)),
            (INFINITY - 1, 0, quota(INFINITY / 1_000, 1_000)),
        ] {
            let properties = numbers([
                ("CPUQuotaPerSecUSec", each_second),
                ("CPUQuotaPeriodUSec", period),
            ]);
            assert_eq!(properties.limits(), Ok(vec![wanted]), "{each_second}");
        }
    }

    #[test]
    fn what_is_odd_is_named() {
        for (value, property) in [
            (Variant::from("64M"), "MemoryMax"),
            (Variant::from(-1_i64), "TasksMax"),
            (Variant::from("5s"), "CPUQuotaPerSecUSec"),
            (Variant::from(5_u32), "CPUQuotaPeriodUSec"),
            (Variant::from("all"), "AllowedCPUs"),
            (Variant::from("idle"), "CPUWeight"),
        ] {
            let properties = Properties::from([
                ("CPUQuotaPerSecUSec", Variant::from(5_u64)),
                (property, value),
            ]);
            assert_eq!(properties.limits().unwrap_err().property, property);
        }
    }

    #[test]
    fn a_unit_of_that_name_elsewhere_is_another() {
        let properties =
            Properties::from([("ControlGroup", Variant::from("/system.slice/a.service"))]);
        let found = |cgroup| properties.of(cgroup, |_| Ok(7)).unwrap();
        assert_eq!(found("/system.slice/a.service"), Some(7));
        assert_eq!(found("/user.slice/a.service"), None);
        assert_eq!(Properties::default().of("/a", |_| Ok(7)), Ok(None));
    }
}

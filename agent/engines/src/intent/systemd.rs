//! Units of systemd: what it has of their limits, where it runs.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use agent_model::container::Container;
use agent_model::limit::{Kind, Limit, Numbers, Value};
use agent_model::units::parse::microseconds_of_sum;

use super::{Error, Intent, Source};

/// It is there where systemd is the init process (sd_booted(3)).
pub(super) const RUNS: &str = "/run/systemd/system";

/// The properties of a unit that are asked for (systemd.resource-control(5)).
const PROPERTIES: [&str; 10] = [
    CGROUP,
    "MemoryMax",
    "MemoryHigh",
    "MemoryLow",
    "MemorySwapMax",
    "CPUQuotaPerSecUSec",
    "CPUQuotaPeriodUSec",
    "CPUWeight",
    "TasksMax",
    "AllowedCPUs",
];

pub(super) const CGROUP: &str = "ControlGroup";

/// Microseconds: of the usual period, and the least and most of the kernel.
const USUAL_PERIOD: u64 = 100_000;
const LEAST: u64 = 1_000;
const SECOND: u64 = 1_000_000;

/// What systemd says that it does not say.
#[derive(Debug, PartialEq, Eq)]
struct Odd {
    property: &'static str,
    value: String,
    wanted: &'static str,
}

/// The limits of a unit; `None` where systemd does not run, or does not know the unit: a user's own systemd has units too.
pub(super) async fn of_unit(container: &Container) -> Result<Option<Intent>, Error> {
    if !Path::new(RUNS).is_dir() {
        return Ok(None);
    }
    let unit = &container.name;
    let text = ask(unit, &PROPERTIES).await?;
    let properties = Properties(&text);
    if properties.get(CGROUP) != container.cgroup {
        return Ok(None);
    }
    let limits = properties.limits().map_err(|odd| Error::Property {
        unit: unit.clone(),
        property: odd.property,
        value: odd.value,
        wanted: odd.wanted,
    })?;
    let source = Source::Systemd;
    Ok(Some(Intent::new(limits, source)))
}

/// What systemctl says of these properties of a unit.
pub(super) async fn ask(unit: &str, properties: &[&str]) -> Result<String, Error> {
    let asked = (unit.to_owned(), properties.join(","));
    let asked = tokio::task::spawn_blocking(move || show(&asked.0, &asked.1)).await;
    asked
        .unwrap_or_else(|panic| Err(io::Error::other(panic)))
        .map_err(|source| Error::Systemctl {
            unit: unit.to_owned(),
            source,
        })
}

fn show(unit: &str, properties: &str) -> io::Result<String> {
    let mut command = Command::new("systemctl");
    let properties = format!("--property={properties}");
    let command = command.args(["show", &properties, "--", unit]);
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or_default();
        return Err(io::Error::other(format!("{}: {said}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Lines `NAME=VALUE`, in any order.
struct Properties<'a>(&'a str);

impl<'a> Properties<'a> {
    fn get(&self, name: &str) -> &'a str {
        let values = self.0.lines().filter_map(|line| line.split_once('='));
        let mut values = values.filter(|(found, _)| *found == name);
        values.next().map_or("", |(_, value)| value.trim())
    }

    /// What a property says; `None` where nothing is asked for.
    fn read<T>(
        &self,
        property: &'static str,
        wanted: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Odd> {
        match self.get(property) {
            "" | "infinity" | "[not set]" => Ok(None),
            value => read(value).map(Some).ok_or_else(|| Odd {
                property,
                value: value.to_owned(),
                wanted,
            }),
        }
    }

    fn number(&self, property: &'static str) -> Result<Option<u64>, Odd> {
        self.read(property, "a number", |text| text.parse().ok())
    }

    fn time(&self, property: &'static str) -> Result<Option<u64>, Odd> {
        self.read(property, "a time, as in 1min 30s", microseconds_of_sum)
    }

    /// All of them, in the order of their kinds.
    fn limits(&self) -> Result<Vec<(Kind, Value)>, Odd> {
        let amount = |number: u64| Value::Amount(Limit::Value(number));
        let memory = self.number("MemoryMax")?;
        // systemd's is of swap alone, and v2's only.
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
        let numbers = |text: &str| Numbers::parse(&text.replace(' ', ","));
        let cpus = self.read("AllowedCPUs", "numbers and ranges", numbers)?;
        let weight = |text: &str| match text {
            // A class of its own below all weights (cpu.idle).
            "idle" => Some(None),
            text => text.parse().ok().map(Some),
        };
        let weight = self.read("CPUWeight", "a weight", weight)?.flatten();
        let limits = [
            (Kind::Memory, memory.map(amount)),
            (Kind::MemorySwap, swap),
            (Kind::MemoryReservation, low.map(amount)),
            (Kind::MemoryHigh, self.number("MemoryHigh")?.map(amount)),
            (Kind::CpuQuota, self.quota()?),
            (Kind::CpuWeight, weight.map(Value::Weight)),
            (Kind::CpusetCpus, cpus.map(Value::Numbers)),
            (Kind::Pids, self.number("TasksMax")?.map(amount)),
        ];
        let asked = limits.into_iter();
        Ok(asked
            .filter_map(|(kind, value)| Some((kind, value?)))
            .collect())
    }

    /// systemd lengthens a period in which the quota would be less than the kernel takes (`cgroup_cpu_adjust_period`,
    /// src/core/cgroup.c).
    fn quota(&self) -> Result<Option<Value>, Odd> {
        let period = self.time("CPUQuotaPeriodUSec")?.unwrap_or(USUAL_PERIOD);
        let Some(each_second) = self.time("CPUQuotaPerSecUSec")? else {
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
    use proptest::prelude::*;

    use super::*;

    fn quota(quota: u64, period: u64) -> (Kind, Value) {
        let quota = Limit::Value(quota);
        (Kind::CpuQuota, Value::Quota { quota, period })
    }

    fn amount(kind: Kind, number: u64) -> (Kind, Value) {
        (kind, Value::Amount(Limit::Value(number)))
    }

    #[test]
    fn a_unit_without_limits() {
        // systemd 252.
        let text = "\
ControlGroup=/system.slice/cron.service
CPUWeight=[not set]
CPUQuotaPerSecUSec=infinity
CPUQuotaPeriodUSec=infinity
AllowedCPUs=
MemoryLow=0
MemoryHigh=infinity
MemoryMax=infinity
MemorySwapMax=infinity
TasksMax=infinity
";
        let properties = Properties(text);
        assert_eq!(properties.limits(), Ok(Vec::new()));
        assert_eq!(properties.get(CGROUP), "/system.slice/cron.service");
        assert_eq!(Properties("").limits(), Ok(Vec::new()));
    }

    #[test]
    fn every_limit() {
        let text = "\
CPUWeight=300
CPUQuotaPerSecUSec=500ms
CPUQuotaPeriodUSec=10ms
AllowedCPUs=0-1 3
MemoryLow=4096
MemoryHigh=50331648
MemoryMax=67108864
MemorySwapMax=0
TasksMax=18956
";
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
        assert_eq!(Properties(text).limits(), Ok(wanted));
    }

    #[test]
    fn quotas_and_periods() {
        for (each_second, period, wanted) in [
            ("1.500000s", "infinity", quota(150_000, 100_000)),
            ("1min 30s", "infinity", quota(9_000_000, 100_000)),
            ("5ms", "infinity", quota(1_000, 200_000)),
            ("1us", "infinity", quota(1_000, 1_000_000)),
            ("2s", "1us", quota(2_000, 1_000)),
        ] {
            let text = format!("CPUQuotaPerSecUSec={each_second}\nCPUQuotaPeriodUSec={period}\n");
            assert_eq!(Properties(&text).limits(), Ok(vec![wanted]), "{text}");
        }
    }

    #[test]
    fn what_is_odd_is_named() {
        for (text, property) in [
            ("MemoryMax=64M", "MemoryMax"),
            ("TasksMax=-1", "TasksMax"),
            ("CPUQuotaPerSecUSec=5 parsecs", "CPUQuotaPerSecUSec"),
            ("CPUQuotaPeriodUSec=...s", "CPUQuotaPeriodUSec"),
            ("AllowedCPUs=all", "AllowedCPUs"),
            ("CPUWeight=much", "CPUWeight"),
        ] {
            assert_eq!(Properties(text).limits().unwrap_err().property, property);
        }
        assert_eq!(Properties("CPUWeight=idle").limits(), Ok(Vec::new()));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "((MemoryMax|CPUQuotaPerSecUSec|CPUQuotaPeriodUSec|AllowedCPUs)=[0-9a-z. -]{0,25}\n){0,4}") {
            let _ = Properties(&text).limits();
        }
    }
}

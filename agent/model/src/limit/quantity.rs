//! Limits with their units, as text and as a number.

use serde::Serialize;

use super::{Held, Kind, Limit, Value};
use crate::hierarchy::Version;
use crate::units::size;

/// A value with its unit, as text and as a number.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quantity {
    /// The text, such as `150.0M` or `0.5 CPUs`.
    pub text: String,
    /// The number in `unit`; null if there is no limit, and for sets.
    pub number: Option<f64>,
    /// The unit: `bytes`, `CPUs`, `tasks`, `shares`, `weight`, `bytes/s`, `I/Os/s` or `set`.
    pub unit: &'static str,
}

impl Quantity {
    /// An intended value. The text of a size has the largest unit of which there is at least one.
    pub fn of_value(kind: Kind, value: &Value) -> Self {
        match value {
            Value::Amount(limit) | Value::Swap { both: limit, .. } | Value::Rate { limit, .. } => {
                amount(kind, *limit)
            }
            Value::Quota { quota, period } => cpus(*quota, *period),
            Value::Shares(shares) => plain(*shares, "shares"),
            Value::Weight(weight) => plain(*weight, "weight"),
            Value::Numbers(numbers) => set(numbers.to_string()),
        }
    }

    /// A value that a cgroup's file holds.
    pub fn of_held(kind: Kind, version: Version, held: &Held) -> Self {
        match held {
            Held::Amount(Limit::Value(number)) if kind == Kind::CpuWeight => {
                let unit = match version {
                    Version::V1 => "shares",
                    Version::V2 => "weight",
                };
                plain(*number, unit)
            }
            Held::Amount(limit) => amount(kind, *limit),
            Held::Quota { quota, period } => cpus(*quota, *period),
            Held::Numbers(numbers) => set(numbers.to_string()),
        }
    }
}

fn amount(kind: Kind, limit: Limit) -> Quantity {
    let unit = match kind {
        Kind::Pids => "tasks",
        Kind::ReadBps | Kind::WriteBps => "bytes/s",
        Kind::ReadIops | Kind::WriteIops => "I/Os/s",
        _ => "bytes",
    };
    let Limit::Value(number) = limit else {
        return none(unit);
    };
    let text = match unit {
        "bytes" => size(number),
        "bytes/s" => format!("{}/s", size(number)),
        unit => format!("{number} {unit}"),
    };
    Quantity {
        text,
        number: Some(number as f64),
        unit,
    }
}

fn cpus(quota: Limit, period: u64) -> Quantity {
    let Limit::Value(quota) = quota else {
        return none("CPUs");
    };
    let share = quota as f64 / period.max(1) as f64;
    Quantity {
        text: format!("{share} CPUs"),
        number: Some(share),
        unit: "CPUs",
    }
}

fn plain(number: u64, unit: &'static str) -> Quantity {
    Quantity {
        text: format!("{unit} {number}"),
        number: Some(number as f64),
        unit,
    }
}

fn set(text: String) -> Quantity {
    Quantity {
        text,
        number: None,
        unit: "set",
    }
}

fn none(unit: &'static str) -> Quantity {
    Quantity {
        text: "no limit".to_owned(),
        number: None,
        unit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_their_units() {
        let quota = Value::Quota {
            quota: Limit::Value(50_000),
            period: 100_000,
        };
        let amount = |number| Value::Amount(Limit::Value(number));
        for (kind, value, text, number) in [
            (
                Kind::Memory,
                amount(150 << 20),
                "150.0M",
                Some(157_286_400.0),
            ),
            (Kind::CpuQuota, quota, "0.5 CPUs", Some(0.5)),
            (Kind::Pids, amount(50), "50 tasks", Some(50.0)),
            (Kind::WriteBps, amount(1 << 20), "1.0M/s", Some(1_048_576.0)),
            (
                Kind::CpuWeight,
                Value::Weight(100),
                "weight 100",
                Some(100.0),
            ),
            (Kind::Pids, Value::Amount(Limit::Max), "no limit", None),
        ] {
            let quantity = Quantity::of_value(kind, &value);
            assert_eq!((&*quantity.text, quantity.number), (text, number));
        }
        let shares = Quantity::of_held(
            Kind::CpuWeight,
            Version::V1,
            &Held::Amount(Limit::Value(1024)),
        );
        assert_eq!(shares.text, "shares 1024");
    }
}

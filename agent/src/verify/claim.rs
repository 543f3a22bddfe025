//! What is claimed: a limit, and who intended it.

use serde::Serialize;

use crate::host::cgroup::Limit;
use crate::host::hierarchy::Version;
use crate::host::system::page_size;
use crate::limit::chain::Chain;
use crate::limit::{Device, Held, Kind, Value};
use crate::units::size;

/// A limit that is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub kind: Kind,
    /// Of a rate.
    pub device: Option<Device>,
    /// `None`: nobody says what was intended, and the cgroup's own file is taken at its word.
    pub intended: Option<Value>,
    /// Who says so, for people: `--memory`, `docker`, `--expect`.
    pub source: String,
}

/// A value with its unit, for people and for programs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quantity {
    /// `150.0M`, `0.5 CPUs`.
    pub text: String,
    /// In `unit`; null where there is no limit, and for sets.
    pub number: Option<f64>,
    /// `bytes`, `CPUs`, `tasks`, `shares`, `weight`, `bytes/s`, `I/Os/s`, `set`.
    pub unit: &'static str,
}

impl Claim {
    /// That a limit is to be `value`, as `source` says.
    pub fn of(kind: Kind, value: Value, source: impl Into<String>) -> Self {
        Self {
            kind,
            device: value.device(),
            intended: Some(value),
            source: source.into(),
        }
    }

    /// That there is a limit, whatever it is.
    pub fn unsaid(kind: Kind, device: Option<Device>) -> Self {
        Self {
            kind,
            device,
            intended: None,
            source: String::new(),
        }
    }

    /// What the files are to hold; `None` where nobody says, or this version has no such limit.
    pub fn held(&self, version: Version) -> Option<Held> {
        let page = page_size();
        self.kind.held(version, self.intended.as_ref()?, page)
    }

    /// What was intended, in the unit that it was given in.
    pub fn intended(&self) -> Option<Quantity> {
        Some(match self.intended.as_ref()? {
            Value::Amount(limit) | Value::Swap { both: limit, .. } | Value::Rate { limit, .. } => {
                amount(self.kind, *limit)
            }
            Value::Quota { quota, period } => cpus(*quota, *period),
            Value::Shares(shares) => plain(*shares, "shares"),
            Value::Weight(weight) => plain(*weight, "weight"),
            Value::Numbers(numbers) => set(numbers.to_string()),
        })
    }
}

/// What a file of this limit holds.
pub fn quantity(chain: &Chain, held: &Held) -> Quantity {
    match held {
        Held::Amount(Limit::Value(number)) if chain.kind == Kind::CpuWeight => {
            let unit = match chain.version {
                Version::V1 => "shares",
                Version::V2 => "weight",
            };
            plain(*number, unit)
        }
        Held::Amount(limit) => amount(chain.kind, *limit),
        Held::Quota { quota, period } => cpus(*quota, *period),
        Held::Numbers(numbers) => set(numbers.to_string()),
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
        for (kind, value, text, number) in [
            (
                Kind::Memory,
                Value::Amount(Limit::Value(150 << 20)),
                "150.0M",
                Some(157_286_400.0),
            ),
            (Kind::CpuQuota, quota, "0.5 CPUs", Some(0.5)),
            (
                Kind::Pids,
                Value::Amount(Limit::Value(50)),
                "50 tasks",
                Some(50.0),
            ),
            (Kind::Pids, Value::Amount(Limit::Max), "no limit", None),
        ] {
            let quantity = Claim::of(kind, value, "").intended().unwrap();
            assert_eq!((&*quantity.text, quantity.number), (text, number));
        }
    }
}

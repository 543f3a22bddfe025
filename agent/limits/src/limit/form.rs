//! How a limit is written in a file, and read from it.

use agent_host::cgroup::Limit;

use super::{Device, Held, Numbers, Shown, Value, shares_of_weight, weight_of_shares};

/// What is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Bytes, of which the kernel keeps whole pages.
    Bytes,
    /// Likewise, of swap without memory.
    SwapAlone,
    Count,
    /// Microseconds; -1 is no quota.
    Quota,
    Period,
    /// `QUOTA PERIOD`.
    QuotaAndPeriod,
    Shares,
    Weight,
    /// `0-2,4`.
    Numbers,
    /// A row `MAJOR:MINOR NUMBER` for each device.
    DeviceRow,
    /// A row `MAJOR:MINOR rbps=NUMBER wbps=NUMBER …` for each device.
    DeviceKey(&'static str),
}

impl Form {
    /// What is written to the file for this limit; none where it is no limit of this form.
    pub fn write(self, value: &Value) -> Option<String> {
        Some(match (self, value) {
            (Self::Bytes, Value::Amount(limit) | Value::Swap { both: limit, .. })
            | (Self::Quota, Value::Quota { quota: limit, .. }) => minus_one(*limit),
            (Self::Count, Value::Amount(limit)) => Shown(*limit).to_string(),
            (Self::SwapAlone, Value::Swap { memory, both, .. }) => match both {
                Limit::Max => Shown(Limit::Max).to_string(),
                Limit::Value(both) => both.saturating_sub(*memory).to_string(),
            },
            (Self::Period, Value::Quota { period, .. }) => period.to_string(),
            (Self::QuotaAndPeriod, Value::Quota { quota, period }) => {
                format!("{} {period}", Shown(*quota))
            }
            (Self::Shares, Value::Shares(number)) | (Self::Weight, Value::Weight(number)) => {
                number.to_string()
            }
            (Self::Shares, Value::Weight(weight)) => shares_of_weight(*weight).to_string(),
            (Self::Weight, Value::Shares(shares)) => weight_of_shares(*shares).to_string(),
            (Self::Numbers, Value::Numbers(numbers)) => numbers.to_string(),
            (Self::DeviceRow, Value::Rate { device, limit }) => match limit {
                Limit::Max => format!("{device} 0"),
                Limit::Value(rate) => format!("{device} {rate}"),
            },
            (Self::DeviceKey(key), Value::Rate { device, limit }) => {
                format!("{device} {key}={}", Shown(*limit))
            }
            _ => return None,
        })
    }

    /// What a file of this form says; of `device`, where it has rows for devices. None where it is of another form.
    pub fn read(self, text: &str, device: Option<Device>) -> Option<Held> {
        let text = text.trim();
        match self {
            Self::Bytes | Self::SwapAlone | Self::Count | Self::Quota => {
                limit(text).map(Held::Amount)
            }
            Self::Period | Self::Shares | Self::Weight => {
                Some(Held::Amount(Limit::Value(text.parse().ok()?)))
            }
            Self::QuotaAndPeriod => {
                let (quota, period) = text.split_once(' ')?;
                let (quota, period) = (limit(quota)?, period.parse().ok()?);
                Some(Held::Quota { quota, period })
            }
            Self::Numbers => Numbers::parse(text).map(Held::Numbers),
            Self::DeviceRow => match row(text, device?) {
                None => Some(Held::Amount(Limit::Max)),
                Some(number) => limit(number).map(Held::Amount),
            },
            Self::DeviceKey(key) => {
                let words = row(text, device?).unwrap_or_default();
                let mut numbers = words.split(' ').filter_map(|word| word.split_once('='));
                match numbers.find(|(name, _)| *name == key) {
                    None => Some(Held::Amount(Limit::Max)),
                    Some((_, number)) => limit(number).map(Held::Amount),
                }
            }
        }
    }

    /// The devices that a file of this form has rows for.
    pub fn devices(self, text: &str) -> Vec<Device> {
        match self {
            Self::DeviceRow | Self::DeviceKey(_) => text.lines().filter_map(device).collect(),
            _ => Vec::new(),
        }
    }

    /// What the kernel is to keep of what was written: it rounds bytes down to whole pages.
    pub fn kept(self, written: Held, page: u64) -> Held {
        match (self, written) {
            (Self::Bytes | Self::SwapAlone, Held::Amount(Limit::Value(bytes))) => {
                Held::Amount(Limit::Value(bytes - bytes % page))
            }
            (_, written) => written,
        }
    }
}

/// v1 takes and v2 knows it: memory's files of v2 are never written so, since [`Value::Amount`] of no limit is left out.
fn minus_one(limit: Limit) -> String {
    match limit {
        Limit::Max => "-1".to_owned(),
        Limit::Value(value) => value.to_string(),
    }
}

fn limit(text: &str) -> Option<Limit> {
    Limit::parse(text.as_bytes())
}

/// The device whose row it is.
fn device(row: &str) -> Option<Device> {
    let (major, minor) = row.split_whitespace().next()?.split_once(':')?;
    Some(Device {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
    })
}

/// What follows the device in its row.
fn row(text: &str, device: Device) -> Option<&str> {
    let name = device.to_string();
    let rows = text.lines().filter_map(|line| line.split_once(' '));
    rows.into_iter()
        .find_map(|(first, rest)| (first == name).then_some(rest))
}

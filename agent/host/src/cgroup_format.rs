//! The formats of cgroup files, and one parser for the whole table.

use agent_model::limit::{Device, Held, Kind, Limit, Numbers};

use super::cgroup_files::{CgroupFile, rate_key};
use super::file::{number, words};
use super::reading::{DeviceUse, Field, Operation, Reading};

/// v1 has no text for "no limit": it writes the highest number of whole pages below 2^63. That is at least this number
/// with pages of up to 64 KiB (`PAGE_COUNTER_MAX`, `include/linux/page_counter.h`).
const V1_NO_LIMIT: u64 = 0x7FFF_FFFF_FFFF_0000;

/// Parses a limit, in each way that the kernel writes that there is none.
fn limit(text: &[u8]) -> Option<Limit> {
    match text {
        b"max" | b"-1" => Some(Limit::Max),
        text => number(text).map(|number| match number {
            V1_NO_LIMIT.. => Limit::Max,
            number => Limit::Value(number),
        }),
    }
}

/// The format of a file's text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Format {
    /// One number.
    Number,
    /// A number, or a text for no limit.
    Limit,
    /// Rows `KEY NUMBER`. The table lists them in the kernel's order, which makes the search short.
    Rows(&'static [Row]),
    /// `QUOTA PERIOD`.
    QuotaAndPeriod,
    /// `some … total=N` and `full … total=N`.
    Pressure,
    /// `0-2,4`.
    Numbers,
    /// A number for each CPU.
    EachCpu,
    /// Rows `MAJOR:MINOR OPERATION NUMBER`.
    DeviceOperations,
    /// Rows `MAJOR:MINOR rbytes=N wbytes=N rios=N …`.
    DeviceStat,
    /// Rows `MAJOR:MINOR NUMBER`.
    DeviceRate,
    /// Rows `MAJOR:MINOR rbps=NUMBER wbps=NUMBER …`.
    DeviceRates,
}

/// The unit of a number in a file. Fields of a [`Reading`] have times in nanoseconds; limits keep the unit of their
/// file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// The kernel rounds a limit in bytes to whole pages.
    Bytes,
    Count,
    Nanoseconds,
    Microseconds,
    /// `USER_HZ` is 100 on every architecture that has BPF.
    Ticks,
    Shares,
    Weight,
    PerSecond,
}

/// A key, and the field that its number is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    pub key: &'static str,
    pub field: Field,
    pub unit: Unit,
    /// The number is this limit: the tightest of the cgroup and its ancestors.
    pub tightest: Option<Kind>,
}

impl Unit {
    /// Returns by what a number in this unit is multiplied for its field.
    const fn in_field(self) -> u64 {
        match self {
            Self::Microseconds => 1000,
            Self::Ticks => 10_000_000,
            _ => 1,
        }
    }
}

impl CgroupFile {
    /// Parses `text` into `reading`.
    ///
    /// # Errors
    /// Text that does not have the format: the error says what was expected.
    pub fn parse(&self, text: &[u8], reading: &mut Reading) -> Result<(), &'static str> {
        if let Some(limit) = self.limits.first() {
            let held = self.held(*limit, text, None);
            match (held.ok_or("a limit")?, self.fields) {
                (Held::Amount(limit), [field]) => reading.set_limit(*field, limit),
                (Held::Quota { quota, period }, [first, second]) => {
                    reading.set_limit(*first, quota);
                    reading.set(*second, period);
                }
                _ => {}
            }
            return Ok(());
        }
        match self.format {
            Format::Rows(rows) => parse_rows(rows, text, reading),
            Format::Pressure => self.parse_pressure(text, reading),
            Format::DeviceOperations => parse_operations(self.unit, text, reading),
            Format::DeviceStat => parse_device_stat(text, reading),
            Format::EachCpu => {
                let numbers: Option<Vec<u64>> = words(text).map(number).collect();
                reading.cpus = numbers.ok_or("a number for each CPU")?;
                Ok(())
            }
            _ => {
                let value: u64 = number(text.trim_ascii()).ok_or("a number")?;
                let value = value.saturating_mul(self.unit.in_field());
                reading.set(self.fields[0], value);
                Ok(())
            }
        }
    }

    /// Parses a limit from `text`. Where the file has a row for each device, the row of `device` is read. Returns None
    /// where the text does not have the format.
    pub fn held(&self, kind: Kind, text: &[u8], device: Option<Device>) -> Option<Held> {
        let text = text.trim_ascii();
        Some(match self.format {
            Format::Limit => Held::Amount(limit(text)?),
            Format::Number => Held::Amount(Limit::Value(number(text)?)),
            Format::QuotaAndPeriod => {
                let mut words = words(text);
                Held::Quota {
                    quota: limit(words.next()?)?,
                    period: number(words.next()?)?,
                }
            }
            Format::Numbers => Held::Numbers(Numbers::parse(str::from_utf8(text).ok()?)?),
            Format::DeviceRate => Held::Amount(match device_words(text, device?).next() {
                None => Limit::Max,
                Some(word) => limit(word)?,
            }),
            Format::DeviceRates => {
                let key = rate_key(kind).as_bytes();
                let mut words = device_words(text, device?);
                let value = words.find_map(|word| word.strip_prefix(key)?.strip_prefix(b"="));
                Held::Amount(value.map_or(Some(Limit::Max), limit)?)
            }
            _ => return None,
        })
    }

    /// Returns the devices that have a row in `text`.
    pub fn devices(&self, text: &[u8]) -> Vec<Device> {
        match self.format {
            Format::DeviceRate | Format::DeviceRates => {
                let first = |line| words(line).next().and_then(device);
                lines(text).filter_map(first).collect()
            }
            _ => Vec::new(),
        }
    }

    fn parse_pressure(&self, text: &[u8], reading: &mut Reading) -> Result<(), &'static str> {
        for line in lines(text) {
            let field = self.fields[usize::from(!line.starts_with(b"some"))];
            let total = words(line).find_map(|word| word.strip_prefix(b"total="));
            let total: u64 = total.and_then(number).ok_or("a row with total=N")?;
            reading.set(field, total.saturating_mul(self.unit.in_field()));
        }
        Ok(())
    }
}

/// Joins the parts of one limit, in the order of its files: v1 has a file for a quota and one for its period.
pub fn whole(parts: impl IntoIterator<Item = Held>) -> Option<Held> {
    parts.into_iter().reduce(|whole, next| match (whole, next) {
        (Held::Amount(quota), Held::Amount(Limit::Value(period))) => Held::Quota { quota, period },
        (whole, _) => whole,
    })
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = text.split(|&byte| byte == b'\n');
    lines.filter(|line| !line.is_empty())
}

/// Parses `MAJOR:MINOR`. Returns None for another word: the row is of all devices.
fn device(word: &[u8]) -> Option<Device> {
    let colon = word.iter().position(|&byte| byte == b':')?;
    Some(Device {
        major: number(&word[..colon])?,
        minor: number(&word[colon + 1..])?,
    })
}

/// Returns the words after the device in its row.
fn device_words(text: &[u8], of: Device) -> impl Iterator<Item = &[u8]> {
    let mut rows = lines(text).map(words);
    let row = rows.find_map(|mut row| (device(row.next()?)? == of).then_some(row));
    row.into_iter().flatten()
}

fn parse_rows(rows: &[Row], text: &[u8], reading: &mut Reading) -> Result<(), &'static str> {
    let mut next = 0;
    let mut found = 0;
    for line in lines(text) {
        let space = line.iter().position(|&byte| byte == b' ');
        let (key, value) = line.split_at(space.unwrap_or(line.len()));
        let (before, after) = rows.split_at(next);
        let mut wanted = after.iter().chain(before);
        let Some(skipped) = wanted.position(|row| row.key.as_bytes() == key) else {
            continue;
        };
        let at = (next + skipped) % rows.len();
        let Row { field, unit, .. } = rows[at];
        let value: u64 = number(value.trim_ascii()).ok_or("a number after each key")?;
        match value {
            // Only a limit is as large as this.
            V1_NO_LIMIT.. => reading.set_limit(field, Limit::Max),
            value => reading.set(field, value.saturating_mul(unit.in_field())),
        }
        next = (at + 1) % rows.len();
        found += 1;
        if found == rows.len() {
            break;
        }
    }
    if found == 0 {
        return Err(rows[0].key);
    }
    Ok(())
}

fn parse_operations(unit: Unit, text: &[u8], reading: &mut Reading) -> Result<(), &'static str> {
    for line in lines(text) {
        let mut words = words(line);
        let Some(device) = words.next().and_then(device) else {
            continue;
        };
        let (Some(word), Some(value)) = (words.next(), words.next().and_then(number)) else {
            return Err("MAJOR:MINOR OPERATION NUMBER");
        };
        let mut operations = Operation::ALL.into_iter();
        if let Some(operation) = operations.find(|it| it.name().as_bytes() == word)
            && let Some(DeviceUse { bytes, count, .. }) = reading.device(device)
        {
            let values = if unit == Unit::Bytes { bytes } else { count };
            values[operation as usize] = Some(value);
        }
    }
    Ok(())
}

fn parse_device_stat(text: &[u8], reading: &mut Reading) -> Result<(), &'static str> {
    for line in lines(text) {
        let mut words = words(line);
        let of = words.next().and_then(device).ok_or("MAJOR:MINOR KEY=N")?;
        for word in words {
            let Some(equals) = word.iter().position(|&byte| byte == b'=') else {
                continue;
            };
            let Some(device) = reading.device(of) else {
                break;
            };
            let (values, operation) = match &word[..equals] {
                b"rbytes" => (&mut device.bytes, Operation::Read),
                b"wbytes" => (&mut device.bytes, Operation::Write),
                b"dbytes" => (&mut device.bytes, Operation::Discard),
                b"rios" => (&mut device.count, Operation::Read),
                b"wios" => (&mut device.count, Operation::Write),
                b"dios" => (&mut device.count, Operation::Discard),
                _ => continue,
            };
            let value = number(&word[equals + 1..]).ok_or("KEY=N")?;
            values[operation as usize] = Some(value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

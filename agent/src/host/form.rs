//! The forms that the files of a cgroup have, and what they say in each.

use super::cgroup::{Limit, V1_NO_LIMIT};
use super::file::{number, words};
use super::reading::{DeviceUse, Field, Operation, Reading};

/// What a file's text is.
pub enum Form {
    /// A number, in this many units of the field.
    Number(Field, u64),
    /// A number, or a word for no limit.
    Limit(Field),
    /// A number that is set, and does not change by itself.
    Setting(Field),
    /// Rows `KEY NUMBER`, in the order of the kernel's, which makes the search short.
    Rows(&'static [Row]),
    /// v2's `QUOTA PERIOD`.
    CpuMax,
    /// v2's weight of 1 to 10,000.
    CpuWeight,
    /// v2's stall information: `some … total=N` and `full … total=N`, in microseconds.
    Pressure(Field, Field),
    /// v1's rows `MAJOR:MINOR OPERATION NUMBER`, of bytes.
    DeviceBytes,
    /// Likewise, of I/Os.
    DeviceCounts,
    /// v2's rows `MAJOR:MINOR rbytes=N wbytes=N rios=N …`.
    IoStat,
}

/// A key, and the field that its number is for.
pub struct Row {
    pub key: &'static str,
    /// A number of [`V1_NO_LIMIT`] is no limit, in any field: nothing else comes near.
    pub field: Field,
    pub units: u64,
}

/// What was expected instead of what was found.
pub type Wanted = &'static str;

impl Form {
    /// Whether it is that of settings: they change only where somebody writes to the file.
    pub const fn is_of_settings(&self) -> bool {
        matches!(
            self,
            Self::Limit(_) | Self::Setting(_) | Self::CpuMax | Self::CpuWeight
        )
    }

    /// The fields of what may be remembered.
    pub fn fields(&self) -> &[Field] {
        match self {
            Self::Number(field, _) | Self::Limit(field) | Self::Setting(field) => {
                std::slice::from_ref(field)
            }
            Self::CpuMax => &[Field::CpuQuota, Field::CpuPeriod],
            Self::CpuWeight => &[Field::CpuWeight],
            _ => &[],
        }
    }

    /// All that it may say.
    pub fn all_fields(&self) -> Vec<Field> {
        match self {
            Self::Rows(rows) => rows.iter().map(|row| row.field).collect(),
            Self::Pressure(some, full) => vec![*some, *full],
            _ => self.fields().to_vec(),
        }
    }

    /// Puts what `text` says into `reading`.
    pub fn parse(&self, text: &[u8], reading: &mut Reading) -> Result<(), Wanted> {
        match self {
            Self::Number(field, units) => {
                let value: u64 = number(text.trim_ascii()).ok_or("a number")?;
                reading.set(*field, value.saturating_mul(*units));
            }
            Self::Setting(field) => {
                let value = number(text.trim_ascii()).ok_or("a number")?;
                reading.set(*field, value);
            }
            Self::Limit(field) => reading.set_limit(*field, limit(text.trim_ascii())?),
            Self::Rows(rows) => parse_rows(rows, text, reading)?,
            Self::CpuMax => {
                let mut words = words(text);
                let (quota, period) = (words.next(), words.next());
                let (Some(quota), Some(period)) = (quota, period.and_then(number)) else {
                    return Err("QUOTA PERIOD");
                };
                reading.set_limit(Field::CpuQuota, limit(quota)?);
                reading.set(Field::CpuPeriod, period);
            }
            Self::CpuWeight => {
                let weight: u64 = number(text.trim_ascii()).ok_or("a weight")?;
                reading.set(Field::CpuWeight, weight);
            }
            Self::Pressure(some, full) => {
                for line in lines(text) {
                    let field = if line.starts_with(b"some") {
                        some
                    } else {
                        full
                    };
                    let total = words(line).find_map(|word| word.strip_prefix(b"total="));
                    let total: u64 = total.and_then(number).ok_or("a row with total=N")?;
                    reading.set(*field, total.saturating_mul(1000));
                }
            }
            Self::DeviceBytes => parse_devices(text, reading, |device| &mut device.bytes)?,
            Self::DeviceCounts => parse_devices(text, reading, |device| &mut device.count)?,
            Self::IoStat => parse_io_stat(text, reading)?,
        }
        Ok(())
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = text.split(|&byte| byte == b'\n');
    lines.filter(|line| !line.is_empty())
}

fn limit(text: &[u8]) -> Result<Limit, Wanted> {
    Limit::parse(text).ok_or("a number or \"max\"")
}

fn parse_rows(rows: &[Row], text: &[u8], reading: &mut Reading) -> Result<(), Wanted> {
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
        let Row { field, units, .. } = rows[at];
        let value: u64 = number(value.trim_ascii()).ok_or("a number after each key")?;
        match value {
            V1_NO_LIMIT.. => reading.set_limit(field, Limit::Max),
            value => reading.set(field, value.saturating_mul(units)),
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

/// `MAJOR:MINOR`. None: the row is of all devices.
fn device(word: &[u8]) -> Option<(u32, u32)> {
    let colon = word.iter().position(|&byte| byte == b':')?;
    Some((number(&word[..colon])?, number(&word[colon + 1..])?))
}

fn parse_devices(
    text: &[u8],
    reading: &mut Reading,
    values: impl Fn(&mut DeviceUse) -> &mut [Option<u64>; Operation::ALL.len()],
) -> Result<(), Wanted> {
    for line in lines(text) {
        let mut words = words(line);
        let Some((major, minor)) = words.next().and_then(device) else {
            continue;
        };
        let (Some(word), Some(value)) = (words.next(), words.next().and_then(number)) else {
            return Err("MAJOR:MINOR OPERATION NUMBER");
        };
        let operation = Operation::ALL
            .into_iter()
            .find(|operation| operation.name().as_bytes() == word);
        if let Some(operation) = operation
            && let Some(device) = reading.device(major, minor)
        {
            values(device)[operation as usize] = Some(value);
        }
    }
    Ok(())
}

fn parse_io_stat(text: &[u8], reading: &mut Reading) -> Result<(), Wanted> {
    for line in lines(text) {
        let mut words = words(line);
        let (major, minor) = words.next().and_then(device).ok_or("MAJOR:MINOR KEY=N")?;
        for word in words {
            let Some(equals) = word.iter().position(|&byte| byte == b'=') else {
                continue;
            };
            let Some(device) = reading.device(major, minor) else {
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(form: &Form, text: &str) -> Result<Reading, Wanted> {
        let mut reading = Reading::default();
        form.parse(text.as_bytes(), &mut reading)?;
        Ok(reading)
    }

    const ROWS: Form = Form::Rows(&[
        Row {
            key: "user",
            field: Field::CpuUser,
            units: 10,
        },
        Row {
            key: "system",
            field: Field::CpuSystem,
            units: 1,
        },
    ]);

    #[test]
    fn rows_in_any_order() {
        for text in ["user 7\nsystem 3\n", "system 3\nother x\nuser 7\n"] {
            let reading = parsed(&ROWS, text).unwrap();
            assert_eq!(reading.number(Field::CpuUser), Some(70));
            assert_eq!(reading.number(Field::CpuSystem), Some(3));
            assert_eq!(reading.number(Field::Rss), None);
        }
        assert_eq!(parsed(&ROWS, "gibberish\n"), Err("user"));
        assert!(parsed(&ROWS, "user x\n").is_err());
    }

    #[test]
    fn limits() {
        let form = Form::Limit(Field::MemoryLimit);
        for (text, wanted) in [
            ("max\n", Limit::Max),
            ("-1\n", Limit::Max),
            ("9223372036854771712\n", Limit::Max),
            ("0\n", Limit::Value(0)),
            ("4096\n", Limit::Value(4096)),
        ] {
            let reading = parsed(&form, text).unwrap();
            assert_eq!(reading.limit(Field::MemoryLimit), Some(wanted), "{text}");
        }
        assert!(parsed(&form, "-2").is_err());
        let max = parsed(&Form::CpuMax, "max 100000\n").unwrap();
        assert_eq!(max.limit(Field::CpuQuota), Some(Limit::Max));
        let half = parsed(&Form::CpuMax, "50000 100000\n").unwrap();
        assert_eq!(half.number(Field::CpuQuota), Some(50_000));
        assert_eq!(half.number(Field::CpuPeriod), Some(100_000));
    }

    #[test]
    fn pressure() {
        let form = Form::Pressure(Field::CpuWaiting, Field::CpuStalled);
        let text = "some avg10=0.00 avg60=0.00 avg300=0.00 total=12\n\
                    full avg10=0.00 avg60=0.00 avg300=0.00 total=3\n";
        let reading = parsed(&form, text).unwrap();
        assert_eq!(reading.number(Field::CpuWaiting), Some(12_000));
        assert_eq!(reading.number(Field::CpuStalled), Some(3_000));
    }

    #[test]
    fn devices() {
        let text = "253:0 Read 4096\n253:0 Write 8192\n253:0 Total 12288\nTotal 12288\n";
        let mut v1 = parsed(&Form::DeviceBytes, text).unwrap();
        Form::DeviceCounts
            .parse(b"253:0 Read 1\nTotal 1\n", &mut v1)
            .unwrap();
        let mut wanted = DeviceUse {
            major: 253,
            ..DeviceUse::default()
        };
        wanted.bytes[Operation::Read as usize] = Some(4096);
        wanted.bytes[Operation::Write as usize] = Some(8192);
        wanted.count[Operation::Read as usize] = Some(1);
        let v2 = "253:0 rbytes=4096 wbytes=8192 rios=1 cost.usage=5\n8:0 \n";
        assert_eq!(parsed(&Form::IoStat, v2).unwrap().devices, [wanted.clone()]);
        wanted.bytes[Operation::Total as usize] = Some(12_288);
        assert_eq!(v1.devices, [wanted]);
    }

    #[test]
    fn devices_are_bounded() {
        let text: String = (0..1000)
            .map(|minor| format!("7:{minor} Read 1\n"))
            .collect();
        let reading = parsed(&Form::DeviceBytes, &text).unwrap();
        assert_eq!(
            reading.devices.len(),
            super::super::reading::DEVICES_AT_MOST
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "([0-9]{1,25}|:|=|total|rbytes|Read|user|max|-|\n| ){0,30}") {
            for form in [
                ROWS, Form::Limit(Field::Rss), Form::Number(Field::Rss, u64::MAX), Form::CpuMax,
                Form::CpuWeight, Form::Pressure(Field::CpuWaiting, Field::CpuStalled),
                Form::DeviceBytes, Form::DeviceCounts, Form::IoStat,
            ] {
                let _ = parsed(&form, &text);
            }
        }
    }
}

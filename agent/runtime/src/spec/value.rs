//! Parses the values of flags. Their units and forms are docker's.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use agent_model::units::parse::{self, Size};

mod clock;
mod device;
mod log;
mod mount;
mod namespace;
mod security;

pub use clock::{Clock, TimeOffset};
pub use device::DeviceMap;
pub use log::{LogOption, log_limits};
pub use mount::{AskedMount, Tmpfs, Volume};
pub use namespace::{Address, NamespaceShare, Net, UserChoice};
pub(in crate::spec) use security::ULIMITS;
pub use security::{CapabilityName, SecurityOption, Ulimit};

/// A size, or `-1` for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaybeSize {
    /// No limit.
    Unlimited,
    /// A number of bytes.
    Size(Size),
}

/// A number of CPUs, in billionths. Its text is a decimal, as in `0.5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpus(pub u64);

/// `-1`, or a number of at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaybeNumber {
    /// No limit.
    Unlimited,
    /// A number.
    Number(i64),
}

/// `PATH:RATE`: a rate limit of a block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRate<T> {
    /// The path of the block device.
    pub path: String,
    /// The limit, per second.
    pub rate: T,
}

/// `NAME=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The text before `=`.
    pub name: String,
    /// The text after `=`.
    pub value: String,
}

/// `CONTAINER:HOST:SIZE`: the first id in the container, the first id on the host, and the number of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdMap {
    /// The first id in the container.
    pub inside: u32,
    /// The first id on the host.
    pub outside: u32,
    /// The number of ids.
    pub count: u32,
}

/// A list of CPUs or memory nodes: `0-3,8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set(pub String);

impl FromStr for MaybeSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "-1" => Ok(Self::Unlimited),
            _ => text
                .parse()
                .map(Self::Size)
                .map_err(|error: String| format!("{error}, or -1 for no limit")),
        }
    }
}

impl FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let billionths = parse::decimal(text).and_then(|it| u64::try_from(it).ok());
        match billionths {
            Some(it @ 10_000_000..) => Ok(Self(it)),
            _ => Err("wanted: how many CPUs, at least 0.01, as in 1.5".to_owned()),
        }
    }
}

impl FromStr for MaybeNumber {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(-1) => Ok(Self::Unlimited),
            Ok(number @ 1..) => Ok(Self::Number(number)),
            _ => Err("wanted: a number of at least 1, or -1 for no limit".to_owned()),
        }
    }
}

impl<T: FromStr<Err: Display>> FromStr for DeviceRate<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = "wanted: the path of a block device and a rate, as in /dev/sda:1m";
        let (path, rate) = text.rsplit_once(':').ok_or(wanted)?;
        if !path.starts_with('/') {
            return Err(wanted.to_owned());
        }
        Ok(Self {
            path: path.to_owned(),
            rate: rate.parse().map_err(|error| format!("{rate}: {error}"))?,
        })
    }
}

impl FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(Self {
                name: name.to_owned(),
                value: value.to_owned(),
            }),
            _ => Err("wanted: NAME=VALUE".to_owned()),
        }
    }
}

impl FromStr for IdMap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers: Option<Vec<u32>> = text.split(':').map(|it| it.parse().ok()).collect();
        let wanted =
            "wanted: first id inside, first id on the host, how many, as in 0:100000:65536";
        let &[inside, outside, count] = numbers.as_deref().ok_or(wanted)? else {
            return Err(wanted.to_owned());
        };
        // 4294967295 (-1) is not an id: in system calls it means "unchanged".
        let fits = |first: u32| first.checked_add(count).is_some();
        if count == 0 || !fits(inside) || !fits(outside) {
            return Err("wanted: at least one id, and none above 4294967294".to_owned());
        }
        Ok(Self {
            inside,
            outside,
            count,
        })
    }
}

impl FromStr for Set {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| text.parse::<u16>().ok();
        let is_range = |range: &str| match range.split_once('-') {
            Some((first, last)) => number(first)
                .zip(number(last))
                .is_some_and(|(first, last)| first <= last),
            None => number(range).is_some(),
        };
        if text.split(',').all(is_range) {
            return Ok(Self(text.to_owned()));
        }
        Err("wanted: numbers and ranges, as in 0-3,8".to_owned())
    }
}

/// Returns a parser of numbers in a range, for clap.
pub fn number_in<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: FromStr + PartialOrd + Display + Clone,
{
    move |text| match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!(
            "wanted: a number from {} to {}",
            range.start(),
            range.end()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("64m", 64 << 20),
            ("64MB", 64 << 20),
            ("64 MiB", 64 << 20),
            ("1.5g", 3 << 29),
            ("2t", 2 << 40),
            ("7b", 7),
            ("0.5k", 512),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in [
            "",
            "m",
            "-1",
            "79847132533907027731t",
            "64x",
            "1..5g",
            ".5g",
            "64mbb",
            "64mm",
            "9e9",
            "8388608t",
        ] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        assert_eq!("-1".parse(), Ok(MaybeSize::Unlimited));
        assert!("-2".parse::<MaybeSize>().is_err());
    }

    #[test]
    fn cpus() {
        assert_eq!("1.5".parse(), Ok(Cpus(1_500_000_000)));
        for text in ["0", "0.009", "-1", "many", "1.0000000001"] {
            assert!(text.parse::<Cpus>().is_err(), "{text}");
        }
    }

    #[test]
    fn rates_of_devices() {
        let rate: DeviceRate<Size> = "/dev/disk/by-path/a:b:1m".parse().unwrap();
        assert_eq!(
            (&*rate.path, rate.rate),
            ("/dev/disk/by-path/a:b", Size(1 << 20))
        );
        for text in ["/dev/sda", "sda:1m", "/dev/sda:", "/dev/sda:x"] {
            assert!(text.parse::<DeviceRate<Size>>().is_err(), "{text}");
        }
    }

    #[test]
    fn ranges_of_ids() {
        let range = "0:100000:65536".parse::<IdMap>().unwrap();
        assert_eq!(
            (range.inside, range.outside, range.count),
            (0, 100_000, 65_536)
        );
        for text in [
            "0:1",
            "0:1:0",
            "0:1:2:3",
            "a:1:1",
            "1:0:4294967295",
            "4294967295:0:1",
        ] {
            assert!(text.parse::<IdMap>().is_err(), "{text}");
        }
    }

    #[test]
    fn sets() {
        for text in ["0", "0-3", "0-3,8", "1,0"] {
            assert!(text.parse::<Set>().is_ok(), "{text}");
        }
        for text in ["", "3-0", "a", "0-", "0,,1", "0-1-2", " 0"] {
            assert!(text.parse::<Set>().is_err(), "{text}");
        }
    }

    #[test]
    fn offsets_of_clocks() {
        for (text, clock, seconds, nanoseconds) in [
            ("1d", None, 86_400, 0),
            ("-90.5", None, -91, 500_000_000),
            ("monotonic=2h", Some(Clock::Monotonic), 7_200, 0),
            ("boottime=-1s", Some(Clock::Boottime), -1, 0),
        ] {
            let offset = TimeOffset {
                clock,
                seconds,
                nanoseconds,
            };
            assert_eq!(text.parse(), Ok(offset), "{text}");
        }
        for text in ["", "d", "realtime=1", "1x", "--1", "99999999999999999999d"] {
            assert!(text.parse::<TimeOffset>().is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_in_a_range() {
        let weight = number_in(1..=10_000_u64);
        assert_eq!(weight("100"), Ok(100));
        for text in ["0", "10001", "-1", "x"] {
            assert_eq!(
                weight(text),
                Err("wanted: a number from 1 to 10000".to_owned())
            );
        }
    }
}

//! Sizes, durations and signals as text, and the parsers of such text.

pub mod parse;

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// Formats a number of bytes with one decimal place, in the largest binary unit of which there is at least one:
/// `49.8M`.
pub fn size(bytes: u64) -> String {
    const UNITS: [char; 6] = ['K', 'M', 'G', 'T', 'P', 'E'];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    // The tenths of a unit are computed and rounded in whole numbers, so that bytes up to 2^64 are exact.
    let tenths = |unit: u32| {
        let unit = 1_u128 << (10 * (unit + 1));
        (u128::from(bytes) * 10 + unit / 2) / unit
    };
    let mut unit = 0;
    while tenths(unit) >= 10 * 1024 {
        unit += 1;
    }
    let tenths = tenths(unit);
    format!("{}.{}{}", tenths / 10, tenths % 10, UNITS[unit as usize])
}

/// Formats milliseconds: `850ms`, `1.2s`, `1h 2m 3s`. It rounds down.
pub fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        60_000.. => humantime::format_duration(Duration::from_secs(ms / 1_000)).to_string(),
    }
}

/// The names of signals 1 to 31 (signal(7), x86 and ARM).
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The name of a signal, such as `SIGKILL`; `signal 34` for one without a name.
pub fn signal_name(signal: u8) -> String {
    match usize::from(signal)
        .checked_sub(1)
        .and_then(|index| SIGNALS.get(index))
    {
        Some(name) => format!("SIG{name}"),
        None => format!("signal {signal}"),
    }
}

/// A signal that can be sent to a process. It is parsed from its number, or from its name with or without `SIG`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Signal(pub i32);

/// The real-time signals that programs can use. The C library reserves the first two.
const REAL_TIME: RangeInclusive<i32> = 34..=64;

impl FromStr for Signal {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "wanted: a signal's name or number, as SIGTERM, INT, 15 or RTMIN+3";
        if let Ok(number) = text.parse::<i32>() {
            let is_one = (1..=*REAL_TIME.end()).contains(&number);
            return is_one.then_some(Self(number)).ok_or(WANTED);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let other = match name {
            "IOT" => Some("ABRT"),
            "CLD" => Some("CHLD"),
            "POLL" => Some("IO"),
            _ => None,
        };
        let at = SIGNALS.iter().position(|it| *it == other.unwrap_or(name));
        if let Some(at) = at.and_then(|at| i32::try_from(at).ok()) {
            return Ok(Self(at + 1));
        }
        let counted = |from: &str, sign: char, first: i32| {
            let rest = name.strip_prefix(from)?;
            if rest.is_empty() {
                return Some(first);
            }
            let by = rest.strip_prefix(sign)?.parse::<u8>().ok()?;
            Some(if sign == '+' {
                first + i32::from(by)
            } else {
                first - i32::from(by)
            })
        };
        let number = counted("RTMIN", '+', *REAL_TIME.start());
        let number = number.or_else(|| counted("RTMAX", '-', *REAL_TIME.end()));
        let number = number.filter(|number| REAL_TIME.contains(number));
        number.map(Self).ok_or(WANTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_their_names_and_numbers() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("15", 15),
            ("INT", 2),
            ("IOT", 6),
            ("SIGRTMIN", 34),
            ("RTMIN+3", 37),
            ("SIGRTMAX-14", 50),
            ("64", 64),
        ] {
            assert_eq!(text.parse(), Ok(Signal(number)), "{text}");
        }
        for text in [
            "", "SIG", "0", "65", "-9", "RTMIN+31", "RTMIN-1", "RTMAX-31", "RTMIN+", "TERM+1",
        ] {
            assert!(text.parse::<Signal>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_rounded_into_their_unit() {
        for (bytes, text) in [
            (0, "0B"),
            (1_023, "1023B"),
            (1_024, "1.0K"),
            (1_048_524, "1023.9K"),
            (1_048_525, "1.0M"),
            (52_200_000, "49.8M"),
            (u64::MAX, "16.0E"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn signals_have_their_names() {
        use rustix::process::Signal;

        for (signal, name) in [
            (Signal::HUP, "SIGHUP"),
            (Signal::KILL, "SIGKILL"),
            (Signal::TERM, "SIGTERM"),
            (Signal::CHILD, "SIGCHLD"),
            (Signal::XFSZ, "SIGXFSZ"),
            (Signal::SYS, "SIGSYS"),
        ] {
            assert_eq!(signal_name(u8::try_from(signal.as_raw()).unwrap()), name);
        }
    }

    #[test]
    fn durations_get_coarser() {
        for (ms, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_000, "1.0s"),
            (59_999, "59.9s"),
            (60_000, "1m"),
            (90_061_999, "1day 1h 1m 1s"),
        ] {
            assert_eq!(duration(ms), text);
        }
    }
}

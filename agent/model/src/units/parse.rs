//! The parsers of sizes and times as people write them. A number that overflows is refused.

use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The most digits that a number may have after the point.
pub const SCALE: u32 = 9;
const ONE: u128 = 10_u128.pow(SCALE);

/// The largest size in bytes: OCI's numbers have a sign.
const MOST_BYTES: u64 = i64::MAX.unsigned_abs();

/// The longest time that a user may give a command: 100 years, which no clock overflows.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);

/// Parses a decimal number without a sign, and returns it in billionths.
pub fn decimal(text: &str) -> Option<u128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || fraction.len() > SCALE as usize || !digits(whole) || !digits(fraction) {
        return None;
    }
    let whole: u128 = whole.parse().ok()?;
    let padded = format!("{fraction:0<width$}", width = SCALE as usize);
    whole.checked_mul(ONE)?.checked_add(padded.parse().ok()?)
}

/// A number of bytes, or of bytes per second: `64m`, `1.5g`, `1048576`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        bytes(text).map(Self)
    }
}

/// Parses a number of bytes: `64m`, `1.5g`, `1048576`. The units are docker's, each 1024 times the one before.
///
/// # Errors
/// The text is no size, or the size is larger than OCI's numbers. The error says what is wanted.
pub fn bytes(text: &str) -> Result<u64, String> {
    const WANTED: &str = "wanted: a number of bytes, with b, k, m, g or t behind it, as in 64m";
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let power = match &*unit.trim_start().to_ascii_lowercase() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return Err(WANTED.to_owned()),
    };
    let is_number = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    let too_large = || format!("at most {MOST_BYTES} bytes are allowed");
    let billionths = match decimal(number) {
        Some(billionths) => billionths,
        // The text consists of digits and points. If it begins with a digit and has no point, it is a number that is
        // too long.
        None if is_number(number) && !number.contains('.') => return Err(too_large()),
        None => return Err(WANTED.to_owned()),
    };
    let bytes = billionths.checked_mul(1 << (10 * power));
    let bytes = bytes.and_then(|it| u64::try_from(it / ONE).ok());
    let bytes = bytes.filter(|bytes| *bytes <= MOST_BYTES);
    bytes.ok_or_else(too_large)
}

/// Parses a time, and returns it in nanoseconds: `90.5`, `2h`. A number without a unit is in seconds.
pub fn nanoseconds(text: &str) -> Option<u128> {
    match decimal(text) {
        Some(seconds) => Some(seconds),
        None => Some(humantime::parse_duration(text).ok()?.as_nanos()),
    }
}

/// Parses how long a command is to take: `500ms`, `10s`, `1h 30m`.
///
/// # Errors
/// The text is no time, or the time is zero or longer than 100 years. The error says what is wanted.
pub fn duration(text: &str) -> Result<Duration, &'static str> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration > LONGEST => Err("want at most 100 years"),
        Ok(duration) if !duration.is_zero() => Ok(duration),
        Err(humantime::DurationError::NumberOverflow) => Err("want at most 100 years"),
        _ => Err("want a duration above 0, as 500ms, 10s, 5m or 1h"),
    }
}

/// Parses a point in time: how long it is before `now` (`10m`, `1h 30m`), seconds since the epoch, or a date in UTC
/// (`2026-11-30`, `2026-11-30T10:57:25Z`).
///
/// # Errors
/// The text is none of these, or no clock can show the time. The error says what is wanted.
pub fn moment(text: &str, now: SystemTime) -> Result<SystemTime, &'static str> {
    const WANTED: &str = "want how long ago, as 10m or 1h30m, a time in UTC, as 2026-11-30T10:57:25Z or 2026-11-30, or \
                          seconds since 1970";
    if let Some(billionths) = decimal(text) {
        let since = u64::try_from(billionths).map(Duration::from_nanos);
        return since
            .ok()
            .and_then(|it| UNIX_EPOCH.checked_add(it))
            .ok_or(WANTED);
    }
    if let Ok(ago) = humantime::parse_duration(text) {
        return now.checked_sub(ago).ok_or(WANTED);
    }
    let midnight = format!("{text}T00:00:00Z");
    let dates = [text, &midnight];
    let mut dates = dates.into_iter().map(humantime::parse_rfc3339_weak);
    dates.find_map(Result::ok).ok_or(WANTED)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_overflows_is_no_size() {
        for text in [
            "79847132533907027731t",
            "8388608t",
            "9223372036854775808",
            "340282366920938463463374607431768211456",
            "99999999999999999999999999999999999999999999999k",
        ] {
            let said = bytes(text).unwrap_err();
            assert!(said.starts_with("at most 9223372036854775807"), "{said}");
        }
        assert_eq!(bytes("8388607t"), Ok(8_388_607 << 40));
        assert_eq!(bytes("9223372036854775807"), Ok(MOST_BYTES));
    }

    #[test]
    fn what_overflows_is_no_time() {
        for text in [
            "340282366920938463463374607431d",
            "99999999999999999999999999999999999999999",
        ] {
            assert_eq!(nanoseconds(text), None, "{text}");
        }
        for text in ["500000000000y", "101y", "99999999999999999999s"] {
            assert_eq!(duration(text), Err("want at most 100 years"), "{text}");
        }
        for text in ["", "0s", "5", "-1s", "1x"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
    }

    #[test]
    fn times_have_a_unit_or_are_seconds() {
        for (text, wanted) in [
            ("90.5", Some(90_500_000_000)),
            ("0.000000001", Some(1)),
            ("1.5h", Some(5_400_000_000_000)),
            ("1d", Some(86_400_000_000_000)),
            ("1min 30s", Some(90_000_000_000)),
            ("", None),
            ("-1", None),
            ("1.", Some(1_000_000_000)),
            ("1x", None),
        ] {
            assert_eq!(nanoseconds(text), wanted, "{text}");
        }
    }

    #[test]
    fn moments() {
        let at = |seconds| Ok(UNIX_EPOCH + Duration::from_secs(seconds));
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (text, wanted) in [
            ("10m", at(999_400)),
            ("1h30m", at(994_600)),
            ("999999s", at(1)),
            ("7", at(7)),
            ("1970-01-02", at(86_400)),
            ("1970-01-02T00:00:01Z", at(86_401)),
            ("1970-01-02 00:00:01", at(86_401)),
        ] {
            assert_eq!(moment(text, now), wanted, "{text}");
        }
        let half = UNIX_EPOCH + Duration::from_millis(1_500);
        assert_eq!(moment("1.5", now), Ok(half));
        for text in [
            "",
            "-1",
            "1x",
            "yesterday",
            "1970-13-01",
            "99999999999999999999999",
        ] {
            assert!(moment(text, now).is_err(), "{text}");
        }
    }

    proptest! {
        /// Compares with a computation in 128 bits, which cannot overflow.
        #[test]
        fn sizes_are_exact_or_refused(whole in any::<u64>(), unit in 0..5_usize) {
            let text = format!("{whole}{}", ["", "k", "m", "g", "t"][unit]);
            let exact = u128::from(whole) << (10 * unit);
            let wanted = u64::try_from(exact).ok().filter(|it| *it <= MOST_BYTES);
            prop_assert_eq!(bytes(&text).ok(), wanted);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            let _ = (bytes(&text), nanoseconds(&text), duration(&text));
            let _ = moment(&text, SystemTime::now());
        }
    }
}

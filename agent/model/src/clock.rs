//! Conversion of the kernel's boot time to dates and times of day.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_gettime};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment, written as RFC 3339 in UTC, with nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(SystemTime);

/// The last second whose year has four digits: 9999-12-31T23:59:59Z.
const LAST: u64 = 253_402_300_799;

impl Moment {
    /// The present time of the wall clock.
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// The time of day in UTC: `10:11:12.345`.
    pub fn time_of_day(self) -> String {
        let text = humantime::format_rfc3339_millis(self.0).to_string();
        text["2026-11-22T".len()..text.len() - "Z".len()].to_owned()
    }
}

impl From<SystemTime> for Moment {
    /// A time before 1970 or after 9999, as a clock that is not set may give, becomes the first or last moment of these
    /// years.
    fn from(time: SystemTime) -> Self {
        let last = UNIX_EPOCH + Duration::from_secs(LAST);
        Self(time.clamp(UNIX_EPOCH, last))
    }
}

impl From<Moment> for SystemTime {
    fn from(moment: Moment) -> Self {
        moment.0
    }
}

/// A moment in RFC 3339.
type Rfc3339 = [u8; "2026-11-22T10:11:12.345678901Z".len()];

/// The length of the text up to the point, and the point.
const SECOND: usize = "2026-11-22T10:11:12.".len();

thread_local! {
    /// The last second that this thread wrote, and its text. Many events happen in the same second, and computing its
    /// date takes most of the time.
    static LAST_TEXT: Cell<(u64, Rfc3339)> = const { Cell::new((0, *b"1970-01-01T00:00:00.000000000Z")) };
}

impl Moment {
    fn text(self) -> Rfc3339 {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (second, mut text) = LAST_TEXT.get();
        if second != since.as_secs() {
            let date = humantime::format_rfc3339_seconds(self.0).to_string();
            text[..SECOND - 1].copy_from_slice(&date.as_bytes()[..SECOND - 1]);
            LAST_TEXT.set((since.as_secs(), text));
        }
        let mut nanoseconds = since.subsec_nanos();
        for digit in text[SECOND..].iter_mut().rev().skip(1) {
            *digit = b'0' + (nanoseconds % 10) as u8;
            nanoseconds /= 10;
        }
        text
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.text()))
    }
}

impl FromStr for Moment {
    type Err = humantime::TimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        humantime::parse_rfc3339(text).map(Self::from)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&String::from_utf8_lossy(&self.text()))
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Converts times of CLOCK_BOOTTIME to the wall clock (CLOCK_REALTIME).
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// The difference of the two clocks: the time of boot by the wall clock.
    boot: Duration,
}

/// The least change of the difference that counts as a setting of the wall clock. The two clocks cannot be read at the
/// same time, and their difference changes only when the wall clock is set.
const SET_BY: Duration = Duration::from_millis(1);

impl Clock {
    /// Reads both clocks.
    pub fn now() -> Self {
        Self::measure().0
    }

    /// Reads both clocks again, and returns this clock unless the wall clock has been set since. So the same time is
    /// always converted to the same moment.
    #[must_use]
    pub fn kept(self) -> Self {
        let (now, within) = Self::measure();
        self.or(now, within)
    }

    fn or(self, now: Self, within: Duration) -> Self {
        if now.boot.abs_diff(self.boot) > within + SET_BY {
            now
        } else {
            self
        }
    }

    /// Reads both clocks. Returns the difference, and by how much it may be wrong.
    fn measure() -> (Self, Duration) {
        let before = since_boot();
        let wall = duration(clock_gettime(ClockId::Realtime));
        let after = since_boot();
        let boot = wall.saturating_sub(before);
        (Self { boot }, after.saturating_sub(before))
    }

    /// The wall clock at `time` ns of CLOCK_BOOTTIME.
    pub fn wall(self, time: u64) -> SystemTime {
        UNIX_EPOCH + self.boot + Duration::from_nanos(time)
    }

    /// The moment at `time` ns of CLOCK_BOOTTIME.
    pub fn moment(self, time: u64) -> Moment {
        self.wall(time).into()
    }
}

/// The time since boot, with time in suspend (CLOCK_BOOTTIME).
pub fn since_boot() -> Duration {
    duration(clock_gettime(ClockId::Boottime))
}

fn duration(time: Timespec) -> Duration {
    // Neither clock is below 0.
    Duration::new(
        time.tv_sec.unsigned_abs(),
        time.tv_nsec.unsigned_abs() as u32,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_and_read() {
        let text = "2026-11-22T10:11:12.345678901Z";
        let moment: Moment = text.parse().unwrap();
        assert_eq!(moment.to_string(), text);
        assert_eq!(moment.time_of_day(), "10:11:12.345");
        let json = serde_json::to_string(&moment).unwrap();
        assert_eq!(serde_json::from_str::<Moment>(&json).unwrap(), moment);
        let far = UNIX_EPOCH + Duration::from_secs(u64::MAX / 4);
        let year = |time: SystemTime| Moment::from(time).to_string()[..4].to_owned();
        assert_eq!(year(far), "9999");
        assert_eq!(year(UNIX_EPOCH - Duration::from_secs(1)), "1970");
    }

    #[test]
    fn each_moment_has_its_own_second() {
        for nanoseconds in [0, 1, 999_999_999, 1_000_000_000, 7, 86_400_000_000_001] {
            let time = UNIX_EPOCH + Duration::from_nanos(nanoseconds);
            let wanted = humantime::format_rfc3339_nanos(time).to_string();
            assert_eq!(Moment::from(time).to_string(), wanted);
        }
    }

    #[test]
    fn a_moment_is_told_alike_until_the_clock_is_set() {
        let at = |micros| Clock {
            boot: Duration::from_micros(micros),
        };
        let told = |now, within| {
            at(5_000_000)
                .or(at(now), Duration::from_micros(within))
                .moment(7)
        };
        for (now, within) in [(5_000_001, 1), (4_999_001, 0), (5_030_000, 40_000)] {
            assert_eq!(told(now, within), at(5_000_000).moment(7), "{now} {within}");
        }
        for (now, within) in [(5_001_001, 0), (4_000_000, 40_000)] {
            assert_eq!(told(now, within), at(now).moment(7), "{now} {within}");
        }
    }
}

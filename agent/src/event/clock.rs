//! The kernel's clock, told as people tell time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_gettime};

/// What is added to CLOCK_BOOTTIME for CLOCK_REALTIME.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// The time of boot, as the wall clock is set now.
    boot: Duration,
}

/// By how much the wall clock must have been set at least to be read anew. The two clocks cannot be
/// read at once; between settings their difference does not change.
const SET_BY: Duration = Duration::from_millis(1);

impl Clock {
    /// Reads both clocks. The difference changes when the wall clock is set.
    pub fn now() -> Self {
        Self::measure().0
    }

    /// The same one, unless the wall clock was set meanwhile: one moment is always told alike.
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

    /// Both clocks, and by how much the difference may be wrong.
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

    /// [`Clock::wall`] as RFC 3339 in UTC, with nanoseconds.
    pub fn text(self, time: u64) -> String {
        text(self.wall(time))
    }
}

/// RFC 3339 in UTC, with nanoseconds.
pub fn text(time: SystemTime) -> String {
    humantime::format_rfc3339_nanos(time).to_string()
}

/// CLOCK_BOOTTIME.
pub fn since_boot() -> Duration {
    duration(clock_gettime(ClockId::Boottime))
}

fn duration(time: Timespec) -> Duration {
    // Neither clock goes below 0.
    Duration::new(
        time.tv_sec.unsigned_abs(),
        time.tv_nsec.unsigned_abs() as u32,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_told_alike_until_the_clock_is_set() {
        let at = |micros| Clock {
            boot: Duration::from_micros(micros),
        };
        let told = |now, within| {
            at(5_000_000)
                .or(at(now), Duration::from_micros(within))
                .text(7)
        };
        for (now, within) in [(5_000_001, 1), (4_999_001, 0), (5_030_000, 40_000)] {
            assert_eq!(told(now, within), at(5_000_000).text(7), "{now} {within}");
        }
        for (now, within) in [(5_001_001, 0), (4_000_000, 40_000)] {
            assert_eq!(told(now, within), at(now).text(7), "{now} {within}");
        }
    }
}

//! The kernel's clock, told as people tell time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_gettime};

/// What is added to CLOCK_BOOTTIME for CLOCK_REALTIME.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// The time of boot, as the wall clock is set now.
    boot: Duration,
}

impl Clock {
    /// Reads both clocks. The difference changes when the wall clock is set.
    pub fn now() -> Self {
        let wall = duration(clock_gettime(ClockId::Realtime));
        Self {
            boot: wall.saturating_sub(since_boot()),
        }
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

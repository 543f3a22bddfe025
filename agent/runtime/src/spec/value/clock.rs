//! Parses the offset of a clock in a time namespace.

use std::str::FromStr;

use agent_model::units::parse::{SCALE, nanoseconds};

/// How far a clock is shifted forward, or backward with `-`: `1d`, `-90.5`, `monotonic=7200`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeOffset {
    /// The clock; `None` for both.
    pub clock: Option<Clock>,
    /// The whole seconds, rounded down.
    pub seconds: i64,
    /// The remaining nanoseconds, 0 to 999,999,999.
    pub nanoseconds: u32,
}

/// The clocks that a time namespace can shift (time_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Clock {
    /// CLOCK_MONOTONIC.
    Monotonic,
    /// CLOCK_BOOTTIME.
    Boottime,
}

impl Clock {
    /// All clocks of a time namespace.
    pub const ALL: [Self; 2] = [Self::Monotonic, Self::Boottime];

    /// Returns the name that OCI and the kernel use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Monotonic => "monotonic",
            Self::Boottime => "boottime",
        }
    }
}

impl FromStr for TimeOffset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "wanted: [monotonic=|boottime=] and how far forward, or with - backward, as in 1d, -2h, 90.5";
        let named = Clock::ALL.into_iter().find_map(|clock| {
            let rest = text.strip_prefix(clock.name())?.strip_prefix('=')?;
            Some((Some(clock), rest))
        });
        let (clock, text) = named.unwrap_or((None, text));
        let (negative, text) = match text.strip_prefix('-') {
            Some(text) => (true, text),
            None => (false, text),
        };
        let nanoseconds = nanoseconds(text).ok_or(WANTED)?;
        let nanoseconds = i128::try_from(nanoseconds).map_err(|_| WANTED)?;
        let nanoseconds = if negative { -nanoseconds } else { nanoseconds };
        let second = 10_i128.pow(SCALE);
        let seconds = i64::try_from(nanoseconds.div_euclid(second)).map_err(|_| WANTED)?;
        let rest = u32::try_from(nanoseconds.rem_euclid(second)).map_err(|_| WANTED)?;
        Ok(Self {
            clock,
            seconds,
            nanoseconds: rest,
        })
    }
}

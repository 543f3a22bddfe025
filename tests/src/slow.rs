//! Machines that are slower than others, such as an emulated one: tests make fewer of what they count there, and wait
//! longer. All of them run.

use std::ops::Div;
use std::sync::OnceLock;
use std::time::Duration;

/// How many times slower this machine is than one that tests are made for.
const SLOWER: &str = "AGENT_TEST_SLOWER";

/// That number; 1 where nobody says so.
///
/// # Panics
/// Where it is no number from 1 on.
#[must_use]
pub fn slower() -> u32 {
    static NUMBER: OnceLock<u32> = OnceLock::new();
    *NUMBER.get_or_init(|| {
        let Ok(text) = std::env::var(SLOWER) else {
            return 1;
        };
        let number = text.parse().ok().filter(|number| *number > 0);
        number.unwrap_or_else(|| panic!("{SLOWER}={text}: a number from 1 on is wanted"))
    })
}

/// How many of something to make: fewer on a slower machine, and at least `least`, or as many as are asked for.
#[must_use]
pub fn fewer<T: Copy + Ord + Div<Output = T> + TryFrom<u32>>(count: T, least: T) -> T {
    let fewer = T::try_from(slower()).map_or(count, |slower| count / slower);
    fewer.max(least.min(count))
}

/// How long to wait.
#[must_use]
pub fn longer(deadline: Duration) -> Duration {
    deadline.saturating_mul(slower())
}

/// The words of a load such as `stress-ng --vm 1 --timeout 5s`, which goes on longer on a slower machine: it takes its time
/// to begin.
///
/// # Panics
/// Where a time is not in seconds.
#[must_use]
pub fn load(words: &str) -> Vec<String> {
    let mut is_time = false;
    let longer = |word: &str| {
        let seconds = word.strip_suffix('s').and_then(|it| it.parse::<u32>().ok());
        let seconds = seconds.expect("a time in seconds");
        format!("{}s", seconds * slower().isqrt())
    };
    let words = words.split(' ').map(|word| {
        let was_time = is_time;
        is_time = word == "--timeout";
        if was_time {
            longer(word)
        } else {
            word.to_owned()
        }
    });
    words.collect()
}

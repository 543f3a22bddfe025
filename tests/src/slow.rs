//! Machines that are slower than others, such as an emulated one: tests wait longer there, and make fewer of what they
//! count. All of them run.

use std::ops::Div;
use std::sync::OnceLock;
use std::time::Duration;

/// How many times slower this machine is than one that tests are made for.
const SLOWER: &str = "AGENT_TEST_SLOWER";

/// How many times fewer of what they count tests are to make.
const FEWER: &str = "AGENT_TEST_FEWER";

/// That number; 1 where nobody says so.
///
/// # Panics
/// Where it is no number from 1 on.
#[must_use]
pub fn slower() -> u32 {
    static NUMBER: OnceLock<u32> = OnceLock::new();
    *NUMBER.get_or_init(|| number(SLOWER))
}

fn number(variable: &str) -> u32 {
    let Ok(text) = std::env::var(variable) else {
        return 1;
    };
    let number = text.parse().ok().filter(|number| *number > 0);
    number.unwrap_or_else(|| panic!("{variable}={text}: a number from 1 on is wanted"))
}

/// How many of something to make: fewer where that is asked for, and at least `least`, or as many as `count`.
#[must_use]
pub fn fewer<T: Copy + Ord + Div<Output = T> + TryFrom<u32>>(count: T, least: T) -> T {
    static NUMBER: OnceLock<u32> = OnceLock::new();
    let times = *NUMBER.get_or_init(|| number(FEWER));
    let fewer = T::try_from(times).map_or(count, |times| count / times);
    fewer.max(least.min(count))
}

/// Which of some cases to try: all of them, or [`fewer`], the first and the last among them.
pub fn some<T>(cases: impl IntoIterator<Item = T>, least: usize) -> impl Iterator<Item = T> {
    let cases: Vec<T> = cases.into_iter().collect();
    let (all, wanted) = (cases.len(), fewer(cases.len(), least));
    let is_wanted = spread(all, wanted);
    cases
        .into_iter()
        .enumerate()
        .filter_map(move |(place, case)| is_wanted(place).then_some(case))
}

/// Whether a place is one of so many that are spread over all of them evenly.
fn spread(all: usize, wanted: usize) -> impl Fn(usize) -> bool {
    let last = (all.max(1) - 1, wanted.max(2) - 1);
    move |place| wanted > 0 && (0..wanted).any(|number| number * last.0 / last.1 == place)
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

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn places_are_spread_from_the_first_to_the_last() {
        for (all, wanted, places) in [
            (5, 5, &[0, 1, 2, 3, 4][..]),
            (5, 2, &[0, 4]),
            (17, 3, &[0, 8, 16]),
            (3, 1, &[0]),
            (1, 1, &[0]),
            (0, 0, &[]),
        ] {
            let is_wanted = spread(all, wanted);
            let found: Vec<_> = (0..all).filter(|place| is_wanted(*place)).collect();
            assert_eq!(found, places, "{wanted} of {all}");
        }
    }
}

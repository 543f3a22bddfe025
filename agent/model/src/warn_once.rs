//! Warnings about lasting faults: each is logged once, not each time that the agent meets the fault.

use std::sync::Mutex;

use crate::lock::lock;

/// The last warning about one subject.
#[derive(Debug, Default)]
pub struct WarnOnce(Mutex<Option<String>>);

impl WarnOnce {
    /// No warning has been logged yet.
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Logs `line` as a warning, unless it is the same as the last one.
    pub fn warn(&self, line: &str) {
        if self.is_news(line) {
            tracing::warn!("{line}");
        }
    }

    /// Notes that the fault has ended: the same line is logged again if the fault returns.
    pub fn clear(&self) {
        *lock(&self.0) = None;
    }

    /// Whether `line` differs from the last one, which it replaces.
    fn is_news(&self, line: &str) -> bool {
        let mut last = lock(&self.0);
        let is_news = last.as_deref() != Some(line);
        if is_news {
            *last = Some(line.to_owned());
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_news_once_until_it_went_well() {
        let warnings = WarnOnce::new();
        let news = ["a", "a", "b", "b", "a"].map(|line| warnings.is_news(line));
        assert_eq!(news, [true, false, true, false, true]);
        warnings.clear();
        assert!(warnings.is_news("a"));
    }
}

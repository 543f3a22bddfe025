//! Warnings that come again and again, as long as what they say holds: each is logged once.

use std::sync::Mutex;

use agent_model::lock::lock;

/// What was said last of one thing.
#[derive(Debug, Default)]
pub struct Said(Mutex<Option<String>>);

impl Said {
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Logs `line`, unless it was the last.
    pub fn warn(&self, line: &str) {
        if self.is_news(line) {
            tracing::warn!("{line}");
        }
    }

    /// It went well: a line that comes again is news.
    pub fn is_well(&self) {
        *lock(&self.0) = None;
    }

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
        let said = Said::new();
        let news = ["a", "a", "b", "b", "a"].map(|line| said.is_news(line));
        assert_eq!(news, [true, false, true, false, true]);
        said.is_well();
        assert!(said.is_news("a"));
    }
}

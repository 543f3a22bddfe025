//! The deadlines of a connection. One holds at a time: for the first request, then for an answer with the next request,
//! or for a stream's reader.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_metrics::traffic::Reason;
use agent_model::lock::lock;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// A new connection sends its first request within this time.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);

/// From a request to the next: the answer is made and read, and the connection is idle.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

/// A connection that asked for something this long ago is still being answered: scrapers wait no longer.
const ANSWERED_FOR: Duration = Duration::from_secs(10);

/// A stream's reader takes something of what waits for it within this time.
pub(super) const LINES_WITHIN: Duration = Duration::from_secs(60);

/// How often a connection without a deadline is looked at. It is less than any deadline, so none is missed, and setting one
/// need not wake anybody.
const LOOK: Duration = Duration::from_secs(30);

/// The patience that the server has with one connection. Clones are of the same connection.
#[derive(Clone, Debug)]
pub(super) struct Patience(Arc<PatienceState>);

#[derive(Debug)]
struct PatienceState {
    state: Mutex<State>,
    asked: Mutex<Option<Instant>>,
    is_cut: Notify,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Until(Instant),
    /// A stream that has nothing to tell may be as idle as it is.
    WithoutEnd,
    Cut(Reason),
}

impl Patience {
    /// That with a connection that was just opened.
    pub(super) fn new() -> Self {
        Self(Arc::new(PatienceState {
            state: Mutex::new(State::Until(Instant::now() + REQUEST_WITHIN)),
            asked: Mutex::default(),
            is_cut: Notify::new(),
        }))
    }

    /// The connection may go on for this time from now.
    pub(super) fn allow(&self, time: Duration) {
        self.set(State::Until(Instant::now() + time));
    }

    /// The connection asked for something.
    pub(super) fn answer(&self) {
        *lock(&self.0.asked) = Some(Instant::now());
        self.allow(ANSWER_WITHIN);
    }

    /// Whether it asked a short while ago.
    pub(super) fn is_answered(&self) -> bool {
        let asked = *lock(&self.0.asked);
        asked.is_some_and(|asked| asked.elapsed() < ANSWERED_FOR)
    }

    /// The connection may go on for as long as its client likes.
    pub(super) fn lift(&self) {
        self.set(State::WithoutEnd);
    }

    /// Ends the connection.
    pub(super) fn cut(&self, reason: Reason) {
        self.set(State::Cut(reason));
        self.0.is_cut.notify_one();
    }

    fn set(&self, new: State) {
        let mut state = lock(&self.0.state);
        if !matches!(*state, State::Cut(_)) {
            *state = new;
        }
    }

    /// Waits until the connection is to be closed, and says why.
    pub(super) async fn end(&self) -> Reason {
        loop {
            let state = *lock(&self.0.state);
            let look = match state {
                State::Cut(reason) => return reason,
                State::Until(then) if then <= Instant::now() => return Reason::Deadline,
                State::Until(then) => then,
                State::WithoutEnd => Instant::now() + LOOK,
            };
            tokio::select! {
                () = sleep_until(look) => {}
                () = self.0.is_cut.notified() => {}
            }
        }
    }

    /// Whether the connection is to be closed already.
    #[cfg(test)]
    pub(crate) async fn has_ended(&self) -> bool {
        tokio::time::timeout(Duration::ZERO, self.end())
            .await
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    async fn seconds_until_end(patience: &Patience) -> u64 {
        let begun = Instant::now();
        patience.end().await;
        begun.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_deadline_holds() {
        assert_eq!(seconds_until_end(&Patience::new()).await, 10);
        let patience = Patience::new();
        patience.allow(Duration::from_secs(40));
        assert_eq!(seconds_until_end(&patience).await, 40);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_idle_until_lines_wait() {
        let patience = Patience::new();
        patience.lift();
        let idle = timeout(Duration::from_secs(3600), patience.end()).await;
        assert!(idle.is_err(), "{idle:?}");
        // Somebody waits already when the deadline is set.
        let (waited, ()) = tokio::join!(seconds_until_end(&patience), async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            patience.allow(LINES_WITHIN);
        });
        assert_eq!(waited, 5 + LINES_WITHIN.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_cut_stays_cut() {
        let patience = Patience::new();
        patience.cut(Reason::GaveWay);
        patience.lift();
        assert_eq!(patience.end().await, Reason::GaveWay);
    }
}

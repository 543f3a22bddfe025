//! The deadline of a connection. A connection has at most one at a time: for its first request, then for the answer and
//! the next request, or for the client of a stream to read.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_metrics::traffic::Reason;
use agent_model::lock::lock;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// The time in which the client of a new connection must send its first request.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);

/// The time from one request to the next. It includes making and reading the answer, and the idle time after that.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

/// A connection counts as being answered for this time after its request, or after the client of a stream had read all
/// lines. Scrapers wait no longer for an answer.
const ANSWERED_FOR: Duration = Duration::from_secs(10);

/// The time in which the client of a stream must read some of the waiting lines.
pub(super) const LINES_WITHIN: Duration = Duration::from_secs(60);

/// How often [`Patience::end`] looks at a connection without a deadline. It is less than each deadline that may be set
/// later, so setting one need not wake the waiting task.
const LOOK: Duration = Duration::from_secs(30);

/// The deadline of one connection. Clones refer to the same connection.
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
    /// The connection has no deadline: it is a stream without waiting events.
    WithoutEnd,
    Cut(Reason),
}

impl Patience {
    /// Makes the deadline of a connection that was just opened.
    pub(super) fn new() -> Self {
        Self(Arc::new(PatienceState {
            state: Mutex::new(State::Until(Instant::now() + REQUEST_WITHIN)),
            asked: Mutex::default(),
            is_cut: Notify::new(),
        }))
    }

    /// Sets the deadline to this time from now.
    pub(super) fn allow(&self, time: Duration) {
        self.set(State::Until(Instant::now() + time));
    }

    /// Notes a request, and sets the deadline for the answer and the next request.
    pub(super) fn answer(&self) {
        *lock(&self.0.asked) = Some(Instant::now());
        self.allow(ANSWER_WITHIN);
    }

    /// Tells whether the last request came in the last 10 seconds, or the client of a stream keeps up with it.
    pub(super) fn is_answered(&self) -> bool {
        let asked = *lock(&self.0.asked);
        let keeps_up = matches!(*lock(&self.0.state), State::WithoutEnd);
        keeps_up || asked.is_some_and(|asked| asked.elapsed() < ANSWERED_FOR)
    }

    /// Removes the deadline, because the client of a stream has read all lines.
    pub(super) fn lift(&self) {
        *lock(&self.0.asked) = Some(Instant::now());
        self.set(State::WithoutEnd);
    }

    /// Closes the connection.
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

    /// Waits until the connection must be closed, and returns why.
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

    /// Tells whether the connection must be closed now.
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
        assert!(!patience.is_answered());
        patience.lift();
        let idle = timeout(Duration::from_secs(3600), patience.end()).await;
        assert!(idle.is_err(), "{idle:?}");
        assert!(
            patience.is_answered(),
            "it gives way to connections that wait"
        );
        // A task waits already when the deadline is set.
        let (waited, ()) = tokio::join!(seconds_until_end(&patience), async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            patience.allow(LINES_WITHIN);
        });
        assert_eq!(waited, 5 + LINES_WITHIN.as_secs());
        assert!(!patience.is_answered(), "its client does not read");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_cut_stays_cut() {
        let patience = Patience::new();
        patience.cut(Reason::GaveWay);
        patience.lift();
        assert_eq!(patience.end().await, Reason::GaveWay);
    }
}

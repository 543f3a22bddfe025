//! The open streams. Each has a bounded queue of its own: a slow reader loses its own events, which are counted, and
//! delays no other reader.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use agent_model::clock::Moment;
use agent_model::lock::lock;
use tokio::sync::mpsc;

use super::filter::EventFilter;
use super::kind::EventKind;
use super::stream_event::{EventDetails, StreamEvent};

/// The capacity of a queue, in events. All queues share one copy of an event.
pub(crate) const QUEUE: usize = 8192;

/// The capacity of the queue of a reader of frequent events: two seconds of forks and exits at 30,000 processes a
/// second. On a host that is that busy, the reader may not run for so long.
const FREQUENT_QUEUE: usize = 131_072;

/// How long a reader of frequent events waits for more when its queue is empty: to wake it for each event would cost
/// more than everything else.
const GATHER: Duration = Duration::from_millis(5);

/// The most streams that can be open at once.
pub const STREAMS_AT_MOST: usize = 64;

/// What became of the events of one kind, over all streams. Once the host is quiet, `matched` is `written` + `lost`.
#[derive(Debug, Default)]
pub struct StreamOutcomes {
    /// Events that a stream's filter matched.
    pub matched: AtomicU64,
    /// Events that a reader wrote.
    pub written: AtomicU64,
    /// Events for which a queue had no room, or that a reader left unwritten.
    pub lost: AtomicU64,
}

/// All open streams.
#[derive(Debug, Default)]
pub struct EventStreams {
    open: Mutex<Vec<Arc<Subscription>>>,
    outcomes: Arc<[StreamOutcomes; EventKind::ALL.len()]>,
}

/// What the publishing and the reading end of a stream share.
#[derive(Debug)]
struct Subscription {
    filter: EventFilter,
    queue: mpsc::Sender<Arc<StreamEvent>>,
    /// What the stream lost since its last `lost` event.
    unreported: Mutex<UnreportedLoss>,
}

#[derive(Debug, Default)]
struct UnreportedLoss {
    kinds: BTreeMap<&'static str, u64>,
    since: Option<Moment>,
}

/// The reading end of a stream. An event counts as written when the reader asks for the next one. If the reader is
/// dropped first, the event counts as lost.
#[derive(Debug)]
pub struct EventStream {
    shared: Arc<Subscription>,
    queue: mpsc::Receiver<Arc<StreamEvent>>,
    outcomes: Arc<[StreamOutcomes; EventKind::ALL.len()]>,
    /// Events that the reader took and has not written yet, by [`EventKind`].
    unwritten: [u64; EventKind::ALL.len()],
}

/// [`STREAMS_AT_MOST`] streams are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{STREAMS_AT_MOST} streams are open already; close one")]
pub struct TooMany;

impl EventStreams {
    /// Opens a stream of the events that `filter` matches.
    ///
    /// # Errors
    /// When [`STREAMS_AT_MOST`] are open.
    pub fn open(&self, filter: EventFilter) -> Result<EventStream, TooMany> {
        let room = if filter.wants_frequent() {
            FREQUENT_QUEUE
        } else {
            QUEUE
        };
        let (sender, receiver) = mpsc::channel(room);
        let shared = Arc::new(Subscription {
            filter,
            queue: sender,
            unreported: Mutex::default(),
        });
        let mut open = self.all();
        if open.len() >= STREAMS_AT_MOST {
            return Err(TooMany);
        }
        open.push(Arc::clone(&shared));
        let outcomes = Arc::clone(&self.outcomes);
        Ok(EventStream {
            shared,
            queue: receiver,
            outcomes,
            unwritten: Default::default(),
        })
    }

    /// Queues an event for every stream whose filter matches it. Never waits.
    pub fn publish(&self, event: StreamEvent) {
        let event = Arc::new(event);
        let outcomes = &self.outcomes[EventKind::of(&event.details) as usize];
        for stream in self.all().iter() {
            if stream.filter.matches(&event) {
                outcomes.matched.fetch_add(1, Ordering::Relaxed);
                if !stream.offer(&event) {
                    outcomes.lost.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Reports to every stream that wants one of these kinds how many events were lost before they reached any stream.
    pub fn publish_loss(&self, kinds: &[(EventKind, u64)], since: Moment) {
        for stream in self.all().iter() {
            let wanted = kinds.iter().filter(|(kind, _)| stream.filter.wants(*kind));
            for (kind, lost) in wanted {
                lock(&stream.unreported).add(*kind, *lost, since);
            }
            stream.report_loss();
        }
    }

    /// The streams that still have a reader.
    fn all(&self) -> MutexGuard<'_, Vec<Arc<Subscription>>> {
        let mut open = lock(&self.open);
        open.retain(|stream| !stream.queue.is_closed());
        open
    }

    /// The filters of all streams.
    pub fn filters(&self) -> Vec<EventFilter> {
        let all = self.all();
        all.iter().map(|stream| stream.filter.clone()).collect()
    }

    /// How many streams are open.
    pub fn count(&self) -> usize {
        self.all().len()
    }

    /// The number of events in the queue that is relatively fullest, and its capacity.
    pub fn fullest_queue(&self) -> (usize, usize) {
        let lengths = |stream: &Arc<Subscription>| {
            let room = stream.queue.max_capacity();
            (room - stream.queue.capacity(), room)
        };
        let all = self.all();
        let fullest = all.iter().map(lengths);
        fullest
            .max_by_key(|(length, room)| length * FREQUENT_QUEUE / room)
            .unwrap_or((0, QUEUE))
    }

    /// What became of the events of `kind`.
    pub fn outcomes(&self, kind: EventKind) -> &StreamOutcomes {
        &self.outcomes[kind as usize]
    }
}

impl Subscription {
    /// Queues the event behind a `lost` event for what was lost before it; false if there is no room.
    fn offer(&self, event: &Arc<StreamEvent>) -> bool {
        if self.report_loss() && self.queue.try_send(Arc::clone(event)).is_ok() {
            return true;
        }
        lock(&self.unreported).add(EventKind::of(&event.details), 1, event.time);
        false
    }

    /// Queues a `lost` event if there is a loss to report; false if there is no room.
    fn report_loss(&self) -> bool {
        let mut unreported = lock(&self.unreported);
        if unreported.kinds.is_empty() {
            return true;
        }
        match self.queue.try_reserve() {
            Ok(slot) => {
                slot.send(Arc::new(unreported.take()));
                true
            }
            Err(_) => false,
        }
    }
}

impl UnreportedLoss {
    fn add(&mut self, kind: EventKind, lost: u64, since: Moment) {
        *self.kinds.entry(kind.name()).or_default() += lost;
        self.since.get_or_insert(since);
    }

    fn take(&mut self) -> StreamEvent {
        let kinds = std::mem::take(&mut self.kinds);
        StreamEvent {
            time: Moment::now(),
            caller: None,
            details: EventDetails::Lost {
                kinds: kinds
                    .into_iter()
                    .map(|(kind, lost)| (kind.to_owned(), lost))
                    .collect(),
                since: self.since.take().unwrap_or_else(Moment::now),
            },
        }
    }
}

impl EventStream {
    /// Returns the next event, in the order of publication. The call also counts the earlier events as written.
    pub async fn next(&mut self) -> Arc<StreamEvent> {
        self.wrote();
        let event = match self.queue.try_recv() {
            Ok(event) => event,
            Err(_) => self.wait().await,
        };
        self.unwritten[EventKind::of(&event.details) as usize] += 1;
        event
    }

    async fn wait(&mut self) -> Arc<StreamEvent> {
        if self.shared.filter.wants_frequent() {
            tokio::time::sleep(GATHER).await;
        }
        // A loss while the queue was full is reported when the queue is empty, at the latest.
        self.shared.report_loss();
        match self.queue.recv().await {
            Some(event) => event,
            // Unreachable: `shared` holds the other end.
            None => std::future::pending().await,
        }
    }

    /// The next event, if one is queued, for a reader that writes several at once.
    pub fn next_waiting(&mut self) -> Option<Arc<StreamEvent>> {
        let event = self.queue.try_recv().ok()?;
        self.unwritten[EventKind::of(&event.details) as usize] += 1;
        Some(event)
    }

    /// Counts the events that the reader took as written.
    fn wrote(&mut self) {
        for (unwritten, outcomes) in self.unwritten.iter_mut().zip(&*self.outcomes) {
            let written = std::mem::take(unwritten);
            outcomes.written.fetch_add(written, Ordering::Relaxed);
        }
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        // Close first, so that no event enters the queue after the count.
        self.queue.close();
        while self.next_waiting().is_some() {}
        for (unwritten, outcomes) in self.unwritten.iter().zip(&*self.outcomes) {
            outcomes.lost.fetch_add(*unwritten, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn outcomes(streams: &EventStreams, kind: EventKind) -> [u64; 3] {
        let StreamOutcomes {
            matched,
            written,
            lost,
        } = streams.outcomes(kind);
        [matched, written, lost].map(|counter| counter.load(Ordering::Relaxed))
    }

    fn lost(event: &StreamEvent) -> Option<u64> {
        match &event.details {
            EventDetails::Lost { kinds, .. } => Some(kinds.values().sum()),
            _ => None,
        }
    }

    #[tokio::test]
    async fn a_slow_reader_loses_its_own_and_is_told_how_many() {
        let streams = EventStreams::default();
        let mut slow = streams.open(EventFilter::default()).unwrap();
        for _ in 0..QUEUE + 5 {
            streams.publish(samples::unshare());
        }
        let mut quick = streams.open(EventFilter::default()).unwrap();
        streams.publish(samples::unshare());
        assert_eq!(lost(&*quick.next().await), None);
        for _ in 0..QUEUE {
            assert_eq!(lost(&*slow.next().await), None);
        }
        assert_eq!(lost(&*slow.next().await), Some(6));
        streams.publish(samples::unshare());
        assert_eq!(lost(&*slow.next().await), None);
        drop((slow, quick));
        let all = QUEUE as u64 + 5 + 2 + 2;
        assert_eq!(
            outcomes(&streams, EventKind::Unshare),
            [all, QUEUE as u64, all - QUEUE as u64]
        );
    }

    #[tokio::test]
    async fn the_word_on_a_loss_stands_where_the_gap_is() {
        let streams = EventStreams::default();
        let mut stream = streams.open(EventFilter::default()).unwrap();
        for _ in 0..QUEUE + 1 {
            streams.publish(samples::unshare());
        }
        // This makes room for the `lost` event and one more.
        stream.next().await;
        stream.next().await;
        streams.publish(samples::unshare());
        for _ in 0..QUEUE - 2 {
            assert_eq!(lost(&*stream.next().await), None);
        }
        assert_eq!(lost(&*stream.next().await), Some(1));
        assert_eq!(lost(&*stream.next().await), None);
    }

    #[tokio::test]
    async fn what_the_kernel_lost_is_told_to_those_who_want_it() {
        let streams = EventStreams::default();
        let kinds = [EventKind::Oom].into_iter().collect();
        let mut oom = streams
            .open(EventFilter {
                kinds,
                ..EventFilter::default()
            })
            .unwrap();
        let then = samples::TIME.parse().unwrap();
        streams.publish_loss(&[(EventKind::Clone, 3)], then);
        streams.publish_loss(&[(EventKind::Oom, 2)], then);
        assert_eq!(lost(&*oom.next().await), Some(2));
    }

    #[test]
    fn what_nobody_read_is_lost() {
        let streams = EventStreams::default();
        let stream = streams.open(EventFilter::default()).unwrap();
        streams.publish(samples::oom());
        drop(stream);
        streams.publish(samples::oom());
        assert_eq!(outcomes(&streams, EventKind::Oom), [1, 0, 1]);
        assert_eq!(streams.count(), 0);
    }

    #[test]
    fn streams_are_bounded() {
        let streams = EventStreams::default();
        let open = |_| streams.open(EventFilter::default());
        let mut all: Vec<_> = (0..STREAMS_AT_MOST).map(|i| open(i).unwrap()).collect();
        assert_eq!(open(0).unwrap_err(), TooMany);
        all.pop();
        open(0).unwrap();
    }
}

//! The streams that are open. Each has a bounded queue of its own: a slow one loses its own
//! records, counted, and holds up nobody.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use agent_model::clock::Moment;
use agent_model::lock::lock;
use tokio::sync::mpsc;

use super::stream_event::{EventDetails, StreamEvent};
use super::filter::EventFilter;
use super::kind::EventKind;

/// Records that wait for one reader at most. A record is shared by all that it waits for.
pub const QUEUE: usize = 8192;

/// Likewise for a reader of frequent ones: two seconds of forks and exits at 30,000 processes a
/// second, for which a host that is that busy may not let the reader run.
const FREQUENT_QUEUE: usize = 131_072;

/// How long a reader of frequent records lets them gather when none is left: to wake it for each
/// would cost more than all else.
const GATHER: Duration = Duration::from_millis(5);

/// Streams that can be open at once.
pub const STREAMS_AT_MOST: usize = 64;

/// What became of the records of one kind, over all streams. Once things are quiet, `matched` is
/// `written` + `lost`.
#[derive(Debug, Default)]
pub struct StreamOutcomes {
    pub matched: AtomicU64,
    pub written: AtomicU64,
    pub lost: AtomicU64,
}

/// All streams.
#[derive(Debug, Default)]
pub struct EventStreams {
    open: Mutex<Vec<Arc<Subscription>>>,
    outcomes: Arc<[StreamOutcomes; EventKind::ALL.len()]>,
}

/// What the two ends of a stream share.
#[derive(Debug)]
struct Subscription {
    filter: EventFilter,
    queue: mpsc::Sender<Arc<StreamEvent>>,
    /// What was lost and not yet told.
    untold: Mutex<UnreportedLoss>,
}

#[derive(Debug, Default)]
struct UnreportedLoss {
    kinds: BTreeMap<&'static str, u64>,
    since: Option<Moment>,
}

/// The reading end of a stream. What it was given and did not say is written counts as lost.
#[derive(Debug)]
pub struct EventStream {
    shared: Arc<Subscription>,
    queue: mpsc::Receiver<Arc<StreamEvent>>,
    outcomes: Arc<[StreamOutcomes; EventKind::ALL.len()]>,
    /// Given to the reader, and not yet written, by [`EventKind`].
    unwritten: [u64; EventKind::ALL.len()],
}

/// No more streams can be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{STREAMS_AT_MOST} streams are open already; close one")]
pub struct TooMany;

impl EventStreams {
    /// Opens a stream of the records that `filter` matches.
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
            untold: Mutex::default(),
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

    /// Gives `record` to every stream that wants it. Never waits.
    pub fn publish(&self, record: StreamEvent) {
        let record = Arc::new(record);
        let outcomes = &self.outcomes[EventKind::of(&record.event) as usize];
        for stream in self.all().iter() {
            if stream.filter.matches(&record) {
                outcomes.matched.fetch_add(1, Ordering::Relaxed);
                if !stream.offer(&record) {
                    outcomes.lost.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Tells every stream that wants these kinds what was lost before it came to any stream.
    pub fn publish_loss(&self, kinds: &[(EventKind, u64)], since: Moment) {
        for stream in self.all().iter() {
            let wanted = kinds.iter().filter(|(kind, _)| stream.filter.wants(*kind));
            for (kind, lost) in wanted {
                lock(&stream.untold).add(*kind, *lost, since);
            }
            stream.tell();
        }
    }

    /// Those that somebody reads.
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

    /// How many are open.
    pub fn count(&self) -> usize {
        self.all().len()
    }

    /// Records that wait in the fullest queue, and its room.
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

    /// What became of the records of `kind`.
    pub fn outcomes(&self, kind: EventKind) -> &StreamOutcomes {
        &self.outcomes[kind as usize]
    }
}

impl Subscription {
    /// Puts the record into the queue, behind a word on what was lost before it; false if there is
    /// no room.
    fn offer(&self, record: &Arc<StreamEvent>) -> bool {
        if self.tell() && self.queue.try_send(Arc::clone(record)).is_ok() {
            return true;
        }
        lock(&self.untold).add(EventKind::of(&record.event), 1, record.time);
        false
    }

    /// Puts a word on what was lost into the queue; false if there is no room.
    fn tell(&self) -> bool {
        let mut untold = lock(&self.untold);
        if untold.kinds.is_empty() {
            return true;
        }
        match self.queue.try_reserve() {
            Ok(slot) => {
                slot.send(Arc::new(untold.take()));
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
            event: EventDetails::Lost {
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
    /// The next record, in the order of publication. Asking says that those before are written.
    pub async fn next(&mut self) -> Arc<StreamEvent> {
        self.wrote();
        let record = match self.queue.try_recv() {
            Ok(record) => record,
            Err(_) => self.wait().await,
        };
        self.unwritten[EventKind::of(&record.event) as usize] += 1;
        record
    }

    async fn wait(&mut self) -> Arc<StreamEvent> {
        if self.shared.filter.wants_frequent() {
            tokio::time::sleep(GATHER).await;
        }
        // What was lost when the queue was full is told at the latest when it is empty.
        self.shared.tell();
        match self.queue.recv().await {
            Some(record) => record,
            // Cannot be: the other end is in `shared`.
            None => std::future::pending().await,
        }
    }

    /// The next record, if one waits, for a reader that writes several at once.
    pub fn next_waiting(&mut self) -> Option<Arc<StreamEvent>> {
        let record = self.queue.try_recv().ok()?;
        self.unwritten[EventKind::of(&record.event) as usize] += 1;
        Some(record)
    }

    /// Counts what was given as written.
    fn wrote(&mut self) {
        for (unwritten, outcomes) in self.unwritten.iter_mut().zip(&*self.outcomes) {
            let written = std::mem::take(unwritten);
            outcomes.written.fetch_add(written, Ordering::Relaxed);
        }
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        // Closed first, so that nothing comes into the queue behind the count.
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

    fn lost(record: &StreamEvent) -> Option<u64> {
        match &record.event {
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
        // Room for the word and one more.
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

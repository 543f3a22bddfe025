//! Makes one scrape at a time. Requests that arrive during a scrape share the next one.

use std::sync::{Arc, Mutex};

use agent_model::lock::lock;
use tokio::sync::oneshot;

use super::answer::{Held, Text};

/// The text of a scrape, or the reason why the scrape failed.
pub(super) type Scraped = Result<Arc<Text>, Arc<str>>;

/// Makes scrapes one after the other, for the requests that wait.
pub(super) struct Scrapes {
    make: Box<dyn Fn() -> Result<Text, String> + Send + Sync>,
    queue: Mutex<Queue>,
    held: Held,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<oneshot::Sender<Scraped>>,
    is_served: bool,
}

impl Scrapes {
    pub(super) fn new(
        make: impl Fn() -> Result<Text, String> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            make: Box::new(make),
            queue: Mutex::default(),
            held: Held::default(),
        })
    }

    /// Waits for the text of a scrape that begins after this call.
    pub(super) async fn next(self: &Arc<Self>) -> Scraped {
        let (sender, receiver) = oneshot::channel();
        let is_served = {
            let mut queue = lock(&self.queue);
            queue.waiting.push(sender);
            std::mem::replace(&mut queue.is_served, true)
        };
        if !is_served {
            let scrapes = Arc::clone(self);
            tokio::task::spawn_blocking(move || scrapes.serve());
        }
        let scraped = receiver.await;
        scraped.unwrap_or_else(|_| Err("the scrape failed; the log says how".into()))
    }

    /// Makes scrapes until no request waits.
    fn serve(&self) {
        let _served = Served(&self.queue);
        while let Some(waiting) = self.waiting() {
            let scraped: Scraped = (self.make)().map(Arc::new).map_err(Arc::from);
            if let Ok(text) = &scraped {
                self.held.push(text);
            }
            for one in waiting {
                // The client may have closed its connection during the scrape.
                let _ = one.send(scraped.clone());
            }
        }
    }

    /// Takes the waiting requests whose clients are still connected. `None` means that there are none; then the next
    /// request has to call [`Self::serve`].
    fn waiting(&self) -> Option<Vec<oneshot::Sender<Scraped>>> {
        let mut queue = lock(&self.queue);
        let mut waiting = std::mem::take(&mut queue.waiting);
        waiting.retain(|one| !one.is_closed());
        queue.is_served = !waiting.is_empty();
        queue.is_served.then_some(waiting)
    }
}

/// Resets the queue where a scrape panics. The waiting requests then fail, and the next request tries again.
struct Served<'a>(&'a Mutex<Queue>);

impl Drop for Served<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            *lock(self.0) = Queue::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn those_who_wait_share_the_next() {
        let (go, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
        let scrapes = Scrapes::new(move || {
            begun.send(()).unwrap();
            lock(&gate).recv().unwrap();
            Ok(Text::new(std::iter::empty()))
        });
        let ask = || {
            let scrapes = Arc::clone(&scrapes);
            tokio::spawn(async move { scrapes.next().await.unwrap() })
        };
        let first = ask();
        begins.recv().await.unwrap();
        let others: Vec<_> = (0..10).map(|_| ask()).collect();
        let gone = ask();
        while lock(&scrapes.queue).waiting.len() < 11 {
            tokio::task::yield_now().await;
        }
        gone.abort();
        go.send(()).unwrap();
        let first = first.await.unwrap();
        go.send(()).unwrap();
        let mut texts = Vec::new();
        for other in others {
            texts.push(other.await.unwrap());
        }
        assert!(texts.iter().all(|text| Arc::ptr_eq(text, &texts[0])));
        assert!(!Arc::ptr_eq(&first, &texts[0]));
        begins.recv().await.unwrap();
        assert!(begins.try_recv().is_err(), "two were made");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_waits_for_one_that_panicked() {
        let scrapes = Scrapes::new(|| panic!("wanted by the test"));
        for _ in 0..2 {
            scrapes.next().await.unwrap_err();
        }
    }
}

//! Threads that share work: one for each VF.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use crate::bench::error::{BenchError, During};

/// What a thread does when it is told how much.
pub(super) trait Work: Send + 'static {
    fn work(&mut self, amount: u32) -> Result<(), BenchError>;
}

struct Worker {
    orders: Option<Sender<u32>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn start(mut work: impl Work, done: Sender<Result<(), BenchError>>) -> Self {
        let (orders, todo) = channel();
        let thread = std::thread::spawn(move || {
            for amount in todo {
                if done.send(work.work(amount)).is_err() {
                    return;
                }
            }
        });
        Self {
            orders: Some(orders),
            thread: Some(thread),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // What it would have panicked with has been printed.
            let _ = thread.join();
        }
    }
}

/// See the module's documentation.
pub(super) struct Workers {
    workers: Vec<Worker>,
    done: Receiver<Result<(), BenchError>>,
}

impl Workers {
    pub(super) fn start<W: Work>(
        works: impl Iterator<Item = Result<W, BenchError>>,
    ) -> Result<Self, BenchError> {
        let (sender, done) = channel();
        let workers = works.map(|work| Ok(Worker::start(work?, sender.clone())));
        Ok(Self {
            workers: workers.collect::<Result<_, _>>()?,
            done,
        })
    }

    /// Has each of the first `count` do its share of `amount`; returns how much all of them did.
    pub(super) fn work(&self, count: u16, amount: u32) -> Result<u32, BenchError> {
        const DOING: &str = "having VFs work";
        let workers = &self.workers[..count.into()];
        let share = (amount / u32::from(count)).max(1);
        for worker in workers {
            if let Some(orders) = &worker.orders {
                orders.send(share).during(DOING)?;
            }
        }
        for _ in workers {
            self.done.recv().during(DOING)??;
        }
        Ok(share * u32::from(count))
    }
}

//! The thread that takes samples while the sensor is enabled. What a sample does to
//! registers and rings is the state's business.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::registers::ERROR_SOURCE;
use super::source::Source;
use super::state::State;

/// Samples taken under one hold of the lock, so that a register access never waits long.
const BATCH: usize = 256;
/// A sensor that fell behind this far, because its process was stopped, gives up what it
/// missed instead of catching up.
const BEHIND: Duration = Duration::from_secs(1);

/// What the lock guards.
pub(super) struct Guarded {
    pub(super) state: State,
    stop: bool,
}

/// What a sensor's threads share.
pub(super) struct Shared {
    guarded: Mutex<Guarded>,
    /// Signalled when the sampler should look again.
    changed: Condvar,
    /// Zero of the sensor's clock.
    origin: Instant,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            guarded: Mutex::new(Guarded {
                state: State::new(),
                stop: false,
            }),
            changed: Condvar::new(),
            origin: Instant::now(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Guarded> {
        self.guarded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the sampler that a register has changed.
    pub(super) fn notify(&self) {
        self.changed.notify_all();
    }

    fn timestamp(&self, at: Instant) -> u64 {
        // 584 years of nanoseconds fit.
        u64::try_from(at.duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Waits until `next`; `None` when the sampler is to stop, else microseconds between samples and
    /// the next sequence number.
    fn wait_until(&self, next: Instant) -> Option<(u32, u32)> {
        let mut guarded = self.lock();
        loop {
            if guarded.stop {
                return None;
            }
            let left = next.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Some((guarded.state.period(), guarded.state.next_sequence()));
            }
            (guarded, _) = self
                .changed
                .wait_timeout(guarded, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A running sampler. It owns the source until it is stopped.
pub(super) struct Sampler {
    shared: Arc<Shared>,
    thread: JoinHandle<Box<dyn Source>>,
}

impl Sampler {
    /// Starts to take samples; gives the source back when there is no thread to be had.
    pub(super) fn start(
        shared: &Arc<Shared>,
        source: Box<dyn Source>,
    ) -> Result<Self, (std::io::Error, Box<dyn Source>)> {
        shared.lock().stop = false;
        // The thread takes the source from here: a failed spawn would drop what it captured.
        let handover = Arc::new(Mutex::new(Some(source)));
        let spawned = std::thread::Builder::new()
            .name("sensor".to_owned())
            .spawn({
                let (shared, handover) = (Arc::clone(shared), Arc::clone(&handover));
                move || run(&shared, take(&handover))
            });
        match spawned {
            Ok(thread) => Ok(Self {
                shared: Arc::clone(shared),
                thread,
            }),
            Err(error) => Err((error, take(&handover))),
        }
    }

    /// Ends the thread; no sample is taken and no interrupt raised once this returns. Gives the
    /// source back, unless it panicked.
    pub(super) fn stop(self) -> Option<Box<dyn Source>> {
        self.shared.lock().stop = true;
        self.shared.notify();
        self.thread.join().ok()
    }
}

fn take(handover: &Mutex<Option<Box<dyn Source>>>) -> Box<dyn Source> {
    handover
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
        .expect("either the thread or its failed start takes the source")
}

fn run(shared: &Shared, mut source: Box<dyn Source>) -> Box<dyn Source> {
    let mut next = Instant::now();
    let mut samples = Vec::with_capacity(BATCH);
    while let Some((period, sequence)) = shared.wait_until(next) {
        let now = Instant::now();
        if now.duration_since(next) > BEHIND {
            next = now;
        }
        let mut failed = None;
        samples.clear();
        let mut sequence = sequence;
        while next <= now && samples.len() < BATCH {
            match source.value(sequence) {
                Ok(value) => samples.push((shared.timestamp(next), value)),
                Err(error) => failed = Some(error),
            }
            sequence = sequence.wrapping_add(1);
            next += Duration::from_micros(period.into());
            if failed.is_some() {
                break;
            }
        }
        let mut guarded = shared.lock();
        if guarded.stop {
            break;
        }
        guarded.state.take(&samples);
        if let Some(error) = failed {
            guarded.state.fail(ERROR_SOURCE);
            tracing::warn!("the sensor's source failed: {error}");
        }
        drop(guarded);
        if next <= now {
            // Still behind: let a register access have the lock.
            std::thread::yield_now();
        }
    }
    source
}

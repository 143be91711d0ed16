//! The thread that takes samples while the sensor is enabled. What a sample does to
//! registers and rings is the state's business, when one is due that of the pace.

use std::num::NonZeroU32;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use super::meter::Meter;
use super::pace::Pace;
use super::registers::ERROR_SOURCE;
use super::source::Source;
use super::state::State;

/// Samples taken under one hold of the lock, so that a register access never waits long.
const BATCH: usize = 256;

/// What the lock guards.
pub(super) struct Guarded {
    pub(super) state: State,
    pace: Pace,
    stop: bool,
}

/// What a sensor's threads share, and whoever limits it. In cache lines of its own, so that
/// sensors that are busy on different processors do not slow each other down.
#[repr(align(128))]
pub(crate) struct Shared {
    guarded: Mutex<Guarded>,
    /// Signalled when the sampler should look again.
    changed: Condvar,
    /// Zero of the sensor's clock.
    origin: Instant,
    meter: Meter,
}

impl Shared {
    pub(super) fn new(quota: Option<NonZeroU32>) -> Self {
        let origin = Instant::now();
        Self {
            guarded: Mutex::new(Guarded {
                state: State::new(),
                pace: Pace::new(origin),
                stop: false,
            }),
            changed: Condvar::new(),
            origin,
            meter: Meter::new(quota),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Guarded> {
        self.guarded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its counters.
    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Limits it to this many samples per second, from now on.
    pub(crate) fn set_quota(&self, quota: Option<NonZeroU32>) {
        self.meter.set_quota(quota);
        // A sampler that has looked at the former one but does not wait yet would miss the signal.
        drop(self.lock());
        self.notify();
    }

    /// Tells the sampler that a register has changed.
    pub(super) fn notify(&self) {
        self.changed.notify_all();
    }

    fn timestamp(&self, at: Instant) -> u64 {
        // 584 years of nanoseconds fit.
        u64::try_from(at.duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Waits until a sample is due; `None` when the sampler is to stop, else the pace and the
    /// next sequence number.
    fn wait_until_due(&self) -> Option<(Pace, u32)> {
        let mut guarded = self.lock();
        loop {
            if guarded.stop {
                return None;
            }
            let now = Instant::now();
            let (period, quota) = (guarded.state.period(), self.meter.quota());
            guarded.pace.follow(period, quota, now);
            let left = guarded.pace.left(now);
            if left.is_zero() {
                return Some((guarded.pace, guarded.state.next_sequence()));
            }
            (guarded, _) = self
                .changed
                .wait_timeout(guarded, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A running sampler.
pub(super) struct Sampler {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

impl Sampler {
    /// Starts to take samples.
    pub(super) fn start(shared: &Arc<Shared>, source: &Arc<dyn Source>) -> std::io::Result<Self> {
        {
            let mut guarded = shared.lock();
            guarded.stop = false;
            let (period, quota) = (guarded.state.period(), shared.meter.quota());
            guarded.pace.begin(period, quota, Instant::now());
        }
        let thread = std::thread::Builder::new()
            .name("sensor".to_owned())
            .spawn({
                let (shared, source) = (Arc::clone(shared), Arc::clone(source));
                move || run(&shared, &*source)
            })?;
        shared.meter.set_sampling(true);
        Ok(Self {
            shared: Arc::clone(shared),
            thread,
        })
    }

    /// Ends the thread; no sample is taken and no interrupt raised once this returns.
    pub(super) fn stop(self) {
        self.shared.lock().stop = true;
        self.shared.notify();
        // A source that panicked has said so.
        let _ = self.thread.join();
        self.shared.meter.set_sampling(false);
    }
}

fn run(shared: &Shared, source: &dyn Source) {
    let mut samples = Vec::with_capacity(BATCH);
    while let Some((mut pace, sequence)) = shared.wait_until_due() {
        let now = Instant::now();
        let mut failed = None;
        samples.clear();
        let mut sequence = sequence;
        while samples.len() < BATCH
            && let Some(time) = pace.take(now)
        {
            match source.value(sequence) {
                Ok(value) => samples.push((shared.timestamp(time), value)),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
            sequence = sequence.wrapping_add(1);
        }
        let mut guarded = shared.lock();
        if guarded.stop {
            break;
        }
        guarded.pace = pace;
        let taken = guarded.state.take(&samples);
        shared.meter.count(taken);
        if let Some(error) = failed {
            guarded.state.fail(ERROR_SOURCE);
            tracing::warn!("the sensor's source failed: {error}");
        }
        drop(guarded);
        if pace.left(now).is_zero() {
            // Still behind: let a register access have the lock.
            std::thread::yield_now();
        }
    }
}

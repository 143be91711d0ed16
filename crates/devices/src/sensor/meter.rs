//! A sensor's quota and counters, which others see and set without waiting for the sensor, or the sensor for them.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::pace;
use super::registers::PERIOD_RESET;
use super::state::Taken;

/// See the module's documentation. Each value stands for itself: nothing follows from the order in which two of
/// them change.
#[derive(Debug)]
pub(crate) struct Meter {
    quota: AtomicU32,
    period: AtomicU32,
    sampling: AtomicBool,
    delivered: AtomicU64,
    lost: AtomicU64,
}

impl Meter {
    pub(super) fn new(quota: Option<NonZeroU32>) -> Self {
        Self {
            quota: AtomicU32::new(quota.map_or(0, NonZeroU32::get)),
            period: AtomicU32::new(PERIOD_RESET),
            sampling: AtomicBool::new(false),
            delivered: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }
    }

    /// Most samples per second.
    pub(super) fn quota(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.quota.load(Ordering::Relaxed))
    }

    /// The sampler is to look at it then.
    pub(super) fn set_quota(&self, quota: Option<NonZeroU32>) {
        let quota = quota.map_or(0, NonZeroU32::get);
        self.quota.store(quota, Ordering::Relaxed);
    }

    pub(super) fn set_period(&self, period: u32) {
        self.period.store(period, Ordering::Relaxed);
    }

    pub(super) fn set_sampling(&self, sampling: bool) {
        self.sampling.store(sampling, Ordering::Relaxed);
    }

    pub(super) fn count(&self, taken: Taken) {
        self.delivered.fetch_add(taken.delivered, Ordering::Relaxed);
        self.lost.fetch_add(taken.lost, Ordering::Relaxed);
    }

    /// Microseconds between samples that the driver asks for.
    pub(crate) fn period(&self) -> u32 {
        self.period.load(Ordering::Relaxed)
    }

    /// Microseconds between samples with the quota, rounded up.
    pub(crate) fn period_in_force(&self) -> u32 {
        let interval = pace::interval(self.period(), self.quota());
        // A period has 32 bits, a second of a quota fewer.
        u32::try_from(interval.as_nanos().div_ceil(1000)).unwrap_or(u32::MAX)
    }

    /// A thread takes samples.
    pub(crate) fn sampling(&self) -> bool {
        self.sampling.load(Ordering::Relaxed)
    }

    /// Samples that reached the driver's registers, and its ring if it has one.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Samples that found the ring full.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

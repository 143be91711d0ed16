//! When the next sample is due: the period of the driver and the limit of a sensor's quota. Pure arithmetic
//! over instants; who waits for them is not here.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// A sensor that fell behind this far, because its process was stopped, gives up what it
/// missed instead of catching up.
const BEHIND: Duration = Duration::from_secs(1);

/// The least time between samples of a quota, in samples per second: rounded up, so that never more come.
pub(super) fn interval_of(quota: NonZeroU32) -> Duration {
    Duration::from_nanos(1_000_000_000_u64.div_ceil(u64::from(quota.get())))
}

/// The time between samples that is in force.
pub(super) fn interval(period: u32, quota: Option<NonZeroU32>) -> Duration {
    let asked = Duration::from_micros(period.into());
    quota.map_or(asked, |quota| asked.max(interval_of(quota)))
}

/// The times of a sensor's samples, over all its life: what a driver ends, begins again or resets
/// gives it no sample before its quota does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// When the last sample was due.
    last: Option<Instant>,
    next: Instant,
    interval: Duration,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            last: None,
            next: now,
            interval: Duration::ZERO,
        }
    }

    /// Sampling begins: the first sample is due at once, or when the quota has it.
    pub(super) fn begin(&mut self, period: u32, quota: Option<NonZeroU32>, now: Instant) {
        self.interval = interval(period, quota);
        self.next = match (self.last, quota) {
            (Some(last), Some(quota)) => now.max(last + interval_of(quota)),
            _ => now,
        };
    }

    /// Period or quota may have changed: the new ones count from the last sample on, but no
    /// sample is made up for the time when they were not in force.
    pub(super) fn follow(&mut self, period: u32, quota: Option<NonZeroU32>, now: Instant) {
        let interval = interval(period, quota);
        if interval != self.interval {
            self.interval = interval;
            self.next = self.last.map_or(now, |last| now.max(last + interval));
        } else if now.saturating_duration_since(self.next) > BEHIND {
            self.next = now;
        }
    }

    /// How long until the next sample is due; zero if it is.
    pub(super) fn left(&self, now: Instant) -> Duration {
        self.next.saturating_duration_since(now)
    }

    /// The time of the next sample, if it is due.
    pub(super) fn take(&mut self, now: Instant) -> Option<Instant> {
        let due = self.next;
        if due > now {
            return None;
        }
        self.last = Some(due);
        self.next = due + self.interval;
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn quota(samples: u32) -> Option<NonZeroU32> {
        NonZeroU32::new(samples)
    }

    /// The times of all samples that are due at `now`, after `start`.
    fn drain(pace: &mut Pace, start: Instant, now: Instant) -> Vec<Duration> {
        std::iter::from_fn(|| pace.take(now))
            .map(|time| time - start)
            .collect()
    }

    #[test]
    fn a_quota_only_ever_lengthens_the_period() {
        let microseconds = Duration::from_micros;
        assert_eq!(interval(10, None), microseconds(10));
        assert_eq!(interval(10, quota(1000)), microseconds(1000));
        assert_eq!(interval(2000, quota(1000)), microseconds(2000));
        // 3 per second is 333 333 333.3 ns: never more than 3.
        assert_eq!(interval(1, quota(3)), Duration::from_nanos(333_333_334));
        assert_eq!(interval(1, quota(u32::MAX)), microseconds(1));
    }

    #[test]
    fn samples_are_caught_up_with_but_not_for_ever() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.begin(250_000, None, start);
        let times = drain(&mut pace, start, start + SECOND);
        assert_eq!(times, [0, 250, 500, 750, 1000].map(Duration::from_millis));
        pace.follow(250_000, None, start + 60 * SECOND);
        let times = drain(&mut pace, start, start + 60 * SECOND);
        assert_eq!(times, [60 * SECOND]);
    }

    #[test]
    fn beginning_again_gives_no_sample_before_its_time() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.begin(1, quota(2), start);
        assert_eq!(drain(&mut pace, start, start), [Duration::ZERO]);
        for milliseconds in [1, 2, 400, 499] {
            let now = start + Duration::from_millis(milliseconds);
            pace.begin(1, quota(2), now);
            assert_eq!(drain(&mut pace, start, now), [], "{milliseconds}");
        }
        let now = start + Duration::from_millis(900);
        pace.begin(1, quota(2), now);
        assert_eq!(drain(&mut pace, start, now), [Duration::from_millis(900)]);
        // Without a quota it may.
        pace.begin(1_000_000, None, now);
        assert_eq!(drain(&mut pace, start, now).len(), 1);
    }

    #[test]
    fn a_change_counts_from_the_last_sample_and_makes_none_up() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.begin(1, quota(1), start);
        assert_eq!(drain(&mut pace, start, start).len(), 1);
        // The quota is lifted after half a second: at once, and from now on only.
        let half = start + SECOND / 2;
        pace.follow(250_000, None, half);
        assert_eq!(drain(&mut pace, start, half), [SECOND / 2]);
        // A lower one comes back: from the last sample on.
        pace.follow(250_000, quota(1), half);
        assert_eq!(pace.left(half), SECOND);
        pace.follow(250_000, quota(2), half);
        assert_eq!(pace.left(half), SECOND / 2);
    }

    #[test]
    fn whatever_a_driver_does_its_samples_are_a_quota_apart() {
        let start = Instant::now();
        let (mut pace, mut times) = (Pace::new(start), Vec::new());
        let limit = quota(1000);
        let mut now = start;
        // A driver that changes everything it can at odd times.
        for step in 0_u32..20_000 {
            now += Duration::from_micros(u64::from(step * 7919 % 1500));
            let period = 1 + step * 104_729 % 3000;
            if step % 3 == 0 {
                pace.begin(period, limit, now);
            } else {
                pace.follow(period, limit, now);
            }
            times.extend(drain(&mut pace, start, now));
        }
        assert!(times.len() > 1000);
        for pair in times.windows(2) {
            assert!(pair[1] - pair[0] >= Duration::from_millis(1), "{pair:?}");
        }
    }
}

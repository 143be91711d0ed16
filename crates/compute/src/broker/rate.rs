//! How much a restricted host may say: so much at once, and so much in the long run. More, and it is no device host.

use std::time::Instant;

/// Messages that may come at once.
const BURST: f64 = 1024.0;
/// Messages a second in the long run.
const PER_SECOND: f64 = 128.0;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Rate {
    left: f64,
    since: Instant,
}

impl Rate {
    pub(super) fn new() -> Self {
        Self {
            left: BURST,
            since: Instant::now(),
        }
    }

    /// Whether one more may come now.
    pub(super) fn allows(&mut self) -> bool {
        self.allows_at(Instant::now())
    }

    fn allows_at(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since).as_secs_f64();
        self.since = now;
        self.left = (self.left + passed * PER_SECOND).min(BURST);
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_and_then_as_time_passes() {
        let mut rate = Rate::new();
        let begin = rate.since;
        let mut count = |at| (0..5000).filter(|_| rate.allows_at(at)).count();
        assert_eq!(count(begin), 1024);
        assert_eq!(count(begin + Duration::from_secs(1)), 128);
        assert_eq!(count(begin + Duration::from_secs(1000)), 1024);
    }
}

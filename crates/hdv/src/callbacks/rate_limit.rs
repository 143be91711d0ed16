//! How often a device's failures are logged: the first at once, then at most one in a second.

use std::time::Duration;

/// The time that passes between two lines.
const INTERVAL: Duration = Duration::from_secs(1);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct RateLimit {
    last: Option<Duration>,
    suppressed: u64,
}

impl RateLimit {
    /// Something happened at `now`, by a clock that does not go back. `Some` when it is to be logged: with
    /// how many were not since the line before.
    pub(super) fn allow(&mut self, now: Duration) -> Option<u64> {
        if self
            .last
            .is_some_and(|last| now.saturating_sub(last) < INTERVAL)
        {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_logged_then_one_in_a_second_with_the_number_left_out() {
        let mut limit = RateLimit::default();
        let at = Duration::from_millis;
        assert_eq!(limit.allow(at(5000)), Some(0));
        for now in [5000, 5500, 5999] {
            assert_eq!(limit.allow(at(now)), None);
        }
        assert_eq!(limit.allow(at(6000)), Some(3));
        assert_eq!(limit.allow(at(6999)), None);
        assert_eq!(limit.allow(at(9000)), Some(1));
        assert_eq!(limit.allow(at(10_000)), Some(0));
    }
}

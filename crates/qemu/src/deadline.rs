//! Limits on waiting, as points in time.

use std::time::{Duration, Instant};

/// Longer than any wait that is meant to end: stands for limits too large for the clock.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The instant after which a wait that begins now is over.
pub(crate) fn after(limit: Duration) -> Instant {
    Instant::now() + limit.min(FOR_EVER)
}

/// What is left until `deadline`; zero when it has passed.
pub(crate) fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

//! What a session counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one session. They only grow; reading them disturbs nothing.
#[derive(Debug, Default)]
pub struct Statistics {
    messages: AtomicU64,
    reads: AtomicU64,
    writes: AtomicU64,
    errors: AtomicU64,
}

impl Statistics {
    /// Commands received after VERSION.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// REGION_READ messages among them.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// Region writes among them; each write of a REGION_WRITE_MULTI counts.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// Commands that failed.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    pub(super) fn count_message(&self) {
        add(&self.messages, 1);
    }

    pub(super) fn count_read(&self) {
        add(&self.reads, 1);
    }

    pub(super) fn count_writes(&self, writes: u64) {
        add(&self.writes, writes);
    }

    pub(super) fn count_error(&self) {
        add(&self.errors, 1);
    }
}

/// Only the session's thread counts, so a plain load and store lose nothing and cost no
/// locked instruction.
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(amount),
        Ordering::Relaxed,
    );
}

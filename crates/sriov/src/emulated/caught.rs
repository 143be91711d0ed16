//! Calls into devices that are in no host's hands yet, or not any more: they may panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls into a device; `None` if it panicked.
pub(super) fn caught<R>(call: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => Some(result),
        Err(payload) => {
            // Not dropped: what a device panics with may panic in turn.
            std::mem::forget(payload);
            None
        }
    }
}

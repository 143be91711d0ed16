//! How many doorbells a host may register, all its devices together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::MmioError;

/// Doorbells that may still be registered, by all devices that share it.
#[derive(Debug)]
pub(crate) struct Allowance {
    limit: usize,
    left: AtomicUsize,
}

/// A doorbell's part of an allowance, given back when dropped.
#[derive(Debug)]
pub(super) struct Permit(Arc<Allowance>);

impl Allowance {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            left: AtomicUsize::new(limit),
        }
    }

    /// # Errors
    /// [`MmioError::Limit`].
    pub(super) fn take(self: &Arc<Self>) -> Result<Permit, MmioError> {
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .map_err(|_| MmioError::Limit { limit: self.limit })?;
        Ok(Permit(Arc::clone(self)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.left.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let allowance = Arc::new(Allowance::new(2));
        let first = allowance.take().unwrap();
        let _second = allowance.take().unwrap();
        let refused = allowance.take().map(|_| ()).unwrap_err();
        assert_eq!(refused, MmioError::Limit { limit: 2 });
        drop(first);
        let _third = allowance.take().unwrap();
    }
}

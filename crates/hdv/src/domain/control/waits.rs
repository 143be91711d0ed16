//! Waiting for what software makes of a slot.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use hdv_pci::SlotView;
use hdv_pci::topology::PortId;

use crate::domain::error::DomainError;
use crate::domain::hierarchy::Hierarchy;

impl Hierarchy {
    /// Waits until a port's slot is as wanted, or there is none; whether it is within `limit`.
    ///
    /// # Errors
    /// There is no such port, or the endpoint is gone.
    pub(super) fn wait_for_slot(
        &self,
        port: PortId,
        limit: Duration,
        wanted: impl Fn(&SlotView) -> bool,
    ) -> Result<bool, DomainError> {
        // One that cannot be told is as good as never.
        let deadline = Instant::now().checked_add(limit);
        let mut state = self.lock();
        loop {
            if state.closed {
                return Err(DomainError::Closed);
            }
            if state.slot(port)?.is_none_or(|slot| wanted(&slot)) {
                return Ok(true);
            }
            let left = deadline.map_or(limit, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                return Ok(false);
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

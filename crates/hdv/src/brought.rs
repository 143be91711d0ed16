//! Functions that another one brings, in slots of their own. Where clients find them is their carrier's business.

use std::sync::Arc;

use hdv_pci::Identity;

use crate::calls::HostToken;
use crate::carrier::BroughtFunction;
use crate::error::HostError;
use crate::slot::Slot;

/// A function that was brought.
pub(crate) struct BroughtSlot {
    /// Its number among those that its function brings.
    pub(crate) vf: u16,
    /// What it is, as long as it has not been powered on.
    pub(crate) identity: Identity,
    /// Dropping it tears the function down.
    pub(crate) slot: Arc<Slot>,
}

/// Gives functions their slots, which are named after the one that brings them: all of them, in their order, or
/// none.
///
/// # Errors
/// One panicked. All are torn down.
pub(crate) fn into_slots(
    functions: Vec<BroughtFunction>,
    bringing: &str,
    host: HostToken,
) -> Result<Vec<BroughtSlot>, HostError> {
    // Each gets its slot whatever becomes of the others: without one it would not be torn down.
    let slots: Vec<_> = functions
        .into_iter()
        .map(|one| {
            let name = format!("{bringing} VF {}", one.vf);
            let slot = Slot::new(&name, host, one.function, None)
                .map_err(|error| HostError::brought(one.vf, error))?;
            Ok(BroughtSlot {
                vf: one.vf,
                identity: one.identity,
                slot: Arc::new(slot),
            })
        })
        .collect();
    slots.into_iter().collect()
}

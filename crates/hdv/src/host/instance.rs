//! A device instance: what its creator holds.

use std::fmt;
use std::sync::Arc;

use crate::error::DeviceId;
use crate::interrupts::Interrupts;
use crate::memory::GuestMemory;
use crate::mmio::Mmio;
use crate::slot::{DeviceState, Slot};
use crate::system::DeviceIds;

/// A device instance of a host. Clones name the same one; it outlives its device harmlessly: the
/// handles of one that was torn down refuse everything.
#[derive(Clone)]
pub struct DeviceInstance {
    pub(super) id: DeviceId,
    pub(super) ids: DeviceIds,
    pub(super) slot: Arc<Slot>,
}

impl DeviceInstance {
    /// Names it within its host.
    #[must_use]
    pub fn id(&self) -> DeviceId {
        self.id
    }

    /// Its class and instance ids.
    #[must_use]
    pub fn ids(&self) -> DeviceIds {
        self.ids
    }

    /// Where it is in its life.
    #[must_use]
    pub fn state(&self) -> DeviceState {
        self.slot.state()
    }

    /// Whether a VM has it: until one does there is no guest memory, and no interrupt can be delivered.
    #[must_use]
    pub fn has_client(&self) -> bool {
        self.slot.has_client()
    }

    /// Guest memory.
    #[must_use]
    pub fn memory(&self) -> &GuestMemory {
        self.slot.memory()
    }

    /// Its interrupts.
    #[must_use]
    pub fn interrupts(&self) -> &Interrupts {
        self.slot.interrupts()
    }

    /// Doorbells and sections in its BARs.
    #[must_use]
    pub fn mmio(&self) -> &Mmio {
        self.slot.mmio()
    }
}

impl fmt::Debug for DeviceInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceInstance")
            .field("id", &self.id)
            .field("ids", &self.ids)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

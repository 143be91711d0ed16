//! A device instance: what its creator holds.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{DeviceId, HostError};
use crate::function::Function;
use crate::interrupts::Interrupts;
use crate::memory::GuestMemory;
use crate::mmio::Mmio;
use crate::slot::{DeviceState, Slot};
use crate::system::DeviceIds;

/// A device instance of a host. Clones name the same one; it outlives its device harmlessly: the
/// handles of one that was torn down refuse everything.
#[derive(Clone)]
pub struct DeviceInstance {
    pub(crate) id: DeviceId,
    pub(crate) ids: Option<DeviceIds>,
    /// The function that brought it, if one did.
    pub(crate) brought_by: Option<DeviceId>,
    pub(crate) slot: Arc<Slot>,
}

impl DeviceInstance {
    /// Names it within its host.
    #[must_use]
    pub fn id(&self) -> DeviceId {
        self.id
    }

    /// Its class and instance ids; `None` for a device that is served on a socket of its own choice, and
    /// for a function that another one brought.
    #[must_use]
    pub fn ids(&self) -> Option<DeviceIds> {
        self.ids
    }

    /// The socket it is served on; `None` before it is, and once it is gone.
    #[must_use]
    pub fn socket(&self) -> Option<PathBuf> {
        let gone = self.state() == DeviceState::Gone;
        self.slot.socket().filter(|_| !gone).map(ToOwned::to_owned)
    }

    /// Calls into the function as an `F`, as one of its calls: it waits for the one that is under way and keeps the
    /// next one waiting; `what` names it in the log. `None` if the function is no `F`, failed or is gone.
    ///
    /// # Errors
    /// [`HostError::InsideCall`]: this thread is inside a call into a device of its host.
    pub fn with<F: Function, R>(
        &self,
        what: &'static str,
        call: impl FnOnce(&mut F) -> R,
    ) -> Result<Option<R>, HostError> {
        self.slot.check_outside()?;
        Ok(self.slot.with(what, call))
    }

    /// Powers the device on if it is not yet; its configuration has no strings then. One that is gone stays
    /// so, without an error.
    ///
    /// # Errors
    /// The device's own, now or when it was tried before; [`HostError::InsideCall`].
    pub fn power_on(&self) -> Result<(), HostError> {
        self.slot.check_outside()?;
        Ok(self.slot.power_on(&[])?)
    }

    /// Reads the raw config space of a VF ([`Function::config_read_as_vf`]), which is powered on if it is not
    /// yet; all ones once it is gone.
    ///
    /// # Errors
    /// As [`DeviceInstance::power_on`].
    pub fn config_read_as_vf(&self, offset: u16, data: &mut [u8]) -> Result<(), HostError> {
        self.power_on()?;
        self.slot.config_read_as_vf(offset, data);
        Ok(())
    }

    /// Writes the raw config space of a VF ([`Function::config_write_as_vf`]), which is powered on if it is
    /// not yet; dropped once it is gone.
    ///
    /// # Errors
    /// As [`DeviceInstance::power_on`].
    pub fn config_write_as_vf(&self, offset: u16, data: &[u8]) -> Result<(), HostError> {
        self.power_on()?;
        self.slot.config_write_as_vf(offset, data);
        Ok(())
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

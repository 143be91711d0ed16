//! The interface of a device without SR-IOV.

use std::fmt;
use std::sync::Arc;

use hdv_sriov::{EnableVirtualization, Location, PciVirtualization, VirtualizationError};

use crate::device::Device;

/// A device of this process that is no PF: no VF is anywhere.
pub(crate) struct WithoutSriov(Arc<Device>);

impl WithoutSriov {
    pub(crate) fn new(device: Arc<Device>) -> Self {
        Self(device)
    }

    /// Fails, with `error` while the device is there.
    fn fail<T>(&self, error: VirtualizationError) -> Result<T, VirtualizationError> {
        Err(if self.0.is_gone() {
            VirtualizationError::Gone
        } else {
            error
        })
    }
}

impl fmt::Debug for WithoutSriov {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WithoutSriov")
            .field(&self.0.is_gone())
            .finish()
    }
}

impl PciVirtualization for WithoutSriov {
    fn virtual_function_data(
        &self,
        _: u16,
        _: u32,
        _: &mut [u8],
    ) -> Result<usize, VirtualizationError> {
        self.fail(VirtualizationError::NotCapable)
    }

    fn set_virtual_function_data(
        &self,
        _: u16,
        _: u32,
        _: &[u8],
    ) -> Result<usize, VirtualizationError> {
        self.fail(VirtualizationError::NotCapable)
    }

    fn location(&self, vf: u16) -> Result<Location, VirtualizationError> {
        self.fail(VirtualizationError::NoSuchVf { vf, total_vfs: 0 })
    }

    fn captured_buses(&self) -> u8 {
        0
    }

    fn enable_virtualization(&self, _: EnableVirtualization) -> Result<(), VirtualizationError> {
        self.fail(VirtualizationError::NotCapable)
    }

    fn probed_bars(&self) -> Result<[u32; 6], VirtualizationError> {
        self.fail(VirtualizationError::NotCapable)
    }
}

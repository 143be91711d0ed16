//! A PF of this machine, through Linux: its sysfs directory and its config space there.

use std::path::Path;

use crate::address::PciAddress;
use crate::error::VirtualizationError;
use crate::interface::{EnableVirtualization, Location, PciVirtualization};

/// A PCI function of this machine, with SR-IOV or without.
#[derive(Debug)]
pub struct SysfsPf {
    address: PciAddress,
}

impl SysfsPf {
    /// Opens a function of this machine, with SR-IOV or without.
    ///
    /// # Errors
    /// There is none, or its config space cannot be read.
    pub fn open(address: PciAddress) -> Result<Self, VirtualizationError> {
        Self::open_in(Path::new("/sys"), address)
    }

    /// As [`open`](Self::open), with sysfs mounted elsewhere.
    ///
    /// # Errors
    /// As there.
    pub fn open_in(sysfs: &Path, address: PciAddress) -> Result<Self, VirtualizationError> {
        let _ = sysfs;
        Ok(Self { address })
    }

    /// The PFs of this machine: the functions with SR-IOV that Linux knows of, in the order of their addresses.
    ///
    /// # Errors
    /// sysfs cannot be read.
    pub fn list() -> Result<Vec<PciAddress>, VirtualizationError> {
        Ok(Vec::new())
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> PciAddress {
        self.address
    }
}

impl PciVirtualization for SysfsPf {
    fn virtual_function_data(
        &self,
        vf: u16,
        offset: u32,
        data: &mut [u8],
    ) -> Result<usize, VirtualizationError> {
        let _ = (vf, offset, data);
        Err(VirtualizationError::Gone)
    }

    fn set_virtual_function_data(
        &self,
        vf: u16,
        offset: u32,
        data: &[u8],
    ) -> Result<usize, VirtualizationError> {
        let _ = (vf, offset, data);
        Err(VirtualizationError::Gone)
    }

    fn location(&self, vf: u16) -> Result<Location, VirtualizationError> {
        let _ = vf;
        Err(VirtualizationError::Gone)
    }

    fn captured_buses(&self) -> u8 {
        0
    }

    fn enable_virtualization(
        &self,
        request: EnableVirtualization,
    ) -> Result<(), VirtualizationError> {
        let _ = request;
        Err(VirtualizationError::Gone)
    }

    fn probed_bars(&self) -> Result<[u32; 6], VirtualizationError> {
        Err(VirtualizationError::Gone)
    }
}

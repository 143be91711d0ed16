//! [`EmulatedPf`]: what others hold of a PF.

use std::path::Path;

use hdv::pci::{SriovView, VfRouting};
use hdv::{DeviceHost, DeviceIds, DeviceInstance, Function, HostError};

use super::{
    PhysicalFunction, Placement, PlacementError, VirtualFunctionLayout, VirtualFunctionSource,
    VirtualFunctions,
};
use crate::error::VirtualizationError;
use crate::interface::{EnableVirtualization, Location, PciVirtualization};

/// How a PF is created.
#[derive(Clone, Copy, Debug)]
pub struct PfOptions {
    /// Where it is.
    pub placement: Placement,
    /// Where its VFs are from there; packed behind it unless said.
    pub routing: Option<VfRouting>,
    /// What a VM that has the PF writes to its SR-IOV registers counts, and its resets disable VFs. Otherwise
    /// neither does: VFs belong to whoever holds the [`EmulatedPf`].
    pub guest_controls_sriov: bool,
}

impl PfOptions {
    /// VFs packed behind the PF, out of its VM's control.
    #[must_use]
    pub const fn new(placement: Placement) -> Self {
        Self {
            placement,
            routing: None,
            guest_controls_sriov: false,
        }
    }
}

/// A PF of this process. Clones hold the same one; it outlives its device harmlessly.
///
/// Register writes, of its owner here ([`config_write`](Self::config_write)) or of a VM that may
/// ([`PfOptions::guest_controls_sriov`]), and the routines of [`PciVirtualization`] are one state machine.
#[derive(Clone, Debug)]
pub struct EmulatedPf {
    instance: DeviceInstance,
}

impl EmulatedPf {
    /// Powers a PF on and serves it on `socket`, as [`DeviceHost::serve`] does. VF n, when enabled, is served on a socket beside
    /// it: `<name>-vf<n>.sock` for `<name>.sock`.
    ///
    /// # Errors
    /// As there; VFs that its place has no room for.
    pub fn serve(
        host: &DeviceHost,
        socket: impl AsRef<Path>,
        name: &str,
        pf: Box<dyn PhysicalFunction>,
        options: PfOptions,
    ) -> Result<Self, HostError> {
        let _ = (host, socket.as_ref(), name, pf, options);
        Err(HostError::Closed)
    }

    /// Creates a PF as a device instance, to be announced ([`DeviceHost::announce`]).
    ///
    /// # Errors
    /// As [`DeviceHost::create_device`]; VFs that its place has no room for.
    pub fn create(
        host: &DeviceHost,
        ids: DeviceIds,
        function: Box<dyn Function>,
        layout: &VirtualFunctionLayout,
        source: Box<dyn VirtualFunctionSource>,
        options: PfOptions,
    ) -> Result<Self, HostError> {
        let _ = (host, ids, function, layout, source, options);
        Err(HostError::Closed)
    }

    /// Its device.
    #[must_use]
    pub fn instance(&self) -> &DeviceInstance {
        &self.instance
    }

    /// Its VFs.
    #[must_use]
    pub fn virtual_functions(&self) -> VirtualFunctions {
        VirtualFunctions::default()
    }

    /// Where it is now.
    #[must_use]
    pub fn placement(&self) -> Placement {
        unreachable!("its owner is writing it")
    }

    /// What its SR-IOV registers say now.
    #[must_use]
    pub fn registers(&self) -> SriovView {
        unreachable!("its owner is writing it")
    }

    /// Gives the buses below the port other numbers: the PF and its VFs are elsewhere then.
    ///
    /// # Errors
    /// Numbers that there cannot be, or that hold fewer VFs than there can be; nothing changes.
    pub fn renumber(&self, secondary: u8, subordinate: u8) -> Result<(), PlacementError> {
        let _ = (secondary, subordinate);
        Ok(())
    }

    /// Its owner reads config space, with the SR-IOV registers, as software on the bus does.
    ///
    /// # Errors
    /// The device is gone, not powered on, or this thread is inside a call into a device of its host.
    pub fn config_read(&self, offset: u16, data: &mut [u8]) -> Result<(), VirtualizationError> {
        let _ = (offset, data);
        Ok(())
    }

    /// Its owner writes config space; SR-IOV registers and resets count, whoever else may write them.
    ///
    /// # Errors
    /// As [`config_read`](Self::config_read). VFs that cannot be made: VF Enable stays clear.
    pub fn config_write(&self, offset: u16, data: &[u8]) -> Result<(), VirtualizationError> {
        let _ = (offset, data);
        Ok(())
    }

    /// Its owner resets it, as a conventional reset does (6.6.1): VFs are disabled.
    ///
    /// # Errors
    /// As [`config_read`](Self::config_read).
    pub fn reset(&self) -> Result<(), VirtualizationError> {
        Ok(())
    }
}

impl PciVirtualization for EmulatedPf {
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

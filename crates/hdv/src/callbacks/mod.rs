//! A device behind the ten callbacks of `HDV_PCI_DEVICE_INTERFACE`, and the HDV rules: what
//! the host keeps for such a device and what it passes on.
//!
//! Function pointers are not here; who has some implements [`DeviceCallbacks`] over them.

mod bars;
mod capabilities;
mod config;
mod device;
mod dword;
mod function;
mod learned;
mod links;
mod msi;
mod msix;
mod rate_limit;
mod write_one;

use hdv_pci::BarIndex;

use function::CallbackFunction;

use crate::device::DeviceError;
use crate::function::Function;

/// What a device is (`HDV_PCI_PNP_ID`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PnpId {
    /// Vendor ID (PCI Express Base Specification, 7.5.1.1.1).
    pub vendor_id: u16,
    /// Device ID (7.5.1.1.2).
    pub device_id: u16,
    /// Revision ID (7.5.1.1.5).
    pub revision_id: u8,
    /// Class code, programming interface (7.5.1.1.6).
    pub prog_if: u8,
    /// Class code, sub-class.
    pub sub_class: u8,
    /// Class code, base class.
    pub base_class: u8,
    /// Subsystem Vendor ID (7.5.1.2.3).
    pub sub_vendor_id: u16,
    /// Subsystem ID.
    pub sub_system_id: u16,
}

/// What a device declares of itself (`GetDetails`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// Its identity.
    pub pnp_id: PnpId,
    /// What each BAR register reads after all ones are written to it; 0 for none (7.5.1.2.1).
    pub probed_bars: [u32; BarIndex::ALL.len()],
}

/// The callbacks of `HDV_PCI_DEVICE_INTERFACE`, as safe methods. Calls never overlap.
///
/// An error's [`DeviceError::code`] is the callback's `HRESULT`.
pub trait DeviceCallbacks: Send {
    /// `Initialize`: once, as the device is powered on.
    ///
    /// # Errors
    /// The callback's.
    fn initialize(&mut self) -> Result<(), DeviceError>;

    /// `SetConfiguration`: the strings of the VM's configuration, after `Initialize`; also when there are
    /// none.
    ///
    /// # Errors
    /// The callback's.
    fn set_configuration(&mut self, values: &[String]) -> Result<(), DeviceError>;

    /// `GetDetails`: after `SetConfiguration`.
    ///
    /// # Errors
    /// The callback's.
    fn get_details(&mut self) -> Result<Details, DeviceError>;

    /// `Start`: virtual processors are about to start.
    ///
    /// # Errors
    /// The callback's.
    fn start(&mut self) -> Result<(), DeviceError>;

    /// `Stop`: virtual processors are about to stop.
    fn stop(&mut self);

    /// `Teardown`: last, exactly once, also for a device that was never powered on.
    fn teardown(&mut self);

    /// `ReadConfigSpace`: the dword at `offset`, in bytes, a multiple of 4 below 4096.
    ///
    /// # Errors
    /// The callback's; the guest reads all ones.
    fn read_config_space(&mut self, offset: u32) -> Result<u32, DeviceError>;

    /// `WriteConfigSpace`: as for [`DeviceCallbacks::read_config_space`].
    ///
    /// # Errors
    /// The callback's; the write is dropped.
    fn write_config_space(&mut self, offset: u32, value: u32) -> Result<(), DeviceError>;

    /// `ReadInterceptedMemory`: fills `data`, 1, 2, 4 or 8 bytes at natural alignment, from
    /// `offset` of the BAR, in bytes.
    ///
    /// # Errors
    /// The callback's; the guest reads all ones.
    fn read_intercepted_memory(
        &mut self,
        bar: BarIndex,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), DeviceError>;

    /// `WriteInterceptedMemory`: as for [`DeviceCallbacks::read_intercepted_memory`].
    ///
    /// # Errors
    /// The callback's; the write is dropped.
    fn write_intercepted_memory(
        &mut self,
        bar: BarIndex,
        offset: u64,
        data: &[u8],
    ) -> Result<(), DeviceError>;
}

/// `E_INVALIDARG`: what a declaration that cannot be has as its code.
const E_INVALIDARG: i32 = 0x8007_0057_u32.cast_signed();

fn invalid(message: impl Into<String>) -> DeviceError {
    DeviceError::new(message).with_code(E_INVALIDARG)
}

/// A function made of callbacks, for [`DeviceHost::create_device`](crate::DeviceHost::create_device).
#[must_use]
pub fn callback_function(callbacks: Box<dyn DeviceCallbacks>) -> Box<dyn Function> {
    Box::new(CallbackFunction::new(callbacks))
}

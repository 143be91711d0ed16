//! [`Function`], the trait under every view of a device: what a VMM sees at one bus, device and
//! function number. Transports know nothing else of a device.

use hdv_pci::{BarIndex, Identity};

use crate::device::DeviceError;
use crate::interrupts::Interrupts;
use crate::memory::GuestMemory;
use crate::mmio::Mmio;

/// How much a reset takes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetScope {
    /// The registers that the host keeps (config space, MSI-X table); the device is not told. A VMM
    /// resets a device before it ever used it, when the device has nothing to take back.
    Registers,
    /// Everything.
    Function,
}

/// One PCI function.
///
/// Calls never overlap. Offsets and lengths have been checked: an access lies in the BAR or
/// in the 4096 bytes of config space.
pub trait Function: Send {
    /// Who it is. Fixed from power-on.
    fn identity(&self) -> Identity;

    /// Size of a BAR in bytes; 0 if there is none. Fixed from power-on.
    fn bar_size(&self, bar: BarIndex) -> u64;

    /// The guest memory it uses; filled by the transport.
    fn memory(&self) -> &GuestMemory;

    /// The interrupts it signals; connected by the transport.
    fn interrupts(&self) -> &Interrupts;

    /// Its doorbells and sections. The function says how large its BARs are as soon as it knows
    /// ([`Mmio::set_layout`]).
    fn mmio(&self) -> &Mmio;

    /// Powered on: once, before anything else but [`Function::memory`], [`Function::interrupts`]
    /// and [`Function::mmio`]. `configuration` are the strings of the VM's configuration.
    ///
    /// # Errors
    /// The device's own; only [`Function::teardown`] follows.
    fn power_on(&mut self, configuration: &[String]) -> Result<(), DeviceError>;

    /// Virtual processors are about to run.
    ///
    /// # Errors
    /// The device's own.
    fn start(&mut self) -> Result<(), DeviceError>;

    /// Virtual processors are about to stop.
    fn stop(&mut self);

    /// Exactly once, last.
    fn teardown(&mut self);

    /// Reads config space.
    fn config_read(&mut self, offset: u16, data: &mut [u8]);

    /// Writes config space.
    fn config_write(&mut self, offset: u16, data: &[u8]);

    /// Reads a BAR; any length and alignment.
    fn bar_read(&mut self, bar: BarIndex, offset: u64, data: &mut [u8]);

    /// Writes a BAR; any length and alignment.
    fn bar_write(&mut self, bar: BarIndex, offset: u64, data: &[u8]);

    /// The client has connected or disconnected interrupt vectors.
    fn interrupts_changed(&mut self) {}

    /// Resets it. Guest memory and the receivers of interrupts stay: they are the client's.
    fn reset(&mut self, scope: ResetScope);
}

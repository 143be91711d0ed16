//! [`Function`], the trait under every view of a device: what a VMM sees at one bus, device and
//! function number. Transports know nothing else of a device.

use std::any::Any;
use std::sync::Arc;

use hdv_pci::{BarIndex, DetectedError, ErrorMessage, Identity};

use crate::carrier::FunctionCarrier;
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

/// What a write to config space did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigWrite {
    /// It wrote registers, or nothing.
    Registers,
    /// It reset the function: function level reset (6.6.2), or from D3hot to D0 without No Soft Reset
    /// (7.5.2.2).
    Reset,
}

/// What became of an error that a function was to record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorRecord {
    /// Nobody but its device can record one there.
    Impossible,
    /// It is recorded; software does not want to be told of it.
    Kept,
    /// It is recorded, and the function sends this message up.
    Sent(ErrorMessage),
}

/// One PCI function.
///
/// Calls never overlap. Offsets and lengths have been checked: an access lies in the BAR or
/// in the 4096 bytes of config space.
pub trait Function: Any + Send {
    /// Who it is. Fixed from power-on.
    fn identity(&self) -> Identity;

    /// Size of a BAR in bytes; 0 if there is none. Fixed from power-on, but for that of a BAR which software on the bus can resize:
    /// it is the size that the BAR has now.
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
    fn config_write(&mut self, offset: u16, data: &[u8]) -> ConfigWrite;

    /// Reads the config space of a VF as software on the bus and the interface to its PF do: the registers
    /// of [`config_read`](Self::config_read), which shows a VM a complete function, with what the SR-IOV
    /// rules take away (9.3.4): vendor and device id read all ones; BARs, I/O and Memory Space Enable 0.
    fn config_read_as_vf(&mut self, offset: u16, data: &mut [u8]);

    /// Writes the config space of a VF; what a VF does not have stays as it is.
    fn config_write_as_vf(&mut self, offset: u16, data: &[u8]) -> ConfigWrite;

    /// Tells a function that brings further ones (a PF its VFs) where they go. At most once, before
    /// [`power_on`](Self::power_on).
    fn carried_by(&mut self, carrier: Arc<dyn FunctionCarrier>) {
        let _ = carrier;
    }

    /// Software has numbered the bus that the function is on, `secondary`, and those up to `subordinate` that are reached through
    /// the port above, whose functions it may be with its VFs. Both are 0 once nobody has any more; `subordinate` may be
    /// below `secondary` while software is about it.
    fn bus_numbered(&mut self, secondary: u8, subordinate: u8) {
        let _ = (secondary, subordinate);
    }

    /// Whoever carries its bus found an error of this function, which it records in config space as if it had detected it
    /// itself (6.2). It records nothing unless it keeps config space for its device.
    fn record_error(&mut self, error: DetectedError) -> ErrorRecord {
        let _ = error;
        ErrorRecord::Impossible
    }

    /// Reads a BAR; any length and alignment.
    fn bar_read(&mut self, bar: BarIndex, offset: u64, data: &mut [u8]);

    /// Writes a BAR; any length and alignment.
    fn bar_write(&mut self, bar: BarIndex, offset: u64, data: &[u8]);

    /// The client has connected or disconnected interrupt vectors.
    fn interrupts_changed(&mut self) {}

    /// Resets it. Guest memory and the receivers of interrupts stay: they are the client's.
    fn reset(&mut self, scope: ResetScope);
}

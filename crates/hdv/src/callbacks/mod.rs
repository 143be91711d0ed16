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

use hdv_pci::{Bar, BarIndex};

use function::CallbackFunction;

pub(crate) use capabilities::{Capabilities, Entry, Read, walk};
pub(crate) use msi::MsiRegisters;

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
    /// 0xfffff000 is a 32-bit memory BAR of 4096 bytes; 0xfffff00c and 0xffffffff after it
    /// are one of 4096 bytes that is 64-bit and prefetchable. Sizes are powers of two from 16 bytes on;
    /// I/O BARs are refused.
    pub probed_bars: [u32; BarIndex::ALL.len()],
}

impl Details {
    /// The BARs behind [`probed_bars`](Self::probed_bars).
    ///
    /// # Errors
    /// A code of `E_INVALIDARG` and a message that names the register and its value.
    pub fn bars(&self) -> Result<Vec<(BarIndex, Bar)>, DeviceError> {
        bars::declared(self.probed_bars)
    }
}

/// The callbacks of `HDV_PCI_DEVICE_INTERFACE`, as safe methods: for a device host that is ported from
/// C, or that answers config space itself. A new device is less work as a
/// [`PciDevice`](crate::PciDevice).
///
/// # Order
/// `initialize`, `set_configuration` and `get_details` once, as the device is powered on; then `start`
/// and `stop` alternately; `teardown` last and exactly once, also for a device that was never powered
/// on. Config space is not accessed before the first `start`, but for that of a VF, which software at its
/// PF may read and write as soon as the device is powered on. Calls never overlap, but come from
/// different threads. A callback that fails ends the sequence: nothing but `teardown` follows, but
/// for `start`, which is tried again for the next client. The error reaches whoever attached the
/// device, [`DeviceError::code`] unchanged.
///
/// There is no reset. A device that is reset (DEVICE_RESET, function level reset, from D3hot to D0
/// without No Soft Reset, a client that left) sees `stop` if it was started, writes of 0 to command
/// register and BARs, writes that clear the enables of MSI and MSI-X, and `start` again if it was started. If
/// that `start` fails, its guest reads all ones and writes are dropped until the next client.
///
/// # Config space
/// The host owns identity, header type 0, BARs with their sizing, command register, interrupt
/// line and pin (none), ROM (none), and the links of both capability lists: what the device reads
/// there is not shown. It may answer 0 to all of it. Status, but for Capabilities List, and everything from
/// 0x40 up are the device's. Its lists are walked once, after the first `start` or at a VF's first access from
/// its PF, whichever is first; entries that are malformed (misaligned,
/// in a loop, overlapping, outside config space, MSI-X outside its BARs) are left out.
///
/// Every write is passed on, so that a device may watch for Memory Space Enable. A
/// narrower one than a dword comes merged with what is there, with bits that a written one clears as
/// 0: status, PCI Express device, link, slot and root status, PME Status, error status of advanced error
/// reporting.
///
/// # Interrupts
/// A device sends the message of a vector, as hardware does, with
/// [`Interrupts::deliver`](crate::Interrupts::deliver): for MSI-X what its own table holds,
/// for MSI what its capability holds. VMMs keep the guest's MSI-X table to themselves; so the host
/// writes messages of its own to the device's table, as dwords of
/// [`write_intercepted_memory`](Self::write_intercepted_memory) (or into the section that it lies in): for every vector
/// that is connected, a mask bit for one that is no more, all of them again after a reset. The table
/// must therefore be memory that keeps what is written. Pending bits of vectors that the host holds back are
/// added to what the device reads in its pending-bit array.
///
/// # Handles
/// Guest memory, interrupts, doorbells and sections are those of the function or the device instance:
/// [`Function::memory`](crate::Function::memory) and its like, or
/// [`DeviceInstance`](crate::DeviceInstance). Clone them before the function is given away.
///
/// # Failures
/// A read that fails is all ones for the guest, a write that fails is dropped, as an unsupported
/// request on a bus is; both are logged, at most once a second. A call that takes longer than a second is logged too:
/// QEMU gives up after five. A panic costs this device only, as with
/// [`PciDevice`](crate::PciDevice).
///
/// ```
/// use hdv::{
///     BarIndex, Details, DeviceCallbacks, DeviceError, PnpId, TestBench, callback_function,
/// };
///
/// /// A page of memory that does not answer config space.
/// struct Page(Box<[u8; 4096]>);
///
/// impl Page {
///     fn part(&mut self, offset: u64, length: usize) -> Option<&mut [u8]> {
///         let start = usize::try_from(offset).ok()?;
///         self.0.get_mut(start..start.checked_add(length)?)
///     }
/// }
///
/// impl DeviceCallbacks for Page {
///     fn initialize(&mut self) -> Result<(), DeviceError> { Ok(()) }
///     fn set_configuration(&mut self, _: &[String]) -> Result<(), DeviceError> { Ok(()) }
///     fn get_details(&mut self) -> Result<Details, DeviceError> {
///         let pnp_id = PnpId {
///             vendor_id: 0x4f48,
///             device_id: 0x7ffd,
///             base_class: 0xff,
///             ..PnpId::default()
///         };
///         // BAR 0 has 4096 bytes.
///         Ok(Details { pnp_id, probed_bars: [0xffff_f000, 0, 0, 0, 0, 0] })
///     }
///     fn start(&mut self) -> Result<(), DeviceError> { Ok(()) }
///     fn stop(&mut self) {}
///     fn teardown(&mut self) {}
///     fn read_config_space(&mut self, _: u32) -> Result<u32, DeviceError> { Ok(0) }
///     fn write_config_space(&mut self, _: u32, _: u32) -> Result<(), DeviceError> { Ok(()) }
///     fn read_intercepted_memory(
///         &mut self,
///         _bar: BarIndex,
///         offset: u64,
///         data: &mut [u8],
///     ) -> Result<(), DeviceError> {
///         let part = self.part(offset, data.len()).ok_or_else(|| DeviceError::new("outside"))?;
///         data.copy_from_slice(part);
///         Ok(())
///     }
///     fn write_intercepted_memory(
///         &mut self,
///         _bar: BarIndex,
///         offset: u64,
///         data: &[u8],
///     ) -> Result<(), DeviceError> {
///         let part = self.part(offset, data.len()).ok_or_else(|| DeviceError::new("outside"))?;
///         part.copy_from_slice(data);
///         Ok(())
///     }
/// }
///
/// let device = Page(Box::new([0; 4096]));
/// let mut bench = TestBench::with_function(callback_function(Box::new(device)))?;
/// assert_eq!(bench.config_read::<u32>(0x00), 0x7ffd_4f48);
/// bench.config_write(0x10, u32::MAX);
/// assert_eq!(bench.config_read::<u32>(0x10), 0xffff_f000);
/// bench.write(BarIndex::BAR0, 0x20, 7_u64);
/// assert_eq!(bench.read::<u64>(BarIndex::BAR0, 0x20), 7);
/// # Ok::<(), hdv::HostError>(())
/// ```
pub trait DeviceCallbacks: Send {
    /// `Initialize`: once, as the device is powered on.
    ///
    /// # Errors
    /// The callback's.
    fn initialize(&mut self) -> Result<(), DeviceError>;

    /// `SetConfiguration`: the strings of the VM's configuration for this device, after `Initialize`; also
    /// when there are none.
    ///
    /// # Errors
    /// The callback's.
    fn set_configuration(&mut self, values: &[String]) -> Result<(), DeviceError>;

    /// `GetDetails`: after `SetConfiguration`.
    ///
    /// # Errors
    /// The callback's.
    fn get_details(&mut self) -> Result<Details, DeviceError>;

    /// `Start`: virtual processors are about to start or resume. Guest memory is there.
    ///
    /// # Errors
    /// The callback's.
    fn start(&mut self) -> Result<(), DeviceError>;

    /// `Stop`: virtual processors are about to stop or pause; the device's state stays.
    fn stop(&mut self);

    /// `Teardown`: last, exactly once, also for a device that was never powered on.
    fn teardown(&mut self);

    /// `ReadConfigSpace`: the dword at `offset`, in bytes, a multiple of 4 below 4096.
    ///
    /// # Errors
    /// The callback's; the guest reads all ones.
    fn read_config_space(&mut self, offset: u32) -> Result<u32, DeviceError>;

    /// `WriteConfigSpace`: all 32 bits of the dword; otherwise as for [`DeviceCallbacks::read_config_space`].
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

/// A function made of callbacks, for [`DeviceHost::create_device`](crate::DeviceHost::create_device),
/// [`DeviceHost::serve_function`](crate::DeviceHost::serve_function) or
/// [`TestBench::with_function`](crate::TestBench::with_function). Nothing of the device is called yet.
///
/// Powering it on fails with a code of `E_INVALIDARG` (0x80070057) and a message that names BAR
/// and value when the device declares BARs that cannot be, or vendor id 0xffff.
#[must_use]
pub fn callback_function(callbacks: Box<dyn DeviceCallbacks>) -> Box<dyn Function> {
    Box::new(CallbackFunction::new(callbacks))
}

//! What the author of a device writes in Rust: [`PciDevice`].
//!
//! The framework emulates config space, BAR sizing, MSI and MSI-X from the
//! [`ConfigSpace`] that it declares; how a device gets into a VM is not here.

use std::fmt;

use hdv_pci::ConfigSpace;

use crate::access::BarAccess;
use crate::interrupts::Interrupts;
use crate::memory::{GuestMemory, MemoryError};
use crate::mmio::{Mmio, MmioError};

/// What a device gets when it is powered on. Clones of the handles may go to threads of the
/// device's own.
#[derive(Clone, Debug)]
pub struct DeviceContext {
    /// Guest memory, for DMA; empty while no VM is connected, and filled again by the next one.
    pub memory: GuestMemory,
    /// The device's interrupt vectors.
    pub interrupts: Interrupts,
    /// Doorbells and sections in the device's BARs.
    pub mmio: Mmio,
}

/// Why a device could not do what was asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceError {
    message: String,
    code: Option<i32>,
}

impl DeviceError {
    /// An error for people: what was wrong, with its value. One of [`Mmio`] or [`GuestMemory`] becomes
    /// one by `?`.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: None,
        }
    }

    /// Adds the code that a C callback returned, an `HRESULT`, so that it reaches the caller unchanged.
    #[must_use]
    pub fn with_code(mut self, code: i32) -> Self {
        self.code = Some(code);
        self
    }

    /// The code of the callback that failed, if it had one.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.code
    }
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DeviceError {}

impl From<MemoryError> for DeviceError {
    fn from(error: MemoryError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<MmioError> for DeviceError {
    fn from(error: MmioError) -> Self {
        Self::new(error.to_string())
    }
}

/// A PCI device, as its author writes it.
///
/// Calls never overlap. Their order: [`initialize`](Self::initialize) once, then
/// [`start`](Self::start) and [`stop`](Self::stop) alternately, accesses and
/// [`reset`](Self::reset) at any time from `initialize` on, [`teardown`](Self::teardown) last and
/// exactly once, also for a device that was never powered on. A device outlives its clients: when
/// one leaves, `stop` and `reset` follow, and the next one brings `start` again.
///
/// A client waits for each call. It should take well below a second; QEMU gives the device up after
/// five. Work that takes longer belongs to a thread of the device's own, with clones of the
/// handles in [`DeviceContext`]. DMA and interrupts are possible inside a call too, but memory
/// that the VMM does not share fails there ([`MemoryError`](crate::MemoryError)).
///
/// A panic in a call costs this device only: its guest reads all ones from then on, writes are
/// dropped, and nothing but `teardown` follows.
///
/// # What a device must see to itself
/// The framework answers the command register (7.5.1.1.3) but does not enforce it: DMA and interrupts work
/// also while Bus Master Enable is clear. A driver that forgets to set it works here and not with
/// hardware.
///
/// ```
/// use hdv::{
///     Bar, BarAccess, BarIndex, ClassCode, ConfigError, ConfigSpace, DeviceContext, DeviceError,
///     Identity, PciDevice, TestBench,
/// };
///
/// /// Counts how often it was read.
/// #[derive(Default)]
/// struct Counter(u32);
///
/// impl PciDevice for Counter {
///     fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
///         let identity = Identity {
///             vendor_id: 0x4f48,
///             device_id: 0x7fff,
///             revision_id: 0,
///             class: ClassCode::from_u24(0xff_0000),
///             subsystem_vendor_id: 0,
///             subsystem_id: 0,
///         };
///         ConfigSpace::builder(identity)
///             .bar(BarIndex::BAR0, Bar::memory32(4096))
///             .build()
///     }
///
///     fn read(&mut self, access: BarAccess) -> u64 {
///         self.0 += 1;
///         access.read_dwords(|_| self.0)
///     }
///
///     fn write(&mut self, _access: BarAccess, _value: u64) {}
///
///     fn reset(&mut self) {
///         self.0 = 0;
///     }
/// }
///
/// let mut bench = TestBench::new(Counter::default())?;
/// assert_eq!(bench.read::<u32>(BarIndex::BAR0, 0), 1);
/// assert_eq!(bench.read::<u32>(BarIndex::BAR0, 0), 2);
/// bench.reset();
/// assert_eq!(bench.read::<u32>(BarIndex::BAR0, 0), 1);
/// # Ok::<(), hdv::HostError>(())
/// ```
pub trait PciDevice: Send {
    /// Identity, BARs, capabilities and plain registers of config space (7.5); asked once, before
    /// anything else. The framework answers everything that is declared here, the MSI-X table and
    /// pending-bit array in BAR memory included.
    ///
    /// # Errors
    /// What is wrong with the declaration; the device is then not created.
    fn config_space(&self) -> Result<ConfigSpace, hdv_pci::ConfigError>;

    /// The device is powered on: once, when it is served, before any client is there. The place to keep
    /// the context's handles.
    ///
    /// # Errors
    /// The device is not attached; nothing but `teardown` follows.
    fn initialize(&mut self, context: DeviceContext) -> Result<(), DeviceError> {
        let _ = context;
        Ok(())
    }

    /// The strings of the VM's configuration for this device; once, after
    /// [`initialize`](Self::initialize), also when there are none.
    ///
    /// # Errors
    /// The device is not attached; nothing but `teardown` follows.
    fn set_configuration(&mut self, values: &[String]) -> Result<(), DeviceError> {
        let _ = values;
        Ok(())
    }

    /// Virtual processors are about to start or resume. vfio-user has no message that says so: it is
    /// the client's first one that is neither about its version nor about guest memory, before it is
    /// answered. So the client's memory is there, and it has not asked yet what it may map.
    ///
    /// # Errors
    /// The client is told and disconnected.
    fn start(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    /// Virtual processors are about to stop or pause; over vfio-user, the client left. The device's
    /// state stays; threads of its own write no guest memory and signal nothing until the next `start`.
    fn stop(&mut self) {}

    /// A guest reads a BAR, within its size. The value's low `access.size` bytes count, little-endian.
    ///
    /// A larger or unaligned access arrives as several aligned ones, in ascending order. Accesses to the
    /// MSI-X table and pending-bit array do not arrive. [`BarAccess::read_dwords`] serves
    /// registers of 32 bits.
    fn read(&mut self, access: BarAccess) -> u64;

    /// A guest writes `value` to a BAR, zero beyond its `access.size` bytes; as for
    /// [`read`](Self::read). [`BarAccess::write_dwords`] serves registers of 32 bits.
    fn write(&mut self, access: BarAccess, value: u64);

    /// Back to the state after power-on: DEVICE_RESET, function level reset (6.6.2), a power state
    /// change from D3hot to D0 without No Soft Reset (7.5.2.2), a client that left. Config space
    /// and the MSI-X table are reset by the framework. A device that was started still is, and keeps the
    /// handles of its context.
    /// When this returns the device writes no guest memory and raises no interrupt of before.
    fn reset(&mut self);

    /// The device is removed or its host goes away. Nothing follows.
    fn teardown(&mut self) {}
}

//! What the author of a device writes in Rust: [`PciDevice`].
//!
//! The framework emulates config space, BAR sizing, MSI and MSI-X from the
//! [`ConfigSpace`] that it declares; how a device gets into a VM is not here.

use std::fmt;

use hdv_pci::ConfigSpace;

use crate::access::BarAccess;
use crate::interrupts::Interrupts;
use crate::memory::GuestMemory;

/// What a device gets when it is powered on. Clones of the handles may go to threads of the
/// device's own.
#[derive(Clone, Debug)]
pub struct DeviceContext {
    /// Guest memory, empty until a VM is there.
    pub memory: GuestMemory,
    /// The device's interrupt vectors.
    pub interrupts: Interrupts,
}

/// Why a device could not do what was asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceError {
    message: String,
    code: Option<i32>,
}

impl DeviceError {
    /// An error for people: what was wrong, with its value.
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

/// A PCI device, as its author writes it.
///
/// Calls never overlap. Their order: [`initialize`](Self::initialize) once, then
/// [`start`](Self::start) and [`stop`](Self::stop) alternately, accesses and
/// [`reset`](Self::reset) at any time from `initialize` on, [`teardown`](Self::teardown) last and
/// exactly once, also for a device that was never powered on.
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
    /// Identity, BARs, capabilities and plain registers of config space; asked once, before anything
    /// else. The framework answers everything that is declared here.
    ///
    /// # Errors
    /// What is wrong with the declaration; the device is then not created.
    fn config_space(&self) -> Result<ConfigSpace, hdv_pci::ConfigError>;

    /// The device is powered on with its VM.
    ///
    /// # Errors
    /// The device is not attached; nothing but `teardown` follows.
    fn initialize(&mut self, context: DeviceContext) -> Result<(), DeviceError> {
        let _ = context;
        Ok(())
    }

    /// Virtual processors are about to start or resume.
    ///
    /// # Errors
    /// The client is told and disconnected.
    fn start(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    /// Virtual processors are about to stop or pause. The device's state stays.
    fn stop(&mut self) {}

    /// A guest reads a BAR. The value's low `access.size` bytes count, little-endian.
    fn read(&mut self, access: BarAccess) -> u64;

    /// A guest writes `value` to a BAR, zero beyond its `access.size` bytes.
    fn write(&mut self, access: BarAccess, value: u64);

    /// Back to the state after power-on: DEVICE_RESET, function level reset, a client that left.
    /// When this returns the device writes no guest memory and raises no interrupt of before.
    fn reset(&mut self);

    /// The device is removed or its host goes away. Nothing follows.
    fn teardown(&mut self) {}
}

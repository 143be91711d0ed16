//! A guest in a unit test: memory, a bus and an interrupt recorder, no VM. No socket either: what a
//! transport checks before a device sees it is not checked here.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdv_pci::BarIndex;
use hdv_vfio_user::backend::{DmaFlags, DmaMap};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::MemfdFlags;
use vm_memory::{ByteValued, GuestAddress};

use crate::bench_carrier::{BENCHED, BenchCarrier};
use crate::calls::HostToken;
use crate::carrier::FunctionCarrier;
use crate::device::PciDevice;
use crate::error::HostError;
use crate::function::{Function, ResetScope};
use crate::instance::DeviceInstance;
use crate::interrupts::InterruptKind;
use crate::memory::GuestMemory;
use crate::pci_function::PciFunction;
use crate::slot::Slot;

/// Runs a device without a VM.
///
/// It does to the device what a transport does: the same lifecycle, real eventfds for interrupts, real
/// files for guest memory. Accesses are made as a guest makes them, little-endian.
///
/// It is no bus: an access needs no Memory Space Enable and no address in a BAR register. Dropping the
/// bench stops and tears down the device.
///
/// ```
/// # use hdv::{BarAccess, ConfigError, ConfigSpace, DeviceContext, DeviceError, PciDevice};
/// # use hdv::{Bar, BarOffset, ClassCode, Identity, Msix, PciExpress};
/// # struct Copier(Option<DeviceContext>);
/// # impl PciDevice for Copier {
/// #     fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
/// #         let place = |offset| BarOffset::new(BarIndex::BAR0, offset);
/// #         ConfigSpace::builder(Identity {
/// #             vendor_id: 0x4f48,
/// #             device_id: 0x7ffe,
/// #             revision_id: 0,
/// #             class: ClassCode::from_u24(0xff_0000),
/// #             subsystem_vendor_id: 0,
/// #             subsystem_id: 0,
/// #         })
/// #         .bar(BarIndex::BAR0, Bar::memory64(4096))
/// #         .capability(PciExpress::endpoint())
/// #         .capability(Msix::new(1, place(0x800), place(0xc00)))
/// #         .build()
/// #     }
/// #     fn initialize(&mut self, context: DeviceContext) -> Result<(), DeviceError> {
/// #         self.0 = Some(context);
/// #         Ok(())
/// #     }
/// #     fn read(&mut self, _: BarAccess) -> u64 { 0 }
/// #     fn write(&mut self, _: BarAccess, value: u64) {
/// #         if let Some(context) = &self.0
/// #             && context.memory.write(GuestAddress(value), b"done").is_ok()
/// #         {
/// #             context.interrupts.signal(0);
/// #         }
/// #     }
/// #     fn reset(&mut self) {}
/// # }
/// # let device = Copier(None);
/// use std::time::Duration;
///
/// use hdv::{BarIndex, GuestAddress, TestBench};
///
/// // A device that writes "done" to the DMA address it is told, then signals vector 0.
/// let mut bench = TestBench::new(device)?;
/// bench.add_memory(GuestAddress(0x10_0000), 0x1000)?;
/// bench.enable_interrupts()?;
/// bench.write(BarIndex::BAR0, 0, 0x10_0040_u64);
/// assert_eq!(bench.wait_interrupt(0, Duration::from_secs(5)), 1);
/// let mut data = [0; 4];
/// bench.memory().read(GuestAddress(0x10_0040), &mut data)?;
/// assert_eq!(&data, b"done");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TestBench {
    slot: Arc<Slot>,
    /// Of what its function brings; `None` on the bench of such a one.
    carrier: Option<Arc<BenchCarrier>>,
    /// The driver's own view of guest memory, other mappings of the same files.
    memory: GuestMemory,
    vectors: Vec<OwnedFd>,
}

impl TestBench {
    /// Attaches a device: powered on, started, not yet with memory or interrupts.
    ///
    /// # Errors
    /// The device's own, or what is wrong with its declaration.
    pub fn new(device: impl PciDevice + 'static) -> Result<Self, HostError> {
        let function = PciFunction::new(Box::new(device))?;
        Self::with_function(Box::new(function))
    }

    /// Attaches something that is a [`Function`] already, as devices behind
    /// [`DeviceCallbacks`](crate::DeviceCallbacks) are, whose page has an example.
    ///
    /// # Errors
    /// The function's own.
    pub fn with_function(function: Box<dyn Function>) -> Result<Self, HostError> {
        let token = HostToken::new();
        let carrier = BenchCarrier::new(token);
        let told: Arc<dyn FunctionCarrier> = Arc::<BenchCarrier>::clone(&carrier);
        let slot = Slot::new("test bench", token, function, Some(told))?;
        // From here on dropping it tears the function down.
        let bench = Self::over(Arc::new(slot), Some(carrier));
        bench.attach()?;
        Ok(bench)
    }

    fn over(slot: Arc<Slot>, carrier: Option<Arc<BenchCarrier>>) -> Self {
        Self {
            slot,
            carrier,
            memory: GuestMemory::new(),
            vectors: Vec::new(),
        }
    }

    fn attach(&self) -> Result<(), HostError> {
        self.slot.power_on(&[])?;
        self.slot.client_came();
        Ok(self.slot.start()?)
    }

    /// The bench of a function that the one on this bench brings, a VF by its number from 0: powered on, if it
    /// was not, and started. `None` if there is none now. Dropping that bench is as if its VM left: the
    /// function is stopped and reset, and stays with the one that brought it.
    ///
    /// # Errors
    /// The function's own; `EBUSY` in [`HostError::System`] while another bench has it.
    pub fn brought(&self, vf: u16) -> Result<Option<Self>, HostError> {
        let Some(instance) = self.carrier.as_ref().and_then(|carrier| carrier.get(vf)) else {
            return Ok(None);
        };
        if instance.has_client() {
            let what = "taking a function to a bench of its own while it is on one";
            return Err(HostError::system(what, rustix::io::Errno::BUSY));
        }
        let bench = Self::over(instance.slot, None);
        bench.attach()?;
        Ok(Some(bench))
    }

    /// The device on the bench, as the creator of one on a host holds it.
    #[must_use]
    pub fn instance(&self) -> DeviceInstance {
        DeviceInstance {
            id: BENCHED,
            ids: None,
            brought_by: None,
            slot: Arc::clone(&self.slot),
        }
    }

    /// Gives the guest `size` bytes of memory at `address`, both multiples of 4096.
    ///
    /// # Errors
    /// The range is misaligned or overlaps another, or there is no memory.
    pub fn add_memory(&mut self, address: GuestAddress, size: u64) -> Result<(), HostError> {
        let failed = |error: rustix::io::Errno| {
            let why = format!("{size:#x} bytes at {:#x}: {error}", address.0);
            HostError::system(
                "adding guest memory",
                std::io::Error::new(error.kind(), why),
            )
        };
        let file = rustix::fs::memfd_create("test bench", MemfdFlags::CLOEXEC).map_err(failed)?;
        rustix::fs::ftruncate(&file, size).map_err(failed)?;
        for memory in [self.slot.memory(), &self.memory] {
            let file = file
                .try_clone()
                .map_err(|error| HostError::system("adding guest memory", error))?;
            memory
                .map(&DmaMap {
                    address: address.0,
                    size,
                    flags: DmaFlags::READ | DmaFlags::WRITE,
                    offset: 0,
                    file: Some(file),
                })
                .map_err(failed)?;
        }
        Ok(())
    }

    /// Takes memory away from the guest, and from the device under way.
    ///
    /// # Errors
    /// A range that was added would be cut in two.
    pub fn remove_memory(&mut self, address: GuestAddress, size: u64) -> Result<(), HostError> {
        for memory in [self.slot.memory(), &self.memory] {
            memory
                .unmap(address.0, size)
                .map_err(|error| HostError::system("removing guest memory", error))?;
        }
        Ok(())
    }

    /// Guest memory as the driver sees it.
    #[must_use]
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// Reads config space at `offset`, in bytes; from 4096 on it is all ones.
    #[must_use]
    pub fn config_read<T: ByteValued>(&self, offset: u16) -> T {
        let mut value = T::zeroed();
        self.slot.config_read(offset, value.as_mut_slice());
        value
    }

    /// Writes config space at `offset`, in bytes; from 4096 on writes are dropped.
    pub fn config_write<T: ByteValued>(&mut self, offset: u16, value: T) {
        self.slot.config_write(offset, value.as_slice());
    }

    /// Size of a BAR in bytes, 0 if there is none.
    pub(crate) fn bar_size(&self, bar: BarIndex) -> u64 {
        self.slot.bar_size(bar)
    }

    /// Reads a BAR at `offset`, in bytes; all ones outside it, and once the device has panicked.
    #[must_use]
    pub fn read<T: ByteValued>(&self, bar: BarIndex, offset: u64) -> T {
        let mut value = T::zeroed();
        let data = value.as_mut_slice();
        if self.in_bar(bar, offset, data.len()) {
            self.slot.bar_read(bar, offset, data);
        } else {
            data.fill(0xff);
        }
        value
    }

    /// Writes a BAR at `offset`, in bytes; dropped outside it, and once the device has panicked.
    pub fn write<T: ByteValued>(&mut self, bar: BarIndex, offset: u64, value: T) {
        let data = value.as_slice();
        if self.in_bar(bar, offset, data.len()) {
            self.slot.bar_write(bar, offset, data);
        }
    }

    /// Whether an access lies in a BAR: on a bus no other reaches the function.
    fn in_bar(&self, bar: BarIndex, offset: u64, length: usize) -> bool {
        offset
            .checked_add(length as u64)
            .is_some_and(|end| end <= self.slot.bar_size(bar))
    }

    /// Enables MSI-X with every vector, or MSI where the device has no MSI-X, as a VMM does for a
    /// driver that asked for them: every vector gets an eventfd. The enable bits in config space
    /// stay as they are.
    ///
    /// # Errors
    /// No eventfd can be had.
    pub fn enable_interrupts(&mut self) -> Result<(), HostError> {
        let interrupts = self.slot.interrupts();
        let kind = if interrupts.vectors(InterruptKind::MsiX) > 0 {
            InterruptKind::MsiX
        } else {
            InterruptKind::Msi
        };
        let mut given = Vec::new();
        self.vectors.clear();
        for _ in 0..interrupts.vectors(kind) {
            let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .map_err(|error| HostError::system("creating an eventfd", error))?;
            given.push(Some(event.as_fd().try_clone_to_owned().map_err(
                |error| HostError::system("duplicating an eventfd", error),
            )?));
            self.vectors.push(event);
        }
        interrupts.connect(kind, 0, given);
        self.slot.interrupts_changed();
        Ok(())
    }

    /// How often a vector was signalled since the last look.
    ///
    /// # Panics
    /// The device has no such vector, or [`TestBench::enable_interrupts`] was not called.
    #[must_use]
    pub fn take_interrupts(&mut self, vector: u16) -> u64 {
        let mut count = [0; 8];
        match rustix::io::read(&self.vectors[usize::from(vector)], &mut count) {
            Ok(_) => u64::from_ne_bytes(count),
            Err(_) => 0,
        }
    }

    /// Waits until a vector is signalled and says how often it was; 0 when `timeout` passed first.
    ///
    /// # Panics
    /// As [`TestBench::take_interrupts`].
    pub fn wait_interrupt(&mut self, vector: u16, timeout: Duration) -> u64 {
        let deadline = Instant::now() + timeout;
        loop {
            let count = self.take_interrupts(vector);
            let left = deadline.saturating_duration_since(Instant::now());
            if count > 0 || left.is_zero() {
                return count;
            }
            let event = &self.vectors[usize::from(vector)];
            let mut fds = [PollFd::new(event, PollFlags::IN)];
            // An interrupted wait is one more turn.
            let _ = poll(&mut fds, Timespec::try_from(left).ok().as_ref());
        }
    }

    /// Resets the function, as DEVICE_RESET and function level reset do.
    pub fn reset(&mut self) {
        self.slot.reset(ResetScope::Function);
    }

    /// Stops virtual processors.
    pub fn stop(&mut self) {
        self.slot.stop();
    }

    /// Starts virtual processors that were stopped.
    ///
    /// # Errors
    /// The device's own.
    pub fn start(&mut self) -> Result<(), HostError> {
        Ok(self.slot.start()?)
    }

    /// Stops virtual processors and starts them again.
    ///
    /// # Errors
    /// The device's own.
    pub fn stop_and_start(&mut self) -> Result<(), HostError> {
        self.stop();
        self.start()
    }
}

impl Drop for TestBench {
    fn drop(&mut self) {
        match &self.carrier {
            Some(carrier) => {
                carrier.close();
                self.slot.remove();
            }
            None => self.slot.client_left(),
        }
    }
}

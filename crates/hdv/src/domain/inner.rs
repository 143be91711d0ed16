//! A function inside a domain: its slot, and from the moment that the endpoint has been powered on, what the domain does to it
//! as its VMM.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use hdv_pci::spec::extended::extended_capability_id;
use hdv_pci::spec::header::{BAR_TYPE_64, BAR_TYPE_MASK, COMMAND};
use hdv_pci::spec::sriov;
use hdv_pci::topology::{BarSizes, FunctionDecode};
use hdv_pci::{BarIndex, Command, Identity};

use super::attachment::{Attachment, ConfigView};
use super::messages::Fold;
use super::registers::{Changed, Registers};
use super::tree::InterruptMode;
use crate::device::DeviceError;
use crate::error::HostError;
use crate::function::ResetScope;
use crate::memory::GuestMemory;
use crate::slot::{DeviceState, Slot};

/// What functions get from the endpoint.
pub(super) struct Context {
    pub(super) memory: GuestMemory,
    pub(super) fold: Arc<Fold>,
}

/// See the module's documentation.
pub(super) struct Inner {
    slot: Arc<Slot>,
    view: ConfigView,
    /// What it is, as long as it has not been powered on.
    identity: Option<Identity>,
    attachment: OnceLock<Attachment>,
    sizes: OnceLock<BarSizes>,
    /// Of a PF, as soon as that is known.
    total_vfs: OnceLock<u16>,
    /// Of a VF; that of others is in the topology.
    bus_master: AtomicBool,
    /// Secondary and subordinate of the port above, as it was last told of them: held while they are read and told, so that the
    /// last to be read are the last to be told.
    bus_numbers: Mutex<(u8, u8)>,
    /// How many config reads fail yet.
    failing_reads: AtomicU32,
    /// Held while it is found out whether it may send requests, and until that is so.
    requests: Mutex<()>,
    /// Held while its registers are read for routing and routing follows: the last to read is the last to tell.
    following: Mutex<()>,
    /// It failed, and was torn down.
    has_failed: AtomicBool,
}

impl Inner {
    /// A function that has been powered on.
    pub(super) fn new(slot: Arc<Slot>) -> Self {
        let inner = Self::with(slot, ConfigView::Function, None);
        inner.know_vfs();
        inner
    }

    /// A VF.
    pub(super) fn virtual_function(slot: Arc<Slot>, identity: Identity) -> Self {
        Self::with(slot, ConfigView::Vf, Some(identity))
    }

    fn with(slot: Arc<Slot>, view: ConfigView, identity: Option<Identity>) -> Self {
        Self {
            slot,
            view,
            identity,
            attachment: OnceLock::new(),
            sizes: OnceLock::new(),
            total_vfs: OnceLock::new(),
            bus_master: AtomicBool::new(false),
            bus_numbers: Mutex::new((0, 0)),
            failing_reads: AtomicU32::new(0),
            requests: Mutex::new(()),
            following: Mutex::new(()),
            has_failed: AtomicBool::new(false),
        }
    }

    pub(super) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// What it is, without waiting for it.
    pub(super) fn identity(&self) -> Option<Identity> {
        self.slot.identity().or(self.identity)
    }

    /// How many VFs it can have at most; `None` if it is no PF, or not known to be one.
    pub(super) fn total_vfs(&self) -> Option<u16> {
        self.total_vfs.get().copied()
    }

    /// Which messages it sends as the guest has set it, without waiting for it.
    pub(super) fn interrupts(&self) -> InterruptMode {
        let attachment = self.attachment.get();
        attachment.map_or(InterruptMode::None, Attachment::interrupts)
    }

    /// Tells it of the numbers of its bus and of the last one below the same port, as `read` finds them, if they are new.
    pub(super) fn number_bus(&self, read: impl FnOnce() -> Option<(u8, u8)>) {
        let bus_numbers = self.bus_numbers.lock();
        let mut told = bus_numbers.unwrap_or_else(PoisonError::into_inner);
        if let Some(numbers) = read()
            && *told != numbers
        {
            *told = numbers;
            let (secondary, subordinate) = numbers;
            self.slot.bus_numbered(secondary, subordinate);
        }
    }

    /// Lets it send requests, or keeps them back, as `may` says once nobody else is about it.
    pub(super) fn follow_requests(&self, may: impl FnOnce() -> bool) {
        let Some(attachment) = self.attachment.get() else {
            return;
        };
        let changed = {
            let requests = self.requests.lock();
            let _requests = requests.unwrap_or_else(PoisonError::into_inner);
            attachment.set_requests(may())
        };
        if changed {
            self.slot.interrupts_changed();
        }
    }

    /// It was taken off its bus: it sends nothing any more, and is not told of it.
    pub(super) fn cut_off(&self) {
        if let Some(attachment) = self.attachment.get() {
            let requests = self.requests.lock();
            let _requests = requests.unwrap_or_else(PoisonError::into_inner);
            attachment.set_requests(false);
        }
    }

    /// The Bus Master Enable of a VF.
    pub(super) fn bus_master(&self) -> bool {
        self.bus_master.load(Ordering::Relaxed)
    }

    /// A VF's command register may have changed.
    pub(super) fn follow_bus_master(&self) {
        let _following = self.following();
        let mut command = [0; 2];
        self.config_read(COMMAND, &mut command);
        let command = Command::from_bits_retain(u16::from_le_bytes(command));
        let may = command.contains(Command::BUS_MASTER) && self.slot.state().is_alive();
        self.bus_master.store(may, Ordering::Relaxed);
    }

    /// The next config reads fail.
    pub(super) fn fail_reads(&self, count: u32) {
        self.failing_reads.store(count, Ordering::Relaxed);
    }

    /// Whether this config read fails.
    pub(super) fn fails_read(&self) -> bool {
        if self.failing_reads.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let one_less = |left: u32| left.checked_sub(1);
        let order = Ordering::Relaxed;
        self.failing_reads
            .fetch_update(order, order, one_less)
            .is_ok()
    }

    /// Finds out whether it is a PF, which one behind callbacks shows once it was started.
    fn know_vfs(&self) {
        if self.view == ConfigView::Vf || self.total_vfs.get().is_some() {
            return;
        }
        let mut read = |offset| {
            let mut dword = [0xff; 4];
            self.slot.config_read(offset, &mut dword);
            u32::from_le_bytes(dword)
        };
        let registers = Registers::read([0; BarIndex::ALL.len()], &mut read);
        let sriov = registers
            .capabilities()
            .find_extended(extended_capability_id::SRIOV);
        if let Some(sriov) = sriov {
            let [_, _, low, high] = read(sriov.offset + sriov::INITIAL_VFS).to_le_bytes();
            let _ = self.total_vfs.set(u16::from_le_bytes([low, high]));
        }
    }

    /// Connects a function that has been powered on to the endpoint's guest memory and vectors; a second time does nothing.
    ///
    /// # Errors
    /// Its guest memory is another's already.
    pub(super) fn connect(&self, context: &Context) -> Result<(), HostError> {
        if self.attachment.get().is_some() {
            return Ok(());
        }
        let attachment = Attachment::new(
            Arc::clone(&self.slot),
            self.view,
            &context.memory,
            Arc::clone(&context.fold),
        )?;
        // Until its Bus Master Enable is set.
        attachment.set_requests(false);
        let _ = self.attachment.set(attachment);
        Ok(())
    }

    /// Whether it has been connected, or never will be.
    pub(super) fn is_prepared(&self) -> bool {
        self.attachment.get().is_some() || self.has_failed.load(Ordering::Relaxed)
    }

    /// It failed: it is torn down, and answers nothing. That is nothing worth telling of one that was taken away meanwhile.
    pub(super) fn fail(&self, error: &HostError, is_taken_away: bool) {
        let name = self.slot.name();
        let is_new = !self.has_failed.swap(true, Ordering::Relaxed);
        if is_taken_away || self.slot.state() == DeviceState::Gone {
            tracing::debug!(device = name, "the VF went before it was used: {error}");
        } else if is_new {
            tracing::error!(device = name, "the VF is not there: {error}");
        }
        self.slot.remove();
    }

    /// # Errors
    /// The device's own.
    pub(super) fn start(&self) -> Result<(), DeviceError> {
        match self.attachment.get() {
            Some(attachment) => attachment.start(),
            None => Ok(()),
        }
    }

    pub(super) fn stop(&self) {
        self.slot.stop();
    }

    /// As the bus is reset.
    pub(super) fn reset(&self) {
        if let Some(attachment) = self.attachment.get() {
            attachment.reset(ResetScope::Function);
            if self.view == ConfigView::Vf {
                self.follow_bus_master();
            }
        }
    }

    pub(super) fn remove(&self) {
        self.slot.remove();
    }

    pub(super) fn config_read(&self, offset: u16, data: &mut [u8]) {
        match self.attachment.get() {
            Some(attachment) => attachment.config_read(offset, data),
            None => data.fill(0xff),
        }
    }

    pub(super) fn config_write(&self, offset: u16, data: &[u8]) -> Changed {
        match self.attachment.get() {
            Some(attachment) => attachment.config_write(offset, data),
            None => Changed::empty(),
        }
    }

    pub(super) fn bar_read(&self, bar: BarIndex, offset: u64, data: &mut [u8]) {
        match self.attachment.get() {
            Some(attachment) => attachment.bar_read(bar, offset, data),
            None => data.fill(0xff),
        }
    }

    pub(super) fn bar_write(&self, bar: BarIndex, offset: u64, data: &[u8]) {
        if let Some(attachment) = self.attachment.get() {
            attachment.bar_write(bar, offset, data);
        }
    }

    /// Tells what its registers say of where it answers, one caller after another.
    pub(super) fn with_decode(&self, tell: impl FnOnce(FunctionDecode)) {
        let _following = self.following();
        tell(self.decode());
    }

    fn following(&self) -> MutexGuard<'_, ()> {
        self.following
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What its registers say of where it answers; once it was started, since a device behind callbacks shows none of
    /// them before.
    fn decode(&self) -> FunctionDecode {
        // One that is measured before it is known would have no VF BARs ever after.
        if !self.attachment.get().is_some_and(Attachment::is_known) {
            return FunctionDecode::default();
        }
        let mut sizes = *self.sizes.get_or_init(|| self.measure());
        if let Some(bars) = self.slot.bar_sizes_now() {
            sizes.bars = bars;
        }
        FunctionDecode::read(&sizes, |offset, data| self.config_read(offset, data))
    }

    /// Finds out how large the BARs are. Those of VFs are sized as software does it, which a function that is
    /// just reset can be.
    fn measure(&self) -> BarSizes {
        self.know_vfs();
        let bars = BarIndex::ALL.map(|bar| self.slot.bar_size(bar));
        let mut vf_bars = [0; BarIndex::ALL.len()];
        let attachment = self.attachment.get();
        let sriov = attachment
            .and_then(|attachment| attachment.extended_capability(extended_capability_id::SRIOV));
        if let Some(sriov) = sriov {
            let mut next = 0;
            while next < vf_bars.len() {
                let (size, registers) = self.measure_bar(sriov + sriov::VF_BAR0, next);
                vf_bars[next] = size;
                next += registers;
            }
        }
        BarSizes { bars, vf_bars }
    }

    /// The size of a BAR that nobody has placed yet, and how many registers it has.
    fn measure_bar(&self, first: u16, index: usize) -> (u64, usize) {
        let at = |index: usize| first + 4 * u16::try_from(index).unwrap_or_default();
        let dword = |at: u16| {
            let mut dword = [0; 4];
            self.config_read(at, &mut dword);
            u32::from_le_bytes(dword)
        };
        let probe = |at: u16| {
            let before = dword(at);
            let _ = self.config_write(at, &u32::MAX.to_le_bytes());
            let probed = dword(at);
            let _ = self.config_write(at, &before.to_le_bytes());
            probed
        };
        let low = probe(at(index));
        let is_64 = low & BAR_TYPE_64 != 0 && index + 1 < BarIndex::ALL.len();
        let high = if is_64 {
            probe(at(index + 1))
        } else if low == 0 {
            0
        } else {
            u32::MAX
        };
        let mask = u64::from(high) << 32 | u64::from(low & !BAR_TYPE_MASK);
        let size = if mask == 0 {
            0
        } else {
            mask & mask.wrapping_neg()
        };
        (size, if is_64 { 2 } else { 1 })
    }
}

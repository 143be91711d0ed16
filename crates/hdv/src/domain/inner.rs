//! A function inside a domain: its slot, and from the moment that the endpoint has been powered on, what the domain does to it
//! as its VMM.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use hdv_pci::BarIndex;
use hdv_pci::spec::extended::extended_capability_id;
use hdv_pci::spec::header::{BAR_TYPE_64, BAR_TYPE_MASK};
use hdv_pci::spec::sriov;
use hdv_pci::topology::{BarSizes, FunctionDecode};

use super::attachment::{Attachment, ConfigView};
use super::messages::Fold;
use super::registers::Changed;
use crate::device::DeviceError;
use crate::error::HostError;
use crate::function::ResetScope;
use crate::memory::GuestMemory;
use crate::slot::Slot;

/// What functions get from the endpoint.
pub(super) struct Context {
    pub(super) memory: GuestMemory,
    pub(super) fold: Arc<Fold>,
}

/// See the module's documentation.
pub(super) struct Inner {
    slot: Arc<Slot>,
    view: ConfigView,
    attachment: OnceLock<Attachment>,
    sizes: OnceLock<BarSizes>,
    /// Held while its registers are read for routing and routing follows: the last to read is the last to tell.
    following: Mutex<()>,
    /// It failed, and was torn down.
    has_failed: AtomicBool,
}

impl Inner {
    pub(super) fn new(slot: Arc<Slot>, view: ConfigView) -> Self {
        Self {
            slot,
            view,
            attachment: OnceLock::new(),
            sizes: OnceLock::new(),
            following: Mutex::new(()),
            has_failed: AtomicBool::new(false),
        }
    }

    pub(super) fn slot(&self) -> &Arc<Slot> {
        &self.slot
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
        let _ = self.attachment.set(attachment);
        Ok(())
    }

    /// Whether it has been connected, or never will be.
    pub(super) fn is_prepared(&self) -> bool {
        self.attachment.get().is_some() || self.has_failed.load(Ordering::Relaxed)
    }

    /// It failed: it is torn down, and answers nothing.
    pub(super) fn fail(&self, error: &HostError) {
        let name = self.slot.name();
        if !self.has_failed.swap(true, Ordering::Relaxed) {
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
        let _following = self
            .following
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        tell(self.decode());
    }

    /// What its registers say of where it answers; once it was started, since a device behind callbacks shows none of
    /// them before.
    fn decode(&self) -> FunctionDecode {
        if self.attachment.get().is_none() {
            return FunctionDecode::default();
        }
        let sizes = self.sizes.get_or_init(|| self.measure());
        FunctionDecode::read(sizes, |offset, data| self.config_read(offset, data))
    }

    /// Finds out how large the BARs are. Those of VFs are sized as software does it, which a function that is
    /// just reset can be.
    fn measure(&self) -> BarSizes {
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

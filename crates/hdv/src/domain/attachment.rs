//! One function on a bus of ours, over its slot: accesses, interrupts, guest memory and life as its VMM side
//! has them. Where the function is on the bus, and which accesses reach it, is not known here.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use hdv_pci::BarIndex;

use super::messages::{Fold, Messages, Vectors};
use super::registers::{Changed, Registers};
use super::tree::InterruptMode;
use crate::access::{self, BarAccess};
use crate::device::DeviceError;
use crate::error::HostError;
use crate::function::{ConfigWrite, ResetScope};
use crate::memory::GuestMemory;
use crate::slot::Slot;

/// Which config space software on the bus finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConfigView {
    /// That of a complete function.
    Function,
    /// That of a VF, as the SR-IOV rules have it (9.3.4).
    Vf,
}

/// See the module's documentation.
///
/// Accesses may come from any thread. None takes a lock that another function's takes.
pub(crate) struct Attachment {
    slot: Arc<Slot>,
    view: ConfigView,
    fold: Arc<Fold>,
    /// Known from power-on; of a function whose device answers config space itself, from its first start.
    known: OnceLock<Known>,
    /// It may send requests, also messages that are not known yet.
    open: AtomicBool,
}

#[derive(Debug)]
struct Known {
    registers: Registers,
    vectors: Vectors,
}

impl Attachment {
    /// Takes a function that has been powered on. Its guest memory is that of `memory` from now on, its
    /// messages mean what `fold` says.
    ///
    /// # Errors
    /// Its guest memory is another's already.
    pub(crate) fn new(
        slot: Arc<Slot>,
        view: ConfigView,
        memory: &GuestMemory,
        fold: Arc<Fold>,
    ) -> Result<Self, HostError> {
        slot.memory()
            .follow(memory)
            .map_err(|error| HostError::system("sharing guest memory with a function", error))?;
        let attachment = Self {
            slot,
            view,
            fold,
            known: OnceLock::new(),
            open: AtomicBool::new(true),
        };
        let registers = attachment.registers();
        if registers.is_capable() {
            attachment.know(registers);
        }
        Ok(attachment)
    }

    fn registers(&self) -> Registers {
        let bar_sizes = BarIndex::ALL.map(|bar| self.slot.bar_size(bar));
        Registers::read(bar_sizes, &mut |offset| self.dword(offset))
    }

    fn know(&self, registers: Registers) {
        self.known.get_or_init(|| Known {
            vectors: Vectors::new(&registers, self.open.load(Ordering::Relaxed)),
            registers,
        });
    }

    /// Whether its registers are known: from power-on, or its first start.
    pub(crate) fn is_known(&self) -> bool {
        self.known.get().is_some()
    }

    /// Offset of the first extended capability with an identifier.
    pub(crate) fn extended_capability(&self, id: u16) -> Option<u16> {
        let capabilities = self.known.get()?.registers.capabilities();
        Some(capabilities.find_extended(id)?.offset)
    }

    /// The function may send requests from now on, accesses to guest memory and messages, or may not. Whether receivers of its
    /// interrupts have changed, which the function is [told](Slot::interrupts_changed) of then.
    pub(crate) fn set_requests(&self, open: bool) -> bool {
        self.open.store(open, Ordering::Relaxed);
        self.slot.memory().set_barred(!open);
        match self.known.get() {
            Some(known) if self.answers() => self.messages(known).set_open(&known.vectors, open),
            _ => false,
        }
    }

    /// Which messages it sends as the guest has set it. Waits for nobody.
    pub(crate) fn interrupts(&self) -> InterruptMode {
        match self.known.get() {
            Some(known) => known.vectors.mode(),
            None => InterruptMode::None,
        }
    }

    /// Virtual processors are about to run. No error for one that is gone.
    ///
    /// # Errors
    /// The device's own.
    pub(crate) fn start(&self) -> Result<(), DeviceError> {
        self.slot.start()?;
        if self.known.get().is_none() && self.answers() {
            self.know(self.registers());
        }
        Ok(())
    }

    /// The bus is reset, or what the function is behind: all registers are as after power-on. Function level
    /// reset comes by [`Attachment::config_write`].
    pub(crate) fn reset(&self, scope: ResetScope) {
        // Before too: what it signals until it is told of the reset is nobody's.
        self.reset_vectors();
        self.slot.reset(scope);
        self.reset_vectors();
        self.slot.interrupts_changed();
    }

    /// Reads config space; beyond it, and where nobody answers, it is all ones.
    pub(crate) fn config_read(&self, offset: u16, data: &mut [u8]) {
        match self.view {
            ConfigView::Function => self.slot.config_read(offset, data),
            ConfigView::Vf => self.slot.config_read_as_vf(offset, data),
        }
    }

    /// Writes config space and says what that may have changed.
    pub(crate) fn config_write(&self, offset: u16, data: &[u8]) -> Changed {
        let done = match self.view {
            ConfigView::Function => self.slot.config_write(offset, data),
            ConfigView::Vf => self.slot.config_write_as_vf(offset, data),
        };
        if done == ConfigWrite::Reset {
            self.reset_vectors();
            self.slot.interrupts_changed();
            return Changed::all();
        }
        let Some(known) = self.known.get() else {
            return Changed::DECODE;
        };
        let changed = known.registers.written(offset, data.len());
        if changed.contains(Changed::INTERRUPTS) && self.answers() {
            let messages = self.messages(known);
            if messages.follow(&known.vectors, &mut |offset| self.dword(offset)) {
                self.slot.interrupts_changed();
            }
        }
        changed
    }

    /// Reads a BAR, as [`Function::bar_read`](crate::Function::bar_read).
    pub(crate) fn bar_read(&self, bar: BarIndex, offset: u64, data: &mut [u8]) {
        let Some(known) = self.known_at(bar, offset, data.len()) else {
            return self.slot.bar_read(bar, offset, data);
        };
        let messages = self.messages(known);
        access::split(offset, data.len(), |offset, range| {
            let data = &mut data[range];
            let access = BarAccess::new(bar, offset, data.len());
            if !messages.read(&known.vectors, access, data) {
                self.slot.bar_read(bar, offset, data);
            }
        });
    }

    /// Writes a BAR, as [`Function::bar_write`](crate::Function::bar_write).
    pub(crate) fn bar_write(&self, bar: BarIndex, offset: u64, data: &[u8]) {
        let Some(known) = self.known_at(bar, offset, data.len()) else {
            return self.slot.bar_write(bar, offset, data);
        };
        let messages = self.messages(known);
        let mut changed = false;
        access::split(offset, data.len(), |offset, range| {
            let data = &data[range];
            let access = BarAccess::new(bar, offset, data.len());
            match messages.write(&known.vectors, access, data) {
                Some(receivers) => changed |= receivers,
                None => self.slot.bar_write(bar, offset, data),
            }
        });
        if changed {
            self.slot.interrupts_changed();
        }
    }

    fn messages<'a>(&'a self, known: &'a Known) -> Messages<'a> {
        Messages {
            registers: &known.registers,
            interrupts: self.slot.interrupts(),
            fold: &*self.fold,
        }
    }

    /// For an access that has some of the MSI-X table or the pending-bit array of a function that answers.
    fn known_at(&self, bar: BarIndex, offset: u64, length: usize) -> Option<&Known> {
        let known = self.known.get()?;
        let bytes = offset..offset.saturating_add(length as u64);
        let msix = known.registers.msix.as_ref()?;
        (msix.meet(bar, &bytes) && self.answers()).then_some(known)
    }

    /// Whether there is a function, not a stub.
    fn answers(&self) -> bool {
        self.slot.state().is_alive() && !self.slot.memory().is_lost()
    }

    fn dword(&self, offset: u16) -> u32 {
        let mut dword = [0xff; 4];
        self.config_read(offset, &mut dword);
        u32::from_le_bytes(dword)
    }

    fn reset_vectors(&self) {
        if let Some(known) = self.known.get() {
            self.messages(known).reset(&known.vectors);
        }
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment")
            .field("slot", &self.slot)
            .field("view", &self.view)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

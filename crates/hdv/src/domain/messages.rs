//! The interrupts of one function on a bus of ours: its MSI-X table and pending-bit array as the guest sees
//! them, and whom its vectors tell, which is what the guest's messages mean.
//!
//! The function's own table is not touched, as under a VMM: it has receivers for its vectors and does not see
//! addresses. Which vector an address means, the one who carries the bus knows ([`Fold`]).
//!
//! A vector keeps its receiver while it is masked, so that what is pending is neither lost nor sent to
//! where a half-written entry points: its message counts again when it is unmasked. Enabled vectors without
//! a receiver, never unmasked yet or with an address that means nothing, are pending until they have one.

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hdv_pci::MsixTable;
use hdv_pci::spec::msix::MsixControl;

use super::registers::{MsixPlaces, Registers};
use super::tree::InterruptMode;
use crate::access::BarAccess;
use crate::callbacks::{MsiRegisters, Read};
use crate::interrupts::{InterruptKind, Interrupts, MsiMessage};

/// Bytes of a pending-bit array element, 64 vectors (PCI Express Base Specification, 7.7.2.5).
const PENDING_BYTES: u64 = 8;

/// The function and vector whose interrupt a message, an address and data of the guest's, is; `None` for
/// an address that means none.
pub(crate) type Fold = dyn Fn(u64, u32) -> Option<(Interrupts, u16)> + Send + Sync;

/// See the module's documentation.
pub(super) struct Messages<'a> {
    pub(super) registers: &'a Registers,
    pub(super) interrupts: &'a Interrupts,
    pub(super) fold: &'a Fold,
}

/// What the guest has written.
#[derive(Debug)]
pub(super) struct Vectors {
    state: Mutex<State>,
    /// What of it is enabled, for who may not wait for the function: an [`InterruptMode`].
    mode: AtomicU8,
}

#[derive(Debug)]
struct State {
    table: MsixTable,
    enabled: bool,
    function_masked: bool,
    /// The message that each vector's receiver was taken from.
    connected: Vec<Option<(u64, u32)>>,
    msi: Option<MsiMessage>,
    /// The function may send messages.
    open: bool,
}

impl Vectors {
    pub(super) fn new(registers: &Registers, open: bool) -> Self {
        let vectors = registers.msix.as_ref().map_or(0, |msix| msix.vectors);
        Self {
            state: Mutex::new(State {
                table: MsixTable::new(vectors),
                enabled: false,
                function_masked: false,
                connected: vec![None; vectors.into()],
                msi: None,
                open,
            }),
            mode: AtomicU8::new(InterruptMode::None as u8),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is enabled; never waits.
    pub(super) fn mode(&self) -> InterruptMode {
        let mode = self.mode.load(Ordering::Relaxed);
        InterruptMode::ALL[usize::from(mode)]
    }

    fn show(&self, state: &State) {
        let mode = if state.enabled {
            InterruptMode::MsiX
        } else if state.msi.is_some() {
            InterruptMode::Msi
        } else {
            InterruptMode::None
        };
        self.mode.store(mode as u8, Ordering::Relaxed);
    }
}

impl Messages<'_> {
    fn msix(&self) -> Option<&MsixPlaces> {
        self.registers.msix.as_ref()
    }

    /// Answers a read of the table or the pending-bit array; false for any other.
    pub(super) fn read(&self, vectors: &Vectors, access: BarAccess, data: &mut [u8]) -> bool {
        let Some(msix) = self.msix() else {
            return false;
        };
        if let Some(offset) = msix.table.offset_of(access) {
            vectors.lock().table.read(offset, data);
        } else if let Some(offset) = msix.pending.offset_of(access) {
            let (element, byte) = (offset / PENDING_BYTES, offset % PENDING_BYTES);
            let bits = self.interrupts.pending(InterruptKind::MsiX, element) >> (8 * byte);
            for (data, bits) in data.iter_mut().zip(bits.to_le_bytes()) {
                *data = bits;
            }
        } else {
            return false;
        }
        true
    }

    /// Carries out a write to the table, and drops one to the pending-bit array; `None` for any other. Whether
    /// receivers have changed.
    pub(super) fn write(&self, vectors: &Vectors, access: BarAccess, data: &[u8]) -> Option<bool> {
        let msix = self.msix()?;
        if let Some(offset) = msix.table.offset_of(access) {
            let mut state = vectors.lock();
            let changed = state.table.write(offset, data);
            return Some(self.connect(&mut state, changed));
        }
        msix.pending.offset_of(access).map(|_| false)
    }

    /// Follows the capabilities, which `read` reads: MSI-X control, and all of MSI. Whether receivers have changed.
    pub(super) fn follow(&self, vectors: &Vectors, read: &mut Read<'_>) -> bool {
        let mut state = vectors.lock();
        let msix = self.follow_msix(&mut state, read);
        let msi = self.follow_msi(&mut state, read);
        vectors.show(&state);
        msix || msi
    }

    fn follow_msix(&self, state: &mut State, read: &mut Read<'_>) -> bool {
        let Some(msix) = self.msix() else {
            return false;
        };
        let bytes = read(msix.control & !3).to_le_bytes();
        let control = MsixControl::from_bits_retain(u16::from_le_bytes([bytes[2], bytes[3]]));
        let was_enabled = state.enabled;
        state.enabled = control.contains(MsixControl::ENABLE);
        state.function_masked = control.contains(MsixControl::FUNCTION_MASK);
        if !state.enabled {
            if was_enabled {
                self.interrupts.disconnect(InterruptKind::MsiX);
                state.connected.fill(None);
            }
            return was_enabled;
        }
        if !was_enabled {
            self.interrupts.enable(InterruptKind::MsiX, msix.vectors);
        }
        self.connect(state, 0..msix.vectors)
    }

    /// Lets MSI-X vectors tell whom their messages mean. Whether receivers have changed.
    fn connect(&self, state: &mut State, vectors: Range<u16>) -> bool {
        if !state.enabled {
            return false;
        }
        let kind = InterruptKind::MsiX;
        let unmasked = |state: &State, vector| {
            let entry = state.table.entry(vector)?;
            (!entry.masked && !state.function_masked).then_some((entry.address, entry.data))
        };
        let (mut first, mut last) = (None, 0);
        for vector in vectors.clone() {
            match unmasked(state, vector) {
                None => self.interrupts.mask_by_client(kind, vector, true),
                message if message == state.connected[usize::from(vector)] => {}
                message => {
                    state.connected[usize::from(vector)] = message;
                    first = first.or(Some(vector));
                    last = vector;
                }
            }
        }
        if let Some(first) = first {
            let messages = &state.connected[usize::from(first)..=usize::from(last)];
            let told = self.told(state.open, messages);
            self.interrupts.connect_to(kind, first, told);
        }
        // Last: what is pending goes where the message says now.
        for vector in vectors {
            if unmasked(state, vector).is_some() {
                self.interrupts.mask_by_client(kind, vector, false);
            }
        }
        first.is_some()
    }

    fn follow_msi(&self, state: &mut State, read: &mut Read<'_>) -> bool {
        let Some(base) = self.registers.msi else {
            return false;
        };
        let kind = InterruptKind::Msi;
        let message = MsiRegisters::read(base, read).message();
        let before = std::mem::replace(&mut state.msi, message);
        if message == before {
            return false;
        }
        // The function folds its vectors onto those that are enabled.
        if message.map(|message| message.vectors) != before.map(|before| before.vectors) {
            self.interrupts.disconnect(kind);
        }
        if let Some(message) = message {
            self.interrupts.enable(kind, message.vectors.into());
            let told = self.told(state.open, &messages_of(message));
            self.interrupts.connect_to(kind, 0, told);
        }
        true
    }

    /// Whom messages tell: nobody as long as they may not be sent.
    fn told(&self, open: bool, messages: &[Option<(u64, u32)>]) -> Vec<Option<(Interrupts, u16)>> {
        let tell = |message: &Option<(u64, u32)>| {
            let (address, data) = message.filter(|_| open)?;
            (self.fold)(address, data)
        };
        messages.iter().map(tell).collect()
    }

    /// The function may send messages from now on, or may not: then what it signals is pending, as if it were masked, until it
    /// may. Whether receivers have changed.
    pub(super) fn set_open(&self, vectors: &Vectors, open: bool) -> bool {
        let mut state = vectors.lock();
        if state.open == open {
            return false;
        }
        state.open = open;
        if state.enabled {
            let told = self.told(open, &state.connected);
            self.interrupts.connect_to(InterruptKind::MsiX, 0, told);
        }
        if let Some(message) = state.msi {
            let told = self.told(open, &messages_of(message));
            self.interrupts.connect_to(InterruptKind::Msi, 0, told);
        }
        state.enabled || state.msi.is_some()
    }

    /// The function was reset, or is about to be: nobody is told of anything, the table is as after a
    /// reset.
    pub(super) fn reset(&self, vectors: &Vectors) {
        let mut state = vectors.lock();
        state.table.reset();
        state.enabled = false;
        state.function_masked = false;
        state.connected.fill(None);
        state.msi = None;
        vectors.show(&state);
        self.interrupts.disconnect(InterruptKind::MsiX);
        self.interrupts.disconnect(InterruptKind::Msi);
    }
}

/// The message of each vector of MSI.
fn messages_of(message: MsiMessage) -> Vec<Option<(u64, u32)>> {
    (0..message.vectors)
        .map(|vector| Some((message.address, message.data_of(vector))))
        .collect()
}

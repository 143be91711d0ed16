//! What the registers of a function say that concerns whoever carries its bus: where its capabilities are,
//! and what a write to them may change. Read once; messages are in `messages`.

use std::ops::Range;

use bitflags::bitflags;
use hdv_pci::BarIndex;
use hdv_pci::spec::extended::{RESIZABLE_BAR_FIRST, RESIZABLE_BAR_STRIDE, extended_capability_id};
use hdv_pci::spec::msix::{self, MsixControl, pending_size, table_size};
use hdv_pci::spec::{capability_id, header, power, sriov};

use crate::access::BarPart;
use crate::callbacks::{Capabilities, Entry, Read, walk};

bitflags! {
    /// What a write to config space may have changed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Changed: u8 {
        /// Which accesses the function answers, or whether it may send requests: command, BARs, power
        /// state, or what of the SR-IOV capability says so for its VFs.
        const DECODE = 1 << 0;
        /// The SR-IOV capability: VFs may have come or gone.
        const SRIOV = 1 << 1;
        /// MSI or MSI-X: enable, masks, message.
        const INTERRUPTS = 1 << 2;
        /// The function was reset, and all its registers with it.
        const RESET = 1 << 3;
    }
}

/// The MSI-X capability of a function.
#[derive(Debug)]
pub(super) struct MsixPlaces {
    /// Offset of message control in config space.
    pub(super) control: u16,
    pub(super) vectors: u16,
    pub(super) table: BarPart,
    pub(super) pending: BarPart,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Registers {
    capabilities: Capabilities,
    pub(super) msix: Option<MsixPlaces>,
    /// Offset of the MSI capability.
    pub(super) msi: Option<u16>,
    effects: Vec<(Range<u16>, Changed)>,
}

impl MsixPlaces {
    /// `None` unless table and pending-bit array lie in BARs and apart.
    fn read(base: u16, bar_sizes: [u64; BarIndex::ALL.len()], read: &mut Read<'_>) -> Option<Self> {
        let [_, _, low, high] = read(base).to_le_bytes();
        let control = MsixControl::from_bits_retain(u16::from_le_bytes([low, high]));
        // 11 bits: at most 2048.
        let vectors = control.intersection(MsixControl::TABLE_SIZE).bits() + 1;
        let mut part = |at, length| BarPart::of_register(read(base + at), length, bar_sizes);
        let table = part(msix::TABLE, table_size(vectors))?;
        let pending = part(msix::PENDING, pending_size(vectors))?;
        (!table.overlaps(&pending)).then_some(Self {
            control: base + msix::CONTROL,
            vectors,
            table,
            pending,
        })
    }

    /// Whether a range of a BAR has some of the two.
    pub(super) fn meet(&self, bar: BarIndex, bytes: &Range<u64>) -> bool {
        self.table.meets(bar, bytes) || self.pending.meets(bar, bytes)
    }
}

impl Registers {
    /// Walks the lists, with a bound.
    pub(super) fn read(bar_sizes: [u64; BarIndex::ALL.len()], read: &mut Read<'_>) -> Self {
        let mut msix = None;
        let capabilities = walk(read, &mut |entry, read| {
            if entry.id != u16::from(capability_id::MSIX) {
                return true;
            }
            msix = MsixPlaces::read(entry.offset, bar_sizes, read);
            msix.is_some()
        });
        let msi = capabilities.find(capability_id::MSI);
        let effects = effects(&capabilities);
        Self {
            capabilities,
            msix,
            msi: msi.map(|entry| entry.offset),
            effects,
        }
    }

    /// Whether the function has any capability.
    pub(super) fn is_capable(&self) -> bool {
        !self.capabilities.standard.is_empty() || !self.capabilities.extended.is_empty()
    }

    pub(super) fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// What a write of so many bytes may change.
    pub(super) fn written(&self, offset: u16, length: usize) -> Changed {
        let end = usize::from(offset).saturating_add(length);
        self.effects
            .iter()
            .filter(|(range, _)| usize::from(range.start) < end && offset < range.end)
            .fold(Changed::empty(), |all, (_, changed)| all | *changed)
    }
}

/// Which registers change what.
fn effects(capabilities: &Capabilities) -> Vec<(Range<u16>, Changed)> {
    let bars = u16::from(header::BAR_COUNT) * 4;
    let mut effects = vec![
        (header::COMMAND..header::STATUS, Changed::DECODE),
        (header::BAR0..header::BAR0 + bars, Changed::DECODE),
        (
            header::EXPANSION_ROM..header::EXPANSION_ROM + 4,
            Changed::DECODE,
        ),
    ];
    let whole = |entry: Entry| entry.offset..entry.offset + entry.length;
    let from = |entry: Entry, at: u16, length: u16| {
        let start = entry.offset.saturating_add(at);
        start..start.saturating_add(length)
    };
    let resizable = RESIZABLE_BAR_FIRST + u16::from(header::BAR_COUNT) * RESIZABLE_BAR_STRIDE;
    let of_capabilities = [
        capabilities
            .find(capability_id::MSI)
            .map(|entry| (whole(entry), Changed::INTERRUPTS)),
        capabilities
            .find(capability_id::MSIX)
            .map(|entry| (from(entry, msix::CONTROL, 2), Changed::INTERRUPTS)),
        capabilities
            .find(capability_id::POWER_MANAGEMENT)
            .map(|entry| (from(entry, power::CONTROL_STATUS, 2), Changed::DECODE)),
        capabilities
            .find_extended(extended_capability_id::RESIZABLE_BAR)
            .map(|entry| (from(entry, 0, resizable), Changed::DECODE)),
        capabilities
            .find_extended(extended_capability_id::SRIOV)
            .map(|entry| {
                let registers = from(entry, sriov::CONTROL, sriov::LENGTH - sriov::CONTROL);
                (registers, Changed::DECODE | Changed::SRIOV)
            }),
    ];
    effects.extend(of_capabilities.into_iter().flatten());
    effects
}

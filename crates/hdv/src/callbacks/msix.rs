//! The MSI-X capability of a device (PCI Express Base Specification, 7.7.2), and the messages that the
//! host programs into its table.
//!
//! VMMs keep the guest's table to themselves, so a device finds in its own what is written here:
//! for each vector with a receiver a message that only the host knows. How a dword of the table is
//! written is not known here.

use hdv_pci::BarIndex;
use hdv_pci::spec::msix::{
    ENTRY_ADDRESS, ENTRY_ADDRESS_HIGH, ENTRY_CONTROL, ENTRY_CONTROL_MASK, ENTRY_DATA, ENTRY_SIZE,
    MsixControl, VECTORS_MAX, pending_size, table_size,
};

use super::dword::half;
use crate::access::{BarAccess, BarPart};
use crate::interrupts::MsixMessage;

/// In the dword of message control: what a reset clears.
pub(super) const ENABLES: u32 =
    (MsixControl::ENABLE.bits() as u32 | MsixControl::FUNCTION_MASK.bits() as u32) << 16;

/// What the host knows of a table entry of the device's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    /// Never written, or masked.
    Masked,
    /// It has the host's message.
    Programmed,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct MsixTable {
    base: u16,
    pub(super) table: BarPart,
    pub(super) pending: BarPart,
    entries: Vec<Entry>,
}

impl MsixTable {
    /// A capability at `base` with these three dwords; `None` unless table and pending-bit array lie in
    /// BARs and apart.
    pub(super) fn new(
        base: u16,
        dwords: [u32; 3],
        bar_sizes: [u64; BarIndex::ALL.len()],
    ) -> Option<Self> {
        let control = MsixControl::from_bits_retain(half(dwords[0], 16));
        // 11 bits: at most 2048.
        let vectors = control.intersection(MsixControl::TABLE_SIZE).bits() + 1;
        debug_assert!(vectors <= VECTORS_MAX);
        let table = BarPart::of_register(dwords[1], table_size(vectors), bar_sizes)?;
        let pending = BarPart::of_register(dwords[2], pending_size(vectors), bar_sizes)?;
        if table.overlaps(&pending) {
            return None;
        }
        Some(Self {
            base,
            table,
            pending,
            entries: vec![Entry::Masked; vectors.into()],
        })
    }

    /// How many vectors the device has, 1 to 2048.
    pub(super) fn vectors(&self) -> u16 {
        u16::try_from(self.entries.len()).unwrap_or(VECTORS_MAX)
    }

    /// The dword that holds message control.
    pub(super) fn control_offset(&self) -> u16 {
        self.base
    }

    /// The vector whose table entry an access is to.
    pub(super) fn vector_of(&self, access: BarAccess) -> Option<u16> {
        u16::try_from(self.table.offset_of(access)? / ENTRY_SIZE).ok()
    }

    /// Writes what has changed: a message for each vector that `connected` has, a mask bit for each that it
    /// has no more. `write` writes a dword of the table's BAR and says whether the device took it.
    pub(super) fn follow(
        &mut self,
        connected: &[bool],
        write: &mut dyn FnMut(BarAccess, u32) -> bool,
    ) {
        for vector in 0..self.vectors() {
            let index = usize::from(vector);
            let wanted = if connected.get(index).copied().unwrap_or(false) {
                Entry::Programmed
            } else {
                Entry::Masked
            };
            if self.entries[index] == wanted {
                continue;
            }
            let taken = match wanted {
                Entry::Programmed => {
                    let taken = self.write_message(vector, write);
                    self.write_part(vector, ENTRY_CONTROL, 0, write) && taken
                }
                Entry::Masked => self.write_part(vector, ENTRY_CONTROL, ENTRY_CONTROL_MASK, write),
            };
            // What the device refused is tried again with the next change.
            if taken {
                self.entries[index] = wanted;
            }
        }
    }

    /// The device was reset and may have forgotten its table: writes it as [`MsixTable::follow`] does,
    /// every connected vector anew.
    pub(super) fn restore(
        &mut self,
        connected: &[bool],
        write: &mut dyn FnMut(BarAccess, u32) -> bool,
    ) {
        for (entry, connected) in self.entries.iter_mut().zip(connected) {
            if *connected {
                *entry = Entry::Masked;
            }
        }
        self.follow(connected, write);
    }

    /// The guest has written to a vector's entry: puts the host's message back, if it had one. The guest's
    /// mask bit stays.
    pub(super) fn repair(&self, vector: u16, write: &mut dyn FnMut(BarAccess, u32) -> bool) {
        if self.entries.get(usize::from(vector)) == Some(&Entry::Programmed) {
            self.write_message(vector, write);
        }
    }

    fn write_message(&self, vector: u16, write: &mut dyn FnMut(BarAccess, u32) -> bool) -> bool {
        let [low, high] = [MsixMessage::ADDRESS, MsixMessage::ADDRESS >> 32]
            .map(|half| u32::try_from(half & u64::from(u32::MAX)).unwrap_or_default());
        let parts = [
            (ENTRY_ADDRESS, low),
            (ENTRY_ADDRESS_HIGH, high),
            (ENTRY_DATA, MsixMessage::data(vector)),
        ];
        // All of them, whatever becomes of the first.
        parts.into_iter().fold(true, |taken, (part, value)| {
            self.write_part(vector, part, value, write) && taken
        })
    }

    fn write_part(
        &self,
        vector: u16,
        part: u64,
        value: u32,
        write: &mut dyn FnMut(BarAccess, u32) -> bool,
    ) -> bool {
        let offset = self.table.bytes.start + ENTRY_SIZE * u64::from(vector) + part;
        write(BarAccess::new(self.table.bar, offset, 4), value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [u64; 6] = [0x1000, 0, 0x4000, 0, 0, 0];

    fn new(dwords: [u32; 3]) -> Option<MsixTable> {
        MsixTable::new(0x50, dwords, SIZES)
    }

    fn table(vectors: u32) -> MsixTable {
        new([(vectors - 1) << 16 | 0x11, 0x800, 0xc00]).unwrap()
    }

    /// Offsets and values that are written.
    fn followed(table: &mut MsixTable, connected: &[bool]) -> Vec<(u64, u32)> {
        let mut written = Vec::new();
        table.follow(connected, &mut |access, value| {
            assert_eq!((access.bar, access.size), (BarIndex::BAR0, 4));
            written.push((access.offset, value));
            true
        });
        written
    }

    fn message(vector: u32) -> [(u64, u32); 4] {
        let entry = 0x800 + 16 * u64::from(vector);
        [
            (entry, 0xfee0_0000),
            (entry + 4, 0),
            (entry + 8, vector),
            (entry + 12, 0),
        ]
    }

    #[test]
    fn tables_lie_in_bars_and_apart() {
        let largest = new([0x07ff_0011, 2, 1 << 3]);
        assert!(largest.is_none(), "2048 entries need 32 KiB");
        assert_eq!(table(64).vectors(), 64);
        assert!(new([0x0003_0011, 0x800, 0x838]).is_none(), "overlap");
        assert!(new([0x0003_0011, 0x800, 0x840]).is_some());
        assert!(new([0x0003_0011, 0x802, 0x838]).is_some(), "other BARs");
        assert!(new([0x0000_0011, 0x800, 0x1000]).is_none(), "outside");
        assert!(new([0x0000_0011, 0x801, 0xc00]).is_none(), "no such BAR");
        assert!(new([0x0000_0011, 0x807, 0xc00]).is_none(), "no BAR at all");
        assert!(new([0x0000_0011, 0xffff_fff8, 0xc00]).is_none());
    }

    #[test]
    fn only_what_changes_is_written() {
        let mut table = table(4);
        assert_eq!(followed(&mut table, &[]), []);
        assert_eq!(followed(&mut table, &[true]), message(0));
        let both = [message(1), message(3)].concat();
        assert_eq!(followed(&mut table, &[true, true, false, true]), both);
        assert_eq!(followed(&mut table, &[true, true, false, true]), []);
        assert_eq!(
            followed(&mut table, &[false, true]),
            [(0x80c, 1), (0x83c, 1)]
        );
        // More receivers than vectors.
        assert_eq!(followed(&mut table, &[false, true, false, false, true]), []);
    }

    #[test]
    fn restoring_writes_every_message_again() {
        let mut table = table(2);
        followed(&mut table, &[true, true]);
        let mut written = Vec::new();
        table.restore(&[false, true], &mut |access, value| {
            written.push((access.offset, value));
            true
        });
        let mut expected = vec![(0x80c, 1)];
        expected.extend(message(1));
        assert_eq!(written, expected);
    }

    #[test]
    fn what_the_device_refuses_is_tried_again() {
        let mut table = table(1);
        table.follow(&[true], &mut |access, _| access.offset != 0x800);
        assert_eq!(followed(&mut table, &[true]), message(0));
    }

    #[test]
    fn only_entries_in_use_are_repaired() {
        let mut table = table(2);
        followed(&mut table, &[true]);
        let repaired = |vector| {
            let mut written = Vec::new();
            table.repair(vector, &mut |access, value| {
                written.push((access.offset, value));
                true
            });
            written
        };
        assert_eq!(repaired(0), message(0)[..3]);
        assert_eq!(repaired(1), []);
        assert_eq!(repaired(2), []);
    }

    #[test]
    fn accesses_find_their_entry() {
        let table = table(2);
        let vector = |offset| table.vector_of(BarAccess::new(BarIndex::BAR0, offset, 4));
        assert_eq!(
            [0x7fc, 0x800, 0x80c, 0x810, 0x820].map(vector),
            [None, Some(0), Some(0), Some(1), None]
        );
        let other = BarAccess::new(BarIndex::BAR2, 0x800, 4);
        assert_eq!(table.vector_of(other), None);
    }
}

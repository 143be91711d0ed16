//! The walk over a device's capability lists: bounded, once, and only what is well-formed is kept
//! (PCI Express Base Specification, 7.5.3 to 7.9). What becomes of it is not decided here.

use hdv_pci::spec::{
    CAPABILITY_NEXT, COMPATIBLE_SIZE, CONFIG_SPACE_SIZE, capability_id, express, extended, header,
    msix, power,
};

use super::dword::{bits, half};

/// Most entries of the standard list: one per dword from 0x40 to 0xff.
const STANDARD_MAX: usize = (COMPATIBLE_SIZE - header::END) as usize / 4;
/// Most entries of the extended list: one per dword from 0x100 to 0xfff.
const EXTENDED_MAX: usize = (CONFIG_SPACE_SIZE - extended::FIRST) as usize / 4;

/// Standard capability of a function without one.
const NULL: u8 = 0x00;
/// What an absent register reads.
const ABSENT: u8 = 0xff;
/// What an absent extended capability's identifier reads.
const ABSENT_EXTENDED: u16 = 0xffff;

/// Identifiers of extended capabilities (PCI Code and ID Assignment Specification, section 3)
/// whose length the walk knows or whose bits software clears by writing ones.
pub(super) mod extended_id {
    /// Advanced Error Reporting.
    pub(in super::super) const ADVANCED_ERROR_REPORTING: u16 = 0x0001;
    /// Vendor-specific.
    pub(in super::super) const VENDOR_SPECIFIC: u16 = 0x000b;
    /// Single root I/O virtualization.
    pub(in super::super) const SR_IOV: u16 = 0x0010;
    /// Page request interface.
    pub(in super::super) const PAGE_REQUEST: u16 = 0x0013;
    /// Designated vendor-specific.
    pub(in super::super) const DESIGNATED_VENDOR_SPECIFIC: u16 = 0x0023;
}

/// One entry of a list that is presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Offset in config space, in bytes, a multiple of 4.
    pub(crate) offset: u16,
    /// Identifier; 8 bits in the standard list.
    pub(crate) id: u16,
    /// Version; of the extended list only.
    pub(crate) version: u8,
    /// Bytes that are surely its own.
    pub(crate) length: u16,
}

impl Entry {
    fn end(self) -> u16 {
        self.offset + self.length
    }
}

/// What the walk found, in the order of the lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Capabilities {
    pub(crate) standard: Vec<Entry>,
    pub(crate) extended: Vec<Entry>,
}

impl Capabilities {
    /// The first standard entry with an identifier.
    pub(crate) fn find(&self, id: u8) -> Option<Entry> {
        self.standard
            .iter()
            .copied()
            .find(|entry| entry.id == u16::from(id))
    }

    /// The first extended entry with an identifier.
    pub(crate) fn find_extended(&self, id: u16) -> Option<Entry> {
        self.extended.iter().copied().find(|entry| entry.id == id)
    }
}

/// Reads a dword of a device's config space.
pub(crate) type Read<'a> = dyn FnMut(u16) -> u32 + 'a;

/// Walks the lists of a device. `accept` has the last word on an entry of the standard list that is
/// well-formed in itself.
pub(crate) fn walk(
    read: &mut Read<'_>,
    accept: &mut dyn FnMut(Entry, &mut Read<'_>) -> bool,
) -> Capabilities {
    Capabilities {
        standard: walk_standard(read, accept),
        extended: walk_extended(read),
    }
}

fn walk_standard(
    read: &mut Read<'_>,
    accept: &mut dyn FnMut(Entry, &mut Read<'_>) -> bool,
) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut at = read(header::CAPABILITIES_POINTER).to_le_bytes()[0];
    // A loop ends with the bound: what it visits again overlaps what is there.
    for _ in 0..STANDARD_MAX {
        let offset = u16::from(at);
        if offset < header::END || !offset.is_multiple_of(4) {
            break;
        }
        let head = read(offset);
        let [id, next, ..] = head.to_le_bytes();
        if id == ABSENT {
            break;
        }
        at = next;
        if id == NULL {
            continue;
        }
        let length = standard_length(id, head);
        let entry = Entry {
            offset,
            id: id.into(),
            version: 0,
            length,
        };
        let again = unique(id) && entries.iter().any(|other| other.id == entry.id);
        if !again && fits(entry, COMPATIBLE_SIZE, &entries) && accept(entry, read) {
            entries.push(entry);
        }
    }
    entries
}

fn walk_extended(read: &mut Read<'_>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut offset = extended::FIRST;
    for _ in 0..EXTENDED_MAX {
        if offset < extended::FIRST || !offset.is_multiple_of(4) {
            break;
        }
        let head = read(offset);
        let id = half(head, 0);
        if id == ABSENT_EXTENDED {
            break;
        }
        let at = offset;
        // 12 bits: within config space.
        offset = half(bits(head, extended::NEXT_SHIFT, 12), 0);
        if id == u16::from(NULL) {
            continue;
        }
        let entry = Entry {
            offset: at,
            id,
            version: bits(head, extended::VERSION_SHIFT, 4).to_le_bytes()[0],
            length: extended_length(id, at, read),
        };
        if fits(entry, CONFIG_SPACE_SIZE, &entries) {
            entries.push(entry);
        }
    }
    entries
}

/// Whether an entry ends before `end` and leaves every other one alone.
fn fits(entry: Entry, end: u16, others: &[Entry]) -> bool {
    entry
        .offset
        .checked_add(entry.length)
        .is_some_and(|own| own <= end)
        && !others
            .iter()
            .any(|other| entry.offset < other.end() && other.offset < entry.end())
}

/// A function has at most one of these.
fn unique(id: u8) -> bool {
    matches!(
        id,
        capability_id::POWER_MANAGEMENT
            | capability_id::MSI
            | capability_id::MSIX
            | capability_id::PCI_EXPRESS
    )
}

/// Version 1 of the PCI Express capability: up to the link registers (PCI Express Base
/// Specification 1.1, 7.8).
const EXPRESS_LENGTH_1: u16 = 0x14;

/// Bytes of a standard capability with this first dword.
fn standard_length(id: u8, head: u32) -> u16 {
    let control = half(head, 16);
    match id {
        capability_id::POWER_MANAGEMENT => power::LENGTH,
        capability_id::MSI => super::msi::length(control),
        capability_id::VENDOR_SPECIFIC => u16::from(control.to_le_bytes()[0]).max(3),
        capability_id::PCI_EXPRESS if control & 0xf < express::VERSION => EXPRESS_LENGTH_1,
        capability_id::PCI_EXPRESS => express::LENGTH,
        capability_id::MSIX => msix::LENGTH,
        // The header, at the least.
        _ => CAPABILITY_NEXT + 1,
    }
}

/// Bytes of an extended capability.
fn extended_length(id: u16, offset: u16, read: &mut Read<'_>) -> u16 {
    match id {
        extended_id::ADVANCED_ERROR_REPORTING => 0x2c,
        extended_id::SR_IOV => 0x40,
        extended_id::PAGE_REQUEST => 0x10,
        extended_id::VENDOR_SPECIFIC | extended_id::DESIGNATED_VENDOR_SPECIFIC => {
            // Both have their length at the top of the second dword.
            let length = match offset.checked_add(4) {
                Some(second) if second < CONFIG_SPACE_SIZE => half(bits(read(second), 20, 12), 0),
                _ => 0,
            };
            length.max(8)
        }
        extended::extended_capability_id::DEVICE_SERIAL_NUMBER => extended::SERIAL_NUMBER_LENGTH,
        _ => extended::HEADER_SIZE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The dwords that are not 0.
    fn device(dwords: &[(u16, u32)]) -> impl FnMut(u16) -> u32 + '_ {
        |offset| {
            dwords
                .iter()
                .find(|(at, _)| *at == offset)
                .map_or(0, |(_, dword)| *dword)
        }
    }

    fn walked(dwords: &[(u16, u32)]) -> Capabilities {
        walk(&mut device(dwords), &mut |_, _| true)
    }

    fn standard(dwords: &[(u16, u32)]) -> Vec<u16> {
        let found = walked(dwords).standard;
        found.into_iter().map(|entry| entry.offset).collect()
    }

    fn extended(dwords: &[(u16, u32)]) -> Vec<u16> {
        let found = walked(dwords).extended;
        found.into_iter().map(|entry| entry.offset).collect()
    }

    const POINTER: u16 = header::CAPABILITIES_POINTER;
    const NONE: [u16; 0] = [];

    #[test]
    fn a_device_without_lists_has_none() {
        assert_eq!(walked(&[]), Capabilities::default());
        let all_ones = walk(&mut |_| u32::MAX, &mut |_, _| true);
        assert_eq!(all_ones, Capabilities::default());
    }

    #[test]
    fn both_lists_are_followed_in_their_order() {
        let found = walked(&[
            (POINTER, 0x80),
            (0x80, 0x0002_4010),
            (0x40, 0x0003_c009),
            (0xc0, 0x0000_0015),
            (0x100, 0x1401_0003),
            (0x140, 0x0002_0001),
        ]);
        let entry = |offset, id, version, length| Entry {
            offset,
            id,
            version,
            length,
        };
        assert_eq!(
            found,
            Capabilities {
                standard: vec![
                    entry(0x80, 0x10, 0, 0x3c),
                    entry(0x40, 0x09, 0, 3),
                    entry(0xc0, 0x15, 0, 2)
                ],
                extended: vec![entry(0x100, 3, 1, 12), entry(0x140, 1, 2, 0x2c)],
            }
        );
        assert_eq!(found.find(0x09).map(|entry| entry.offset), Some(0x40));
        assert_eq!(found.find(0x11), None);
    }

    #[test]
    fn loops_end() {
        assert_eq!(standard(&[(POINTER, 0x40), (0x40, 0x4009)]), [0x40]);
        let two = [(POINTER, 0x40), (0x40, 0x5009), (0x50, 0x4009)];
        assert_eq!(standard(&two), [0x40, 0x50]);
        assert_eq!(standard(&[(POINTER, 0x40), (0x40, 0x4000)]), NONE);
        assert_eq!(extended(&[(0x100, 0x1001_0002)]), [0x100]);
        assert_eq!(extended(&[(0x100, 0x1001_0000)]), NONE);
        // As many reads as there can be entries, and the fields of a few.
        let mut reads = 0;
        walk(
            &mut |offset| {
                reads += 1;
                if offset < 0x100 { 0x4009 } else { 0x1001_0002 }
            },
            &mut |_, _| true,
        );
        assert!(reads <= STANDARD_MAX + EXTENDED_MAX + 1, "{reads}");
    }

    #[test]
    fn a_pointer_that_is_none_ends_the_list() {
        for pointer in [0x3c, 0x41, 0x42, 0xff] {
            assert_eq!(standard(&[(POINTER, pointer), (0x40, 0x09)]), NONE);
            let next = [(POINTER, 0x40), (0x40, pointer << 8 | 0x09)];
            assert_eq!(standard(&next), [0x40]);
        }
        // Below the header, misaligned.
        for next in [0x0fc, 0x102, 0xfff] {
            assert_eq!(extended(&[(0x100, next << 20 | 0x0001_0002)]), [0x100]);
        }
    }

    #[test]
    fn entries_that_are_none_are_left_out() {
        // A null capability leads on, an absent one does not.
        let null = [(POINTER, 0x40), (0x40, 0x5000), (0x50, 0x09)];
        assert_eq!(standard(&null), [0x50]);
        let absent = [(POINTER, 0x40), (0x40, 0x50ff), (0x50, 0x09)];
        assert_eq!(standard(&absent), NONE);
        assert_eq!(
            extended(&[(0x100, 0x2000_0000), (0x200, 0x0001_0002)]),
            [0x200]
        );
        assert_eq!(
            extended(&[(0x100, 0x2000_ffff), (0x200, 0x0001_0002)]),
            NONE
        );
    }

    #[test]
    fn overlaps_are_left_out_and_the_list_goes_on() {
        let inside = [
            (POINTER, 0x40),
            (0x40, 0x0002_7010),
            (0x70, 0x0000_9009),
            (0x90, 0x0000_0009),
        ];
        assert_eq!(standard(&inside), [0x40, 0x90]);
        // Across the end, and the second of a kind.
        let end = [(POINTER, 0xc8), (0xc8, 0x0002_5010), (0x50, 0x0000_0009)];
        assert_eq!(standard(&end), [0x50]);
        let twice = [
            (POINTER, 0x40),
            (0x40, 0x5001),
            (0x50, 0x6001),
            (0x60, 0x09),
        ];
        assert_eq!(standard(&twice), [0x40, 0x60]);
        // A vendor's structure that is longer than the room to the next, or to the end.
        let long = [
            (0x100, 0x1101_000b),
            (0x104, 0x0200_0000),
            (0x110, 0xff81_0003),
            (0xff8, 0x1801_0003),
            (0x180, 0x0001_0002),
        ];
        assert_eq!(extended(&long), [0x100, 0x180]);
    }

    #[test]
    fn the_caller_has_the_last_word() {
        let dwords = [(POINTER, 0x40), (0x40, 0x5011), (0x50, 0x09)];
        let found = walk(&mut device(&dwords), &mut |entry, _| entry.id != 0x11);
        assert_eq!(found.standard.len(), 1);
        assert_eq!(found.standard[0].offset, 0x50);
    }
}

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
pub(super) struct Entry {
    /// Offset in config space, in bytes, a multiple of 4.
    pub(super) offset: u16,
    /// Identifier; 8 bits in the standard list.
    pub(super) id: u16,
    /// Version; of the extended list only.
    pub(super) version: u8,
    /// Bytes that are surely its own.
    pub(super) length: u16,
}

impl Entry {
    fn end(self) -> u16 {
        self.offset + self.length
    }
}

/// What the walk found, in the order of the lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Capabilities {
    pub(super) standard: Vec<Entry>,
    pub(super) extended: Vec<Entry>,
}

impl Capabilities {
    /// The first standard entry with an identifier.
    pub(super) fn find(&self, id: u8) -> Option<Entry> {
        self.standard
            .iter()
            .copied()
            .find(|entry| entry.id == u16::from(id))
    }
}

/// Reads a dword of a device's config space.
pub(super) type Read<'a> = dyn FnMut(u16) -> u32 + 'a;

/// Walks the lists of a device. `accept` has the last word on an entry of the standard list that is
/// well-formed in itself.
pub(super) fn walk(
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

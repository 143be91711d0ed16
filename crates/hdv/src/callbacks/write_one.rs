//! Which bits of a device's config space software clears by writing ones. A write that leaves them
//! out must not clear them.

use hdv_pci::spec::header::Status;
use hdv_pci::spec::{CONFIG_SPACE_SIZE, capability_id, express, header, power};

use super::capabilities::{Capabilities, Entry, extended_id};
use super::dword::half;

/// PCI Express capabilities register: a slot is there.
const SLOT_IMPLEMENTED: u16 = 1 << 8;
/// PCI Express capabilities register: device/port type.
const TYPE: u16 = 0xf << 4;
const TYPE_ROOT_PORT: u16 = 0x4 << 4;
const TYPE_EVENT_COLLECTOR: u16 = 0xa << 4;

/// Slot control and status, root status, link control and status 2 (PCI Express Base
/// Specification, 7.5.3.10, 7.5.3.14, 7.5.3.20).
const SLOT_CONTROL: u16 = 0x18;
const ROOT_STATUS: u16 = 0x20;
const LINK_CONTROL_2: u16 = 0x30;

/// Correctable, non-fatal, fatal error, unsupported request, emergency power reduction
/// (7.5.3.5).
const DEVICE_STATUS_BITS: u32 = 0x004f << 16;
/// Bandwidth management and autonomous bandwidth (7.5.3.8).
const LINK_STATUS_BITS: u32 = 0xc000 << 16;
/// Attention button, power fault, sensor, presence and command, link state (7.5.3.11).
const SLOT_STATUS_BITS: u32 = 0x011f << 16;
/// PME Status (7.5.3.14).
const ROOT_STATUS_BITS: u32 = 1 << 16;
/// Equalization request and DRS message (7.5.3.20).
const LINK_STATUS_2_BITS: u32 = 0x8020 << 16;
/// PME Status (7.5.2.2).
const POWER_BITS: u32 = 1 << 15;

/// Offset and bits in advanced error reporting: uncorrectable, correctable and root error status
/// (7.8.4).
const ADVANCED_ERROR_REPORTING: [(u16, u32); 3] =
    [(0x04, u32::MAX), (0x10, u32::MAX), (0x30, 0x7f)];
/// Migration status (9.3.3.4).
const SR_IOV: [(u16, u32); 1] = [(0x08, 1 << 16)];
/// Response failure and unexpected index (10.5.1.2).
const PAGE_REQUEST: [(u16, u32); 1] = [(0x04, 0b11 << 16)];

/// The bits by dword, sorted by offset.
#[derive(Debug)]
pub(super) struct WriteOneToClear {
    dwords: Vec<(u16, u32)>,
}

impl WriteOneToClear {
    /// The bits of a device with these capabilities; `read` reads a dword of its config space.
    pub(super) fn new(capabilities: &Capabilities, mut read: impl FnMut(u16) -> u32) -> Self {
        let mut dwords = vec![(
            header::COMMAND,
            u32::from(Status::WRITE_ONE_TO_CLEAR.bits()) << 16,
        )];
        for &entry in &capabilities.standard {
            let end = end_of(
                entry,
                &capabilities.standard,
                hdv_pci::spec::COMPATIBLE_SIZE,
            );
            match u8::try_from(entry.id) {
                Ok(capability_id::POWER_MANAGEMENT) => {
                    add(
                        &mut dwords,
                        entry,
                        end,
                        &[(power::CONTROL_STATUS, POWER_BITS)],
                    );
                }
                Ok(capability_id::PCI_EXPRESS) => {
                    add(
                        &mut dwords,
                        entry,
                        end,
                        &express_bits(half(read(entry.offset), 16)),
                    );
                }
                _ => {}
            }
        }
        for &entry in &capabilities.extended {
            let end = end_of(entry, &capabilities.extended, CONFIG_SPACE_SIZE);
            let bits: &[_] = match entry.id {
                extended_id::ADVANCED_ERROR_REPORTING => &ADVANCED_ERROR_REPORTING,
                extended_id::SR_IOV => &SR_IOV,
                extended_id::PAGE_REQUEST => &PAGE_REQUEST,
                _ => &[],
            };
            add(&mut dwords, entry, end, bits);
        }
        dwords.sort_by_key(|&(offset, _)| offset);
        Self { dwords }
    }

    /// Ones for the bits of the dword at `offset` that a written one clears.
    pub(super) fn bits(&self, offset: u16) -> u32 {
        match self.dwords.binary_search_by_key(&offset, |&(at, _)| at) {
            Ok(found) => self.dwords[found].1,
            Err(_) => 0,
        }
    }
}

/// Where the next entry begins: what lies behind is not this one's.
fn end_of(entry: Entry, entries: &[Entry], end: u16) -> u16 {
    entries
        .iter()
        .map(|other| other.offset)
        .filter(|&offset| offset > entry.offset)
        .fold(end, u16::min)
}

fn add(dwords: &mut Vec<(u16, u32)>, entry: Entry, end: u16, bits: &[(u16, u32)]) {
    let places = bits.iter().map(|&(at, bits)| (entry.offset + at, bits));
    dwords.extend(places.filter(|&(at, _)| at < end));
}

fn express_bits(capabilities: u16) -> Vec<(u16, u32)> {
    let mut bits = vec![
        (express::DEVICE_CONTROL, DEVICE_STATUS_BITS),
        (express::LINK_CONTROL, LINK_STATUS_BITS),
    ];
    let whole = capabilities & 0xf >= express::VERSION;
    // Version 1 has the registers only where they mean something.
    if whole || capabilities & SLOT_IMPLEMENTED != 0 {
        bits.push((SLOT_CONTROL, SLOT_STATUS_BITS));
    }
    if whole || matches!(capabilities & TYPE, TYPE_ROOT_PORT | TYPE_EVENT_COLLECTOR) {
        bits.push((ROOT_STATUS, ROOT_STATUS_BITS));
    }
    if whole {
        bits.push((LINK_CONTROL_2, LINK_STATUS_2_BITS));
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(offset: u16, id: u16) -> Entry {
        Entry {
            offset,
            id,
            version: 1,
            length: 8,
        }
    }

    fn bits(standard: Vec<Entry>, extended: Vec<Entry>, head: u32) -> Vec<(u16, u32)> {
        let capabilities = Capabilities { standard, extended };
        let bits = WriteOneToClear::new(&capabilities, |_| head);
        for &(offset, ones) in &bits.dwords {
            assert_eq!(bits.bits(offset), ones);
        }
        assert_eq!(bits.bits(0x3c), 0);
        bits.dwords
    }

    const STATUS: (u16, u32) = (0x04, 0xf900_0000);

    #[test]
    fn every_device_has_the_status_register() {
        assert_eq!(bits(vec![], vec![], 0), [STATUS]);
    }

    #[test]
    fn status_registers_of_capabilities_are_known() {
        let standard = vec![entry(0x80, 0x10), entry(0x40, 0x01)];
        let extended = vec![entry(0x100, 1), entry(0x140, 0x13), entry(0x200, 0x10)];
        assert_eq!(
            bits(standard, extended, 0x0002_0010),
            [
                STATUS,
                (0x44, 0x8000),
                (0x88, 0x004f_0000),
                (0x90, 0xc000_0000),
                (0x98, 0x011f_0000),
                (0xa0, 0x0001_0000),
                (0xb0, 0x8020_0000),
                (0x104, u32::MAX),
                (0x110, u32::MAX),
                (0x130, 0x7f),
                (0x144, 0x0003_0000),
                (0x208, 0x0001_0000),
            ]
        );
    }

    #[test]
    fn version_1_of_express_has_what_its_type_has() {
        let of = |capabilities: u32| {
            let dwords = bits(vec![entry(0x40, 0x10)], vec![], capabilities << 16 | 0x10);
            dwords[1..]
                .iter()
                .map(|(at, _)| at - 0x40)
                .collect::<Vec<_>>()
        };
        assert_eq!(of(0x0001), [0x08, 0x10]);
        assert_eq!(of(0x0101), [0x08, 0x10, 0x18]);
        assert_eq!(of(0x0041), [0x08, 0x10, 0x20]);
        assert_eq!(of(0x00a1), [0x08, 0x10, 0x20]);
    }

    #[test]
    fn what_belongs_to_the_next_entry_is_left_alone() {
        let standard = vec![entry(0x40, 0x10), entry(0x54, 0x09)];
        let dwords = bits(standard, vec![], 0x0002_0010);
        assert_eq!(
            dwords.iter().map(|one| one.0).collect::<Vec<_>>(),
            [0x04, 0x48, 0x50]
        );
    }
}

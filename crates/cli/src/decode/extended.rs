//! The extended capabilities from 0x100 on (7.6.3 and following).

use std::fmt;

use hdv_pci::spec::extended::{
    FIRST, HEADER_SIZE, NEXT_SHIFT, RESIZABLE_BAR_CONTROL, RESIZABLE_BAR_COUNT_SHIFT,
    RESIZABLE_BAR_FIRST, RESIZABLE_BAR_SIZE_BASE, RESIZABLE_BAR_SIZE_MASK,
    RESIZABLE_BAR_SIZE_SHIFT, RESIZABLE_BAR_SIZES_HIGH_SHIFT, RESIZABLE_BAR_SIZES_LOW,
    RESIZABLE_BAR_SIZES_SHIFT, RESIZABLE_BAR_STRIDE, SERIAL_NUMBER, SERIAL_NUMBER_LENGTH,
    VERSION_SHIFT, extended_capability_id,
};
use hdv_pci::spec::header::BAR_COUNT;
use hdv_pci::spec::{COMPATIBLE_SIZE, CONFIG_SPACE_SIZE};
use serde::Serialize;

use super::ari::Ari;
use super::sriov::Sriov;
use super::{ConfigBytes, Hex, names};
use crate::style;

/// Most extended capabilities that fit: each takes at least its header.
const COUNT_MAX: usize = ((CONFIG_SPACE_SIZE - COMPATIBLE_SIZE) / HEADER_SIZE) as usize;
/// Vendor-specific extended capability (7.9.5).
const VENDOR_SPECIFIC: u16 = 0x000b;

/// An extended capability.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ExtendedCapability {
    pub(crate) offset: Hex<3>,
    pub(crate) id: Hex<4>,
    pub(crate) version: u32,
    pub(crate) name: &'static str,
    pub(crate) details: Details,
}

/// What is known of an extended capability's registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Details {
    SerialNumber {
        serial: String,
    },
    ResizableBar {
        bars: Vec<ResizableBar>,
    },
    VendorSpecific {
        id: Hex<4>,
        revision: u32,
        length: u32,
    },
    Ari(Ari),
    #[serde(rename = "sr-iov")]
    Sriov(Box<Sriov>),
    /// Nothing but its name is known here.
    Other,
}

/// One BAR of a resizable BAR capability.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ResizableBar {
    pub(crate) bar: u32,
    /// In bytes; 0 where the register's value stands for no size.
    pub(crate) size: u64,
    /// In bytes, ascending.
    pub(crate) sizes: Vec<u64>,
}

/// Follows the list; one that cannot be followed ends in a fault.
pub(super) fn walk(config: ConfigBytes<'_>, faults: &mut Vec<String>) -> Vec<ExtendedCapability> {
    let mut capabilities: Vec<ExtendedCapability> = Vec::new();
    let mut offset = FIRST;
    if !config.holds(offset, HEADER_SIZE) || matches!(config.u32(offset), 0 | u32::MAX) {
        return capabilities;
    }
    while offset != 0 {
        if offset < FIRST || !config.holds(offset, HEADER_SIZE) {
            faults.push(format!(
                "the extended capability list leads to 0x{offset:03x}, outside of its range"
            ));
            break;
        }
        let seen = capabilities
            .iter()
            .any(|former| former.offset.0 == u64::from(offset));
        if seen || capabilities.len() >= COUNT_MAX {
            faults.push(format!(
                "the extended capability list comes back to 0x{offset:03x}"
            ));
            break;
        }
        let head = config.u32(offset);
        let id = low_half(head);
        capabilities.push(ExtendedCapability {
            offset: Hex(offset.into()),
            id: Hex(id.into()),
            version: head >> VERSION_SHIFT & 0xf,
            name: names::extended_capability(id).unwrap_or("unknown"),
            details: details(config, offset, id),
        });
        // The low two bits are reserved.
        offset = low_half(head >> NEXT_SHIFT) & !0b11;
    }
    capabilities
}

fn low_half(value: u32) -> u16 {
    let [low, high, ..] = value.to_le_bytes();
    u16::from_le_bytes([low, high])
}

fn details(config: ConfigBytes<'_>, offset: u16, id: u16) -> Details {
    match id {
        extended_capability_id::DEVICE_SERIAL_NUMBER
            if config.holds(offset, SERIAL_NUMBER_LENGTH) =>
        {
            // Written from the high byte down, as an EUI-64 is.
            let bytes = config.u64(offset + SERIAL_NUMBER).to_be_bytes();
            Details::SerialNumber {
                serial: bytes.map(|byte| format!("{byte:02x}")).join("-"),
            }
        }
        extended_capability_id::ARI => {
            Ari::decode(config, offset).map_or(Details::Other, Details::Ari)
        }
        extended_capability_id::SRIOV => Sriov::decode(config, offset)
            .map_or(Details::Other, |sriov| Details::Sriov(Box::new(sriov))),
        extended_capability_id::RESIZABLE_BAR => resizable_bars(config, offset),
        VENDOR_SPECIFIC if config.holds(offset, HEADER_SIZE + 4) => {
            let head = config.u32(offset + HEADER_SIZE);
            Details::VendorSpecific {
                id: Hex(low_half(head).into()),
                revision: head >> 16 & 0xf,
                length: head >> 20,
            }
        }
        _ => Details::Other,
    }
}

fn resizable_bars(config: ConfigBytes<'_>, offset: u16) -> Details {
    let first = offset + RESIZABLE_BAR_FIRST;
    let count =
        config.u32(first.saturating_add(RESIZABLE_BAR_CONTROL)) >> RESIZABLE_BAR_COUNT_SHIFT;
    let count = low_half(count & 0b111).min(BAR_COUNT.into());
    let bars = (0..count)
        .map(|number| first.saturating_add(number * RESIZABLE_BAR_STRIDE))
        .filter(|pair| config.holds(*pair, RESIZABLE_BAR_STRIDE))
        .map(|pair| {
            let low = config.u32(pair) >> RESIZABLE_BAR_SIZES_SHIFT;
            let control = config.u32(pair + RESIZABLE_BAR_CONTROL);
            let high = control >> RESIZABLE_BAR_SIZES_HIGH_SHIFT;
            let supported = u64::from(high) << RESIZABLE_BAR_SIZES_LOW | u64::from(low);
            let size = (control & RESIZABLE_BAR_SIZE_MASK) >> RESIZABLE_BAR_SIZE_SHIFT;
            ResizableBar {
                bar: control & 0b111,
                size: bytes(size).unwrap_or(0),
                sizes: (0..64)
                    .filter(|bit| supported >> bit & 1 != 0)
                    .filter_map(bytes)
                    .collect(),
            }
        })
        .collect();
    Details::ResizableBar { bars }
}

/// The size in bytes that is encoded as its logarithm less 20.
fn bytes(encoded: u32) -> Option<u64> {
    1_u64.checked_shl(encoded + RESIZABLE_BAR_SIZE_BASE)
}

impl fmt::Display for Details {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SerialNumber { serial } => formatter.write_str(serial),
            Self::ResizableBar { bars } => {
                for (index, ResizableBar { bar, size, sizes }) in bars.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "; " };
                    let sizes: Vec<_> = sizes.iter().copied().map(style::size).collect();
                    let size = style::size(*size);
                    write!(
                        formatter,
                        "{separator}BAR{bar} {size} of {}",
                        sizes.join(", ")
                    )?;
                }
                Ok(())
            }
            Self::VendorSpecific {
                id,
                revision,
                length,
            } => write!(formatter, "id {id}, revision {revision}, {length} bytes"),
            Self::Ari(ari) => ari.fmt(formatter),
            Self::Sriov(sriov) => sriov.fmt(formatter),
            Self::Other => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(dwords: &[(usize, u32)]) -> (Vec<ExtendedCapability>, Vec<String>) {
        let mut bytes = vec![0; 4096];
        for (offset, value) in dwords {
            bytes[*offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        }
        let mut faults = Vec::new();
        let found = walk(ConfigBytes(&bytes), &mut faults);
        (found, faults)
    }

    #[test]
    fn all_known_capabilities_are_decoded() {
        let (found, faults) = list(&[
            (0x100, 0x1101_0003),
            (0x104, 0x5566_7788),
            (0x108, 0x1122_3344),
            (0x110, 0x2001_0015),
            // 1 MiB and 4 MiB, of which 4 MiB is set; 256 TiB is the first of the high ones.
            (0x114, 0b101 << 4),
            (0x118, 1 << 16 | 2 << 8 | 2 << 5 | 2),
            (0x11c, 1 << 4),
            (0x120, 4),
            (0x200, 0x0001_000b),
            (0x204, 0x0183_1234),
        ]);
        assert_eq!(faults, Vec::<String>::new());
        let texts: Vec<String> = found
            .iter()
            .map(|capability| {
                let ExtendedCapability {
                    offset,
                    name,
                    details,
                    ..
                } = capability;
                format!("{offset} {name}: {details}")
            })
            .collect();
        assert_eq!(
            texts,
            [
                "100 Device Serial Number: 11-22-33-44-55-66-77-88",
                "110 Resizable BAR: BAR2 4 MiB of 1 MiB, 4 MiB, 256 TiB; BAR4 1 MiB of 1 MiB",
                "200 Vendor-Specific Extended: id 1234, revision 3, 24 bytes",
            ]
        );
    }

    #[test]
    fn loops_and_wild_pointers_end_in_a_fault() {
        let (found, faults) = list(&[(0x100, 0x1101_0001), (0x110, 0x1001_0001)]);
        assert_eq!(found.len(), 2);
        assert!(faults[0].contains("comes back to 0x100"), "{faults:?}");
        let (_, faults) = list(&[(0x100, 0x0401_0001)]);
        assert!(faults[0].contains("0x040, outside"), "{faults:?}");
    }

    #[test]
    fn an_empty_list_is_no_fault() {
        assert_eq!(list(&[]), (vec![], vec![]));
        assert_eq!(list(&[(0x100, u32::MAX)]), (vec![], vec![]));
        let mut faults = Vec::new();
        assert_eq!(walk(ConfigBytes(&[0xff; 256]), &mut faults), []);
    }
}

//! Config space as a structure that can be printed and serialized: bytes in, facts out.
//!
//! The bytes come from any vfio-user server, so every pointer in them is checked and every
//! list bounded. Names of vendors and devices are not here ([`crate::pci_names`]).

mod ari;
mod capability;
mod extended;
mod names;
mod sriov;

use hdv_pci::spec::header::{self, Command, Status};
use serde::Serialize;

pub(crate) use capability::Capability;
pub(crate) use extended::{Details as ExtendedDetails, ExtendedCapability};
pub(crate) use sriov::Sriov;

/// A copy of config space, of 256 or 4096 bytes or whatever a server has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConfigBytes<'a>(pub(crate) &'a [u8]);

impl<'a> ConfigBytes<'a> {
    /// The byte at `offset`, all ones beyond the end as on a bus.
    pub(crate) fn u8(self, offset: u16) -> u8 {
        self.0.get(usize::from(offset)).copied().unwrap_or(0xff)
    }

    /// 16 bits, little-endian.
    pub(crate) fn u16(self, offset: u16) -> u16 {
        u16::from_le_bytes([self.u8(offset), self.u8(offset.saturating_add(1))])
    }

    /// 32 bits, little-endian.
    pub(crate) fn u32(self, offset: u16) -> u32 {
        let high = offset.saturating_add(2);
        u32::from(self.u16(high)) << 16 | u32::from(self.u16(offset))
    }

    /// 64 bits, little-endian.
    pub(crate) fn u64(self, offset: u16) -> u64 {
        let high = offset.saturating_add(4);
        u64::from(self.u32(high)) << 32 | u64::from(self.u32(offset))
    }

    /// Up to `length` bytes from `offset`; fewer at the end.
    pub(crate) fn slice(self, offset: u16, length: u16) -> &'a [u8] {
        let start = usize::from(offset).min(self.0.len());
        let end = (start + usize::from(length)).min(self.0.len());
        &self.0[start..end]
    }

    /// Whether `length` bytes from `offset` are there.
    pub(crate) fn holds(self, offset: u16, length: u16) -> bool {
        usize::from(offset) + usize::from(length) <= self.0.len()
    }
}

/// A number that is written in hexadecimal with a fixed number of digits, also in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hex<const DIGITS: usize>(pub(crate) u64);

impl<const DIGITS: usize> std::fmt::Display for Hex<DIGITS> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:0DIGITS$x}", self.0)
    }
}

impl<const DIGITS: usize> Serialize for Hex<DIGITS> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("0x{self}"))
    }
}

/// What a function is (7.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Identity {
    pub(crate) vendor: Hex<4>,
    pub(crate) device: Hex<4>,
    pub(crate) subsystem_vendor: Hex<4>,
    pub(crate) subsystem: Hex<4>,
    /// Base class, subclass, interface.
    pub(crate) class: Hex<6>,
    pub(crate) revision: Hex<2>,
}

/// A base address register, as it reads now (7.5.1.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct BarRegister {
    pub(crate) index: u8,
    pub(crate) kind: BarKind,
    pub(crate) prefetchable: bool,
    pub(crate) address: Hex<1>,
}

/// What a base address register describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BarKind {
    Memory32,
    Memory64,
    Io,
}

impl BarKind {
    /// What it is, for people.
    pub(crate) fn name(self, prefetchable: bool) -> &'static str {
        match (self, prefetchable) {
            (Self::Io, _) => "I/O ports",
            (Self::Memory32, false) => "memory, 32 bit",
            (Self::Memory32, true) => "memory, 32 bit, prefetchable",
            (Self::Memory64, false) => "memory, 64 bit",
            (Self::Memory64, true) => "memory, 64 bit, prefetchable",
        }
    }
}

/// Config space, decoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ConfigSpace {
    pub(crate) identity: Identity,
    pub(crate) header_type: u8,
    pub(crate) command: Vec<&'static str>,
    pub(crate) status: Vec<&'static str>,
    /// Interrupt pin: 0 is none, 1 is INTA.
    pub(crate) interrupt_pin: u8,
    /// All six registers but the high halves of 64-bit ones. One that is not implemented reads
    /// as a 32-bit one at 0: only a region's size tells.
    pub(crate) bars: Vec<BarRegister>,
    pub(crate) capabilities: Vec<Capability>,
    pub(crate) extended_capabilities: Vec<ExtendedCapability>,
    /// What is wrong with it.
    pub(crate) faults: Vec<String>,
}

impl ConfigSpace {
    /// The SR-IOV extended capability, with its offset.
    pub(crate) fn sriov(&self) -> Option<(Hex<3>, &Sriov)> {
        self.extended_capabilities
            .iter()
            .find_map(|capability| match &capability.details {
                ExtendedDetails::Sriov(sriov) => Some((capability.offset, &**sriov)),
                _ => None,
            })
    }

    /// Decodes a type 0 config space.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let config = ConfigBytes(bytes);
        let mut faults = Vec::new();
        if bytes.len() < usize::from(header::END) {
            faults.push(format!(
                "config space has {} bytes; a header has {}",
                bytes.len(),
                header::END
            ));
        }
        let header_type = config.u8(header::HEADER_TYPE) & 0x7f;
        if header_type != 0 {
            faults.push(format!(
                "header type {header_type} is not that of an endpoint (0)"
            ));
        }
        let status = Status::from_bits_retain(config.u16(header::STATUS));
        let capabilities = if status.contains(Status::CAPABILITIES_LIST) {
            capability::walk(config, &mut faults)
        } else {
            Vec::new()
        };
        let extended_capabilities = extended::walk(config, &mut faults);
        Self {
            identity: Identity {
                vendor: Hex(config.u16(header::VENDOR_ID).into()),
                device: Hex(config.u16(header::DEVICE_ID).into()),
                subsystem_vendor: Hex(config.u16(header::SUBSYSTEM_VENDOR_ID).into()),
                subsystem: Hex(config.u16(header::SUBSYSTEM_ID).into()),
                class: Hex((config.u32(header::REVISION_ID) >> 8).into()),
                revision: Hex(config.u8(header::REVISION_ID).into()),
            },
            header_type,
            command: names::command(Command::from_bits_retain(config.u16(header::COMMAND))),
            status: names::status(status),
            interrupt_pin: config.u8(header::INTERRUPT_PIN),
            bars: bars(config, header::BAR0),
            capabilities,
            extended_capabilities,
            faults,
        }
    }
}

/// Six registers from `first` on.
fn bars(config: ConfigBytes<'_>, first: u16) -> Vec<BarRegister> {
    /// The register describes I/O ports.
    const IO: u32 = 1 << 0;
    let mut bars = Vec::new();
    let mut index = 0;
    while index < header::BAR_COUNT {
        let offset = first.saturating_add(u16::from(index) * 4);
        let low = config.u32(offset);
        let is_last = index + 1 == header::BAR_COUNT;
        let (kind, address, prefetchable) = if low & IO != 0 {
            (BarKind::Io, u64::from(low & !0b11), false)
        } else {
            let prefetchable = low & header::BAR_PREFETCHABLE != 0;
            // The last register has no next one for the high half.
            if low & 0b110 == header::BAR_TYPE_64 && !is_last {
                let address = config.u64(offset) & !u64::from(header::BAR_TYPE_MASK);
                (BarKind::Memory64, address, prefetchable)
            } else {
                let address = u64::from(low & !header::BAR_TYPE_MASK);
                (BarKind::Memory32, address, prefetchable)
            }
        };
        bars.push(BarRegister {
            index,
            kind,
            prefetchable,
            address: Hex(address),
        });
        index += if kind == BarKind::Memory64 { 2 } else { 1 };
    }
    bars
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_decoded() {
        let mut bytes = vec![0; 256];
        bytes[0..4].copy_from_slice(&[0x48, 0x4f, 0x01, 0x00]);
        bytes[4..8].copy_from_slice(&[0x06, 0x04, 0x00, 0x00]);
        bytes[8..12].copy_from_slice(&[0x07, 0x00, 0x80, 0x11]);
        bytes[0x10..0x18].copy_from_slice(&[0x0c, 0, 0, 0xfe, 0x01, 0, 0, 0]);
        bytes[0x18..0x1c].copy_from_slice(&[0x01, 0xc0, 0, 0]);
        bytes[0x1c..0x20].copy_from_slice(&[0x00, 0x00, 0x10, 0xfd]);
        // A 64-bit type in the last register, which cannot be.
        bytes[0x24..0x28].copy_from_slice(&[0x04, 0, 0, 0xfc]);
        bytes[0x2c..0x30].copy_from_slice(&[0x11, 0x22, 0x33, 0x44]);
        bytes[0x3d] = 1;
        let config = ConfigSpace::decode(&bytes);
        assert_eq!(config.identity.vendor, Hex(0x4f48));
        assert_eq!(config.identity.device, Hex(1));
        assert_eq!(config.identity.class, Hex(0x0011_8000));
        assert_eq!(config.identity.revision, Hex(7));
        assert_eq!(config.identity.subsystem_vendor, Hex(0x2211));
        assert_eq!(config.identity.subsystem, Hex(0x4433));
        assert_eq!(
            config.command,
            ["memory space", "bus master", "INTx disabled"]
        );
        assert_eq!(config.interrupt_pin, 1);
        assert_eq!(config.faults, Vec::<String>::new());
        let bar = |index, kind, prefetchable, address| BarRegister {
            index,
            kind,
            prefetchable,
            address: Hex(address),
        };
        let expected = [
            bar(0, BarKind::Memory64, true, 0x1_fe00_0000),
            bar(2, BarKind::Io, false, 0xc000),
            bar(3, BarKind::Memory32, false, 0xfd10_0000),
            bar(4, BarKind::Memory32, false, 0),
            bar(5, BarKind::Memory32, false, 0xfc00_0000),
        ];
        assert_eq!(config.bars, expected);
    }

    #[test]
    fn any_length_and_content_is_decoded_without_a_panic() {
        for length in [0, 1, 2, 63, 64, 65, 255, 256, 257, 4095, 4096] {
            for fill in [0x00, 0xff, 0x10, 0x40, 0x11] {
                let config = ConfigSpace::decode(&vec![fill; length]);
                assert!(config.capabilities.len() <= 48, "{length} {fill}");
                assert!(config.extended_capabilities.len() <= 960, "{length} {fill}");
            }
        }
    }

    #[test]
    fn hexadecimal_numbers_have_their_width() {
        assert_eq!(Hex::<4>(1).to_string(), "0001");
        assert_eq!(serde_json::to_value(Hex::<4>(0xab)).unwrap(), "0x00ab");
    }
}

//! The SR-IOV registers as they stand in a dump of config space, whoever's it is. What they do is `hdv_pci`'s matter.

use hdv::pci::spec::extended::{
    self, HEADER_SIZE, NEXT_SHIFT, VERSION_SHIFT, extended_capability_id,
};
use hdv::pci::spec::sriov::{
    self, PAGE_SIZE_BASE, SriovCapabilities, SriovControl, SriovStatus,
    VF_MIGRATION_INTERRUPT_SHIFT,
};
use hdv::pci::{RoutingId, VfRouting};

/// The extended id of multi-root I/O virtualization.
pub(crate) const MRIOV: u16 = 0x0011;
/// The most capabilities that config space holds: each takes 8 bytes at least.
const MOST_CAPABILITIES: usize = 4096 / 8;

/// Every register of an SR-IOV extended capability (PCI Express Base Specification 9.3.3), as read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SriovRegisters {
    /// The capability's offset in config space, in bytes.
    pub offset: u16,
    /// Its version, bits 19:16 of the header.
    pub version: u8,
    /// SR-IOV Capabilities, 32 bits, with the interrupt message number.
    pub capabilities: u32,
    /// SR-IOV Control, 16 bits.
    pub control: u16,
    /// SR-IOV Status, 16 bits.
    pub status: u16,
    /// InitialVFs.
    pub initial_vfs: u16,
    /// TotalVFs.
    pub total_vfs: u16,
    /// NumVFs.
    pub num_vfs: u16,
    /// Function Dependency Link.
    pub function_dependency_link: u8,
    /// First VF Offset and VF Stride; a device may leave both 0 while NumVFs is 0.
    pub routing: VfRouting,
    /// VF Device ID.
    pub vf_device_id: u16,
    /// Supported Page Sizes: bit n is 2^(n + 12) bytes.
    pub supported_page_sizes: u32,
    /// System Page Size, coded alike.
    pub system_page_size: u32,
    /// VF BAR0 to VF BAR5.
    pub vf_bars: [u32; 6],
    /// VF Migration State Array Offset.
    pub migration_state_array: u32,
}

impl SriovRegisters {
    /// Reads the capability in a dump of config space, from offset 0 on; `None` if there is none, or it is cut off.
    #[must_use]
    pub fn find(config: &[u8]) -> Option<Self> {
        let offset = extended_capability(config, extended_capability_id::SRIOV)?;
        Self::read(offset, config.get(usize::from(offset)..)?)
    }

    /// Reads the capability from its own bytes; `None` if they are another's, or too few.
    pub(crate) fn read(offset: u16, capability: &[u8]) -> Option<Self> {
        let word = |at: u16| word(capability, at);
        let half = |at: u16| half(capability, at);
        let header = word(0)?;
        let [low, high, ..] = header.to_le_bytes();
        if u16::from_le_bytes([low, high]) != extended_capability_id::SRIOV {
            return None;
        }
        let mut vf_bars = [0; 6];
        for (at, bar) in (sriov::VF_BAR0..).step_by(4).zip(&mut vf_bars) {
            *bar = word(at)?;
        }
        Some(Self {
            offset,
            version: u8::try_from(header >> VERSION_SHIFT & 0xf).ok()?,
            capabilities: word(sriov::CAPABILITIES)?,
            control: half(sriov::CONTROL)?,
            status: half(sriov::STATUS)?,
            initial_vfs: half(sriov::INITIAL_VFS)?,
            total_vfs: half(sriov::TOTAL_VFS)?,
            num_vfs: half(sriov::NUM_VFS)?,
            function_dependency_link: half(sriov::FUNCTION_DEPENDENCY_LINK)?.to_le_bytes()[0],
            routing: VfRouting {
                first_vf_offset: half(sriov::FIRST_VF_OFFSET)?,
                vf_stride: half(sriov::VF_STRIDE)?,
            },
            vf_device_id: half(sriov::VF_DEVICE_ID)?,
            supported_page_sizes: word(sriov::SUPPORTED_PAGE_SIZES)?,
            system_page_size: word(sriov::SYSTEM_PAGE_SIZE)?,
            vf_bars,
            migration_state_array: word(sriov::VF_MIGRATION_STATE_ARRAY)?,
        })
    }

    /// The bits of SR-IOV Capabilities, without the interrupt message number.
    #[must_use]
    pub const fn capability_bits(&self) -> SriovCapabilities {
        SriovCapabilities::from_bits_truncate(self.capabilities)
    }

    /// The VF Migration Interrupt Message Number, 0 to 2047.
    #[must_use]
    pub const fn migration_interrupt(&self) -> u32 {
        self.capabilities >> VF_MIGRATION_INTERRUPT_SHIFT
    }

    /// The bits of SR-IOV Control.
    #[must_use]
    pub const fn control_bits(&self) -> SriovControl {
        SriovControl::from_bits_truncate(self.control)
    }

    /// The bits of SR-IOV Status.
    #[must_use]
    pub const fn status_bits(&self) -> SriovStatus {
        SriovStatus::from_bits_truncate(self.status)
    }

    /// VF Enable.
    #[must_use]
    pub const fn vf_enable(&self) -> bool {
        self.control_bits().contains(SriovControl::VF_ENABLE)
    }

    /// The page sizes of a page size register, in bytes, the smallest first.
    pub fn page_sizes(register: u32) -> impl Iterator<Item = u64> {
        (0..u32::BITS)
            .filter(move |bit| register >> bit & 1 != 0)
            .map(|bit| 1 << (bit + PAGE_SIZE_BASE))
    }

    /// Where VF `vf` is from a PF at `pf`; `None` where the registers do not say: no offset, no stride though it is not
    /// the first, or beyond bus 0xff.
    #[must_use]
    pub fn vf_routing_id(&self, pf: RoutingId, vf: u16) -> Option<RoutingId> {
        vf_routing_id(self.routing, pf, vf)
    }
}

/// As [`SriovRegisters::vf_routing_id`].
pub(crate) fn vf_routing_id(routing: VfRouting, pf: RoutingId, vf: u16) -> Option<RoutingId> {
    let said = routing.first_vf_offset != 0 && (routing.vf_stride != 0 || vf == 0);
    routing.routing_id(pf, vf).filter(|_| said)
}

/// The offset of an extended capability in a dump of config space; `None` if it is not there. A list that does not end, or
/// leaves the dump, ends there.
pub(crate) fn extended_capability(config: &[u8], id: u16) -> Option<u16> {
    let mut offset = extended::FIRST;
    for _ in 0..MOST_CAPABILITIES {
        let header = word(config, offset)?;
        if header == 0 || header == u32::MAX {
            return None;
        }
        if header & 0xffff == u32::from(id) {
            return Some(offset);
        }
        let next = u16::try_from(header >> NEXT_SHIFT).ok()? & !(HEADER_SIZE - 1);
        if next < extended::FIRST {
            return None;
        }
        offset = next;
    }
    None
}

fn word(bytes: &[u8], at: u16) -> Option<u32> {
    let bytes = bytes.get(usize::from(at)..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

fn half(bytes: &[u8], at: u16) -> Option<u16> {
    let bytes = bytes.get(usize::from(at)..)?.first_chunk()?;
    Some(u16::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A dump with a list of capabilities: offset, id, next.
    fn dump(list: &[(usize, u16, u32)]) -> Vec<u8> {
        let mut config = vec![0; 4096];
        for &(offset, id, next) in list {
            let header = u32::from(id) | 1 << 16 | next << 20;
            config[offset..offset + 4].copy_from_slice(&header.to_le_bytes());
        }
        config
    }

    #[test]
    fn a_capability_is_found_in_its_list() {
        let config = dump(&[
            (0x100, 0x0e, 0x140),
            (0x140, 0x10, 0x200),
            (0x200, MRIOV, 0),
        ]);
        assert_eq!(extended_capability(&config, 0x0e), Some(0x100));
        assert_eq!(extended_capability(&config, MRIOV), Some(0x200));
        assert_eq!(extended_capability(&config, 0x0003), None);
        assert_eq!(
            SriovRegisters::find(&config).map(|found| (found.offset, found.version)),
            Some((0x140, 1))
        );
    }

    #[test]
    fn a_list_that_is_wrong_ends() {
        let circle = dump(&[(0x100, 0x0e, 0x140), (0x140, 0x03, 0x100)]);
        assert_eq!(extended_capability(&circle, 0x10), None);
        let itself = dump(&[(0x100, 0x0e, 0x100)]);
        assert_eq!(extended_capability(&itself, 0x10), None);
        let into_header = dump(&[(0x100, 0x0e, 0x40)]);
        assert_eq!(extended_capability(&into_header, 0x10), None);
        let cut_off = dump(&[(0x100, 0x0e, 0xffc), (0xffc, 0x10, 0)]);
        assert_eq!(extended_capability(&cut_off, 0x10), Some(0xffc));
        assert_eq!(SriovRegisters::find(&cut_off), None);
        for length in [0, 64, 0x100, 0x102] {
            assert_eq!(extended_capability(&cut_off[..length], 0x0e), None);
        }
        assert_eq!(SriovRegisters::find(&[0xff; 4096]), None);
    }

    #[test]
    fn every_register_is_read_from_its_place() {
        let mut config = dump(&[(0x100, 0x10, 0)]);
        for (byte, value) in config[0x104..0x140].iter_mut().zip(4..) {
            *byte = value;
        }
        let registers = SriovRegisters::find(&config).unwrap();
        assert_eq!(
            registers,
            SriovRegisters {
                offset: 0x100,
                version: 1,
                capabilities: 0x0706_0504,
                control: 0x0908,
                status: 0x0b0a,
                initial_vfs: 0x0d0c,
                total_vfs: 0x0f0e,
                num_vfs: 0x1110,
                function_dependency_link: 0x12,
                routing: VfRouting {
                    first_vf_offset: 0x1514,
                    vf_stride: 0x1716,
                },
                vf_device_id: 0x1b1a,
                supported_page_sizes: 0x1f1e_1d1c,
                system_page_size: 0x2322_2120,
                vf_bars: [
                    0x2726_2524,
                    0x2b2a_2928,
                    0x2f2e_2d2c,
                    0x3332_3130,
                    0x3736_3534,
                    0x3b3a_3938,
                ],
                migration_state_array: 0x3f3e_3d3c,
            }
        );
        assert_eq!(registers.migration_interrupt(), 0x0706_0504 >> 21);
        assert_eq!(
            SriovRegisters::page_sizes(0x8000_0003).collect::<Vec<_>>(),
            [4096, 8192, 1 << 43]
        );
    }

    #[test]
    fn places_that_the_registers_do_not_say_are_none() {
        let id = |first_vf_offset, vf_stride, vf| {
            let routing = VfRouting {
                first_vf_offset,
                vf_stride,
            };
            vf_routing_id(routing, RoutingId::from(0x0100), vf).map(RoutingId::get)
        };
        assert_eq!(id(0, 0, 0), None);
        assert_eq!(id(0x80, 0, 0), Some(0x0180));
        assert_eq!(id(0x80, 0, 1), None);
        assert_eq!(id(0x80, 2, 100), Some(0x0248));
        assert_eq!(id(0x80, 0x100, 0xff), None);
    }
}

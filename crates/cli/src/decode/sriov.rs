//! The registers of the SR-IOV extended capability (9.3.3), each with its name in the standard.

use std::fmt;

use hdv_pci::spec::extended::{NEXT_SHIFT, VERSION_SHIFT};
use hdv_pci::spec::header::BAR_COUNT;
use hdv_pci::spec::sriov::{
    CAPABILITIES, CONTROL, FIRST_VF_OFFSET, FUNCTION_DEPENDENCY_LINK, INITIAL_VFS, LENGTH, NUM_VFS,
    PAGE_SIZE_BASE, STATUS, SUPPORTED_PAGE_SIZES, SYSTEM_PAGE_SIZE, SriovCapabilities,
    SriovControl, SriovStatus, TOTAL_VFS, VF_BAR0, VF_DEVICE_ID, VF_MIGRATION_INTERRUPT_SHIFT,
    VF_MIGRATION_STATE_ARRAY, VF_STRIDE,
};
use serde::Serialize;

use super::{BarKind, BarRegister, ConfigBytes, Hex, bars};
use crate::style;

/// Names of the bits of SR-IOV Capabilities.
const CAPABILITY_BITS: [(u32, &str); 3] = [
    (
        SriovCapabilities::VF_MIGRATION_CAPABLE.bits(),
        "VF Migration Capable",
    ),
    (
        SriovCapabilities::ARI_CAPABLE_HIERARCHY_PRESERVED.bits(),
        "ARI Capable Hierarchy Preserved",
    ),
    (
        SriovCapabilities::VF_TAG_10_BIT_REQUESTER.bits(),
        "VF 10-Bit Tag Requester Supported",
    ),
];
/// Names of the bits of SR-IOV Control.
const CONTROL_BITS: [(u16, &str); 6] = [
    (SriovControl::VF_ENABLE.bits(), "VF Enable"),
    (
        SriovControl::VF_MIGRATION_ENABLE.bits(),
        "VF Migration Enable",
    ),
    (
        SriovControl::VF_MIGRATION_INTERRUPT_ENABLE.bits(),
        "VF Migration Interrupt Enable",
    ),
    (SriovControl::VF_MEMORY_SPACE_ENABLE.bits(), "VF MSE"),
    (
        SriovControl::ARI_CAPABLE_HIERARCHY.bits(),
        "ARI Capable Hierarchy",
    ),
    (
        SriovControl::VF_TAG_10_BIT_REQUESTER_ENABLE.bits(),
        "VF 10-Bit Tag Requester Enable",
    ),
];
/// Names of the bits of SR-IOV Status.
const STATUS_BITS: [(u16, &str); 1] = [(
    SriovStatus::VF_MIGRATION_STATUS.bits(),
    "VF Migration Status",
)];
/// The BAR that holds the VF migration state array (9.3.3.15).
const MIGRATION_BAR_MASK: u32 = 0b111;

/// The SR-IOV extended capability.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Sriov {
    /// The whole register.
    pub(crate) header: Hex<8>,
    pub(crate) version: u32,
    /// Offset of the next extended capability, 0 after the last one.
    pub(crate) next: Hex<3>,
    /// The whole register.
    pub(crate) capabilities_register: Hex<8>,
    /// The bits that are set, by name; those of no name by number. So for the next two.
    pub(crate) capabilities: Vec<String>,
    pub(crate) vf_migration_interrupt_message_number: u32,
    pub(crate) control_register: Hex<4>,
    pub(crate) control: Vec<String>,
    pub(crate) status_register: Hex<4>,
    pub(crate) status: Vec<String>,
    pub(crate) initial_vfs: u16,
    pub(crate) total_vfs: u16,
    pub(crate) num_vfs: u16,
    pub(crate) function_dependency_link: u8,
    pub(crate) first_vf_offset: u16,
    pub(crate) vf_stride: u16,
    pub(crate) vf_device_id: Hex<4>,
    pub(crate) supported_page_sizes_register: Hex<8>,
    /// In bytes, ascending.
    pub(crate) supported_page_sizes: Vec<u64>,
    pub(crate) system_page_size_register: Hex<8>,
    /// In bytes; `None` if the register has not exactly one bit set.
    pub(crate) system_page_size: Option<u64>,
    /// What the six registers read.
    pub(crate) vf_bar_registers: [Hex<8>; BAR_COUNT as usize],
    /// All but the high halves of 64-bit ones. One that is not implemented reads as a 32-bit one at 0.
    pub(crate) vf_bars: Vec<BarRegister>,
    pub(crate) vf_migration_state_array: Hex<8>,
}

/// One register, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Register {
    /// From the start of the capability.
    pub(crate) offset: Hex<2>,
    /// The standard's.
    pub(crate) name: String,
    /// As it reads, in hexadecimal, in its width.
    pub(crate) value: String,
    pub(crate) meaning: String,
}

impl Sriov {
    /// `None` if config space ends before the capability does.
    pub(super) fn decode(config: ConfigBytes<'_>, offset: u16) -> Option<Self> {
        if !config.holds(offset, LENGTH) {
            return None;
        }
        let header = config.u32(offset);
        let capabilities = config.u32(offset + CAPABILITIES);
        let control = config.u16(offset + CONTROL);
        let status = config.u16(offset + STATUS);
        let supported = config.u32(offset + SUPPORTED_PAGE_SIZES);
        let page = config.u32(offset + SYSTEM_PAGE_SIZE);
        let migration_interrupt = capabilities >> VF_MIGRATION_INTERRUPT_SHIFT;
        let flags = capabilities & ((1 << VF_MIGRATION_INTERRUPT_SHIFT) - 1);
        let vf_bar = |index: u16| config.u32(offset + VF_BAR0 + index * 4);
        Some(Self {
            header: Hex(header.into()),
            version: header >> VERSION_SHIFT & 0xf,
            next: Hex((header >> NEXT_SHIFT).into()),
            capabilities_register: Hex(capabilities.into()),
            capabilities: bits(flags, CAPABILITY_BITS),
            vf_migration_interrupt_message_number: migration_interrupt,
            control_register: Hex(control.into()),
            control: bits(control, CONTROL_BITS),
            status_register: Hex(status.into()),
            status: bits(status, STATUS_BITS),
            initial_vfs: config.u16(offset + INITIAL_VFS),
            total_vfs: config.u16(offset + TOTAL_VFS),
            num_vfs: config.u16(offset + NUM_VFS),
            function_dependency_link: config.u8(offset + FUNCTION_DEPENDENCY_LINK),
            first_vf_offset: config.u16(offset + FIRST_VF_OFFSET),
            vf_stride: config.u16(offset + VF_STRIDE),
            vf_device_id: Hex(config.u16(offset + VF_DEVICE_ID).into()),
            supported_page_sizes_register: Hex(supported.into()),
            supported_page_sizes: (0..u32::BITS)
                .filter(|bit| supported >> bit & 1 != 0)
                .map(page_size)
                .collect(),
            system_page_size_register: Hex(page.into()),
            system_page_size: page
                .is_power_of_two()
                .then(|| page_size(page.trailing_zeros())),
            vf_bar_registers: [0, 1, 2, 3, 4, 5].map(|index| Hex(vf_bar(index).into())),
            vf_bars: bars(config, offset + VF_BAR0),
            vf_migration_state_array: Hex(config.u32(offset + VF_MIGRATION_STATE_ARRAY).into()),
        })
    }

    /// All registers, in the order of their offsets.
    pub(crate) fn registers(&self) -> Vec<Register> {
        let mut registers = Vec::new();
        let mut add = |offset: u16, name: &str, value: String, meaning: String| {
            registers.push(Register {
                offset: Hex(offset.into()),
                name: name.to_owned(),
                value,
                meaning,
            });
        };
        add(
            0,
            "SR-IOV Extended Capability Header",
            self.header.to_string(),
            format!("version {}, next capability at {}", self.version, self.next),
        );
        let count = |number: u16| (format!("{number:04x}"), number.to_string());
        add(
            CAPABILITIES,
            "SR-IOV Capabilities",
            self.capabilities_register.to_string(),
            self.capabilities_meaning(),
        );
        add(
            CONTROL,
            "SR-IOV Control",
            self.control_register.to_string(),
            list(&self.control),
        );
        add(
            STATUS,
            "SR-IOV Status",
            self.status_register.to_string(),
            list(&self.status),
        );
        for (offset, name, number) in [
            (INITIAL_VFS, "InitialVFs", self.initial_vfs),
            (TOTAL_VFS, "TotalVFs", self.total_vfs),
            (NUM_VFS, "NumVFs", self.num_vfs),
        ] {
            let (value, meaning) = count(number);
            add(offset, name, value, meaning);
        }
        let link = self.function_dependency_link;
        add(
            FUNCTION_DEPENDENCY_LINK,
            "Function Dependency Link",
            format!("{link:02x}"),
            format!("function {link}"),
        );
        for (offset, name, number, from) in [
            (
                FIRST_VF_OFFSET,
                "First VF Offset",
                self.first_vf_offset,
                "the PF",
            ),
            (VF_STRIDE, "VF Stride", self.vf_stride, "each VF"),
        ] {
            let (value, meaning) = count(number);
            let to = if offset == FIRST_VF_OFFSET {
                "VF 0"
            } else {
                "the next"
            };
            add(
                offset,
                name,
                value,
                format!("{meaning} from {from} to {to}"),
            );
        }
        add(
            VF_DEVICE_ID,
            "VF Device ID",
            self.vf_device_id.to_string(),
            String::new(),
        );
        let sizes = self.supported_page_sizes.iter().copied();
        let sizes: Vec<_> = sizes.map(style::size).collect();
        add(
            SUPPORTED_PAGE_SIZES,
            "Supported Page Sizes",
            self.supported_page_sizes_register.to_string(),
            list(&sizes),
        );
        add(
            SYSTEM_PAGE_SIZE,
            "System Page Size",
            self.system_page_size_register.to_string(),
            self.system_page_size
                .map_or_else(|| "not one page size".to_owned(), style::size),
        );
        for (index, value) in (0..).zip(self.vf_bar_registers) {
            add(
                VF_BAR0 + u16::from(index) * 4,
                &format!("VF BAR{index}"),
                value.to_string(),
                self.vf_bar_meaning(index),
            );
        }
        add(
            VF_MIGRATION_STATE_ARRAY,
            "VF Migration State Array Offset",
            self.vf_migration_state_array.to_string(),
            self.migration_meaning(),
        );
        registers
    }

    fn capabilities_meaning(&self) -> String {
        let number = self.vf_migration_interrupt_message_number;
        let names = list(&self.capabilities);
        format!("{names}; VF Migration Interrupt Message Number {number}")
    }

    fn vf_bar_meaning(&self, index: u8) -> String {
        let Some(bar) = self.vf_bars.iter().find(|bar| bar.index == index) else {
            return format!("the high half of VF BAR{}", index.saturating_sub(1));
        };
        if self.vf_bar_registers[usize::from(index)].0 == 0 {
            return "none, or not placed".to_owned();
        }
        let kind = bar.kind.name(bar.prefetchable);
        match bar.kind {
            BarKind::Io => format!("{kind}, which no VF can have"),
            _ if bar.address.0 == 0 => format!("{kind}, not placed"),
            _ => format!("{kind}, VF 0 at 0x{}", bar.address),
        }
    }

    fn migration_meaning(&self) -> String {
        let register = self.vf_migration_state_array.0;
        if register == 0 {
            return "none".to_owned();
        }
        let bar = register & u64::from(MIGRATION_BAR_MASK);
        format!("BAR{bar}+0x{:x}", register & !u64::from(MIGRATION_BAR_MASK))
    }
}

impl fmt::Display for Sriov {
    /// A line for each register, without an end of line after the last one.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, register) in self.registers().iter().enumerate() {
            let separator = if number == 0 { "" } else { "\n" };
            let Register {
                name,
                value,
                meaning,
                ..
            } = register;
            write!(formatter, "{separator}{name} {value}")?;
            if !meaning.is_empty() {
                write!(formatter, ": {meaning}")?;
            }
        }
        Ok(())
    }
}

/// The size in bytes of a bit in the page size registers.
fn page_size(bit: u32) -> u64 {
    1 << (bit + PAGE_SIZE_BASE)
}

/// The names of the bits that are set, in ascending order.
fn bits<T: Into<u32>, const N: usize>(value: T, names: [(T, &str); N]) -> Vec<String> {
    let value = value.into();
    let names = names.map(|(bit, name)| (bit.into(), name));
    (0..u32::BITS)
        .filter(|bit| value >> bit & 1 != 0)
        .map(|bit| {
            let name = names.iter().find(|(mask, _)| *mask == 1 << bit);
            name.map_or_else(
                || format!("reserved bit {bit}"),
                |(_, name)| (*name).to_owned(),
            )
        })
        .collect()
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At 0x100, with every register set to something else.
    fn example() -> Vec<u8> {
        let mut bytes = vec![0; 0x140];
        let mut put = |offset: u16, value: &[u8]| {
            let at = usize::from(0x100 + offset);
            bytes[at..at + value.len()].copy_from_slice(value);
        };
        put(0, &0x2001_0010_u32.to_le_bytes());
        put(CAPABILITIES, &(5 << 21 | 1 << 3 | 0b111_u32).to_le_bytes());
        put(CONTROL, &0x00bf_u16.to_le_bytes());
        put(STATUS, &1_u16.to_le_bytes());
        put(INITIAL_VFS, &[8, 0, 64, 0, 3, 0, 2]);
        put(FIRST_VF_OFFSET, &[0x80, 0, 2, 0]);
        put(VF_DEVICE_ID, &0x0011_u16.to_le_bytes());
        put(SUPPORTED_PAGE_SIZES, &0x8000_0553_u32.to_le_bytes());
        put(SYSTEM_PAGE_SIZE, &0x10_u32.to_le_bytes());
        put(VF_BAR0, &0xfe00_000c_u32.to_le_bytes());
        put(VF_BAR0 + 4, &1_u32.to_le_bytes());
        put(VF_BAR0 + 8, &0xfd00_0000_u32.to_le_bytes());
        put(VF_BAR0 + 16, &0xc001_u32.to_le_bytes());
        put(VF_MIGRATION_STATE_ARRAY, &0x1003_u32.to_le_bytes());
        bytes
    }

    #[test]
    fn every_register_and_bit_has_its_name() {
        let bytes = example();
        let sriov = Sriov::decode(ConfigBytes(&bytes), 0x100).unwrap();
        let expected = "\
SR-IOV Extended Capability Header 20010010: version 1, next capability at 200
SR-IOV Capabilities 00a0000f: VF Migration Capable, ARI Capable Hierarchy Preserved, \
VF 10-Bit Tag Requester Supported, reserved bit 3; VF Migration Interrupt Message Number 5
SR-IOV Control 00bf: VF Enable, VF Migration Enable, VF Migration Interrupt Enable, VF MSE, \
ARI Capable Hierarchy, VF 10-Bit Tag Requester Enable, reserved bit 7
SR-IOV Status 0001: VF Migration Status
InitialVFs 0008: 8
TotalVFs 0040: 64
NumVFs 0003: 3
Function Dependency Link 02: function 2
First VF Offset 0080: 128 from the PF to VF 0
VF Stride 0002: 2 from each VF to the next
VF Device ID 0011
Supported Page Sizes 80000553: 4 KiB, 8 KiB, 64 KiB, 256 KiB, 1 MiB, 4 MiB, 8 TiB
System Page Size 00000010: 64 KiB
VF BAR0 fe00000c: memory, 64 bit, prefetchable, VF 0 at 0x1fe000000
VF BAR1 00000001: the high half of VF BAR0
VF BAR2 fd000000: memory, 32 bit, VF 0 at 0xfd000000
VF BAR3 00000000: none, or not placed
VF BAR4 0000c001: I/O ports, which no VF can have
VF BAR5 00000000: none, or not placed
VF Migration State Array Offset 00001003: BAR3+0x1000";
        assert_eq!(sriov.to_string(), expected);
        assert_eq!((sriov.version, sriov.next), (1, Hex(0x200)));
        let offsets: Vec<u64> = sriov.registers().iter().map(|r| r.offset.0).collect();
        assert!(offsets.is_sorted(), "{offsets:?}");

        let json = serde_json::to_value(&sriov).unwrap();
        assert_eq!(json["control_register"], "0x00bf");
        assert_eq!(json["control"][3], "VF MSE");
        assert_eq!(json["num_vfs"], 3);
        assert_eq!(json["system_page_size"], 65536);
        assert_eq!(json["vf_bars"][0]["kind"], "memory64");
    }

    #[test]
    fn a_vf_bar_at_0_is_not_placed() {
        let mut bytes = example();
        bytes[0x124..0x12c].copy_from_slice(&4_u64.to_le_bytes());
        let text = Sriov::decode(ConfigBytes(&bytes), 0x100)
            .unwrap()
            .to_string();
        assert!(
            text.contains("VF BAR0 00000004: memory, 64 bit, not placed\n"),
            "{text}"
        );
    }

    #[test]
    fn a_page_size_that_is_none_and_a_capability_cut_off_are_told() {
        let mut bytes = example();
        for value in [0_u32, 3] {
            bytes[0x120..0x124].copy_from_slice(&value.to_le_bytes());
            let sriov = Sriov::decode(ConfigBytes(&bytes), 0x100).unwrap();
            assert_eq!(sriov.system_page_size, None);
            assert!(sriov.to_string().contains("not one page size"));
        }
        bytes.pop();
        assert_eq!(Sriov::decode(ConfigBytes(&bytes), 0x100), None);
    }
}

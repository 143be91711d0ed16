//! The SR-IOV extended capability (9.3.3).

use bitflags::bitflags;

/// [`SriovCapabilities`] and the VF migration interrupt message number, 32 bits (9.3.3.2).
pub const CAPABILITIES: u16 = 0x04;
/// [`SriovControl`], 16 bits (9.3.3.3).
pub const CONTROL: u16 = 0x08;
/// [`SriovStatus`], 16 bits (9.3.3.4).
pub const STATUS: u16 = 0x0a;
/// `InitialVFs`, 16 bits: VFs there are at first, `TotalVFs` without VF migration (9.3.3.5).
pub const INITIAL_VFS: u16 = 0x0c;
/// `TotalVFs`, 16 bits: most VFs there can be (9.3.3.6).
pub const TOTAL_VFS: u16 = 0x0e;
/// `NumVFs`, 16 bits: VFs there are while [`SriovControl::VF_ENABLE`] is set (9.3.3.7).
pub const NUM_VFS: u16 = 0x10;
/// Function Dependency Link, 8 bits: the next function of a ring of physical functions that depend
/// on each other, the function's own number if it depends on none (9.3.3.8).
pub const FUNCTION_DEPENDENCY_LINK: u16 = 0x12;
/// First VF Offset, 16 bits: from the routing id of the PF to that of its first VF (9.3.3.9).
pub const FIRST_VF_OFFSET: u16 = 0x14;
/// VF Stride, 16 bits: from the routing id of a VF to that of the next (9.3.3.10).
pub const VF_STRIDE: u16 = 0x16;
/// VF Device ID, 16 bits (9.3.3.11).
pub const VF_DEVICE_ID: u16 = 0x1a;
/// Supported Page Sizes, 32 bits: bit n is 2^(n + 12) bytes (9.3.3.12).
pub const SUPPORTED_PAGE_SIZES: u16 = 0x1c;
/// System Page Size, 32 bits, one of them set: bit n is 2^(n + 12) bytes (9.3.3.13).
pub const SYSTEM_PAGE_SIZE: u16 = 0x20;
/// The first of six VF base address registers, 32 bits each (9.3.3.14).
pub const VF_BAR0: u16 = 0x24;
/// Offset and BAR of the VF migration state array, 32 bits; 0 without VF migration (9.3.3.15).
pub const VF_MIGRATION_STATE_ARRAY: u16 = 0x3c;
/// Bytes of the capability.
pub const LENGTH: u16 = 0x40;

/// Lowest bit of the VF migration interrupt message number, bits 31:21 of the capabilities.
pub const VF_MIGRATION_INTERRUPT_SHIFT: u32 = 21;
/// Logarithm of the page size of bit 0 in the page size registers: 4 KiB.
pub const PAGE_SIZE_BASE: u32 = 12;
/// Page sizes that every PF supports: 4 KiB, 8 KiB, 64 KiB, 256 KiB, 1 MiB, 4 MiB (9.3.3.12).
pub const PAGE_SIZES_REQUIRED: u32 = 0x553;
/// System Page Size after a reset: 4 KiB (9.3.3.13).
pub const SYSTEM_PAGE_SIZE_RESET: u32 = 1;

bitflags! {
    /// SR-IOV Capabilities, but for the interrupt message number (9.3.3.2).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct SriovCapabilities: u32 {
        /// VFs can migrate under a multi-root hierarchy.
        const VF_MIGRATION_CAPABLE = 1 << 0;
        /// [`SriovControl::ARI_CAPABLE_HIERARCHY`] survives a power state transition that resets
        /// the function; only in the PF with the lowest function number.
        const ARI_CAPABLE_HIERARCHY_PRESERVED = 1 << 1;
        /// VFs can use tags of 10 bits.
        const VF_TAG_10_BIT_REQUESTER = 1 << 2;
    }

    /// SR-IOV Control (9.3.3.3).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct SriovControl: u16 {
        /// The VFs are there.
        const VF_ENABLE = 1 << 0;
        /// VFs may migrate; read-only 0 without [`SriovCapabilities::VF_MIGRATION_CAPABLE`].
        const VF_MIGRATION_ENABLE = 1 << 1;
        /// VF migration interrupts; read-only 0 without
        /// [`SriovCapabilities::VF_MIGRATION_CAPABLE`].
        const VF_MIGRATION_INTERRUPT_ENABLE = 1 << 2;
        /// VF MSE: the VFs answer memory accesses.
        const VF_MEMORY_SPACE_ENABLE = 1 << 3;
        /// Functions above 7 can be reached; only in the PF with the lowest function number.
        const ARI_CAPABLE_HIERARCHY = 1 << 4;
        /// VFs may use tags of 10 bits; read-only 0 without
        /// [`SriovCapabilities::VF_TAG_10_BIT_REQUESTER`].
        const VF_TAG_10_BIT_REQUESTER_ENABLE = 1 << 5;
    }

    /// SR-IOV Status (9.3.3.4).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct SriovStatus: u16 {
        /// A VF is asked to migrate in or out; cleared by writing a one.
        const VF_MIGRATION_STATUS = 1 << 0;
    }
}

impl SriovControl {
    /// The bits that software can write in the PF with the lowest function number, without VF
    /// migration and 10-bit tags.
    pub const WRITABLE: Self = Self::VF_ENABLE
        .union(Self::VF_MEMORY_SPACE_ENABLE)
        .union(Self::ARI_CAPABLE_HIERARCHY);
}

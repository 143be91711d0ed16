//! The facts of the standard: offsets, bits and identifiers, and nothing that acts on them.
//!
//! Section numbers are those of the PCI Express Base Specification, revision 5.0. Offsets of
//! header registers are from the start of config space, offsets of capability registers from
//! the start of their capability; both are in bytes.

pub mod acs;
pub mod aer;
pub mod ari;
pub mod bridge;
pub mod express;
pub mod extended;
pub mod header;
pub mod msi;
pub mod msix;
pub mod port;
pub mod power;
pub mod sriov;

/// Bytes of a function's config space (7.2.2).
pub const CONFIG_SPACE_SIZE: u16 = 4096;
/// Bytes of the PCI-compatible part of config space: header and capabilities (7.5.1).
pub const COMPATIBLE_SIZE: u16 = 256;

/// Identifiers of capabilities (PCI Code and ID Assignment Specification, section 2).
pub mod capability_id {
    /// PCI Power Management Interface.
    pub const POWER_MANAGEMENT: u8 = 0x01;
    /// Message Signalled Interrupts.
    pub const MSI: u8 = 0x05;
    /// Vendor-specific.
    pub const VENDOR_SPECIFIC: u8 = 0x09;
    /// Subsystem ids of a bridge.
    pub const BRIDGE_SUBSYSTEM: u8 = 0x0d;
    /// PCI Express.
    pub const PCI_EXPRESS: u8 = 0x10;
    /// Extended Message Signalled Interrupts.
    pub const MSIX: u8 = 0x11;
}

/// Offset of the identifier, 8 bits, in a capability (7.5.3.1).
pub const CAPABILITY_ID: u16 = 0x00;
/// Offset of the next pointer, 8 bits, in a capability (7.5.3.1).
pub const CAPABILITY_NEXT: u16 = 0x01;
/// Offset of the subsystem vendor id, 16 bits, in a bridge's subsystem capability; the subsystem id
/// follows (PCI-to-PCI Bridge Architecture Specification 3.2.5.13).
pub const BRIDGE_SUBSYSTEM_IDS: u16 = 0x04;
/// Bytes of a bridge's subsystem capability.
pub const BRIDGE_SUBSYSTEM_LENGTH: u16 = 0x08;
/// Offset of the length, 8 bits, in a vendor-specific capability (7.9.4).
pub const VENDOR_SPECIFIC_LENGTH: u16 = 0x02;
/// Offset of the vendor's own bytes in a vendor-specific capability (7.9.4).
pub const VENDOR_SPECIFIC_DATA: u16 = 0x03;

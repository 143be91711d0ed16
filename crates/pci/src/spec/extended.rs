//! Extended capabilities: their header (7.6.3), device serial number (7.9.3), resizable BAR
//! (7.8.6).

/// Offset in config space of the first extended capability.
pub const FIRST: u16 = 0x100;
/// Bytes of an extended capability's header.
pub const HEADER_SIZE: u16 = 4;
/// Lowest bit of the version, bits 19:16 of the header. The identifier is in bits 15:0.
pub const VERSION_SHIFT: u32 = 16;
/// Lowest bit of the next pointer, bits 31:20 of the header.
pub const NEXT_SHIFT: u32 = 20;

/// Identifiers of extended capabilities (PCI Code and ID Assignment Specification, section 3).
pub mod extended_capability_id {
    /// Advanced error reporting.
    pub const ADVANCED_ERROR_REPORTING: u16 = 0x0001;
    /// Device serial number.
    pub const DEVICE_SERIAL_NUMBER: u16 = 0x0003;
    /// Access control services.
    pub const ACS: u16 = 0x000d;
    /// Alternative routing-id interpretation.
    pub const ARI: u16 = 0x000e;
    /// Single root I/O virtualization.
    pub const SRIOV: u16 = 0x0010;
    /// Resizable BAR.
    pub const RESIZABLE_BAR: u16 = 0x0015;
}

/// The serial number, an EUI-64, low 32 bits.
pub const SERIAL_NUMBER: u16 = 0x04;
/// Bytes of the device serial number capability.
pub const SERIAL_NUMBER_LENGTH: u16 = 12;

/// The first resizable BAR capability register; pairs of capability and control follow.
pub const RESIZABLE_BAR_FIRST: u16 = 0x04;
/// Bytes from one pair of registers to the next.
pub const RESIZABLE_BAR_STRIDE: u16 = 8;
/// The control register in a pair; the capability register is at 0.
pub const RESIZABLE_BAR_CONTROL: u16 = 4;
/// Lowest bit of the supported sizes 1 MiB to 128 TiB in the capability register.
pub const RESIZABLE_BAR_SIZES_SHIFT: u32 = 4;
/// Number of supported sizes that the capability register holds; the rest, 256 TiB and up, is in
/// bits 31:16 of the control register.
pub const RESIZABLE_BAR_SIZES_LOW: u32 = 28;
/// Lowest bit of the supported sizes 256 TiB and up in the control register.
pub const RESIZABLE_BAR_SIZES_HIGH_SHIFT: u32 = 16;
/// Lowest bit of the number of resizable BARs, bits 7:5 of the first control register. The
/// BAR's index is in bits 2:0.
pub const RESIZABLE_BAR_COUNT_SHIFT: u32 = 5;
/// Lowest bit of the BAR's size in the control register.
pub const RESIZABLE_BAR_SIZE_SHIFT: u32 = 8;
/// The BAR's size in the control register: its logarithm less 20.
pub const RESIZABLE_BAR_SIZE_MASK: u32 = 0x3f << RESIZABLE_BAR_SIZE_SHIFT;
/// Logarithm of the smallest size, 1 MiB.
pub const RESIZABLE_BAR_SIZE_BASE: u32 = 20;
/// Logarithm of the largest size, 8 EiB.
pub const RESIZABLE_BAR_SIZE_MAX: u32 = 63;

//! The MSI-X capability, table and pending-bit array (7.7.2).

use bitflags::bitflags;

/// [`MsixControl`], 16 bits.
pub const CONTROL: u16 = 0x02;
/// Where the table is, 32 bits: [`OFFSET_MASK`] and [`BAR_MASK`].
pub const TABLE: u16 = 0x04;
/// Where the pending-bit array is, 32 bits: [`OFFSET_MASK`] and [`BAR_MASK`].
pub const PENDING: u16 = 0x08;
/// Bytes of the capability.
pub const LENGTH: u16 = 12;

/// The offset in the BAR.
pub const OFFSET_MASK: u32 = !0b111;
/// The BAR's index.
pub const BAR_MASK: u32 = 0b111;
/// Table and pending-bit array begin at multiples of this many bytes.
pub const ALIGNMENT: u32 = 8;
/// Most vectors a function can have.
pub const VECTORS_MAX: u16 = 2048;

/// Bytes of a table entry.
pub const ENTRY_SIZE: u64 = 16;
/// Message address in an entry, low 32 bits.
pub const ENTRY_ADDRESS: u64 = 0x0;
/// Message address in an entry, high 32 bits.
pub const ENTRY_ADDRESS_HIGH: u64 = 0x4;
/// Message data in an entry, 32 bits.
pub const ENTRY_DATA: u64 = 0x8;
/// Vector control in an entry, 32 bits.
pub const ENTRY_CONTROL: u64 = 0xc;
/// The only bit of vector control: the vector may not fire.
pub const ENTRY_CONTROL_MASK: u32 = 1 << 0;
/// The bits of the message address that are not fixed at 0.
pub const ADDRESS_MASK: u32 = !0b11;

bitflags! {
    /// Message control (7.7.2.2).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct MsixControl: u16 {
        /// Number of vectors less one.
        const TABLE_SIZE = 0x7ff;
        /// All vectors are masked.
        const FUNCTION_MASK = 1 << 14;
        /// The function may use MSI-X.
        const ENABLE = 1 << 15;
    }
}

/// Bytes of the table of that many vectors.
#[must_use]
pub const fn table_size(vectors: u16) -> u64 {
    vectors as u64 * ENTRY_SIZE
}

/// Bytes of the pending-bit array of that many vectors: whole 64-bit words.
#[must_use]
pub const fn pending_size(vectors: u16) -> u64 {
    (vectors as u64).div_ceil(64) * 8
}

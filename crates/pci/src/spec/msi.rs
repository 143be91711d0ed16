//! The MSI capability (7.7.1).

use bitflags::bitflags;

/// [`MsiControl`], 16 bits.
pub const CONTROL: u16 = 0x02;
/// Message address, low 32 bits.
pub const ADDRESS: u16 = 0x04;
/// Message address, high 32 bits, with [`MsiControl::ADDRESS_64`].
pub const ADDRESS_HIGH: u16 = 0x08;
/// Message data, 16 bits, without [`MsiControl::ADDRESS_64`].
pub const DATA_32: u16 = 0x08;
/// Message data, 16 bits, with [`MsiControl::ADDRESS_64`].
pub const DATA_64: u16 = 0x0c;
/// Mask bits, 32 bits, without [`MsiControl::ADDRESS_64`].
pub const MASK_32: u16 = 0x0c;
/// Mask bits, 32 bits, with [`MsiControl::ADDRESS_64`].
pub const MASK_64: u16 = 0x10;
/// Pending bits, 32 bits, without [`MsiControl::ADDRESS_64`].
pub const PENDING_32: u16 = 0x10;
/// Pending bits, 32 bits, with [`MsiControl::ADDRESS_64`].
pub const PENDING_64: u16 = 0x14;

/// Most vectors a function can have.
pub const VECTORS_MAX: u8 = 32;
/// The bits of the message address that are not fixed at 0.
pub const ADDRESS_MASK: u32 = !0b11;

bitflags! {
    /// Message control (7.7.1.2).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct MsiControl: u16 {
        /// The function may use MSI.
        const ENABLE = 1 << 0;
        /// Logarithm of the number of vectors the function can use.
        const MULTIPLE_MESSAGE_CAPABLE = 0b111 << 1;
        /// Logarithm of the number of vectors that software gave it.
        const MULTIPLE_MESSAGE_ENABLE = 0b111 << 4;
        /// The message address has 64 bits.
        const ADDRESS_64 = 1 << 7;
        /// There are mask and pending bits.
        const PER_VECTOR_MASKING = 1 << 8;
    }
}

/// Lowest bit of [`MsiControl::MULTIPLE_MESSAGE_CAPABLE`].
pub const MULTIPLE_MESSAGE_CAPABLE_SHIFT: u32 = 1;
/// Lowest bit of [`MsiControl::MULTIPLE_MESSAGE_ENABLE`].
pub const MULTIPLE_MESSAGE_ENABLE_SHIFT: u32 = 4;

//! The type 0 configuration header (7.5.1).

use bitflags::bitflags;

/// Vendor id, 16 bits.
pub const VENDOR_ID: u16 = 0x00;
/// Device id, 16 bits.
pub const DEVICE_ID: u16 = 0x02;
/// [`Command`], 16 bits.
pub const COMMAND: u16 = 0x04;
/// [`Status`], 16 bits.
pub const STATUS: u16 = 0x06;
/// Revision id, 8 bits.
pub const REVISION_ID: u16 = 0x08;
/// Class code, 24 bits.
pub const CLASS_CODE: u16 = 0x09;
/// Cache line size, 8 bits; without effect in PCI Express.
pub const CACHE_LINE_SIZE: u16 = 0x0c;
/// Latency timer, 8 bits; 0 in PCI Express.
pub const LATENCY_TIMER: u16 = 0x0d;
/// Header type, 8 bits: the type in bits 6:0, [`MULTI_FUNCTION`] in bit 7.
pub const HEADER_TYPE: u16 = 0x0e;
/// Bit 7 of the header type: the device has functions beyond function 0.
pub const MULTI_FUNCTION: u8 = 1 << 7;
/// Built-in self test, 8 bits.
pub const BIST: u16 = 0x0f;
/// The first base address register, 32 bits.
pub const BAR0: u16 = 0x10;
/// Number of base address registers.
pub const BAR_COUNT: u8 = 6;
/// Subsystem vendor id, 16 bits.
pub const SUBSYSTEM_VENDOR_ID: u16 = 0x2c;
/// Subsystem id, 16 bits.
pub const SUBSYSTEM_ID: u16 = 0x2e;
/// Expansion ROM base address, 32 bits.
pub const EXPANSION_ROM: u16 = 0x30;
/// Offset of the first capability, 8 bits.
pub const CAPABILITIES_POINTER: u16 = 0x34;
/// Interrupt line, 8 bits; for software to keep a note in.
pub const INTERRUPT_LINE: u16 = 0x3c;
/// Interrupt pin, 8 bits; 0 is none.
pub const INTERRUPT_PIN: u16 = 0x3d;
/// The first byte after the header.
pub const END: u16 = 0x40;

/// The vendor id that says that no function is there.
pub const VENDOR_ID_NONE: u16 = 0xffff;

/// Bits 3:0 of a memory base address register hold its type (7.5.1.2.1).
pub const BAR_TYPE_MASK: u32 = 0xf;
/// The register and the next one hold one 64-bit address.
pub const BAR_TYPE_64: u32 = 0b10 << 1;
/// Reads have no side effects and writes may be merged.
pub const BAR_PREFETCHABLE: u32 = 1 << 3;
/// The smallest memory range that a base address register can describe, in bytes.
pub const BAR_SIZE_MIN: u64 = 16;
/// The largest memory range of a 32-bit base address register, in bytes.
pub const BAR_SIZE_MAX_32: u64 = 1 << 31;

bitflags! {
    /// The command register (7.5.1.1.3).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Command: u16 {
        /// The function answers I/O accesses.
        const IO_SPACE = 1 << 0;
        /// The function answers memory accesses.
        const MEMORY_SPACE = 1 << 1;
        /// The function may access memory and send message signalled interrupts.
        const BUS_MASTER = 1 << 2;
        /// Poisoned requests are reported in [`Status`].
        const PARITY_ERROR_RESPONSE = 1 << 6;
        /// Errors are reported to the root complex.
        const SERR_ENABLE = 1 << 8;
        /// The function may not assert INTx.
        const INTERRUPT_DISABLE = 1 << 10;
    }

    /// The status register (7.5.1.1.4).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Status: u16 {
        /// INTx is pending.
        const INTERRUPT_STATUS = 1 << 3;
        /// There is a capability list.
        const CAPABILITIES_LIST = 1 << 4;
        /// Poisoned data was received while Parity Error Response was set.
        const MASTER_DATA_PARITY_ERROR = 1 << 8;
        /// The function ended a request with Completer Abort.
        const SIGNALED_TARGET_ABORT = 1 << 11;
        /// A request of the function's ended with Completer Abort.
        const RECEIVED_TARGET_ABORT = 1 << 12;
        /// A request of the function's ended as unsupported.
        const RECEIVED_MASTER_ABORT = 1 << 13;
        /// The function sent an error message.
        const SIGNALED_SYSTEM_ERROR = 1 << 14;
        /// Poisoned data was received.
        const DETECTED_PARITY_ERROR = 1 << 15;
    }
}

impl Command {
    /// The bits that software can write in a function without I/O space.
    pub const WRITABLE: Self = Self::MEMORY_SPACE
        .union(Self::BUS_MASTER)
        .union(Self::PARITY_ERROR_RESPONSE)
        .union(Self::SERR_ENABLE)
        .union(Self::INTERRUPT_DISABLE);
}

impl Status {
    /// The bits that software clears by writing ones.
    pub const WRITE_ONE_TO_CLEAR: Self = Self::MASTER_DATA_PARITY_ERROR
        .union(Self::SIGNALED_TARGET_ABORT)
        .union(Self::RECEIVED_TARGET_ABORT)
        .union(Self::RECEIVED_MASTER_ABORT)
        .union(Self::SIGNALED_SYSTEM_ERROR)
        .union(Self::DETECTED_PARITY_ERROR);
}

//! The type 1 configuration header, of bridges (7.5.1.3), where it differs from type 0.

use bitflags::bitflags;

/// Header type of a bridge with one function, 8 bits.
pub const HEADER_TYPE: u8 = 1;
/// Number of base address registers.
pub const BAR_COUNT: u8 = 2;
/// Primary bus number, 8 bits: the bus that the bridge itself is on.
pub const PRIMARY_BUS: u16 = 0x18;
/// Secondary bus number, 8 bits: the bus right below.
pub const SECONDARY_BUS: u16 = 0x19;
/// Subordinate bus number, 8 bits: the highest bus below.
pub const SUBORDINATE_BUS: u16 = 0x1a;
/// Secondary latency timer, 8 bits; 0 in PCI Express.
pub const SECONDARY_LATENCY_TIMER: u16 = 0x1b;
/// I/O base and limit, 8 bits each; 0 without I/O space.
pub const IO_BASE: u16 = 0x1c;
/// [`SecondaryStatus`], 16 bits.
pub const SECONDARY_STATUS: u16 = 0x1e;
/// Memory base, 16 bits: address bits 31:20 in bits 15:4.
pub const MEMORY_BASE: u16 = 0x20;
/// Memory limit, 16 bits: address bits 31:20 in bits 15:4; bits 19:0 of the limit are ones.
pub const MEMORY_LIMIT: u16 = 0x22;
/// Prefetchable memory base, 16 bits, as [`MEMORY_BASE`].
pub const PREFETCHABLE_BASE: u16 = 0x24;
/// Prefetchable memory limit, 16 bits, as [`MEMORY_LIMIT`].
pub const PREFETCHABLE_LIMIT: u16 = 0x26;
/// Address bits 63:32 of the prefetchable memory base.
pub const PREFETCHABLE_BASE_UPPER: u16 = 0x28;
/// Address bits 63:32 of the prefetchable memory limit.
pub const PREFETCHABLE_LIMIT_UPPER: u16 = 0x2c;
/// Upper halves of I/O base and limit, 16 bits each; 0 without I/O space.
pub const IO_BASE_UPPER: u16 = 0x30;
/// Expansion ROM base address, 32 bits.
pub const EXPANSION_ROM: u16 = 0x38;
/// [`BridgeControl`], 16 bits.
pub const BRIDGE_CONTROL: u16 = 0x3e;

/// The bits of a memory base or limit register that hold address bits 31:20.
pub const MEMORY_MASK: u16 = 0xfff0;
/// A prefetchable base or limit register has an upper half.
pub const PREFETCHABLE_64: u16 = 1;
/// Address bits that are 0 in a base and 1 in a limit: windows are multiples of 1 MiB.
pub const MEMORY_GRANULE: u64 = 1 << 20;

bitflags! {
    /// The secondary status register (7.5.1.3.7).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct SecondaryStatus: u16 {
        /// Poisoned data passed while Parity Error Response was set.
        const MASTER_DATA_PARITY_ERROR = 1 << 8;
        /// The secondary side ended a request with Completer Abort.
        const SIGNALED_TARGET_ABORT = 1 << 11;
        /// A request from the secondary side ended with Completer Abort.
        const RECEIVED_TARGET_ABORT = 1 << 12;
        /// A request from the secondary side ended as unsupported.
        const RECEIVED_MASTER_ABORT = 1 << 13;
        /// A non-fatal or fatal error message came from below.
        const RECEIVED_SYSTEM_ERROR = 1 << 14;
        /// Poisoned data came from below.
        const DETECTED_PARITY_ERROR = 1 << 15;
    }

    /// The bridge control register (7.5.1.3.13).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct BridgeControl: u16 {
        /// Poisoned data is reported in [`SecondaryStatus`].
        const PARITY_ERROR_RESPONSE = 1 << 0;
        /// Error messages from below are passed on.
        const SERR_ENABLE = 1 << 1;
        /// Only some I/O addresses are passed on; 0 without I/O space.
        const ISA_ENABLE = 1 << 2;
        /// VGA accesses are passed on; 0 without I/O space.
        const VGA_ENABLE = 1 << 3;
        /// The secondary bus is in reset.
        const SECONDARY_BUS_RESET = 1 << 6;
    }
}

impl SecondaryStatus {
    /// The bits that software clears by writing ones.
    pub const WRITE_ONE_TO_CLEAR: Self = Self::all();
}

impl BridgeControl {
    /// The bits that software can write in a bridge without I/O space.
    pub const WRITABLE: Self = Self::PARITY_ERROR_RESPONSE
        .union(Self::SERR_ENABLE)
        .union(Self::SECONDARY_BUS_RESET);
}

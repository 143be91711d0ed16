//! The ARI extended capability (7.8.7; 7.8.8 in revision 6.0): functions 0 to 255 of the one device on a bus.

use bitflags::bitflags;

/// [`AriCapabilities`], 16 bits; the next function number is in bits 15:8 (7.8.7.2).
pub const CAPABILITIES: u16 = 0x04;
/// [`AriControl`], 16 bits (7.8.7.3).
pub const CONTROL: u16 = 0x06;
/// Bytes of the capability.
pub const LENGTH: u16 = 0x08;

/// Lowest bit of the next function number in the capabilities; 0 ends the list.
pub const NEXT_FUNCTION_SHIFT: u32 = 8;
/// Lowest bit of [`AriControl::FUNCTION_GROUP`].
pub const FUNCTION_GROUP_SHIFT: u32 = 4;

bitflags! {
    /// ARI Capability register, but for the next function number (7.8.7.2).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct AriCapabilities: u16 {
        /// Function groups can arbitrate by the MFVC capability; only in function 0.
        const MFVC_FUNCTION_GROUPS = 1 << 0;
        /// Function groups can have access control by the ACS capability; only in function 0.
        const ACS_FUNCTION_GROUPS = 1 << 1;
    }

    /// ARI Control register (7.8.7.3).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct AriControl: u16 {
        /// Arbitration is by function group; read-only 0 without
        /// [`AriCapabilities::MFVC_FUNCTION_GROUPS`].
        const MFVC_FUNCTION_GROUPS_ENABLE = 1 << 0;
        /// Access control is by function group; read-only 0 without
        /// [`AriCapabilities::ACS_FUNCTION_GROUPS`].
        const ACS_FUNCTION_GROUPS_ENABLE = 1 << 1;
        /// The function's group; read-only 0 without function groups.
        const FUNCTION_GROUP = 0b111 << 4;
    }
}

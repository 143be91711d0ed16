//! The PCI Express capability, version 2, without slot and root registers (7.5.3).

use bitflags::bitflags;

/// PCI Express capabilities, 16 bits: version, device type.
pub const CAPABILITIES: u16 = 0x02;
/// [`DeviceCapabilities`], 32 bits.
pub const DEVICE_CAPABILITIES: u16 = 0x04;
/// [`DeviceControl`], 16 bits.
pub const DEVICE_CONTROL: u16 = 0x08;
/// [`DeviceStatus`], 16 bits.
pub const DEVICE_STATUS: u16 = 0x0a;
/// [`LinkCapabilities`], 32 bits.
pub const LINK_CAPABILITIES: u16 = 0x0c;
/// [`LinkControl`], 16 bits.
pub const LINK_CONTROL: u16 = 0x10;
/// [`LinkStatus`], 16 bits.
pub const LINK_STATUS: u16 = 0x12;
/// [`DeviceCapabilities2`], 32 bits.
pub const DEVICE_CAPABILITIES_2: u16 = 0x24;
/// [`DeviceControl2`], 16 bits.
pub const DEVICE_CONTROL_2: u16 = 0x28;
/// [`LinkCapabilities2`], 32 bits.
pub const LINK_CAPABILITIES_2: u16 = 0x2c;
/// Link control 2, 16 bits: the target speed in bits 3:0.
pub const LINK_CONTROL_2: u16 = 0x30;
/// Bytes of the capability.
pub const LENGTH: u16 = 0x3c;

/// Version 2 in bits 3:0 of [`CAPABILITIES`].
pub const VERSION: u16 = 2;
/// Device type "endpoint" in bits 7:4 of [`CAPABILITIES`].
pub const TYPE_ENDPOINT: u16 = 0 << 4;
/// 2.5 GT/s, as every speed field encodes it.
pub const SPEED_2_5: u16 = 1;

/// The largest payload that can be supported, in bytes.
pub const MAX_PAYLOAD_MAX: u16 = 4096;
/// The payload that all functions support, in bytes; sizes are encoded as powers of two of it.
pub const MAX_PAYLOAD_MIN: u16 = 128;

bitflags! {
    /// Device capabilities (7.5.3.3).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct DeviceCapabilities: u32 {
        /// Logarithm of the largest payload over 128 bytes.
        const MAX_PAYLOAD_SIZE = 0b111;
        /// Tags of 8 bits are supported.
        const EXTENDED_TAG = 1 << 5;
        /// Errors are reported as all functions since version 1.1 do; required.
        const ROLE_BASED_ERROR_REPORTING = 1 << 15;
        /// Function level reset is supported.
        const FUNCTION_LEVEL_RESET = 1 << 28;
    }

    /// Device control (7.5.3.4).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct DeviceControl: u16 {
        /// Correctable errors are reported.
        const CORRECTABLE_ERROR_REPORTING = 1 << 0;
        /// Non-fatal errors are reported.
        const NON_FATAL_ERROR_REPORTING = 1 << 1;
        /// Fatal errors are reported.
        const FATAL_ERROR_REPORTING = 1 << 2;
        /// Unsupported requests are reported.
        const UNSUPPORTED_REQUEST_REPORTING = 1 << 3;
        /// Requests may be ordered loosely.
        const RELAXED_ORDERING = 1 << 4;
        /// Logarithm of the payload in use over 128 bytes.
        const MAX_PAYLOAD_SIZE = 0b111 << 5;
        /// Tags of 8 bits are in use.
        const EXTENDED_TAG = 1 << 8;
        /// Requests may ask for no snooping.
        const NO_SNOOP = 1 << 11;
        /// Logarithm of the largest read request over 128 bytes.
        const MAX_READ_REQUEST_SIZE = 0b111 << 12;
        /// Read requests of 512 bytes, the reset value.
        const MAX_READ_REQUEST_512 = 0b010 << 12;
        /// A written one resets the function; reads 0.
        const INITIATE_FUNCTION_LEVEL_RESET = 1 << 15;
    }

    /// Device status (7.5.3.5).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct DeviceStatus: u16 {
        /// A correctable error was detected; write one to clear.
        const CORRECTABLE_ERROR = 1 << 0;
        /// A non-fatal error was detected; write one to clear.
        const NON_FATAL_ERROR = 1 << 1;
        /// A fatal error was detected; write one to clear.
        const FATAL_ERROR = 1 << 2;
        /// An unsupported request was detected; write one to clear.
        const UNSUPPORTED_REQUEST = 1 << 3;
        /// Auxiliary power is there.
        const AUX_POWER = 1 << 4;
        /// Requests have not been completed yet.
        const TRANSACTIONS_PENDING = 1 << 5;
    }

    /// Link capabilities (7.5.3.6).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct LinkCapabilities: u32 {
        /// 2.5 GT/s is the highest speed.
        const SPEED_2_5 = SPEED_2_5 as u32;
        /// One lane is the greatest width.
        const WIDTH_X1 = 1 << 4;
        /// A link that is down shows in [`LinkStatus::DATA_LINK_LAYER_ACTIVE`]; in ports with a link
        /// below.
        const DATA_LINK_LAYER_ACTIVE_REPORTING = 1 << 20;
        /// The link follows the rules on optional power management; required.
        const ASPM_OPTIONALITY = 1 << 22;
    }

    /// Link control (7.5.3.7).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct LinkControl: u16 {
        /// Active state power management.
        const ASPM = 0b11;
        /// The read completion boundary is 128 bytes.
        const READ_COMPLETION_BOUNDARY = 1 << 3;
        /// The link is disabled; in ports with a link below.
        const LINK_DISABLE = 1 << 4;
        /// A written one trains the link again; in ports with a link below. Reads 0.
        const RETRAIN_LINK = 1 << 5;
        /// Both ends of the link share a reference clock.
        const COMMON_CLOCK = 1 << 6;
        /// The link trains longer.
        const EXTENDED_SYNCH = 1 << 7;
        /// The link may not change its width by itself.
        const AUTONOMOUS_WIDTH_DISABLE = 1 << 9;
    }

    /// Link status (7.5.3.8).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct LinkStatus: u16 {
        /// The link runs at 2.5 GT/s.
        const SPEED_2_5 = SPEED_2_5;
        /// The link has one lane.
        const WIDTH_X1 = 1 << 4;
        /// The slot's reference clock is used.
        const SLOT_CLOCK = 1 << 12;
        /// The link is up; in ports with a link below.
        const DATA_LINK_LAYER_ACTIVE = 1 << 13;
    }

    /// Device capabilities 2 (7.5.3.15).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct DeviceCapabilities2: u32 {
        /// Completion time-outs can be disabled.
        const COMPLETION_TIMEOUT_DISABLE = 1 << 4;
        /// The port can forward requests to functions above 7 of the device below.
        const ARI_FORWARDING = 1 << 5;
    }

    /// Device control 2 (7.5.3.16).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct DeviceControl2: u16 {
        /// Completion time-outs are disabled.
        const COMPLETION_TIMEOUT_DISABLE = 1 << 4;
        /// The port forwards requests to functions above 7 of the device below.
        const ARI_FORWARDING = 1 << 5;
    }

    /// Link capabilities 2 (7.5.3.18).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct LinkCapabilities2: u32 {
        /// 2.5 GT/s is supported.
        const SPEED_2_5 = 1 << 1;
    }
}

impl DeviceControl {
    /// The bits that every endpoint lets software write; Initiate Function Level Reset,
    /// Extended Tag and Max Payload Size come with what the function supports.
    pub const WRITABLE: Self = Self::REPORTING
        .union(Self::RELAXED_ORDERING)
        .union(Self::NO_SNOOP)
        .union(Self::MAX_READ_REQUEST_SIZE);
    /// The bits that say which errors are reported.
    pub const REPORTING: Self = Self::CORRECTABLE_ERROR_REPORTING
        .union(Self::NON_FATAL_ERROR_REPORTING)
        .union(Self::FATAL_ERROR_REPORTING)
        .union(Self::UNSUPPORTED_REQUEST_REPORTING);
    /// The value after a reset, in endpoints.
    pub const RESET: Self = Self::RELAXED_ORDERING
        .union(Self::NO_SNOOP)
        .union(Self::MAX_READ_REQUEST_512);
}

impl DeviceStatus {
    /// The bits that software clears by writing ones.
    pub const WRITE_ONE_TO_CLEAR: Self = Self::CORRECTABLE_ERROR
        .union(Self::NON_FATAL_ERROR)
        .union(Self::FATAL_ERROR)
        .union(Self::UNSUPPORTED_REQUEST);
}

impl LinkControl {
    /// The bits that software can write in an endpoint. A function level reset leaves them
    /// alone (6.6.2).
    pub const WRITABLE: Self = Self::ASPM
        .union(Self::READ_COMPLETION_BOUNDARY)
        .union(Self::COMMON_CLOCK)
        .union(Self::EXTENDED_SYNCH)
        .union(Self::AUTONOMOUS_WIDTH_DISABLE);
}

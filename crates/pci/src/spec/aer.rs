//! The advanced error reporting extended capability (7.8.4).

use bitflags::bitflags;

/// Uncorrectable error status: [`UncorrectableError`], 32 bits (7.8.4.2).
pub const UNCORRECTABLE_STATUS: u16 = 0x04;
/// Uncorrectable error mask: [`UncorrectableError`], 32 bits (7.8.4.3).
pub const UNCORRECTABLE_MASK: u16 = 0x08;
/// Uncorrectable error severity: the fatal ones of [`UncorrectableError`], 32 bits (7.8.4.4).
pub const UNCORRECTABLE_SEVERITY: u16 = 0x0c;
/// Correctable error status: [`CorrectableError`], 32 bits (7.8.4.5).
pub const CORRECTABLE_STATUS: u16 = 0x10;
/// Correctable error mask: [`CorrectableError`], 32 bits (7.8.4.6).
pub const CORRECTABLE_MASK: u16 = 0x14;
/// Advanced error capabilities and control, 32 bits: the first error pointer in bits 4:0 (7.8.4.7).
pub const CAPABILITIES_CONTROL: u16 = 0x18;
/// The header log, four words of 32 bits (7.8.4.8).
pub const HEADER_LOG: u16 = 0x1c;
/// [`RootErrorCommand`], 32 bits (7.8.4.9).
pub const ROOT_COMMAND: u16 = 0x2c;
/// [`RootErrorStatus`], 32 bits; the interrupt message number is in bits 31:27 (7.8.4.10).
pub const ROOT_STATUS: u16 = 0x30;
/// Error source identification: the routing id of the first correctable error's source in
/// bits 15:0, of the first uncorrectable one's in bits 31:16 (7.8.4.11).
pub const ERROR_SOURCE: u16 = 0x34;
/// Bytes of the capability but in root ports, without a TLP prefix log.
pub const LENGTH: u16 = 0x2c;
/// Bytes of the capability in root ports, without a TLP prefix log.
pub const ROOT_LENGTH: u16 = 0x38;
/// The first error pointer in the capabilities and control.
pub const FIRST_ERROR_POINTER: u32 = 0x1f;

bitflags! {
    /// Errors that lose something (7.8.4.2).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct UncorrectableError: u32 {
        /// Data link protocol error.
        const DATA_LINK_PROTOCOL = 1 << 4;
        /// The link went down without notice.
        const SURPRISE_DOWN = 1 << 5;
        /// Poisoned data was received.
        const POISONED_TLP = 1 << 12;
        /// Flow control protocol error.
        const FLOW_CONTROL_PROTOCOL = 1 << 13;
        /// A request was not completed in time.
        const COMPLETION_TIMEOUT = 1 << 14;
        /// The function ended a request with Completer Abort.
        const COMPLETER_ABORT = 1 << 15;
        /// A completion came that belongs to no request.
        const UNEXPECTED_COMPLETION = 1 << 16;
        /// More was received than there were credits for.
        const RECEIVER_OVERFLOW = 1 << 17;
        /// A packet was malformed.
        const MALFORMED_TLP = 1 << 18;
        /// The end-to-end checksum was wrong.
        const ECRC = 1 << 19;
        /// A request was not supported.
        const UNSUPPORTED_REQUEST = 1 << 20;
        /// Access control was violated.
        const ACS_VIOLATION = 1 << 21;
        /// The function failed inside.
        const UNCORRECTABLE_INTERNAL = 1 << 22;
        /// A multicast packet was blocked.
        const MULTICAST_BLOCKED_TLP = 1 << 23;
        /// An atomic operation was blocked on its way out.
        const ATOMIC_OP_EGRESS_BLOCKED = 1 << 24;
        /// A packet with a prefix was blocked.
        const TLP_PREFIX_BLOCKED = 1 << 25;
        /// Poisoned data was blocked on its way out.
        const POISONED_TLP_EGRESS_BLOCKED = 1 << 26;
    }

    /// Errors that hardware puts right (7.8.4.5).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct CorrectableError: u32 {
        /// The receiver saw an error.
        const RECEIVER = 1 << 0;
        /// A packet had a wrong checksum and is sent again.
        const BAD_TLP = 1 << 6;
        /// A data link packet had a wrong checksum.
        const BAD_DLLP = 1 << 7;
        /// A packet was sent again too often.
        const REPLAY_NUMBER_ROLLOVER = 1 << 8;
        /// A packet was not acknowledged in time.
        const REPLAY_TIMER_TIMEOUT = 1 << 12;
        /// A non-fatal error of which somebody else has to tell (6.2.3.2.4).
        const ADVISORY_NON_FATAL = 1 << 13;
        /// The function put right an error inside.
        const CORRECTED_INTERNAL = 1 << 14;
        /// There were more errors than the header log holds.
        const HEADER_LOG_OVERFLOW = 1 << 15;
    }

    /// Root error command (7.8.4.9).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct RootErrorCommand: u32 {
        /// Correctable errors give interrupts.
        const CORRECTABLE_REPORTING_ENABLE = 1 << 0;
        /// Non-fatal errors give interrupts.
        const NON_FATAL_REPORTING_ENABLE = 1 << 1;
        /// Fatal errors give interrupts.
        const FATAL_REPORTING_ENABLE = 1 << 2;
    }

    /// Root error status, but for the interrupt message number (7.8.4.10).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct RootErrorStatus: u32 {
        /// A correctable error was reported.
        const CORRECTABLE_RECEIVED = 1 << 0;
        /// Another one was, before software cleared the first.
        const MULTIPLE_CORRECTABLE_RECEIVED = 1 << 1;
        /// A non-fatal or fatal error was reported.
        const UNCORRECTABLE_RECEIVED = 1 << 2;
        /// Another one was, before software cleared the first.
        const MULTIPLE_UNCORRECTABLE_RECEIVED = 1 << 3;
        /// The first of these was fatal.
        const FIRST_UNCORRECTABLE_FATAL = 1 << 4;
        /// Of these there were non-fatal ones.
        const NON_FATAL_RECEIVED = 1 << 5;
        /// Of these there were fatal ones.
        const FATAL_RECEIVED = 1 << 6;
    }
}

impl UncorrectableError {
    /// The fatal ones after power on, and always without the capability (6.2.7).
    pub const FATAL_RESET: Self = Self::DATA_LINK_PROTOCOL
        .union(Self::SURPRISE_DOWN)
        .union(Self::FLOW_CONTROL_PROTOCOL)
        .union(Self::RECEIVER_OVERFLOW)
        .union(Self::MALFORMED_TLP)
        .union(Self::UNCORRECTABLE_INTERNAL);
    /// The masked ones after power on.
    pub const MASK_RESET: Self = Self::UNCORRECTABLE_INTERNAL;
}

impl CorrectableError {
    /// The masked ones after power on.
    pub const MASK_RESET: Self = Self::ADVISORY_NON_FATAL
        .union(Self::CORRECTED_INTERNAL)
        .union(Self::HEADER_LOG_OVERFLOW);
}

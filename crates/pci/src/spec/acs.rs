//! The access control services extended capability (7.7.8; 7.7.11 in revision 6.0).

use bitflags::bitflags;

/// [`AccessControl`] that the function can do, 16 bits (7.7.8.2).
pub const CAPABILITIES: u16 = 0x04;
/// [`AccessControl`] that is in force, 16 bits (7.7.8.3).
pub const CONTROL: u16 = 0x06;
/// Bytes of the capability, without an egress control vector.
pub const LENGTH: u16 = 0x08;

bitflags! {
    /// Kinds of access control (6.12.1).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct AccessControl: u16 {
        /// Requests from below with a bus number that is not from below are refused.
        const SOURCE_VALIDATION = 1 << 0;
        /// Requests from below with a translated address are refused.
        const TRANSLATION_BLOCKING = 1 << 1;
        /// Requests to peers are sent up.
        const P2P_REQUEST_REDIRECT = 1 << 2;
        /// Completions to peers are sent up.
        const P2P_COMPLETION_REDIRECT = 1 << 3;
        /// Requests that come from below and go back there are sent up.
        const UPSTREAM_FORWARDING = 1 << 4;
        /// Requests to some peers are refused, by the egress control vector.
        const P2P_EGRESS_CONTROL = 1 << 5;
        /// Requests to peers with a translated address are not sent up.
        const DIRECT_TRANSLATED_P2P = 1 << 6;
    }
}

impl AccessControl {
    /// What ports can do here, so that nothing passes between the devices below them.
    pub const PORT: Self = Self::SOURCE_VALIDATION
        .union(Self::TRANSLATION_BLOCKING)
        .union(Self::P2P_REQUEST_REDIRECT)
        .union(Self::P2P_COMPLETION_REDIRECT)
        .union(Self::UPSTREAM_FORWARDING);
}

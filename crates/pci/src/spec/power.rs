//! The PCI power management capability (7.5.2).

use bitflags::bitflags;

/// Power management capabilities, 16 bits: a version and [`PowerCapabilities`].
pub const CAPABILITIES: u16 = 0x02;
/// [`PowerControl`], 16 bits.
pub const CONTROL_STATUS: u16 = 0x04;
/// Bytes of the capability.
pub const LENGTH: u16 = 8;
/// The version this specification defines, bits 2:0 of [`CAPABILITIES`].
pub const VERSION: u16 = 3;

bitflags! {
    /// Power management capabilities without the version (7.5.2.1).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct PowerCapabilities: u16 {
        /// The D1 state is supported.
        const D1 = 1 << 9;
        /// The D2 state is supported.
        const D2 = 1 << 10;
        /// PME can be sent from D0.
        const PME_D0 = 1 << 11;
        /// PME can be sent from D1.
        const PME_D1 = 1 << 12;
        /// PME can be sent from D2.
        const PME_D2 = 1 << 13;
        /// PME can be sent from D3hot.
        const PME_D3_HOT = 1 << 14;
        /// PME can be sent from D3cold.
        const PME_D3_COLD = 1 << 15;
    }

    /// Power management control and status (7.5.2.2).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct PowerControl: u16 {
        /// The power state, D0 to D3hot.
        const POWER_STATE = 0b11;
        /// Going from D3hot to D0 keeps the function's state.
        const NO_SOFT_RESET = 1 << 3;
        /// PME may be sent.
        const PME_ENABLE = 1 << 8;
        /// PME would be sent; write one to clear.
        const PME_STATUS = 1 << 15;
    }
}

impl PowerCapabilities {
    /// The states that PME can be sent from.
    pub const PME_SUPPORT: Self = Self::PME_D0
        .union(Self::PME_D1)
        .union(Self::PME_D2)
        .union(Self::PME_D3_HOT)
        .union(Self::PME_D3_COLD);
}

/// The states that software can put a function into (5.3.1), as [`PowerControl`] encodes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PowerState {
    /// Working.
    #[default]
    D0 = 0,
    /// Light sleep; optional.
    D1 = 1,
    /// Deeper sleep; optional.
    D2 = 2,
    /// Only config space answers.
    D3Hot = 3,
}

impl PowerState {
    /// The state in bits 1:0 of `control`.
    #[must_use]
    pub const fn of(control: PowerControl) -> Self {
        match control.bits() & PowerControl::POWER_STATE.bits() {
            0 => Self::D0,
            1 => Self::D1,
            2 => Self::D2,
            _ => Self::D3Hot,
        }
    }
}

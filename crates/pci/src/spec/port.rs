//! What ports have in the PCI Express capability beyond endpoints: slot and root registers
//! (7.5.3.9 to 7.5.3.14). Offsets are from the start of that capability.

use bitflags::bitflags;

/// [`SlotCapabilities`], 32 bits; the physical slot number is in bits 31:19.
pub const SLOT_CAPABILITIES: u16 = 0x14;
/// [`SlotControl`], 16 bits.
pub const SLOT_CONTROL: u16 = 0x18;
/// [`SlotStatus`], 16 bits.
pub const SLOT_STATUS: u16 = 0x1a;
/// [`RootControl`], 16 bits.
pub const ROOT_CONTROL: u16 = 0x1c;
/// [`RootCapabilities`], 16 bits.
pub const ROOT_CAPABILITIES: u16 = 0x1e;
/// [`RootStatus`], 32 bits; the requester of a power management event is in bits 15:0.
pub const ROOT_STATUS: u16 = 0x20;

/// Device type "root port" in bits 7:4 of the PCI Express capabilities.
pub const TYPE_ROOT_PORT: u16 = 4 << 4;
/// Device type "upstream port of a switch" in bits 7:4 of the PCI Express capabilities.
pub const TYPE_UPSTREAM: u16 = 5 << 4;
/// Device type "downstream port of a switch" in bits 7:4 of the PCI Express capabilities.
pub const TYPE_DOWNSTREAM: u16 = 6 << 4;
/// The device type in the PCI Express capabilities.
pub const TYPE_MASK: u16 = 0xf << 4;
/// The port leads to a slot, in the PCI Express capabilities.
pub const SLOT_IMPLEMENTED: u16 = 1 << 8;
/// Lowest bit of the port number, bits 31:24 of the link capabilities.
pub const PORT_NUMBER_SHIFT: u32 = 24;
/// Lowest bit of the physical slot number in the slot capabilities.
pub const SLOT_NUMBER_SHIFT: u32 = 19;
/// The largest physical slot number: 13 bits.
pub const SLOT_NUMBER_MAX: u16 = (1 << 13) - 1;
/// Lowest bit of [`SlotControl::ATTENTION_INDICATOR`].
pub const ATTENTION_INDICATOR_SHIFT: u32 = 6;
/// Lowest bit of [`SlotControl::POWER_INDICATOR`].
pub const POWER_INDICATOR_SHIFT: u32 = 8;

bitflags! {
    /// Slot capabilities, but for power limit and slot number (7.5.3.9).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct SlotCapabilities: u32 {
        /// There is an attention button.
        const ATTENTION_BUTTON = 1 << 0;
        /// Software can turn the slot's power off.
        const POWER_CONTROLLER = 1 << 1;
        /// There is a sensor for the latch that retains the device.
        const MRL_SENSOR = 1 << 2;
        /// There is an attention indicator.
        const ATTENTION_INDICATOR = 1 << 3;
        /// There is a power indicator.
        const POWER_INDICATOR = 1 << 4;
        /// A device may be taken away without notice.
        const HOT_PLUG_SURPRISE = 1 << 5;
        /// Devices can be plugged and unplugged while software runs.
        const HOT_PLUG_CAPABLE = 1 << 6;
        /// There is an interlock that holds the device in place.
        const ELECTROMECHANICAL_INTERLOCK = 1 << 17;
        /// Slot control can be written at any time, and no command is reported as completed.
        const NO_COMMAND_COMPLETED = 1 << 18;
    }

    /// Slot control (7.5.3.10).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct SlotControl: u16 {
        /// The attention button gives an interrupt.
        const ATTENTION_BUTTON_ENABLE = 1 << 0;
        /// A power fault gives an interrupt.
        const POWER_FAULT_ENABLE = 1 << 1;
        /// A change of the latch sensor gives an interrupt.
        const MRL_SENSOR_ENABLE = 1 << 2;
        /// A change of presence gives an interrupt.
        const PRESENCE_DETECT_ENABLE = 1 << 3;
        /// A completed command gives an interrupt.
        const COMMAND_COMPLETED_ENABLE = 1 << 4;
        /// Events that are enabled give interrupts at all.
        const HOT_PLUG_INTERRUPT_ENABLE = 1 << 5;
        /// The attention indicator: 1 on, 2 blinking, 3 off.
        const ATTENTION_INDICATOR = 0b11 << 6;
        /// The power indicator: 1 on, 2 blinking, 3 off.
        const POWER_INDICATOR = 0b11 << 8;
        /// The slot has no power.
        const POWER_OFF = 1 << 10;
        /// A written one moves the interlock.
        const ELECTROMECHANICAL_INTERLOCK = 1 << 11;
        /// A change of [`LinkStatus::DATA_LINK_LAYER_ACTIVE`] gives an interrupt.
        ///
        /// [`LinkStatus::DATA_LINK_LAYER_ACTIVE`]: super::express::LinkStatus::DATA_LINK_LAYER_ACTIVE
        const LINK_STATE_ENABLE = 1 << 12;
    }

    /// Slot status (7.5.3.11).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct SlotStatus: u16 {
        /// The attention button was pressed.
        const ATTENTION_BUTTON_PRESSED = 1 << 0;
        /// The slot's power failed.
        const POWER_FAULT = 1 << 1;
        /// The latch sensor changed.
        const MRL_SENSOR_CHANGED = 1 << 2;
        /// Presence changed.
        const PRESENCE_DETECT_CHANGED = 1 << 3;
        /// A command written to slot control is completed.
        const COMMAND_COMPLETED = 1 << 4;
        /// The latch is open.
        const MRL_SENSOR_OPEN = 1 << 5;
        /// There is a device in the slot.
        const PRESENCE_DETECT = 1 << 6;
        /// The interlock is engaged.
        const ELECTROMECHANICAL_INTERLOCK = 1 << 7;
        /// The link went up or down.
        const LINK_STATE_CHANGED = 1 << 8;
    }

    /// Root control (7.5.3.12).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct RootControl: u16 {
        /// Correctable errors are system errors.
        const SYSTEM_ERROR_ON_CORRECTABLE = 1 << 0;
        /// Non-fatal errors are system errors.
        const SYSTEM_ERROR_ON_NON_FATAL = 1 << 1;
        /// Fatal errors are system errors.
        const SYSTEM_ERROR_ON_FATAL = 1 << 2;
        /// Power management events give interrupts.
        const PME_INTERRUPT_ENABLE = 1 << 3;
        /// Software sees that a function is not ready yet, by a vendor id of 1.
        const CRS_SOFTWARE_VISIBILITY_ENABLE = 1 << 4;
    }

    /// Root capabilities (7.5.3.13).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct RootCapabilities: u16 {
        /// [`RootControl::CRS_SOFTWARE_VISIBILITY_ENABLE`] can be set.
        const CRS_SOFTWARE_VISIBILITY = 1 << 0;
    }

    /// Root status, but for the requester (7.5.3.14).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct RootStatus: u32 {
        /// There was a power management event; write one to clear.
        const PME_STATUS = 1 << 16;
        /// There are further ones.
        const PME_PENDING = 1 << 17;
    }
}

impl SlotStatus {
    /// The events, which software clears by writing ones.
    pub const EVENTS: Self = Self::ATTENTION_BUTTON_PRESSED
        .union(Self::POWER_FAULT)
        .union(Self::MRL_SENSOR_CHANGED)
        .union(Self::PRESENCE_DETECT_CHANGED)
        .union(Self::COMMAND_COMPLETED)
        .union(Self::LINK_STATE_CHANGED);
}

impl RootControl {
    /// The bits that software can write.
    pub const WRITABLE: Self = Self::all();
}

//! What the PCI Express registers of a port say: its kind, its link and its slot.

use crate::config_space::ConfigSpace;
use crate::registers::{Registers, halves};
use crate::spec::express::{
    CAPABILITIES, DEVICE_CONTROL_2, DeviceControl2, LINK_CAPABILITIES, LINK_CONTROL, LinkControl,
    LinkStatus,
};
use crate::spec::port::{
    ATTENTION_INDICATOR_SHIFT, POWER_INDICATOR_SHIFT, ROOT_CONTROL, RootControl, SLOT_CAPABILITIES,
    SLOT_CONTROL, SLOT_IMPLEMENTED, SLOT_NUMBER_SHIFT, SlotCapabilities, SlotControl, SlotStatus,
    TYPE_DOWNSTREAM, TYPE_MASK, TYPE_ROOT_PORT, TYPE_UPSTREAM,
};

/// What kind of port (PCI Express Base Specification 7.5.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PortKind {
    /// A root port.
    Root,
    /// The upstream port of a switch.
    Upstream,
    /// A downstream port of a switch.
    Downstream,
}

impl PortKind {
    /// There is a link below; an upstream port has its switch's own bus there.
    #[must_use]
    pub const fn has_link_below(self) -> bool {
        matches!(self, Self::Root | Self::Downstream)
    }

    /// Bits 7:4 of the PCI Express capabilities, in place.
    pub(crate) const fn device_type(self) -> u16 {
        match self {
            Self::Root => TYPE_ROOT_PORT,
            Self::Upstream => TYPE_UPSTREAM,
            Self::Downstream => TYPE_DOWNSTREAM,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Root => "a root port",
            Self::Upstream => "an upstream port",
            Self::Downstream => "a downstream port",
        }
    }
}

/// A port as software has set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortView {
    /// Its kind.
    pub kind: PortKind,
    /// Its port number, 0 to 255.
    pub number: u8,
    /// Requests are forwarded to all 256 functions of the bus below, or to 8 of them. Always false in
    /// an upstream port.
    pub ari_forwarding: bool,
    /// The link below is up, so what is there is reached; always true in an upstream port.
    pub link_active: bool,
    /// Software disabled the link below.
    pub link_disabled: bool,
    /// Software sees which functions are not ready yet, by a vendor id of 1 (2.3.2); of a root port.
    pub crs_software_visibility: bool,
    /// The slot, if the port leads to one.
    pub slot: Option<SlotView>,
}

/// A port's slot as software has set it (7.5.3.9 to 7.5.3.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotView {
    /// The physical slot number, 0 to 8191.
    pub number: u16,
    /// What the slot has.
    pub capabilities: SlotCapabilities,
    /// There is a device in it.
    pub present: bool,
    /// It has power; always true without a power controller.
    pub powered: bool,
    /// The attention indicator; off if there is none.
    pub attention_indicator: Indicator,
    /// The power indicator; off if there is none.
    pub power_indicator: Indicator,
    /// Which events have happened that software has not cleared, and what else slot status tells.
    pub status: SlotStatus,
    /// Which events software wants interrupts for.
    pub control: SlotControl,
}

/// An indicator of a slot (6.7.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Indicator {
    /// Off.
    #[default]
    Off,
    /// Blinking.
    Blinking,
    /// On.
    On,
}

impl Indicator {
    fn of(control: SlotControl, shift: u32) -> Self {
        match control.bits() >> shift & 0b11 {
            1 => Self::On,
            2 => Self::Blinking,
            _ => Self::Off,
        }
    }
}

impl SlotView {
    fn read(registers: &Registers, base: u16) -> Self {
        let capabilities = registers.load(base + SLOT_CAPABILITIES);
        let [control, status] = halves(registers.load(base + SLOT_CONTROL));
        let control = SlotControl::from_bits_retain(control);
        let status = SlotStatus::from_bits_retain(status);
        let [_, high] = halves(capabilities);
        Self {
            number: high >> (SLOT_NUMBER_SHIFT - 16),
            capabilities: SlotCapabilities::from_bits_truncate(capabilities),
            present: status.contains(SlotStatus::PRESENCE_DETECT),
            powered: !control.contains(SlotControl::POWER_OFF),
            attention_indicator: Indicator::of(control, ATTENTION_INDICATOR_SHIFT),
            power_indicator: Indicator::of(control, POWER_INDICATOR_SHIFT),
            status,
            control,
        }
    }
}

impl ConfigSpace {
    /// The port; `None` if the function is none.
    #[must_use]
    pub fn port(&self) -> Option<PortView> {
        let base = self.places.express?;
        let registers = &self.registers;
        let [_, capabilities] = halves(registers.load(base + (CAPABILITIES & !3)));
        let kind = port_kind(capabilities)?;
        let [control, status] = halves(registers.load(base + LINK_CONTROL));
        let [control_2, _] = halves(registers.load(base + DEVICE_CONTROL_2));
        let [root_control, _] = halves(registers.load(base + ROOT_CONTROL));
        let [.., number] = registers.load(base + LINK_CAPABILITIES).to_le_bytes();
        let link = LinkStatus::from_bits_retain(status);
        Some(PortView {
            kind,
            number,
            ari_forwarding: DeviceControl2::from_bits_retain(control_2)
                .contains(DeviceControl2::ARI_FORWARDING),
            link_active: !kind.has_link_below()
                || link.contains(LinkStatus::DATA_LINK_LAYER_ACTIVE),
            link_disabled: LinkControl::from_bits_retain(control)
                .contains(LinkControl::LINK_DISABLE),
            crs_software_visibility: RootControl::from_bits_retain(root_control)
                .contains(RootControl::CRS_SOFTWARE_VISIBILITY_ENABLE),
            slot: (capabilities & SLOT_IMPLEMENTED != 0).then(|| SlotView::read(registers, base)),
        })
    }
}

/// What kind of port the PCI Express capabilities register says; `None` if it is none.
pub(crate) fn port_kind(capabilities: u16) -> Option<PortKind> {
    match capabilities & TYPE_MASK {
        TYPE_ROOT_PORT => Some(PortKind::Root),
        TYPE_UPSTREAM => Some(PortKind::Upstream),
        TYPE_DOWNSTREAM => Some(PortKind::Downstream),
        _ => None,
    }
}

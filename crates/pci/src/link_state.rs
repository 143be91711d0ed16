//! The link below a root port or downstream port: up while there is a device, the slot has power,
//! and neither software nor [`set_link_active`](ConfigSpace::set_link_active) keeps it down. What
//! plugs and unplugs is in `slot_control`.

use crate::bridge;
use crate::config_space::ConfigSpace;
use crate::effects::Effects;
use crate::spec::bridge::BridgeControl;
use crate::spec::express::{LINK_CONTROL, LinkControl, LinkStatus};
use crate::spec::port::{POWER_INDICATOR_SHIFT, SLOT_CONTROL, SlotControl, SlotStatus};

/// What the registers do not say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LinkState {
    /// There is a device at the other end.
    pub(crate) present: bool,
    /// The link does not come up whatever software does.
    pub(crate) held_down: bool,
}

const ACTIVE: u32 = (LinkStatus::DATA_LINK_LAYER_ACTIVE.bits() as u32) << 16;
const PRESENT: u32 = (SlotStatus::PRESENCE_DETECT.bits() as u32) << 16;

impl ConfigSpace {
    /// The link is as it has to be after a reset, which is no event, and so is the slot: with
    /// power, and the indicator of it on if there is a device.
    pub(crate) fn reset_link(&mut self) {
        let Some(base) = self.places.link else { return };
        self.show_presence(base);
        let indicator = u32::from(SlotControl::POWER_INDICATOR.bits());
        if self.link.present && self.registers.write_mask(base + SLOT_CONTROL) & indicator != 0 {
            let on = 1 << POWER_INDICATOR_SHIFT;
            self.registers.store(base + SLOT_CONTROL, indicator, on);
        }
        let active = if self.link_wanted(base) { ACTIVE } else { 0 };
        self.registers.store(base + LINK_CONTROL, ACTIVE, active);
    }

    /// Whether slot status shows a device.
    pub(crate) fn show_presence(&mut self, base: u16) {
        if self.port().is_some_and(|port| port.slot.is_some()) {
            let present = if self.link.present { PRESENT } else { 0 };
            self.registers.store(base + SLOT_CONTROL, PRESENT, present);
        }
    }

    /// Lets the link go up or down if it has to.
    pub(crate) fn settle_link(&mut self) -> Effects {
        let Some(base) = self.places.link else {
            return Effects::empty();
        };
        let active = self.registers.load(base + LINK_CONTROL) & ACTIVE != 0;
        let wanted = self.link_wanted(base);
        if active == wanted {
            return Effects::empty();
        }
        let bits = if wanted { ACTIVE } else { 0 };
        self.registers.store(base + LINK_CONTROL, ACTIVE, bits);
        Effects::LINK | self.raise_slot_event(SlotStatus::LINK_STATE_CHANGED)
    }

    fn link_wanted(&self, base: u16) -> bool {
        let link = self.registers.load(base + LINK_CONTROL);
        let slot = self.registers.load(base + SLOT_CONTROL);
        let disabled = link & u32::from(LinkControl::LINK_DISABLE.bits()) != 0;
        let off = slot & u32::from(SlotControl::POWER_OFF.bits()) != 0;
        let reset = bridge::control(&self.registers).contains(BridgeControl::SECONDARY_BUS_RESET);
        self.link.present && !self.link.held_down && !disabled && !off && !reset
    }
}

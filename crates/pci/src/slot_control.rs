//! A port's slot from the side of whoever puts devices in: presence, the attention button and the
//! link. What the registers say is in `port_view`; whether the link is up is worked out in
//! `link_state`.

use crate::capability::slot::interrupts;
use crate::config_space::ConfigSpace;
use crate::effects::Effects;
use crate::spec::port::{SLOT_CONTROL, SlotCapabilities, SlotStatus};

/// All do nothing in a function that has no link below, and no event without a hot-plug capable slot.
///
/// [`Effects::PORT_INTERRUPT`] is among the effects if the event is one that software wants an
/// interrupt for and no other such event is pending yet (PCI Express Base Specification 6.7.3.4).
impl ConfigSpace {
    /// A device was put in or taken out. The link goes up or down with it if the slot has power
    /// ([`Effects::LINK`]).
    ///
    /// A slot has power after a reset; software turns off an empty one, and on again when it
    /// finds a device in it.
    pub fn set_presence(&mut self, present: bool) -> Effects {
        let Some(base) = self.places.link.filter(|_| self.link.present != present) else {
            return Effects::empty();
        };
        self.link.present = present;
        // The next device has a link of its own.
        self.link.held_down &= present;
        self.show_presence(base);
        let changed = self.raise_slot_event(SlotStatus::PRESENCE_DETECT_CHANGED);
        changed | self.settle_link()
    }

    /// The link to a device that is there goes down and stays down, whatever software does, or may
    /// be up again. Taking out the device also ends it.
    pub fn set_link_active(&mut self, active: bool) -> Effects {
        self.link.held_down = self.link.present && !active;
        self.settle_link()
    }

    /// Somebody pressed the attention button. Nothing happens without one.
    pub fn press_attention_button(&mut self) -> Effects {
        let button = SlotCapabilities::ATTENTION_BUTTON;
        let slot = self.port().and_then(|port| port.slot);
        if slot.is_some_and(|slot| slot.capabilities.contains(button)) {
            self.raise_slot_event(SlotStatus::ATTENTION_BUTTON_PRESSED)
        } else {
            Effects::empty()
        }
    }

    /// The slot's power fails; whether the link stays up is for
    /// [`set_link_active`](Self::set_link_active). Nothing happens without a power controller.
    pub fn fail_power(&mut self) -> Effects {
        let controller = SlotCapabilities::POWER_CONTROLLER;
        let slot = self.port().and_then(|port| port.slot);
        if slot.is_some_and(|slot| slot.capabilities.contains(controller)) {
            self.raise_slot_event(SlotStatus::POWER_FAULT)
        } else {
            Effects::empty()
        }
    }

    /// Sets an event of a hot-plug capable slot.
    pub(crate) fn raise_slot_event(&mut self, event: SlotStatus) -> Effects {
        let slot = self.port().and_then(|port| port.slot);
        let hot_plug = SlotCapabilities::HOT_PLUG_CAPABLE;
        let (Some(base), Some(slot)) = (self.places.link, slot) else {
            return Effects::empty();
        };
        if !slot.capabilities.contains(hot_plug) {
            return Effects::empty();
        }
        let before = self.registers.load(base + SLOT_CONTROL);
        let bits = u32::from(event.bits()) << 16;
        self.registers.store(base + SLOT_CONTROL, bits, bits);
        if !interrupts(before) && interrupts(before | bits) {
            Effects::PORT_INTERRUPT
        } else {
            Effects::empty()
        }
    }
}

//! The slot that a port leads to: what it has, and its registers in the port's PCI Express capability
//! (PCI Express Base Specification 7.5.3.9 to 7.5.3.11, 6.7).

use super::{Change, Window};
use crate::effects::Effects;
use crate::error::ConfigError;
use crate::registers::{Field, halves};
use crate::spec::port::{
    self, SLOT_CAPABILITIES, SLOT_CONTROL, SLOT_STATUS, SlotCapabilities, SlotControl, SlotStatus,
};

/// What a slot can have here: no latch sensor and no interlock.
const POSSIBLE: SlotCapabilities = SlotCapabilities::ATTENTION_BUTTON
    .union(SlotCapabilities::POWER_CONTROLLER)
    .union(SlotCapabilities::ATTENTION_INDICATOR)
    .union(SlotCapabilities::POWER_INDICATOR)
    .union(SlotCapabilities::HOT_PLUG_SURPRISE)
    .union(SlotCapabilities::HOT_PLUG_CAPABLE)
    .union(SlotCapabilities::NO_COMMAND_COMPLETED);

/// A slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    number: u16,
    capabilities: SlotCapabilities,
}

impl Slot {
    /// A slot whose device is there when power comes and stays there. The number is the one on the chassis,
    /// 0 to 8191, and no other slot has it.
    #[must_use]
    pub const fn new(number: u16) -> Self {
        Self {
            number,
            capabilities: SlotCapabilities::empty(),
        }
    }

    /// A slot with native hot plug: a power controller, both indicators, and devices that may
    /// be taken away without notice. Software that finds a device there turns it on at once.
    /// Commands take no time and are not reported as completed.
    #[must_use]
    pub const fn hot_plug(number: u16) -> Self {
        let capabilities = SlotCapabilities::POWER_CONTROLLER
            .union(SlotCapabilities::ATTENTION_INDICATOR)
            .union(SlotCapabilities::POWER_INDICATOR)
            .union(SlotCapabilities::HOT_PLUG_SURPRISE)
            .union(SlotCapabilities::HOT_PLUG_CAPABLE)
            .union(SlotCapabilities::NO_COMMAND_COMPLETED);
        Self {
            number,
            capabilities,
        }
    }

    /// Adds an attention button. Software then turns a device on after the button was pressed, and no
    /// more when it finds it there; Linux waits 5 seconds for a second press, which takes the first one back.
    #[must_use]
    pub const fn attention_button(self) -> Self {
        let button = SlotCapabilities::ATTENTION_BUTTON;
        Self {
            capabilities: self.capabilities.union(button),
            ..self
        }
    }

    /// Has these capabilities and no others. Without
    /// [`NO_COMMAND_COMPLETED`](SlotCapabilities::NO_COMMAND_COMPLETED) every write to slot
    /// control is reported as completed when it is done, which is at once. Latch sensors and interlocks
    /// are refused.
    #[must_use]
    pub const fn capabilities(self, capabilities: SlotCapabilities) -> Self {
        Self {
            capabilities,
            ..self
        }
    }

    fn has(self, capability: SlotCapabilities) -> bool {
        self.capabilities.contains(capability)
    }

    pub(super) fn check(self) -> Result<(), ConfigError> {
        if self.number > port::SLOT_NUMBER_MAX {
            return Err(ConfigError::SlotNumber(self.number));
        }
        let impossible = self.capabilities.difference(POSSIBLE);
        if !impossible.is_empty() {
            return Err(ConfigError::SlotCapabilities(impossible.bits()));
        }
        Ok(())
    }

    /// The bits of slot control that software can write.
    fn writable(self) -> SlotControl {
        let has = |capability| self.has(capability);
        let hot_plug = has(SlotCapabilities::HOT_PLUG_CAPABLE);
        let completes = hot_plug && !has(SlotCapabilities::NO_COMMAND_COMPLETED);
        let button = has(SlotCapabilities::ATTENTION_BUTTON);
        let power = has(SlotCapabilities::POWER_CONTROLLER);
        let mut writable = SlotControl::empty();
        for (bits, present) in [
            (SlotControl::ATTENTION_BUTTON_ENABLE, button),
            (SlotControl::POWER_FAULT_ENABLE, power),
            (SlotControl::POWER_OFF, power),
            (
                SlotControl::ATTENTION_INDICATOR,
                has(SlotCapabilities::ATTENTION_INDICATOR),
            ),
            (
                SlotControl::POWER_INDICATOR,
                has(SlotCapabilities::POWER_INDICATOR),
            ),
            (SlotControl::COMMAND_COMPLETED_ENABLE, completes),
            (SlotControl::PRESENCE_DETECT_ENABLE, hot_plug),
            (SlotControl::HOT_PLUG_INTERRUPT_ENABLE, hot_plug),
            (SlotControl::LINK_STATE_ENABLE, hot_plug),
        ] {
            writable.set(bits, present);
        }
        writable
    }

    pub(super) fn lay_out(self, window: &mut Window<'_>) {
        let capabilities =
            self.capabilities.bits() | u32::from(self.number) << port::SLOT_NUMBER_SHIFT;
        window.define_u32(SLOT_CAPABILITIES, Field::read_only(capabilities));
        let writable = self.writable();
        // Indicators that are there are off: 3.
        let indicators = SlotControl::ATTENTION_INDICATOR | SlotControl::POWER_INDICATOR;
        let off = writable & indicators;
        window.define_u16(
            SLOT_CONTROL,
            Field::read_only(off.bits().into()).writable(writable.bits().into()),
        );
        window.define_u16(
            SLOT_STATUS,
            Field::read_only(0).write_one_to_clear(SlotStatus::EVENTS.bits().into()),
        );
    }

    /// Software wrote to slot control or slot status.
    pub(super) fn written(self, window: &mut Window<'_>, change: Change) -> Effects {
        for indicator in [
            SlotControl::ATTENTION_INDICATOR,
            SlotControl::POWER_INDICATOR,
        ] {
            // 0 is reserved: the indicator stays as it is.
            let bits = u32::from(indicator.bits());
            if change.after & bits == 0 {
                window.set_u32(SLOT_CONTROL, bits, change.before);
            }
        }
        let written = window.get_u32(SLOT_CONTROL);
        let commands = SlotControl::ATTENTION_INDICATOR
            | SlotControl::POWER_INDICATOR
            | SlotControl::POWER_OFF;
        let mut effects = Effects::empty();
        effects.set(
            Effects::SLOT,
            (change.before ^ written) & u32::from(commands.bits()) != 0,
        );
        let mut interrupt = !interrupts(change.before) && interrupts(written);
        let command = change.enable & u32::from(u16::MAX) != 0;
        let completes = SlotCapabilities::HOT_PLUG_CAPABLE;
        if command && self.has(completes) && !self.has(SlotCapabilities::NO_COMMAND_COMPLETED) {
            let bit = u32::from(SlotStatus::COMMAND_COMPLETED.bits()) << 16;
            window.set_u32(SLOT_CONTROL, bit, bit);
            interrupt |= !interrupts(written) && interrupts(window.get_u32(SLOT_CONTROL));
        }
        effects.set(Effects::PORT_INTERRUPT, interrupt);
        effects
    }
}

/// Whether slot control and status, in one word, ask for an interrupt: a message is sent whenever
/// this becomes true (6.7.3.4).
pub(crate) fn interrupts(word: u32) -> bool {
    let [control, status] = halves(word);
    let control = SlotControl::from_bits_retain(control);
    let status = SlotStatus::from_bits_retain(status);
    let pairs = [
        (
            SlotControl::ATTENTION_BUTTON_ENABLE,
            SlotStatus::ATTENTION_BUTTON_PRESSED,
        ),
        (SlotControl::POWER_FAULT_ENABLE, SlotStatus::POWER_FAULT),
        (
            SlotControl::PRESENCE_DETECT_ENABLE,
            SlotStatus::PRESENCE_DETECT_CHANGED,
        ),
        (
            SlotControl::COMMAND_COMPLETED_ENABLE,
            SlotStatus::COMMAND_COMPLETED,
        ),
        (
            SlotControl::LINK_STATE_ENABLE,
            SlotStatus::LINK_STATE_CHANGED,
        ),
    ];
    control.contains(SlotControl::HOT_PLUG_INTERRUPT_ENABLE)
        && pairs
            .iter()
            .any(|(enable, event)| control.contains(*enable) && status.contains(*event))
}

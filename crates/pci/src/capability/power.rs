//! The PCI power management capability (PCI Express Base Specification 7.5.2).

use super::{BarPlan, Capability, CapabilityRegisters, Change, Window};
use crate::effects::Effects;
use crate::error::ConfigError;
use crate::registers::Field;
use crate::spec::capability_id;
use crate::spec::power::{self, PowerCapabilities, PowerControl, PowerState};

/// Power management: D0 and D3hot, and D1, D2 and PME when asked for.
#[derive(Clone, Copy, Debug)]
pub struct PowerManagement {
    capabilities: PowerCapabilities,
    soft_reset: bool,
}

impl PowerManagement {
    /// D0 and D3hot, no PME; going back to D0 keeps the function's state (No Soft Reset).
    #[must_use]
    pub const fn new() -> Self {
        Self {
            capabilities: PowerCapabilities::empty(),
            soft_reset: false,
        }
    }

    /// Adds D1, D2 and the states from which PME can be sent.
    #[must_use]
    pub const fn with(self, capabilities: PowerCapabilities) -> Self {
        Self {
            capabilities: self.capabilities.union(capabilities),
            ..self
        }
    }

    /// Going from D3hot to D0 resets the function (No Soft Reset is clear).
    #[must_use]
    pub const fn with_soft_reset(self) -> Self {
        Self {
            soft_reset: true,
            ..self
        }
    }

    fn supports(self, state: PowerState) -> bool {
        match state {
            PowerState::D0 | PowerState::D3Hot => true,
            PowerState::D1 => self.capabilities.contains(PowerCapabilities::D1),
            PowerState::D2 => self.capabilities.contains(PowerCapabilities::D2),
        }
    }
}

impl Default for PowerManagement {
    fn default() -> Self {
        Self::new()
    }
}

impl CapabilityRegisters for PowerManagement {
    fn name(&self) -> &'static str {
        "power management"
    }

    fn length(&self) -> u16 {
        power::LENGTH
    }

    fn check(&self, _bars: &mut BarPlan) -> Result<(), ConfigError> {
        Ok(())
    }

    fn lay_out(&self, window: &mut Window<'_>) {
        let capabilities = power::VERSION | self.capabilities.bits();
        window.define_u16(power::CAPABILITIES, Field::read_only(capabilities.into()));

        let reset = if self.soft_reset {
            PowerControl::empty()
        } else {
            PowerControl::NO_SOFT_RESET
        };
        let mut control =
            Field::read_only(reset.bits().into()).writable(PowerControl::POWER_STATE.bits().into());
        if self.capabilities.intersects(PowerCapabilities::PME_SUPPORT) {
            control = control
                .writable(PowerControl::PME_ENABLE.bits().into())
                .write_one_to_clear(PowerControl::PME_STATUS.bits().into());
        }
        if self.capabilities.contains(PowerCapabilities::PME_D3_COLD) {
            let context = PowerControl::PME_ENABLE.union(PowerControl::PME_STATUS);
            control = control.sticky(context.bits().into());
        }
        window.define_u16(power::CONTROL_STATUS, control);
    }

    fn written(&mut self, window: &mut Window<'_>, change: Change) -> Effects {
        if change.offset != power::CONTROL_STATUS {
            return Effects::empty();
        }
        let before = state(change.before);
        let after = state(change.after);
        if !self.supports(after) {
            let mask = PowerControl::POWER_STATE.bits().into();
            window.set_u32(power::CONTROL_STATUS, mask, change.before);
            return Effects::empty();
        }
        match (before, after) {
            (before, after) if before == after => Effects::empty(),
            (PowerState::D3Hot, PowerState::D0) if self.soft_reset => {
                Effects::POWER_STATE | Effects::FUNCTION_LEVEL_RESET
            }
            _ => Effects::POWER_STATE,
        }
    }
}

impl Capability for PowerManagement {
    fn id(&self) -> u8 {
        capability_id::POWER_MANAGEMENT
    }
}

/// The power state in the word at [`power::CONTROL_STATUS`].
pub(crate) fn state(word: u32) -> PowerState {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the register is the low half of the word"
    )]
    let control = word as u16;
    PowerState::of(PowerControl::from_bits_retain(control))
}

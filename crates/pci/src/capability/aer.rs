//! The advanced error reporting extended capability (PCI Express Base Specification 7.8.4): its
//! registers. What an error does to them is in `error_reporting`.

use super::{BarPlan, CapabilityRegisters, Change, ExtendedCapability, Window};
use crate::effects::Effects;
use crate::error::ConfigError;
use crate::registers::Field;
use crate::spec::aer::{
    self, CorrectableError, RootErrorCommand, RootErrorStatus, UncorrectableError,
};
use crate::spec::extended::extended_capability_id;

/// Bytes of the header log.
const HEADER_LOG_LENGTH: u16 = 16;

/// Advanced error reporting: errors with masks and severities, and the header of the packet with the
/// first one. Without checksums from end to end and with room for one header.
#[derive(Clone, Copy, Debug)]
pub struct Aer {
    root: bool,
}

impl Aer {
    /// Of an endpoint or of a port of a switch.
    #[must_use]
    pub const fn new() -> Self {
        Self { root: false }
    }

    /// Of a root port, which also receives the messages of the functions below it.
    #[must_use]
    pub const fn root_port() -> Self {
        Self { root: true }
    }
}

impl Default for Aer {
    fn default() -> Self {
        Self::new()
    }
}

impl CapabilityRegisters for Aer {
    fn name(&self) -> &'static str {
        "advanced error reporting"
    }

    fn length(&self) -> u16 {
        if self.root {
            aer::ROOT_LENGTH
        } else {
            aer::LENGTH
        }
    }

    fn check(&self, _bars: &mut BarPlan) -> Result<(), ConfigError> {
        Ok(())
    }

    fn lay_out(&self, window: &mut Window<'_>) {
        let uncorrectable = UncorrectableError::all().bits();
        let correctable = CorrectableError::all().bits();
        let mask = UncorrectableError::MASK_RESET.bits();
        let fatal = UncorrectableError::FATAL_RESET.bits();
        for (offset, reset) in [
            (aer::UNCORRECTABLE_MASK, mask),
            (aer::UNCORRECTABLE_SEVERITY, fatal),
        ] {
            let field = Field::read_only(reset).writable(uncorrectable);
            window.define_u32(offset, field.sticky(uncorrectable));
        }
        let mask = Field::read_only(CorrectableError::MASK_RESET.bits());
        let mask = mask.writable(correctable).sticky(correctable);
        window.define_u32(aer::CORRECTABLE_MASK, mask);
        for (offset, bits) in [
            (aer::UNCORRECTABLE_STATUS, uncorrectable),
            (aer::CORRECTABLE_STATUS, correctable),
        ] {
            let status = Field::read_only(0).write_one_to_clear(bits).sticky(bits);
            window.define_u32(offset, status);
        }
        let pointer = Field::read_only(0).sticky(aer::FIRST_ERROR_POINTER);
        window.define_u32(aer::CAPABILITIES_CONTROL, pointer);
        let log = aer::HEADER_LOG..aer::HEADER_LOG + HEADER_LOG_LENGTH;
        for offset in log.step_by(4) {
            window.define_u32(offset, Field::read_only(0).sticky(u32::MAX));
        }
        if self.root {
            let command = RootErrorCommand::all().bits();
            window.define_u32(aer::ROOT_COMMAND, Field::read_only(0).writable(command));
            let bits = RootErrorStatus::all().bits();
            let status = Field::read_only(0).write_one_to_clear(bits).sticky(bits);
            window.define_u32(aer::ROOT_STATUS, status);
            let source = Field::read_only(0).sticky(u32::MAX);
            window.define_u32(aer::ERROR_SOURCE, source);
        }
    }

    fn written(&mut self, window: &mut Window<'_>, change: Change) -> Effects {
        if !self.root || change.offset != aer::ROOT_COMMAND {
            return Effects::empty();
        }
        let status = window.get_u32(aer::ROOT_STATUS);
        if !interrupts(change.before, status) && interrupts(change.after, status) {
            Effects::PORT_INTERRUPT
        } else {
            Effects::empty()
        }
    }
}

impl ExtendedCapability for Aer {
    fn id(&self) -> u16 {
        extended_capability_id::ADVANCED_ERROR_REPORTING
    }
}

/// Whether root error command and status ask for an interrupt: a message is sent whenever this becomes
/// true (6.2.4.1.2).
pub(crate) fn interrupts(command: u32, status: u32) -> bool {
    let command = RootErrorCommand::from_bits_retain(command);
    let status = RootErrorStatus::from_bits_retain(status);
    let pairs = [
        (
            RootErrorCommand::CORRECTABLE_REPORTING_ENABLE,
            RootErrorStatus::CORRECTABLE_RECEIVED,
        ),
        (
            RootErrorCommand::NON_FATAL_REPORTING_ENABLE,
            RootErrorStatus::NON_FATAL_RECEIVED,
        ),
        (
            RootErrorCommand::FATAL_REPORTING_ENABLE,
            RootErrorStatus::FATAL_RECEIVED,
        ),
    ];
    pairs
        .iter()
        .any(|(enable, received)| command.contains(*enable) && status.contains(*received))
}

//! What the registers of an advanced error reporting capability say (PCI Express Base Specification
//! 7.8.4).

use crate::config_space::ConfigSpace;
use crate::registers::{Registers, halves};
use crate::routing_id::RoutingId;
use crate::spec::aer::{
    CAPABILITIES_CONTROL, CORRECTABLE_MASK, CORRECTABLE_STATUS, CorrectableError, ERROR_SOURCE,
    FIRST_ERROR_POINTER, HEADER_LOG, ROOT_COMMAND, ROOT_STATUS, RootErrorCommand, RootErrorStatus,
    UNCORRECTABLE_MASK, UNCORRECTABLE_SEVERITY, UNCORRECTABLE_STATUS, UncorrectableError,
};

/// Advanced error reporting as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AerView {
    /// Uncorrectable errors that software has not cleared.
    pub uncorrectable_status: UncorrectableError,
    /// Uncorrectable errors that are not reported.
    pub uncorrectable_mask: UncorrectableError,
    /// Uncorrectable errors that are fatal; the others are not.
    pub uncorrectable_severity: UncorrectableError,
    /// Correctable errors that software has not cleared.
    pub correctable_status: CorrectableError,
    /// Correctable errors that are not reported.
    pub correctable_mask: CorrectableError,
    /// The error that was logged, until software clears it.
    pub first_error: Option<UncorrectableError>,
    /// The header that was logged with it; zeros if it had none.
    pub header_log: [u32; 4],
    /// What a root port has received.
    pub root: Option<RootErrorView>,
}

/// What a root port has received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RootErrorView {
    /// Which messages give interrupts.
    pub command: RootErrorCommand,
    /// Which messages came that software has not cleared.
    pub status: RootErrorStatus,
    /// Where the first correctable one came from.
    pub correctable_source: RoutingId,
    /// Where the first uncorrectable one came from.
    pub uncorrectable_source: RoutingId,
}

impl ConfigSpace {
    /// Advanced error reporting; `None` without the capability.
    #[must_use]
    pub fn aer(&self) -> Option<AerView> {
        let base = self.places.aer?;
        let load = |offset| self.registers.load(base + offset);
        let uncorrectable = |offset| UncorrectableError::from_bits_retain(load(offset));
        let correctable = |offset| CorrectableError::from_bits_retain(load(offset));
        let uncorrectable_status = uncorrectable(UNCORRECTABLE_STATUS);
        let pointer = load(CAPABILITIES_CONTROL) & FIRST_ERROR_POINTER;
        let first = UncorrectableError::from_bits_retain(1 << pointer);
        Some(AerView {
            uncorrectable_status,
            uncorrectable_mask: uncorrectable(UNCORRECTABLE_MASK),
            uncorrectable_severity: uncorrectable(UNCORRECTABLE_SEVERITY),
            correctable_status: correctable(CORRECTABLE_STATUS),
            correctable_mask: correctable(CORRECTABLE_MASK),
            first_error: uncorrectable_status.contains(first).then_some(first),
            header_log: [0, 4, 8, 12].map(|offset| load(HEADER_LOG + offset)),
            root: self
                .places
                .root_errors
                .map(|base| RootErrorView::read(&self.registers, base)),
        })
    }
}

impl RootErrorView {
    fn read(registers: &Registers, base: u16) -> Self {
        let [correctable, uncorrectable] = halves(registers.load(base + ERROR_SOURCE));
        Self {
            command: RootErrorCommand::from_bits_retain(registers.load(base + ROOT_COMMAND)),
            status: RootErrorStatus::from_bits_retain(registers.load(base + ROOT_STATUS)),
            correctable_source: correctable.into(),
            uncorrectable_source: uncorrectable.into(),
        }
    }
}

//! Errors as functions report them, bridges pass them on and root ports receive them (PCI Express
//! Base Specification 6.2). What the registers say is in `aer_view`.

use crate::bridge;
use crate::capability::aer::interrupts;
use crate::config_space::ConfigSpace;
use crate::effects::Effects;
use crate::registers::halves;
use crate::routing_id::RoutingId;
use crate::spec::aer::{
    CAPABILITIES_CONTROL, CORRECTABLE_MASK, CORRECTABLE_STATUS, CorrectableError, ERROR_SOURCE,
    FIRST_ERROR_POINTER, HEADER_LOG, ROOT_COMMAND, ROOT_STATUS, RootErrorStatus,
    UNCORRECTABLE_MASK, UNCORRECTABLE_SEVERITY, UNCORRECTABLE_STATUS, UncorrectableError,
};
use crate::spec::bridge::{BridgeControl, SecondaryStatus};
use crate::spec::express::{DEVICE_CONTROL, DeviceControl, DeviceStatus};
use crate::spec::header::{Command, Status};

/// What a function detected: errors that happen together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DetectedError {
    /// Errors that hardware put right.
    Correctable(CorrectableError),
    /// Errors that it did not; the capability's severity register says which are fatal.
    Uncorrectable(UncorrectableError),
}

/// A message to the root port (2.2.8.3), from the least severe on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorMessage {
    /// `ERR_COR`.
    Correctable,
    /// `ERR_NONFATAL`.
    NonFatal,
    /// `ERR_FATAL`.
    Fatal,
}

impl ErrorMessage {
    /// What lets a function send it.
    fn reporting(self) -> DeviceControl {
        match self {
            Self::Correctable => DeviceControl::CORRECTABLE_ERROR_REPORTING,
            Self::NonFatal => DeviceControl::NON_FATAL_ERROR_REPORTING,
            Self::Fatal => DeviceControl::FATAL_ERROR_REPORTING,
        }
    }
}

impl ConfigSpace {
    /// The function detected an error: sets status bits, here and in the PCI Express capability, and
    /// logs the first unmasked uncorrectable one with its packet's header, if it has one, first byte in bits 31:24
    /// of the first word. Without advanced error reporting nothing is masked or logged.
    ///
    /// Returns the message that goes up from the function, if any: the most severe one of the errors that are neither masked
    /// nor kept back by Device Control, where SERR# Enable lets uncorrectable ones pass too. In
    /// a root port it is for [`receive_error`](Self::receive_error) of the same port.
    ///
    /// Whether an error is advisory is decided by the caller, who then records
    /// [`CorrectableError::ADVISORY_NON_FATAL`].
    #[must_use = "the message is for the ports above"]
    pub fn record_error(
        &mut self,
        error: DetectedError,
        header_log: Option<[u32; 4]>,
    ) -> Option<ErrorMessage> {
        match error {
            DetectedError::Correctable(errors) => {
                self.record_correctable(errors & CorrectableError::all())
            }
            DetectedError::Uncorrectable(errors) => {
                self.record_uncorrectable(errors & UncorrectableError::all(), header_log)
            }
        }
    }

    fn record_correctable(&mut self, errors: CorrectableError) -> Option<ErrorMessage> {
        if errors.is_empty() {
            return None;
        }
        self.raise_device_status(DeviceStatus::CORRECTABLE_ERROR);
        let mut unmasked = errors.bits();
        if let Some(base) = self.places.aer {
            let at = base + CORRECTABLE_STATUS;
            self.registers.store(at, errors.bits(), errors.bits());
            unmasked &= !self.registers.load(base + CORRECTABLE_MASK);
        }
        let message = ErrorMessage::Correctable;
        let sent = unmasked != 0 && self.device_control().contains(message.reporting());
        sent.then_some(message)
    }

    fn record_uncorrectable(
        &mut self,
        errors: UncorrectableError,
        header_log: Option<[u32; 4]>,
    ) -> Option<ErrorMessage> {
        let mut fatal = UncorrectableError::FATAL_RESET;
        let mut unmasked = errors;
        if let Some(base) = self.places.aer {
            let load = |offset| UncorrectableError::from_bits_retain(self.registers.load(offset));
            fatal = load(base + UNCORRECTABLE_SEVERITY);
            unmasked -= load(base + UNCORRECTABLE_MASK);
            self.log(base, unmasked, header_log);
            let at = base + UNCORRECTABLE_STATUS;
            self.registers.store(at, errors.bits(), errors.bits());
        }
        let unsupported = UncorrectableError::UNSUPPORTED_REQUEST;
        for (status, detected) in [
            (DeviceStatus::FATAL_ERROR, errors.intersects(fatal)),
            (DeviceStatus::NON_FATAL_ERROR, !(errors - fatal).is_empty()),
            (
                DeviceStatus::UNSUPPORTED_REQUEST,
                errors.contains(unsupported),
            ),
        ] {
            if detected {
                self.raise_device_status(status);
            }
        }
        let mut reported = unmasked;
        let serr = self.command().contains(Command::SERR_ENABLE);
        let control = self.device_control();
        if !serr && !control.contains(DeviceControl::UNSUPPORTED_REQUEST_REPORTING) {
            reported -= unsupported;
        }
        let messages = [
            (ErrorMessage::Fatal, reported & fatal),
            (ErrorMessage::NonFatal, reported - fatal),
        ];
        let (message, _) = messages.into_iter().find(|(message, errors)| {
            !errors.is_empty() && (serr || control.contains(message.reporting()))
        })?;
        if serr {
            self.raise_status(Status::SIGNALED_SYSTEM_ERROR);
        }
        Some(message)
    }

    /// Logs the first of some errors, unless the error that was logged last is not cleared yet.
    fn log(&mut self, base: u16, errors: UncorrectableError, header_log: Option<[u32; 4]>) {
        let pointer = self.registers.load(base + CAPABILITIES_CONTROL) & FIRST_ERROR_POINTER;
        let status = self.registers.load(base + UNCORRECTABLE_STATUS);
        if errors.is_empty() || status >> pointer & 1 != 0 {
            return;
        }
        let first = errors.bits().trailing_zeros();
        let at = base + CAPABILITIES_CONTROL;
        self.registers.store(at, FIRST_ERROR_POINTER, first);
        let words = header_log.unwrap_or_default();
        for (word, offset) in words.into_iter().zip((base + HEADER_LOG..).step_by(4)) {
            self.registers.store(offset, u32::MAX, word);
        }
    }

    /// A message came from below a bridge, a root port too. Returns whether it goes on: SERR# Enable of
    /// Bridge Control is set, and, of a non-fatal or fatal one, SERR# Enable of the command
    /// register or its reporting in Device Control. Never in a function that is no bridge.
    #[must_use = "the message is for the ports above, or for this root port"]
    pub fn forward_error(&mut self, message: ErrorMessage) -> bool {
        let correctable = message == ErrorMessage::Correctable;
        if !correctable {
            self.raise_secondary_status(SecondaryStatus::RECEIVED_SYSTEM_ERROR);
        }
        let control = bridge::control(&self.registers);
        if !self.is_bridge || !control.contains(BridgeControl::SERR_ENABLE) {
            return false;
        }
        let serr = self.command().contains(Command::SERR_ENABLE);
        if serr && !correctable {
            self.raise_status(Status::SIGNALED_SYSTEM_ERROR);
        }
        correctable || serr || self.device_control().contains(message.reporting())
    }

    /// A message reached the root port, from a function at `source` below and
    /// [forwarded](Self::forward_error) by this port too, or from the port itself. Sets root error status and error source;
    /// [`Effects::PORT_INTERRUPT`] if software wants an interrupt for it and none for an earlier one is pending. Does
    /// nothing without a root port's advanced error reporting.
    pub fn receive_error(&mut self, message: ErrorMessage, source: RoutingId) -> Effects {
        let Some(base) = self.places.root_errors else {
            return Effects::empty();
        };
        let before = RootErrorStatus::from_bits_retain(self.registers.load(base + ROOT_STATUS));
        let (received, multiple, mut more, shift) = match message {
            ErrorMessage::Correctable => (
                RootErrorStatus::CORRECTABLE_RECEIVED,
                RootErrorStatus::MULTIPLE_CORRECTABLE_RECEIVED,
                RootErrorStatus::empty(),
                0,
            ),
            ErrorMessage::NonFatal | ErrorMessage::Fatal => (
                RootErrorStatus::UNCORRECTABLE_RECEIVED,
                RootErrorStatus::MULTIPLE_UNCORRECTABLE_RECEIVED,
                match message {
                    ErrorMessage::Fatal => RootErrorStatus::FATAL_RECEIVED,
                    _ => RootErrorStatus::NON_FATAL_RECEIVED,
                },
                16,
            ),
        };
        if before.contains(received) {
            more |= multiple;
        } else {
            if message == ErrorMessage::Fatal {
                more |= RootErrorStatus::FIRST_UNCORRECTABLE_FATAL;
            }
            let source = u32::from(source.get()) << shift;
            self.registers
                .store(base + ERROR_SOURCE, 0xffff << shift, source);
        }
        let after = before | received | more;
        self.registers
            .store(base + ROOT_STATUS, after.bits(), after.bits());
        let command = self.registers.load(base + ROOT_COMMAND);
        if !interrupts(command, before.bits()) && interrupts(command, after.bits()) {
            Effects::PORT_INTERRUPT
        } else {
            Effects::empty()
        }
    }

    /// Device Control; nothing is enabled without a PCI Express capability.
    fn device_control(&self) -> DeviceControl {
        self.places.express.map_or(DeviceControl::empty(), |base| {
            let [control, _] = halves(self.registers.load(base + DEVICE_CONTROL));
            DeviceControl::from_bits_retain(control)
        })
    }
}

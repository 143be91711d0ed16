//! What the commands ask for, done: devices into slots and out of them, with what software has to do for it, and faults.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdv_control::{ControlError, ErrorKind};
use hdv_pci::spec::aer::{CorrectableError, UncorrectableError};
use hdv_pci::spec::port::{SlotCapabilities, SlotControl};
use hdv_pci::topology::{Member, Parent, PortId};
use hdv_pci::{DetectedError, Indicator, SlotView};

use super::wire::{
    AttachArguments, Attached, DetachArguments, Detached, ERRORS_MAX, Fault, InjectArguments,
    Injected, SETTINGS_MAX, WAIT_MAX,
};
use super::{DeviceRequest, Published, refused};
use crate::domain::error::DomainError;
use crate::domain::injection::Injection;
use crate::domain::position::Position;

/// Somebody is at work at a port's slot, until this is dropped.
struct Turn<'a> {
    busy: &'a Mutex<BTreeSet<PortId>>,
    port: PortId,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.remove(&self.port);
    }
}

fn busy(message: String) -> ControlError {
    ControlError::new(ErrorKind::Busy, message)
}

fn limit(wait: u64) -> Result<Duration, ControlError> {
    if wait > WAIT_MAX {
        let message = format!("{wait} milliseconds are too long to wait; at most {WAIT_MAX} are");
        return Err(ControlError::bad_arguments(message));
    }
    Ok(Duration::from_millis(wait))
}

impl Published {
    fn find(&self, place: &str) -> Result<Member, ControlError> {
        self.domain.find(place).map_err(|error| refused(&error))
    }

    fn describe(&self, member: Member) -> String {
        self.domain.hierarchy.lock().describe(member)
    }

    /// What answers call it: as whoever asks could.
    fn place(&self, member: Member) -> String {
        self.domain.hierarchy.lock().place(member)
    }

    /// A port, or the one above a function; whether it is the one above.
    fn port(&self, place: &str) -> Result<(PortId, bool), ControlError> {
        let member = self.find(place)?;
        let Member::Function(_) = member else {
            return port_of(member, place).map(|port| (port, false));
        };
        let found = self.domain.walk();
        let found = found.into_iter().find(|one| one.member == member);
        match found.map(|one| one.parent) {
            Some(Parent::Port(port)) => Ok((port, true)),
            _ => Err(ControlError::bad_arguments(format!(
                "{place:?} is on the root bus, below no port"
            ))),
        }
    }

    fn begin(&self, port: PortId, name: &str) -> Result<Turn<'_>, ControlError> {
        let mut all = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.insert(port) {
            return Err(busy(format!(
                "somebody else is plugging or unplugging at {name}; try again when that has ended"
            )));
        }
        let busy = &self.busy;
        Ok(Turn { busy, port })
    }

    fn slot(&self, port: PortId, name: &str) -> Result<SlotView, ControlError> {
        let slot = self.domain.slot(port).map_err(|error| refused(&error))?;
        slot.filter(|slot| {
            let hot_plug = SlotCapabilities::HOT_PLUG_CAPABLE;
            slot.capabilities.contains(hot_plug)
        })
        .ok_or_else(|| {
            ControlError::bad_arguments(format!(
                "{name} has no slot with hot plug: name a port that has one"
            ))
        })
    }

    fn has_run(&self) -> bool {
        self.domain.hierarchy.lock().has_run
    }

    fn is_empty(&self, port: PortId) -> bool {
        let all = self.domain.walk();
        all.iter().all(|one| one.parent != Parent::Port(port))
    }

    pub(super) fn attach(&self, arguments: AttachArguments) -> Result<Attached, ControlError> {
        let limit = limit(arguments.wait)?;
        let count = arguments.settings.len();
        if count > SETTINGS_MAX {
            let message = format!("{count} settings are too many; at most {SETTINGS_MAX} are");
            return Err(ControlError::bad_arguments(message));
        }
        let (port, _) = self.port(&arguments.place)?;
        let described = self.describe(Member::Port(port));
        let _turn = self.begin(port, &described)?;
        self.slot(port, &described)?;
        if !self.is_empty(port) {
            return Err(busy(format!(
                "the slot of {described} is taken; unplug what is there, or choose another"
            )));
        }
        let name = arguments.name.unwrap_or_else(|| {
            let state = self.domain.hierarchy.lock();
            let port = state.names.name(Member::Port(port));
            // Without a name a number, which no name looks like: its points go.
            port.map_or_else(|| described.replace(['.', '/'], "-"), str::to_owned) + ":0"
        });
        let told = self.has_run();
        let request = DeviceRequest {
            device: arguments.device,
            settings: arguments.settings,
            name,
        };
        let position = Position::below(port);
        (self.factory)(&self.domain, position, &request)
            .map_err(|error| ControlError::bad_arguments(error.to_string()))?;
        let name = request.name;
        if told {
            self.turn_on(port, &described, limit)
                .map_err(|error| refused(&error))?
                .then_some(())
                .ok_or_else(|| {
                    busy(format!(
                        "{name:?} is in the slot of {described}, which the guest has not turned on within {} seconds; it may \
                         do so later, and `hdv unplug` takes it out again",
                        limit.as_secs_f64()
                    ))
                })?;
        }
        Ok(Attached {
            name,
            port: self.place(Member::Port(port)),
            told,
        })
    }

    /// Whether software has turned the slot on in time.
    fn turn_on(&self, port: PortId, name: &str, limit: Duration) -> Result<bool, DomainError> {
        let slot = self.domain.slot(port)?;
        let button = SlotCapabilities::ATTENTION_BUTTON;
        if slot.is_some_and(|slot| !slot.powered && slot.capabilities.contains(button)) {
            self.domain.press_attention_button(port)?;
        }
        tracing::debug!("waiting for the slot of {name} to be turned on");
        // Software makes it blink before it has turned it on, which without a power controller it always is.
        let is_on = |slot: &SlotView| slot.powered && slot.power_indicator != Indicator::Blinking;
        self.domain.hierarchy.wait_for_slot(port, limit, is_on)
    }

    pub(super) fn detach(&self, arguments: &DetachArguments) -> Result<Detached, ControlError> {
        let limit = limit(arguments.wait)?;
        let (port, is_above) = self.port(&arguments.place)?;
        let described = self.describe(Member::Port(port));
        let _turn = self.begin(port, &described)?;
        let slot = self.slot(port, &described)?;
        if self.is_empty(port) {
            return Err(ControlError::not_found(format!(
                "the slot of {described} is empty already"
            )));
        }
        let asked = !arguments.surprise && slot.powered && self.has_run();
        if asked {
            self.ask_for(port, &described, &slot, limit)?;
        } else {
            self.domain.pull(port).map_err(|error| refused(&error))?;
        }
        Ok(Detached {
            port: self.place(Member::Port(port)),
            is_above,
            asked,
        })
    }

    /// Takes out what is in a slot once software has turned that off.
    fn ask_for(
        &self,
        port: PortId,
        name: &str,
        slot: &SlotView,
        limit: Duration,
    ) -> Result<(), ControlError> {
        let refuse = |reason: &str| {
            Err(busy(format!(
                "{reason}; `hdv unplug --surprise` takes the device out without asking"
            )))
        };
        if !slot
            .capabilities
            .contains(SlotCapabilities::ATTENTION_BUTTON)
        {
            return refuse(&format!("the slot of {name} has no attention button"));
        }
        if !slot
            .control
            .contains(SlotControl::HOT_PLUG_INTERRUPT_ENABLE)
        {
            return refuse(&format!(
                "no driver in the guest listens to the slot of {name}"
            ));
        }
        if slot.power_indicator == Indicator::Blinking {
            return Err(busy(format!(
                "the guest is turning the slot of {name} on or off; try again when its indicator no longer blinks"
            )));
        }
        let is_out = self.domain.unplug(port, limit);
        if is_out.map_err(|error| refused(&error))? {
            return Ok(());
        }
        refuse(&format!(
            "the guest has not turned the slot of {name} off within {} seconds, and may do so later",
            limit.as_secs_f64()
        ))
    }

    pub(super) fn inject(&self, arguments: &InjectArguments) -> Result<Injected, ControlError> {
        let InjectArguments {
            place,
            fault,
            count,
            ..
        } = arguments;
        let needs_port = matches!(
            fault,
            Fault::LinkDown | Fault::LinkUp | Fault::SurpriseRemoval
        );
        let is_error = matches!(fault, Fault::Correctable(_) | Fault::Uncorrectable(_));
        if is_error && !(1..=ERRORS_MAX).contains(count) {
            let message = format!("{count} errors cannot be injected; 1 to {ERRORS_MAX} can");
            return Err(ControlError::bad_arguments(message));
        }
        let (member, is_above) = if needs_port {
            let (port, is_above) = self.port(place)?;
            (Member::Port(port), is_above)
        } else {
            (self.find(place)?, false)
        };
        let described = self.describe(member);
        let domain = &self.domain;
        let found = self.place(member);
        let reported = match *fault {
            Fault::Correctable(bits) => {
                let errors = CorrectableError::from_bits(bits).filter(|errors| !errors.is_empty());
                let errors = errors.ok_or_else(|| no_errors(bits))?;
                self.detect(member, DetectedError::Correctable(errors), *count)
            }
            Fault::Uncorrectable(bits) => {
                let errors =
                    UncorrectableError::from_bits(bits).filter(|errors| !errors.is_empty());
                let errors = errors.ok_or_else(|| no_errors(bits))?;
                self.detect(member, DetectedError::Uncorrectable(errors), *count)
            }
            Fault::LinkDown => domain.inject(member, Injection::LinkDown),
            Fault::LinkUp => domain.inject(member, Injection::LinkUp),
            Fault::FailConfigReads => domain.inject(member, Injection::FailConfigReads(*count)),
            Fault::SurpriseRemoval => {
                let port = port_of(member, place)?;
                let _turn = self.begin(port, &described)?;
                if self.is_empty(port) {
                    return Err(ControlError::not_found(format!(
                        "there is nothing below {described}"
                    )));
                }
                domain.pull(port).map(|()| true)
            }
        };
        Ok(Injected {
            place: found,
            is_above,
            reported: reported.map_err(|error| refused(&error))?,
        })
    }

    /// Whether software is told of any of them.
    fn detect(
        &self,
        member: Member,
        error: DetectedError,
        count: u32,
    ) -> Result<bool, DomainError> {
        let mut is_told = false;
        for _ in 0..count {
            is_told |= self.domain.inject(member, Injection::Error(error))?;
        }
        Ok(is_told)
    }
}

fn port_of(member: Member, place: &str) -> Result<PortId, ControlError> {
    match member {
        Member::Port(port) => Ok(port),
        Member::Function(_) => Err(ControlError::bad_arguments(format!("{place:?} is no port"))),
    }
}

fn no_errors(bits: u32) -> ControlError {
    ControlError::bad_arguments(format!(
        "{bits:#x} does not stand for errors of the standard: set bits of its status register"
    ))
}

//! What goes wrong on demand, so that it can be seen what software makes of it.

use std::sync::Arc;

use hdv_pci::topology::{FunctionId, Member, PortId, TopologyError};
use hdv_pci::{ConfigSpace, DetectedError, ErrorMessage};

use super::error::DomainError;
use super::hierarchy::{Hierarchy, State};
use super::inner::Inner;
use crate::function::ErrorRecord;

/// What can go wrong at a port or function. A surprise removal is [`Domain::pull`](super::Domain::pull).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Injection {
    /// It detects errors, which it reports as far as software has enabled that, through the ports above (6.2).
    Error(DetectedError),
    /// The link below a port goes down, with what is below, and stays down whatever software does.
    LinkDown,
    /// The link below a port may be up again; what is below is as after a reset.
    LinkUp,
    /// The next so many config reads of it give all ones, as if nobody had answered; 0 ends that. Not those of a PF's
    /// VFs.
    FailConfigReads(u32),
}

impl Hierarchy {
    /// # Errors
    /// As [`Domain::inject`](super::Domain::inject).
    pub(super) fn inject(&self, member: Member, injection: Injection) -> Result<bool, DomainError> {
        match injection {
            Injection::Error(error) => {
                let is_sent = self.inject_error(member, error)?;
                return Ok(is_sent && self.lock().has_run);
            }
            Injection::LinkDown => self.set_link(member, false)?,
            Injection::LinkUp => self.set_link(member, true)?,
            Injection::FailConfigReads(count) => self.lock().fail_reads(member, count)?,
        }
        Ok(true)
    }

    /// Whether a message of it reached the root port.
    fn inject_error(&self, member: Member, error: DetectedError) -> Result<bool, DomainError> {
        let message = match member {
            Member::Port(port) => {
                let record = |config: &mut ConfigSpace| config.record_error(error, None);
                self.lock().topology.change_port(port, record)?
            }
            Member::Function(function) => {
                let inner = self.lock().reporting(function)?;
                let reason = match inner.slot().record_error(error) {
                    Some(ErrorRecord::Sent(message)) => return self.send_error(member, message),
                    Some(ErrorRecord::Kept) => return Ok(false),
                    Some(ErrorRecord::Impossible) => {
                        "its device keeps config space itself, so that only the device can record an error: name the port \
                         above it, or have the device do it"
                    }
                    None => "its device failed or is gone, so that nothing can be recorded there",
                };
                return Err(self.lock().refuse(member, reason));
            }
        };
        match message {
            Some(message) => self.send_error(member, message),
            None => Ok(false),
        }
    }

    fn send_error(&self, from: Member, message: ErrorMessage) -> Result<bool, DomainError> {
        let sent = self.lock().topology.send_error(from, message)?;
        let Some((root_port, effects)) = sent else {
            return Ok(false);
        };
        self.act(root_port, effects);
        Ok(true)
    }

    fn set_link(&self, member: Member, active: bool) -> Result<(), DomainError> {
        let Member::Port(port) = member else {
            let reason = "a function has no link below it: name the port above it";
            return Err(self.lock().refuse(member, reason));
        };
        let _following = self.following();
        self.lock().check_link(port)?;
        if active && !self.is_up(port) {
            // Again: what was on its way when the link went down has arrived since.
            self.reset_below(port);
        }
        let set = |config: &mut ConfigSpace| config.set_link_active(active);
        let effects = self.lock().topology.change_port(port, set)?;
        self.act(port, effects);
        Ok(())
    }
}

impl State {
    fn refuse(&self, member: Member, reason: &'static str) -> DomainError {
        DomainError::Injection {
            place: self.describe(member),
            reason,
        }
    }

    /// A function that has somebody to report errors to.
    ///
    /// # Errors
    /// There is no such function, or no root port above it.
    fn reporting(&self, id: FunctionId) -> Result<Arc<Inner>, DomainError> {
        let inner = self.functions.get(&id);
        let inner = inner.ok_or(TopologyError::NoFunction(id))?;
        if self.topology.root_port(Member::Function(id)).is_none() {
            let reason = "it is on the root bus, where there is no root port to report an error to: attach it below one";
            return Err(self.refuse(Member::Function(id), reason));
        }
        Ok(Arc::clone(inner))
    }

    /// # Errors
    /// There is no such port, or no device at the other end of a link below it.
    fn check_link(&self, id: PortId) -> Result<(), DomainError> {
        let config = self.topology.port(id).ok_or(TopologyError::NoPort(id))?;
        if !config.port().is_some_and(|port| port.kind.has_link_below()) {
            let reason = "below an upstream port is the switch itself: name the port above it, or a downstream port";
            return Err(self.refuse(Member::Port(id), reason));
        }
        if self.topology.walk_below(id).next().is_none() {
            let reason =
                "there is nothing below whose link could go down or up: attach something first";
            return Err(self.refuse(Member::Port(id), reason));
        }
        Ok(())
    }

    /// # Errors
    /// There is no such port or function.
    fn fail_reads(&mut self, member: Member, count: u32) -> Result<(), DomainError> {
        match member {
            Member::Function(function) => {
                let inner = self.functions.get(&function);
                let inner = inner.ok_or(TopologyError::NoFunction(function))?;
                inner.fail_reads(count);
            }
            Member::Port(port) => {
                if self.topology.port(port).is_none() {
                    return Err(TopologyError::NoPort(port).into());
                }
                self.failing_reads.insert(port, count);
            }
        }
        Ok(())
    }

    /// Whether this config read of a port fails.
    pub(super) fn fails_read(&mut self, port: PortId) -> bool {
        let Some(left) = self.failing_reads.get_mut(&port) else {
            return false;
        };
        match left.checked_sub(1) {
            Some(rest) => {
                *left = rest;
                true
            }
            None => {
                self.failing_reads.remove(&port);
                false
            }
        }
    }
}

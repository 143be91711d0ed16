//! Starting, stopping and resetting what is in a domain, and bringing functions in: by turns, so that each function is in the state
//! that all are in.

use std::sync::Arc;

use hdv_pci::topology::{FunctionDecode, FunctionId, Member, Parent};

use super::carrier::InnerCarrier;
use super::error::DomainError;
use super::hierarchy::Hierarchy;
use super::inner::{Context, Inner};
use super::position::Position;
use crate::device::DeviceError;
use crate::error::HostError;

/// Why a function did not come.
pub(super) enum BringError {
    /// It failed.
    Function(HostError),
    /// Its place.
    Place(DomainError),
}

impl Hierarchy {
    /// The endpoint is powered on: functions get its guest memory and vectors.
    ///
    /// # Errors
    /// What keeps a function from it.
    pub(super) fn power_on(&self, context: Context) -> Result<(), DeviceError> {
        let _life = self.life();
        let context = Arc::new(context);
        self.lock().context = Some(Arc::clone(&context));
        for (_, inner) in self.functions() {
            let connected = inner.connect(&context);
            connected.map_err(|error| named(&inner, &error))?;
        }
        Ok(())
    }

    /// Virtual processors are about to run.
    ///
    /// # Errors
    /// That of the first function that does not start; none is started then.
    pub(super) fn start(&self) -> Result<(), DeviceError> {
        let _life = self.life();
        self.lock().started = true;
        for (_, inner) in self.functions() {
            if let Err(error) = inner.start() {
                self.stop_all();
                return Err(named(&inner, &error));
            }
        }
        for inner in self.virtual_functions() {
            if let Err(error) = inner.start() {
                inner.fail(&error.into(), false);
            }
        }
        self.lock().has_run = true;
        self.follow_all();
        Ok(())
    }

    /// Virtual processors are about to stop.
    pub(super) fn stop(&self) {
        let _life = self.life();
        self.stop_all();
    }

    fn stop_all(&self) {
        self.lock().started = false;
        for inner in self.virtual_functions() {
            inner.stop();
        }
        for (_, inner) in self.functions() {
            inner.stop();
        }
    }

    /// Everything is as after power-on.
    pub(super) fn reset(&self) {
        let _life = self.life();
        for inner in self.virtual_functions() {
            inner.reset();
        }
        for (_, inner) in self.functions() {
            inner.reset();
        }
        {
            let mut state = self.lock();
            // Without another start processors go on, and find what comes from now on by its event.
            state.has_run = state.started;
            state.resets = state.resets.wrapping_add(1);
            for port in state.ports() {
                state.reset_port(port);
            }
        }
        self.changed.notify_all();
        self.number_buses(&self.functions());
        self.follow_all();
    }

    /// The endpoint is gone, and all that is in it.
    pub(super) fn close(&self) {
        let life = self.life();
        let (virtual_functions, functions) = {
            let mut state = self.lock();
            state.closed = true;
            self.changed.notify_all();
            (
                std::mem::take(&mut state.virtual_functions),
                std::mem::take(&mut state.functions),
            )
        };
        // They are out: a call into one that hangs holds up nobody else.
        drop(life);
        for (_, inner) in virtual_functions.into_values() {
            inner.remove();
        }
        for inner in functions.into_values() {
            inner.remove();
        }
    }

    /// Brings a function that has been powered on into the state that all are in, then puts it in its place; the port above finds a
    /// device. What goes wrong leaves the function for its owner to tear down.
    ///
    /// # Errors
    /// The function's own; the place cannot be had.
    pub(super) fn bring_in(
        &self,
        position: Position,
        inner: &Arc<Inner>,
        carrier: &InnerCarrier,
    ) -> Result<FunctionId, BringError> {
        let _life = self.life();
        let (context, started) = {
            let state = self.lock();
            (state.context.clone(), state.started)
        };
        if let Some(context) = context {
            inner.connect(&context).map_err(BringError::Function)?;
        }
        if started {
            inner
                .start()
                .map_err(|error| BringError::Function(error.into()))?;
        }
        // Before software can reach it: finding out how large the BARs of its VFs are writes to them.
        let mut decode = FunctionDecode::default();
        if started {
            inner.with_decode(|read| decode = read);
        }
        let Position {
            parent,
            device,
            function,
        } = position;
        let (id, has_run) = {
            let mut state = self.lock();
            if state.closed {
                return Err(BringError::Place(DomainError::Closed));
            }
            let name = inner.slot().name();
            state.names.check(name).map_err(BringError::Place)?;
            let id = state
                .topology
                .attach(parent, device, function, decode)
                .map_err(|error| BringError::Place(error.into()))?;
            let named = state.names.set(Member::Function(id), name);
            debug_assert!(named.is_ok(), "checked before");
            state.functions.insert(id, Arc::clone(inner));
            carrier.placed(id);
            (id, state.has_run)
        };
        self.number_buses(&[(id, Arc::clone(inner))]);
        // What one behind callbacks has for messages is known since it was started.
        self.follow_requests(id, inner);
        if let Parent::Port(port) = parent {
            self.tell_presence(port, has_run);
        }
        Ok(id)
    }
}

fn named(inner: &Inner, error: &dyn std::fmt::Display) -> DeviceError {
    DeviceError::new(format!("{}: {error}", inner.slot().name()))
}

//! Accesses of software on the bus: from routing id or address to the port, function or VF that answers.

use std::sync::{Arc, MutexGuard};

use hdv_pci::spec::header::HEADER_TYPE;
use hdv_pci::topology::{ConfigTarget, FunctionId, PortId};
use hdv_pci::{BarIndex, Effects, RoutingId};

use super::hierarchy::{Hierarchy, State};
use super::inner::Inner;
use super::registers::Changed;
use crate::error::HostError;

/// Bit 7 of the header type: the device has further functions, which a function does not know.
const MULTI_FUNCTION: u8 = 1 << 7;

/// What an access reaches.
enum Target {
    Port(PortId),
    Function(FunctionId, Arc<Inner>),
    VirtualFunction(FunctionId, Arc<Inner>),
}

impl Hierarchy {
    fn target(&self, id: RoutingId) -> Option<Target> {
        let state = self.lock();
        match state.topology.config_target(id)? {
            ConfigTarget::Port(port) => Some(Target::Port(port)),
            ConfigTarget::Function(function) => {
                let inner = state.functions.get(&function)?;
                Some(Target::Function(function, Arc::clone(inner)))
            }
            ConfigTarget::VirtualFunction(function, vf) => {
                let (_, inner) = state.virtual_functions.get(&(function, vf))?;
                let inner = Arc::clone(inner);
                self.prepare(state, (function, vf), &inner);
                Some(Target::VirtualFunction(function, inner))
            }
        }
    }

    /// A config read, of a function's 4096 bytes.
    pub(super) fn config_read(&self, id: RoutingId, offset: u16, data: &mut [u8]) {
        match self.target(id) {
            Some(Target::Port(port)) => {
                let mut state = self.lock();
                if state.fails_read(port) {
                    data.fill(0xff);
                } else {
                    state.topology.read_port(port, offset, data);
                }
            }
            Some(Target::Function(_, inner)) if inner.fails_read() => data.fill(0xff),
            Some(Target::Function(function, inner)) => {
                inner.config_read(offset, data);
                let header_type = HEADER_TYPE.checked_sub(offset).map(usize::from);
                if let Some(byte) = header_type.and_then(|at| data.get_mut(at))
                    && *byte != 0xff
                    && self.lock().topology.is_multi_function(function)
                {
                    *byte |= MULTI_FUNCTION;
                }
            }
            Some(Target::VirtualFunction(_, inner)) => inner.config_read(offset, data),
            None => data.fill(0xff),
        }
    }

    /// A config write, to a function's 4096 bytes.
    pub(super) fn config_write(&self, id: RoutingId, offset: u16, data: &[u8]) {
        match self.target(id) {
            Some(Target::Port(port)) => {
                let _following = self.following();
                let written = self.lock().topology.write_port(port, offset, data);
                self.act(port, written.unwrap_or(Effects::empty()));
            }
            Some(Target::Function(function, inner)) => {
                let changed = inner.config_write(offset, data);
                if changed.intersects(Changed::DECODE | Changed::SRIOV | Changed::RESET) {
                    self.follow(function, &inner);
                }
            }
            Some(Target::VirtualFunction(pf, inner)) => {
                let changed = inner.config_write(offset, data);
                if changed.intersects(Changed::DECODE | Changed::RESET) {
                    inner.follow_bus_master();
                    self.follow_vf_requests(pf, &inner);
                }
            }
            None => {}
        }
    }

    /// A read of the domain's memory, of at most 8 bytes that cross no multiple of 8.
    pub(super) fn memory_read(&self, address: u64, data: &mut [u8]) {
        match self.memory_target(address, data.len()) {
            Some((inner, bar, offset)) => inner.bar_read(bar, offset, data),
            None => data.fill(0xff),
        }
    }

    /// A write to the domain's memory, as [`memory_read`](Self::memory_read).
    pub(super) fn memory_write(&self, address: u64, data: &[u8]) {
        if let Some((inner, bar, offset)) = self.memory_target(address, data.len()) {
            inner.bar_write(bar, offset, data);
        }
    }

    fn memory_target(&self, address: u64, length: usize) -> Option<(Arc<Inner>, BarIndex, u64)> {
        let mut state = self.lock();
        let target = state.topology.memory_target(address, length as u64)?;
        let inner = match target.vf {
            None => Arc::clone(state.functions.get(&target.function)?),
            Some(vf) => {
                let key = (target.function, vf);
                let inner = Arc::clone(&state.virtual_functions.get(&key)?.1);
                self.prepare(state, key, &inner);
                inner
            }
        };
        Some((inner, target.bar, target.offset))
    }

    /// A VF, by its PF and number, is powered on when it is first used, and started if processors run. One that fails answers
    /// nothing from then on.
    fn prepare(&self, state: MutexGuard<'_, State>, key: (FunctionId, u16), inner: &Arc<Inner>) {
        if inner.is_prepared() {
            return;
        }
        let (context, started) = (state.context.clone(), state.started);
        drop(state);
        let Some(context) = context else { return };
        let done = inner
            .slot()
            .power_on(&[])
            .map_err(HostError::from)
            .and_then(|()| inner.connect(&context))
            .and_then(|()| if started { Ok(inner.start()?) } else { Ok(()) });
        match done {
            Ok(()) => self.follow_vf_requests(key.0, inner),
            Err(error) => {
                let state = self.lock();
                let there = state.virtual_functions.get(&key);
                let is_taken_away = there.is_none_or(|(_, there)| !Arc::ptr_eq(there, inner));
                drop(state);
                inner.fail(&error, is_taken_away);
            }
        }
    }
}

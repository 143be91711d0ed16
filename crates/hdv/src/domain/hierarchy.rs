//! All that is in a domain: which port or function an access reaches, and what software's writes to ports do to what is below.
//!
//! The lock is held while an access finds its way, never over a call into a function: a PF that is written to brings its VFs
//! from inside that call. What starts, stops and adds functions takes turns by a lock of its own, which no access takes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hdv_pci::spec::header::HEADER_TYPE;
use hdv_pci::topology::{
    ConfigTarget, Found, FunctionDecode, FunctionId, Member, Parent, PortId, Topology,
};
use hdv_pci::{BarIndex, ConfigSpace, Effects, RoutingId};

use super::ROOT_BUS;
use super::carrier::InnerCarrier;
use super::error::DomainError;
use super::inner::{Context, Inner};
use super::messages::Fold;
use super::position::Position;
use super::registers::Changed;
use crate::calls::HostToken;
use crate::device::DeviceError;
use crate::error::{DeviceId, HostError};

/// Bit 7 of the header type: the device has further functions, which a function does not know.
const MULTI_FUNCTION: u8 = 1 << 7;

/// See the module's documentation.
pub(super) struct Hierarchy {
    pub(super) token: HostToken,
    /// Held while functions start, stop, are reset or come: so that each is in the state that all are in.
    life: Mutex<()>,
    state: Mutex<State>,
    last_id: AtomicU64,
}

pub(super) struct State {
    pub(super) topology: Topology,
    pub(super) functions: BTreeMap<FunctionId, Arc<Inner>>,
    /// By their PF and number.
    pub(super) virtual_functions: BTreeMap<(FunctionId, u16), (DeviceId, Arc<Inner>)>,
    /// Once the endpoint has been powered on.
    pub(super) context: Option<Arc<Context>>,
    started: bool,
    /// Processors have run since everything was as after power-on: what comes is an event, also during a pause.
    has_run: bool,
    /// The endpoint is gone.
    pub(super) closed: bool,
}

/// What an access reaches.
enum Target {
    Port(PortId),
    Function(FunctionId, Arc<Inner>),
    VirtualFunction(Arc<Inner>),
}

impl Hierarchy {
    pub(super) fn new() -> Self {
        Self {
            token: HostToken::new(),
            life: Mutex::new(()),
            state: Mutex::new(State {
                topology: Topology::new(ROOT_BUS),
                functions: BTreeMap::new(),
                virtual_functions: BTreeMap::new(),
                context: None,
                started: false,
                has_run: false,
                closed: false,
            }),
            last_id: AtomicU64::new(0),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn next_id(&self) -> DeviceId {
        DeviceId(self.last_id.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn life(&self) -> MutexGuard<'_, ()> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All functions that are here now, without VFs.
    fn functions(&self) -> Vec<(FunctionId, Arc<Inner>)> {
        let state = self.lock();
        let functions = state.functions.iter();
        functions
            .map(|(id, inner)| (*id, Arc::clone(inner)))
            .collect()
    }

    /// All VFs that are here now.
    fn virtual_functions(&self) -> Vec<Arc<Inner>> {
        let state = self.lock();
        let all = state.virtual_functions.values();
        all.map(|(_, inner)| Arc::clone(inner)).collect()
    }

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
        {
            let mut state = self.lock();
            (state.started, state.has_run) = (true, true);
        }
        for (_, inner) in self.functions() {
            if let Err(error) = inner.start() {
                self.stop_all();
                return Err(named(&inner, &error));
            }
        }
        for inner in self.virtual_functions() {
            if let Err(error) = inner.start() {
                inner.fail(&error.into());
            }
        }
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
            for port in state.ports() {
                state.reset_port(port);
            }
        }
        self.follow_all();
    }

    /// The endpoint is gone, and all that is in it.
    pub(super) fn close(&self) {
        let _life = self.life();
        let (virtual_functions, functions) = {
            let mut state = self.lock();
            state.closed = true;
            (
                std::mem::take(&mut state.virtual_functions),
                std::mem::take(&mut state.functions),
            )
        };
        for (_, inner) in virtual_functions.into_values() {
            inner.remove();
        }
        for inner in functions.into_values() {
            inner.remove();
        }
    }

    /// Lets routing follow the registers of all functions.
    fn follow_all(&self) {
        for (id, inner) in self.functions() {
            self.follow(id, &inner);
        }
    }

    /// Lets routing follow the registers of a function.
    fn follow(&self, id: FunctionId, inner: &Inner) {
        inner.with_decode(|decode| {
            // One that was detached meanwhile is not routed to.
            let _ = self.lock().topology.update(id, decode);
        });
    }

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
                prepare(state, &inner);
                Some(Target::VirtualFunction(inner))
            }
        }
    }

    /// A config read, of a function's 4096 bytes.
    pub(super) fn config_read(&self, id: RoutingId, offset: u16, data: &mut [u8]) {
        match self.target(id) {
            Some(Target::Port(port)) => self.lock().topology.read_port(port, offset, data),
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
            Some(Target::VirtualFunction(inner)) => inner.config_read(offset, data),
            None => data.fill(0xff),
        }
    }

    /// A config write, to a function's 4096 bytes.
    pub(super) fn config_write(&self, id: RoutingId, offset: u16, data: &[u8]) {
        match self.target(id) {
            Some(Target::Port(port)) => {
                let effects = {
                    let mut state = self.lock();
                    let written = state.topology.write_port(port, offset, data);
                    written.unwrap_or(Effects::empty())
                };
                self.act(port, effects);
            }
            Some(Target::Function(function, inner)) => {
                let changed = inner.config_write(offset, data);
                if changed.intersects(Changed::DECODE | Changed::SRIOV | Changed::RESET) {
                    self.follow(function, &inner);
                }
            }
            Some(Target::VirtualFunction(inner)) => {
                let _: Changed = inner.config_write(offset, data);
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
                prepare(state, &inner);
                inner
            }
        };
        Some((inner, target.bar, target.offset))
    }

    /// Does what a change of a port's registers asks for.
    pub(super) fn act(&self, port: PortId, effects: Effects) {
        if effects.contains(Effects::FUNCTION_LEVEL_RESET) {
            let reset = ConfigSpace::function_level_reset;
            let _ = self.lock().topology.change_port(port, reset);
        }
        if effects.intersects(Effects::SECONDARY_BUS_RESET | Effects::LINK) {
            self.reset_below(port);
        }
        if effects.contains(Effects::PORT_INTERRUPT) {
            let state = self.lock();
            if let Some(context) = &state.context
                && let Some(config) = state.topology.port(port)
            {
                interrupt(config, &*context.fold);
            }
        }
    }

    /// Functions below a port are as after a hot reset; the ports there are already.
    fn reset_below(&self, port: PortId) {
        let functions: Vec<_> = {
            let state = self.lock();
            let ids = state.topology.functions_below(port);
            ids.into_iter()
                .filter_map(|id| Some((id, Arc::clone(state.functions.get(&id)?))))
                .collect()
        };
        for (_, inner) in &functions {
            inner.reset();
        }
        for (id, inner) in &functions {
            self.follow(*id, inner);
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
            let id = state
                .topology
                .attach(parent, device, function, decode)
                .map_err(|error| BringError::Place(error.into()))?;
            state.functions.insert(id, Arc::clone(inner));
            carrier.placed(id);
            (id, state.has_run)
        };
        if let Parent::Port(port) = parent {
            self.tell_presence(port, has_run);
        }
        Ok(id)
    }

    /// A device has come below a port.
    pub(super) fn occupy(&self, port: PortId) {
        let has_run = self.lock().has_run;
        self.tell_presence(port, has_run);
    }

    /// That is an event if processors have run, else it was there when power came.
    fn tell_presence(&self, port: PortId, is_event: bool) {
        let changed = self.lock().topology.change_port(port, |config| {
            let effects = config.set_presence(true);
            if is_event {
                return effects;
            }
            config.reset();
            Effects::empty()
        });
        if let Ok(effects) = changed {
            // What is there is as after a reset already.
            self.act(port, effects - Effects::LINK);
        }
    }
}

/// Why a function did not come.
pub(super) enum BringError {
    /// It failed.
    Function(HostError),
    /// Its place.
    Place(DomainError),
}

impl State {
    fn ports(&self) -> Vec<PortId> {
        let port = |found: Found| match found.member {
            Member::Port(port) => Some(port),
            Member::Function(_) => None,
        };
        self.topology.walk().filter_map(port).collect()
    }

    fn reset_port(&mut self, port: PortId) {
        let _ = self.topology.change_port(port, ConfigSpace::reset);
    }
}

/// A VF is powered on when it is first used, and started if processors run. One that fails answers nothing from then on.
fn prepare(state: MutexGuard<'_, State>, inner: &Inner) {
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
    if let Err(error) = done {
        inner.fail(&error);
    }
}

/// Sends a port's interrupt, if it may send any.
fn interrupt(config: &ConfigSpace, fold: &Fold) {
    let message = config
        .msi()
        .filter(|msi| msi.mask & 1 == 0)
        .and_then(|msi| msi.message(0));
    if let Some((address, data)) = message
        && let Some((interrupts, vector)) = fold(address, data)
    {
        interrupts.signal(vector);
    }
}

fn named(inner: &Inner, error: &dyn std::fmt::Display) -> DeviceError {
    DeviceError::new(format!("{}: {error}", inner.slot().name()))
}

//! All that is in a domain, and what is done when a port's registers ask for it.
//!
//! The lock is held while an access finds its way, never over a call into a function: a PF that is written to brings its VFs
//! from inside that call. What starts, stops, adds and removes functions takes turns by a lock of its own, which no access takes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use hdv_pci::topology::{Found, FunctionId, Member, Parent, PortId, Topology, TopologyError};
use hdv_pci::{ConfigSpace, Effects, SlotView};

use super::ROOT_BUS;
use super::hot_plug::Asked;
use super::inner::{Context, Inner};
use super::names::Names;
use crate::calls::HostToken;
use crate::error::DeviceId;

/// What changes which requests a port lets through.
const REQUESTS: Effects = Effects::COMMAND
    .union(Effects::POWER_STATE)
    .union(Effects::FUNCTION_LEVEL_RESET)
    .union(Effects::SECONDARY_BUS_RESET)
    .union(Effects::LINK);

/// See the module's documentation.
pub(super) struct Hierarchy {
    pub(super) token: HostToken,
    /// Held while functions start, stop, are reset or come: so that each is in the state that all are in.
    life: Mutex<()>,
    /// Held while a port's registers change and what is below follows: what is reset when its link goes down is so before software
    /// can have the link up again. No function calls what takes it.
    following: Mutex<()>,
    state: Mutex<State>,
    /// Software has written to a slot's registers or was reset, something was taken out, or the endpoint is gone.
    pub(super) changed: Condvar,
}

pub(super) struct State {
    pub(super) topology: Topology,
    pub(super) names: Names,
    pub(super) functions: BTreeMap<FunctionId, Arc<Inner>>,
    /// By their PF and number.
    pub(super) virtual_functions: BTreeMap<(FunctionId, u16), (DeviceId, Arc<Inner>)>,
    /// How many config reads of ports fail yet.
    pub(super) failing_reads: BTreeMap<PortId, u32>,
    /// Once the endpoint has been powered on.
    pub(super) context: Option<Arc<Context>>,
    pub(super) started: bool,
    /// Processors have run since everything was as after power-on: what comes is an event, also during a pause.
    pub(super) has_run: bool,
    /// How often everything was reset.
    pub(super) resets: u64,
    /// Ports below which devices are being put together: they tell of it at once.
    pub(super) filling: BTreeSet<PortId>,
    /// Ports with what software was asked to let go of.
    pub(super) asked: BTreeMap<PortId, Asked>,
    /// The endpoint is gone.
    pub(super) closed: bool,
}

impl Hierarchy {
    pub(super) fn new() -> Self {
        Self {
            token: HostToken::new(),
            life: Mutex::new(()),
            following: Mutex::new(()),
            state: Mutex::new(State {
                topology: Topology::new(ROOT_BUS),
                names: Names::default(),
                functions: BTreeMap::new(),
                virtual_functions: BTreeMap::new(),
                failing_reads: BTreeMap::new(),
                context: None,
                started: false,
                has_run: false,
                resets: 0,
                filling: BTreeSet::new(),
                asked: BTreeMap::new(),
                closed: false,
            }),
            changed: Condvar::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn life(&self) -> MutexGuard<'_, ()> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held around a change of a port's registers and [`act`](Self::act).
    pub(super) fn following(&self) -> MutexGuard<'_, ()> {
        self.following
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// All functions that are here now, without VFs.
    pub(super) fn functions(&self) -> Vec<(FunctionId, Arc<Inner>)> {
        let state = self.lock();
        let functions = state.functions.iter();
        functions
            .map(|(id, inner)| (*id, Arc::clone(inner)))
            .collect()
    }

    /// All VFs that are here now.
    pub(super) fn virtual_functions(&self) -> Vec<Arc<Inner>> {
        let state = self.lock();
        let all = state.virtual_functions.values();
        all.map(|(_, inner)| Arc::clone(inner)).collect()
    }

    /// Lets routing follow the registers of all functions.
    pub(super) fn follow_all(&self) {
        for (id, inner) in self.functions() {
            self.follow(id, &inner);
        }
    }

    /// Lets routing follow the registers of a function.
    pub(super) fn follow(&self, id: FunctionId, inner: &Inner) {
        inner.with_decode(|decode| {
            // One that was detached meanwhile is not routed to.
            let _ = self.lock().topology.update(id, decode);
        });
        self.follow_requests(id, inner);
    }

    /// Tells functions of the numbers of their buses.
    pub(super) fn number_buses(&self, functions: &[(FunctionId, Arc<Inner>)]) {
        for (id, inner) in functions {
            inner.number_bus(|| self.lock().buses_of(*id));
        }
    }

    /// Does what a change of a port's registers asks for.
    pub(super) fn act(&self, port: PortId, effects: Effects) {
        if effects.contains(Effects::SLOT) {
            self.changed.notify_all();
        }
        if effects.contains(Effects::FUNCTION_LEVEL_RESET) {
            let reset = ConfigSpace::function_level_reset;
            let _ = self.lock().topology.change_port(port, reset);
        }
        if effects.intersects(REQUESTS) {
            self.follow_requests_below(port);
        }
        if effects.intersects(REQUESTS.union(Effects::BUS_NUMBERS)) {
            let functions = self.lock().functions_below(port);
            self.number_buses(&functions);
        }
        // What comes up again was reset when it went down.
        if effects.intersects(Effects::SECONDARY_BUS_RESET | Effects::LINK) && !self.is_up(port) {
            self.reset_below(port);
        }
        if effects.contains(Effects::PORT_INTERRUPT) {
            self.lock().interrupt(port);
        } else if effects.intersects(REQUESTS.union(Effects::MSI)) {
            self.lock().interrupt_if_pending(port);
        }
    }

    /// Whether what is below a port can be reached.
    pub(super) fn is_up(&self, port: PortId) -> bool {
        let state = self.lock();
        let config = state.topology.port(port);
        let reset = config.and_then(ConfigSpace::bridge);
        let reset = reset.is_some_and(|bridge| bridge.secondary_bus_reset);
        let link = config.and_then(ConfigSpace::port);
        !reset && link.is_some_and(|port| port.link_active)
    }

    /// Functions below a port are as after a hot reset; the ports there are already.
    pub(super) fn reset_below(&self, port: PortId) {
        let functions = self.lock().functions_below(port);
        for (id, inner) in &functions {
            inner.reset();
            // Those of a PF that its owner controls stay.
            for vf in self.vfs_of(*id) {
                vf.reset();
            }
        }
        for (id, inner) in &functions {
            self.follow(*id, inner);
        }
    }
}

impl State {
    /// # Errors
    /// There is no such port.
    pub(super) fn slot(&self, port: PortId) -> Result<Option<SlotView>, TopologyError> {
        let config = self
            .topology
            .port(port)
            .ok_or(TopologyError::NoPort(port))?;
        Ok(config.port().and_then(|port| port.slot))
    }

    /// Secondary and subordinate bus number of the port above a function; `None` if it is below none.
    fn buses_of(&self, function: FunctionId) -> Option<(u8, u8)> {
        let Parent::Port(port) = self.topology.parent(function)? else {
            return None;
        };
        let bridge = self.topology.port(port)?.bridge()?;
        Some((bridge.secondary, bridge.subordinate))
    }

    pub(super) fn ports(&self) -> Vec<PortId> {
        let port = |found: Found| match found.member {
            Member::Port(port) => Some(port),
            Member::Function(_) => None,
        };
        self.topology.walk().filter_map(port).collect()
    }

    pub(super) fn reset_port(&mut self, port: PortId) {
        let _ = self.topology.change_port(port, ConfigSpace::reset);
    }
}

//! Who of a domain may send requests, accesses to guest memory and messages: whoever has Bus Master Enable set, and all ports on
//! the way up too, with links that are up (7.5.1.1.3, 7.5.1.3).
//!
//! Looked at again whenever one of these changed: an access or a signal asks nobody. What a function signals meanwhile is pending.

use std::sync::Arc;

use hdv_pci::Command;
use hdv_pci::topology::{FunctionDecode, FunctionId, PortId};

use super::hierarchy::{Hierarchy, State};
use super::inner::Inner;

impl Hierarchy {
    /// What a function says of itself may have changed, which its VFs follow too.
    pub(super) fn follow_requests(&self, id: FunctionId, inner: &Inner) {
        inner.follow_requests(|| self.lock().topology.bus_master(id));
        for vf in self.vfs_of(id) {
            self.follow_vf_requests(id, &vf);
        }
    }

    /// What a VF says of itself may have changed.
    pub(super) fn follow_vf_requests(&self, pf: FunctionId, inner: &Inner) {
        inner.follow_requests(|| inner.bus_master() && self.lock().vf_requests_pass(pf));
    }

    /// What a port lets through may have changed.
    pub(super) fn follow_requests_below(&self, port: PortId) {
        let functions: Vec<_> = {
            let state = self.lock();
            state.functions_below(port)
        };
        for (id, inner) in functions {
            self.follow_requests(id, &inner);
        }
        let mut state = self.lock();
        for below in state.topology.ports_below(port) {
            state.interrupt_if_pending(below);
        }
    }

    /// The VFs of a PF that are here now.
    pub(super) fn vfs_of(&self, pf: FunctionId) -> Vec<Arc<Inner>> {
        let state = self.lock();
        let vfs = state.virtual_functions.range((pf, 0)..=(pf, u16::MAX));
        vfs.map(|(_, (_, inner))| Arc::clone(inner)).collect()
    }
}

impl State {
    /// The functions below a port, without VFs.
    pub(super) fn functions_below(&self, port: PortId) -> Vec<(FunctionId, Arc<Inner>)> {
        let ids = self.topology.functions_below(port);
        ids.into_iter()
            .filter_map(|id| Some((id, Arc::clone(self.functions.get(&id)?))))
            .collect()
    }

    /// VFs need no Bus Master Enable of their PF, but its power (9.3.4.1.3, 9.6.2).
    fn vf_requests_pass(&self, pf: FunctionId) -> bool {
        let awake = self.topology.decode(pf).is_some_and(FunctionDecode::awake);
        let parent = self.topology.parent(pf).filter(|_| awake);
        parent.is_some_and(|parent| self.topology.requests_pass(parent))
    }

    /// A port may send messages of its own.
    pub(super) fn port_may_send(&self, port: PortId) -> bool {
        let config = self.topology.port(port);
        let may = config.is_some_and(|config| config.command().contains(Command::BUS_MASTER));
        let parent = self.topology.port_parent(port).filter(|_| may);
        parent.is_some_and(|parent| self.topology.requests_pass(parent))
    }
}

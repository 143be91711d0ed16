//! Requests that functions send: who they say they are, and whether they get up to the root.

use super::{FunctionId, Parent, PortId, Topology};
use crate::routing_id::RoutingId;

impl Topology {
    /// The bus number of the bus that `parent` leads to, as it is programmed; `None` if there is no such
    /// port.
    #[must_use]
    pub fn bus_number(&self, parent: Parent) -> Option<u8> {
        match parent {
            Parent::Root => Some(self.root_bus),
            Parent::Port(port) => Some(self.ports.get(&port)?.state.secondary),
        }
    }

    /// A function's routing id, which is the requester id of its requests; `None` if there is no such
    /// function. Before software numbers the bus above it has bus number 0.
    #[must_use]
    pub fn routing_id(&self, function: FunctionId) -> Option<RoutingId> {
        let function = self.functions.get(&function)?;
        let bus = self.bus_number(function.parent)?;
        Some(RoutingId::with_ari(bus, function.place))
    }

    /// The routing id of VF `vf` of a PF, counted from 0; `None` if it is not there.
    #[must_use]
    pub fn vf_routing_id(&self, pf: FunctionId, vf: u16) -> Option<RoutingId> {
        let vfs = self.decode(pf)?.vfs.filter(|vfs| vf < vfs.active)?;
        vfs.routing.routing_id(self.routing_id(pf)?, vf)
    }

    /// A port's own routing id; `None` if there is no such port.
    #[must_use]
    pub fn port_routing_id(&self, port: PortId) -> Option<RoutingId> {
        let port = self.ports.get(&port)?;
        let bus = self.bus_number(port.parent)?;
        Some(RoutingId::with_ari(bus, port.place))
    }

    /// What is on the bus that `parent` leads to can be reached as far as links matter: all on the way are up, and no reset is
    /// asserted. Bus numbers are not looked at.
    #[must_use]
    pub fn links_up(&self, parent: Parent) -> bool {
        let mut parent = parent;
        // No port is below itself, so this ends at the root.
        while let Parent::Port(id) = parent {
            match self.ports.get(&id) {
                Some(port) if port.state.alive => parent = port.parent,
                _ => return false,
            }
        }
        true
    }

    /// Requests from the bus that `parent` leads to get to the root: in all ports on the way Bus Master
    /// Enable is set, links are up, and no reset is asserted. For a VF this and its own Bus Master Enable
    /// count, not that of its PF.
    #[must_use]
    pub fn requests_pass(&self, parent: Parent) -> bool {
        let mut parent = parent;
        // No port is below itself, so this ends at the root.
        while let Parent::Port(id) = parent {
            match self.ports.get(&id) {
                Some(port) if port.state.open && port.state.bus_master => parent = port.parent,
                _ => return false,
            }
        }
        true
    }

    /// A function's requests, message signalled interrupts among them, get to the root: its own Bus
    /// Master Enable is set, and they [pass](Self::requests_pass).
    #[must_use]
    pub fn bus_master(&self, function: FunctionId) -> bool {
        self.functions.get(&function).is_some_and(|function| {
            function.decode.bus_master && self.requests_pass(function.parent)
        })
    }
}

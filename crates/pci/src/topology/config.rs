//! Config accesses: whom they reach, and those to the ports themselves.

use super::bus_routes::BusRoute;
use super::port_state::PortState;
use super::{ConfigTarget, Member, Parent, PortId, Topology, TopologyError};
use crate::config_space::ConfigSpace;
use crate::effects::Effects;
use crate::routing_id::RoutingId;

impl Topology {
    /// What a config access reaches, by the bus numbers as programmed in the ports; `None` if nothing
    /// answers, so also below a port with its link down or a reset asserted.
    ///
    /// A root or downstream port forwards requests for the functions of device 0 of the bus right below,
    /// with ARI forwarding for all 256. Other buses up to the subordinate one are those of VFs.
    #[must_use]
    pub fn config_target(&self, id: RoutingId) -> Option<ConfigTarget> {
        match self.routes.get(id.bus()) {
            BusRoute::None => None,
            BusRoute::Own(parent) => {
                if id.device() != 0 && self.is_link(parent) && !self.forwards_ari(parent) {
                    return None;
                }
                match self.bus(parent)?.at(id.ari_function()) {
                    Some(Member::Port(port)) => Some(ConfigTarget::Port(port)),
                    Some(Member::Function(function)) => Some(ConfigTarget::Function(function)),
                    None => self.vf_target(parent, id),
                }
            }
            BusRoute::Captured(parent) => self.vf_target(parent, id),
        }
    }

    /// The VF with that routing id of a PF on that bus.
    fn vf_target(&self, parent: Parent, id: RoutingId) -> Option<ConfigTarget> {
        let bus = self.bus_number(parent)?;
        self.bus(parent)?.members().find_map(|(place, member)| {
            let Member::Function(function) = member else {
                return None;
            };
            let vfs = self.decode(function)?.vfs.filter(|vfs| vfs.active > 0)?;
            let pf = RoutingId::with_ari(bus, place);
            let vf = vfs.routing.vf_at(pf, id, vfs.active)?;
            Some(ConfigTarget::VirtualFunction(function, vf))
        })
    }

    fn forwards_ari(&self, parent: Parent) -> bool {
        match parent {
            Parent::Root => false,
            Parent::Port(port) => self
                .ports
                .get(&port)
                .is_some_and(|port| port.state.ari_forwarding),
        }
    }

    /// A port's config space; `None` if there is no such port.
    #[must_use]
    pub fn port(&self, port: PortId) -> Option<&ConfigSpace> {
        Some(&self.ports.get(&port)?.config)
    }

    /// Changes a port's config space in other ways than software on the bus does: slot events, errors,
    /// the link. Routing follows when `change` returns.
    ///
    /// When what is below can no longer be reached, because the link went down or Secondary Bus Reset is
    /// set, all ports below are reset; functions below are for their owners to reset.
    ///
    /// # Errors
    /// No such port.
    pub fn change_port<T>(
        &mut self,
        port: PortId,
        change: impl FnOnce(&mut ConfigSpace) -> T,
    ) -> Result<T, TopologyError> {
        let known = self
            .ports
            .get_mut(&port)
            .ok_or(TopologyError::NoPort(port))?;
        let result = change(&mut known.config);
        self.port_changed(port);
        Ok(result)
    }

    /// Software reads a port's config space, as [`ConfigSpace::read`]; all ones if there is no such
    /// port.
    pub fn read_port(&self, port: PortId, offset: u16, data: &mut [u8]) {
        match self.port(port) {
            Some(config) => config.read(offset, data),
            None => data.fill(0xff),
        }
    }

    /// Software writes to a port's config space, as [`ConfigSpace::write`]; routing follows at once, and
    /// ports below are reset as with [`change_port`](Self::change_port).
    ///
    /// # Errors
    /// No such port.
    pub fn write_port(
        &mut self,
        port: PortId,
        offset: u16,
        data: &[u8],
    ) -> Result<Effects, TopologyError> {
        self.change_port(port, |config| config.write(offset, data))
    }

    /// A port's config space may say something else now.
    fn port_changed(&mut self, id: PortId) {
        let Some(port) = self.ports.get_mut(&id) else {
            return;
        };
        let state = PortState::of(&port.config);
        let before = std::mem::replace(&mut port.state, state.clone());
        if before == state {
            return;
        }
        if before.alive && !state.alive {
            self.reset_below(id);
        }
        self.route_buses();
        self.memory_changed = true;
    }

    /// Every port below is reset, as with a hot reset (6.6.1); as if it was without power if the slot is.
    fn reset_below(&mut self, port: PortId) {
        let slot = self
            .port(port)
            .and_then(ConfigSpace::port)
            .and_then(|port| port.slot);
        let powered = slot.is_none_or(|slot| slot.powered);
        for below in self.ports_below(port) {
            if let Some(port) = self.ports.get_mut(&below) {
                if powered {
                    port.config.reset();
                } else {
                    port.config.power_on_reset();
                }
                port.state = PortState::of(&port.config);
            }
        }
    }
}

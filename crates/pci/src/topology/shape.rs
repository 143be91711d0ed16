//! Attaching ports and functions to a topology, and taking them away.

use super::bus::function_zero;
use super::port_state::{PortState, port_kind};
use super::{
    Bus, Function, FunctionDecode, FunctionId, MAX_FUNCTIONS, MAX_PORTS, Member, Parent, Port,
    PortId, Removed, Topology, TopologyError,
};
use crate::config_space::ConfigSpace;
use crate::port_view::PortKind;
use crate::routing_id::RoutingId;

impl Topology {
    /// Attaches a port: a root port to the root bus, the upstream port of a switch below a root or
    /// downstream port, a downstream port below an upstream port. `device` is 0 to 31 and
    /// `function` 0 to 7; below a root or downstream port `device` is 0.
    ///
    /// The topology keeps the Multi-Function bit of its ports right, and the link of ports without a slot. A
    /// device in a slot is there for software when the slot says so
    /// ([`set_presence`](ConfigSpace::set_presence), by [`change_port`](Self::change_port)).
    ///
    /// # Errors
    /// A config space that is no port's, or a place that it cannot have.
    pub fn add_port(
        &mut self,
        parent: Parent,
        device: u8,
        function: u8,
        config: ConfigSpace,
    ) -> Result<PortId, TopologyError> {
        let kind = port_kind(&config).ok_or(TopologyError::NotAPort)?;
        let fits = match (kind, parent) {
            (PortKind::Root, Parent::Root) => true,
            (PortKind::Root, Parent::Port(_)) | (_, Parent::Root) => false,
            (PortKind::Upstream, Parent::Port(_)) => self.is_link(parent),
            (PortKind::Downstream, Parent::Port(_)) => !self.is_link(parent),
        };
        let place = self.free_place(parent, device, function)?;
        if !fits {
            return Err(TopologyError::PortPlace { kind });
        }
        if self.ports.len() >= MAX_PORTS {
            return Err(TopologyError::TooManyPorts);
        }
        let id = PortId(self.next);
        let state = PortState::of(&config);
        let port = Port {
            parent,
            place,
            kind,
            config,
            state,
            below: Bus::default(),
        };
        self.ports.insert(id, port);
        self.place(parent, place, Member::Port(id));
        Ok(id)
    }

    /// Attaches a function of a device, not a VF. `device` is 0 to 31 and `function` 0 to 7; below a
    /// root or downstream port `device` is 0, and with ARI `function` is up to 255.
    ///
    /// # Errors
    /// A place that it cannot have, or that is taken; function 0 comes first.
    pub fn attach(
        &mut self,
        parent: Parent,
        device: u8,
        function: u8,
        decode: FunctionDecode,
    ) -> Result<FunctionId, TopologyError> {
        let place = self.free_place(parent, device, function)?;
        if parent != Parent::Root && !self.is_link(parent) {
            return Err(TopologyError::InternalBus);
        }
        if self.functions.len() >= MAX_FUNCTIONS {
            return Err(TopologyError::TooManyFunctions);
        }
        let id = FunctionId(self.next);
        let function = Function {
            parent,
            place,
            decode,
        };
        self.functions.insert(id, function);
        self.place(parent, place, Member::Function(id));
        Ok(id)
    }

    /// Takes a function away with its VFs: nothing answers there any more. Function 0 of a device goes
    /// last.
    ///
    /// # Errors
    /// No such function; function 0 of a device that has others.
    pub fn detach(&mut self, function: FunctionId) -> Result<(), TopologyError> {
        let known = self
            .functions
            .get(&function)
            .ok_or(TopologyError::NoFunction(function))?;
        let (parent, place) = (known.parent, known.place);
        self.check_removal(parent, place)?;
        self.functions.remove(&function);
        self.unplace(parent, place);
        Ok(())
    }

    /// Takes a port away and everything below it.
    ///
    /// # Errors
    /// No such port; one that is function 0 of a device that has others.
    pub fn remove_port(&mut self, port: PortId) -> Result<Removed, TopologyError> {
        let known = self.ports.get(&port).ok_or(TopologyError::NoPort(port))?;
        let (parent, place) = (known.parent, known.place);
        self.check_removal(parent, place)?;
        let mut removed = self.remove_below(port)?;
        self.ports.remove(&port);
        self.unplace(parent, place);
        removed.ports.insert(0, port);
        Ok(removed)
    }

    /// Takes everything away that is below a port, as when a device is pulled out of its slot.
    ///
    /// # Errors
    /// No such port.
    pub fn remove_below(&mut self, port: PortId) -> Result<Removed, TopologyError> {
        if !self.ports.contains_key(&port) {
            return Err(TopologyError::NoPort(port));
        }
        let removed = Removed {
            functions: self.functions_below(port),
            ports: self.ports_below(port),
        };
        for function in &removed.functions {
            self.functions.remove(function);
        }
        for below in &removed.ports {
            self.ports.remove(below);
        }
        if let Some(known) = self.ports.get_mut(&port) {
            known.below = Bus::default();
        }
        self.settle_presence(Parent::Port(port));
        self.shape_changed();
        Ok(removed)
    }

    /// Checks that a function can be there, and returns its place on the bus.
    fn free_place(&self, parent: Parent, device: u8, function: u8) -> Result<u8, TopologyError> {
        let bus = match parent {
            Parent::Root => &self.root,
            Parent::Port(port) => {
                &self
                    .ports
                    .get(&port)
                    .ok_or(TopologyError::NoPort(port))?
                    .below
            }
        };
        let one_device = self.is_link(parent);
        let place = if one_device {
            if device != 0 {
                return Err(TopologyError::DeviceNumber { device });
            }
            function
        } else {
            RoutingId::new(0, device, function)
                .map_err(|_| TopologyError::FunctionNumber { device, function })?
                .ari_function()
        };
        if bus.at(place).is_some() {
            return Err(TopologyError::Taken { device, function });
        }
        let zero = function_zero(place, one_device);
        if place != zero && bus.at(zero).is_none() {
            return Err(TopologyError::NoFunctionZero { device, function });
        }
        Ok(place)
    }

    fn check_removal(&self, parent: Parent, place: u8) -> Result<(), TopologyError> {
        let one_device = self.is_link(parent);
        let is_zero = place == function_zero(place, one_device);
        let siblings = |bus: &Bus| bus.has_siblings(place, one_device);
        if is_zero && self.bus(parent).is_some_and(siblings) {
            let device = RoutingId::with_ari(0, place).device();
            return Err(TopologyError::FunctionZero { device });
        }
        Ok(())
    }

    fn place(&mut self, parent: Parent, place: u8, member: Member) {
        self.next += 1;
        if let Some(bus) = self.bus_mut(parent) {
            bus.insert(place, member);
        }
        self.mark_multi_function(parent, place);
        self.settle_presence(parent);
        self.shape_changed();
    }

    fn unplace(&mut self, parent: Parent, place: u8) {
        if let Some(bus) = self.bus_mut(parent) {
            bus.remove(place);
        }
        self.mark_multi_function(parent, place);
        self.settle_presence(parent);
        self.shape_changed();
    }

    /// Says in function 0 of a device, if that is a port, whether there are others.
    fn mark_multi_function(&mut self, parent: Parent, place: u8) {
        let one_device = self.is_link(parent);
        let zero = function_zero(place, one_device);
        let Some(bus) = self.bus(parent) else { return };
        let multi_function = bus.has_siblings(zero, one_device);
        let Some(Member::Port(id)) = bus.at(zero) else {
            return;
        };
        if let Some(port) = self.ports.get_mut(&id) {
            port.config.set_multi_function(multi_function);
        }
    }

    /// The link below a port without a slot is up while there is something. What is in a slot is for its
    /// owner to say, who is told of the events.
    fn settle_presence(&mut self, parent: Parent) {
        let Parent::Port(id) = parent else { return };
        let Some(port) = self.ports.get_mut(&id) else {
            return;
        };
        let has_slot = port.config.port().is_some_and(|view| view.slot.is_some());
        if !has_slot {
            let present = port.below.members().next().is_some();
            // Without a slot there is no event and no interrupt.
            let _ = port.config.set_presence(present);
            port.state = PortState::of(&port.config);
        }
    }

    fn shape_changed(&mut self) {
        self.route_buses();
        self.memory_changed = true;
    }
}

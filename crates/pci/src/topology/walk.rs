//! Going through a topology: what is above, what is below, and all of it in order.

use super::{FunctionId, Member, Parent, PortId, Topology};
use crate::port_view::PortKind;
use crate::routing_id::RoutingId;

/// What was taken away with a port, in the order of [`Topology::walk`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Ports.
    pub ports: Vec<PortId>,
    /// Functions.
    pub functions: Vec<FunctionId>,
}

/// A port or function in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Found {
    /// Number of ports above it.
    pub depth: usize,
    /// What it is attached to.
    pub parent: Parent,
    /// Its routing id, by the bus number that is programmed in the port above.
    pub id: RoutingId,
    /// What it is.
    pub member: Member,
}

impl Topology {
    /// Everything, as `lspci -t` draws it: by device and function number, and after each port what is
    /// below it.
    pub fn walk(&self) -> impl Iterator<Item = Found> + '_ {
        self.walk_from(Parent::Root)
    }

    /// The same of what is below a port, which is at depth 0 then; nothing if there is no such port.
    pub fn walk_below(&self, port: PortId) -> impl Iterator<Item = Found> + '_ {
        self.walk_from(Parent::Port(port))
    }

    fn walk_from(&self, start: Parent) -> impl Iterator<Item = Found> + '_ {
        // What is still to come, the next one last.
        let mut stack = Vec::new();
        self.push_members(start, 0, &mut stack);
        std::iter::from_fn(move || {
            let found: Found = stack.pop()?;
            if let Member::Port(port) = found.member {
                self.push_members(Parent::Port(port), found.depth + 1, &mut stack);
            }
            Some(found)
        })
    }

    fn push_members(&self, parent: Parent, depth: usize, stack: &mut Vec<Found>) {
        let (Some(bus), Some(number)) = (self.bus(parent), self.bus_number(parent)) else {
            return;
        };
        stack.extend(bus.members().rev().map(|(place, member)| Found {
            depth,
            parent,
            id: RoutingId::with_ari(number, place),
            member,
        }));
    }

    /// The functions below a port, however far: those that a secondary bus reset of it, or its link
    /// going down, resets.
    #[must_use]
    pub fn functions_below(&self, port: PortId) -> Vec<FunctionId> {
        let function = |found: Found| match found.member {
            Member::Function(function) => Some(function),
            Member::Port(_) => None,
        };
        self.walk_below(port).filter_map(function).collect()
    }

    /// The ports below a port, however far.
    #[must_use]
    pub fn ports_below(&self, port: PortId) -> Vec<PortId> {
        let port_of = |found: Found| match found.member {
            Member::Port(port) => Some(port),
            Member::Function(_) => None,
        };
        self.walk_below(port).filter_map(port_of).collect()
    }

    /// What a function is attached to; `None` if there is no such function.
    #[must_use]
    pub fn parent(&self, function: FunctionId) -> Option<Parent> {
        Some(self.functions.get(&function)?.parent)
    }

    /// What a port is attached to; `None` if there is no such port.
    #[must_use]
    pub fn port_parent(&self, port: PortId) -> Option<Parent> {
        Some(self.ports.get(&port)?.parent)
    }

    /// What kind of port; `None` if there is no such port.
    #[must_use]
    pub fn port_kind(&self, port: PortId) -> Option<PortKind> {
        Some(self.ports.get(&port)?.kind)
    }

    /// Whether the device that the function belongs to has others, for the Multi-Function bit of its
    /// header type ([`set_multi_function`](crate::ConfigSpace::set_multi_function)).
    #[must_use]
    pub fn is_multi_function(&self, function: FunctionId) -> bool {
        let Some(function) = self.functions.get(&function) else {
            return false;
        };
        let one_device = self.is_link(function.parent);
        let zero = super::bus::function_zero(function.place, one_device);
        self.bus(function.parent)
            .is_some_and(|bus| bus.has_siblings(zero, one_device))
    }

    /// What is at a place of a bus, device number in bits 7:3 and function number in bits 2:0, or an ARI function number;
    /// whether or not software can reach it now.
    #[must_use]
    pub fn member_at(&self, parent: Parent, place: u8) -> Option<Member> {
        self.bus(parent)?.at(place)
    }

    /// What is at a device and function number of a bus, whether or not software can reach it now; below
    /// a root or downstream port `device` is 0 and `function` up to 255.
    #[must_use]
    pub fn member(&self, parent: Parent, device: u8, function: u8) -> Option<Member> {
        let place = if self.is_link(parent) {
            (device == 0).then_some(function)?
        } else {
            RoutingId::new(0, device, function).ok()?.ari_function()
        };
        self.member_at(parent, place)
    }
}

//! What the parts of a topology are called.

use std::fmt;

/// A port of a topology. Never used again for another one of the same topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub(super) u64);

/// A function of a topology, no VF and no port. Never used again for another one of the same
/// topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionId(pub(super) u64);

impl fmt::Display for PortId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "port {}", self.0)
    }
}

impl fmt::Display for FunctionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "function {}", self.0)
    }
}

/// What a port or function is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Parent {
    /// The root bus.
    Root,
    /// The bus right below a port.
    Port(PortId),
}

/// What is at one device and function number of a bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Member {
    /// A port.
    Port(PortId),
    /// A function of a device.
    Function(FunctionId),
}

/// What a config access reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConfigTarget {
    /// A port: [`read_port`](super::Topology::read_port) and
    /// [`write_port`](super::Topology::write_port) do the access.
    Port(PortId),
    /// A function, whose owner does the access.
    Function(FunctionId),
    /// A VF of that PF, counted from 0.
    VirtualFunction(FunctionId, u16),
}

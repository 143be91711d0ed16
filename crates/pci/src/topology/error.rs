//! What a topology refuses, and its limits.

use super::{FunctionId, PortId};
use crate::port_view::PortKind;

/// Most ports of a topology: each needs a bus number of its own, and the root bus has one.
pub const MAX_PORTS: usize = 255;
/// Most functions of a topology, without VFs and ports.
pub const MAX_FUNCTIONS: usize = 4096;

/// A port or function that cannot be put where it is to go, or cannot be taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopologyError {
    /// The port was removed, or is one of another topology.
    #[error("{0} is not there; it may have been removed")]
    NoPort(PortId),
    /// The function was detached, or is one of another topology.
    #[error("{0} is not there; it may have been detached")]
    NoFunction(FunctionId),
    /// Below a root or downstream port there is one device.
    #[error("device {device} cannot be below a root or downstream port, where only device 0 is")]
    DeviceNumber {
        /// The device number.
        device: u8,
    },
    /// A device or function number that does not exist.
    #[error(
        "device {device} function {function} does not exist: devices are 0 to 31, functions 0 to 7, and 0 to 255 with ARI below a root or downstream port"
    )]
    FunctionNumber {
        /// The device number.
        device: u8,
        /// The function number.
        function: u8,
    },
    /// Something is there already.
    #[error("device {device} function {function} is taken; detach what is there or choose another")]
    Taken {
        /// The device number.
        device: u8,
        /// The function number.
        function: u8,
    },
    /// Software looks for functions of a device only if it has a function 0.
    #[error(
        "device {device} has no function 0, so function {function} would not be found; attach that first"
    )]
    NoFunctionZero {
        /// The device number.
        device: u8,
        /// The function number.
        function: u8,
    },
    /// Function 0 goes last.
    #[error(
        "device {device} has other functions, which are not found without function 0; take those away first"
    )]
    FunctionZero {
        /// The device number.
        device: u8,
    },
    /// The internal bus of a switch has downstream ports only (1.3.3).
    #[error(
        "a function cannot be on the internal bus of a switch; attach it below a downstream port"
    )]
    InternalBus,
    /// The config space is not that of a root, upstream or downstream port.
    #[error(
        "the config space is not that of a port: it needs a type 1 header and a PCI Express capability of a root, upstream or downstream port"
    )]
    NotAPort,
    /// A port where that kind of port cannot be.
    #[error(
        "{} cannot be there: root ports are on the root bus, upstream ports below a root or downstream port, downstream ports below an upstream port", kind.name()
    )]
    PortPlace {
        /// What kind of port.
        kind: PortKind,
    },
    /// The topology has as many ports as it can have.
    #[error("there are {MAX_PORTS} ports already, one for each bus number")]
    TooManyPorts,
    /// The topology has as many functions as it can have.
    #[error("there are {MAX_FUNCTIONS} functions already; detach some or use virtual functions")]
    TooManyFunctions,
}

//! Functions that come and go with another one: the virtual functions of a physical function.
//!
//! A function raises this notice, whatever carries that function (a host with its sockets, a bus of an
//! emulated hierarchy) acts on it. Which registers bring them is not here.

use std::fmt;

use hdv_pci::Identity;

use crate::error::HostError;
use crate::function::Function;
use crate::instance::DeviceInstance;

/// A function that another one brings.
pub struct BroughtFunction {
    /// Its number among those that its function brings, from 0: that of the VF.
    pub vf: u16,
    /// From the routing id of the function that brings it to its own: First VF Offset + `vf` * VF Stride
    /// (9.3.3.9). Where that is follows from the place of the bringing function, which may change.
    pub offset: u16,
    /// What it is, as far as that is known before it is powered on.
    pub identity: Identity,
    /// The function. It is powered on when it is first used, without strings of a configuration, and brings
    /// none itself.
    pub function: Box<dyn Function>,
}

/// Carries functions that another one brings.
///
/// It is called from inside calls into that function, so it must wait for no such call to end.
pub trait FunctionCarrier: fmt::Debug + Send + Sync {
    /// Functions come: all of them, in their order, or none. None is powered on yet. From now on VMs
    /// can have them.
    ///
    /// # Errors
    /// They cannot be carried; all are torn down.
    fn bring(&self, functions: Vec<BroughtFunction>) -> Result<Vec<DeviceInstance>, HostError>;

    /// Functions go: each is stopped if it was started and torn down, in this order. VMs that use one keep a
    /// stub. One that is gone already is left out.
    fn take_away(&self, functions: &[DeviceInstance]);

    /// A call into that function ended that its owner made, not software on its bus: its registers may say something else
    /// than before. This is not called from inside a call.
    fn settled(&self) {}
}

impl fmt::Debug for BroughtFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BroughtFunction")
            .field("vf", &self.vf)
            .field("offset", &self.offset)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

//! The broker of a restricted device host: it speaks to the worker in the host's name, checks everything that the host says,
//! and hands it the clients of its devices.

use std::os::unix::net::UnixStream;

use crate::{ComputeSystem, Result};

/// What a restricted device host may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokerLimits {
    /// Devices that it may announce.
    pub devices: usize,
}

impl Default for BrokerLimits {
    fn default() -> Self {
        Self { devices: 16 }
    }
}

/// A broker, for as long as it is kept.
#[derive(Debug)]
pub struct Broker {}

impl Broker {
    /// Speaks for the device host at the other end of `socket`, which is process `pid`.
    ///
    /// # Errors
    /// The worker is gone or refuses.
    pub fn start(
        socket: UnixStream,
        pid: u32,
        system: &ComputeSystem,
        limits: BrokerLimits,
    ) -> Result<Self> {
        let _ = (socket, pid, system, limits);
        todo!()
    }
}

//! A host as its system sees it: what the life of a device under a VM is driven by. It does not keep the host alive.

use std::fmt;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Weak};

use uuid::Uuid;

use super::Shared;
use crate::device::DeviceError;
use crate::error::HostError;
use crate::slot::DeviceState;
use crate::system::Place;

/// A host as its [`System`](crate::System) sees it. Clones are of the same host, which they do not keep alive: once it is
/// closed, everything fails with [`HostError::Closed`].
///
/// What waits for a call into the device waits as long as the device takes.
#[derive(Clone)]
pub struct HostHandle {
    shared: Weak<Shared>,
}

impl HostHandle {
    pub(super) fn of(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::downgrade(shared),
        }
    }

    /// Powers a device instance that was announced on (`Initialize`, `SetConfiguration`, `GetDetails`), and lets
    /// clients in from then on.
    ///
    /// # Errors
    /// The device's own error, unchanged, or a socket that cannot be had; the device is torn down then.
    /// [`HostError::NoSuchInstance`].
    pub fn power_on(&self, instance_id: Uuid, place: &Place) -> Result<(), HostError> {
        let _ = (instance_id, place);
        todo!()
    }

    /// Virtual processors are about to run again. Nothing happens to a device that is started, or that no client has
    /// used yet: its `Start` comes with the client's first use.
    ///
    /// # Errors
    /// The device's own; [`HostError::NoSuchInstance`].
    pub fn start(&self, instance_id: Uuid) -> Result<(), HostError> {
        let _ = instance_id;
        todo!()
    }

    /// Virtual processors have stopped: the device's state stays. Nothing happens to one that is not started.
    ///
    /// # Errors
    /// [`HostError::NoSuchInstance`].
    pub fn stop(&self, instance_id: Uuid) -> Result<(), HostError> {
        let _ = instance_id;
        todo!()
    }

    /// Stops a device instance and tears it down. A client that it has keeps a stub.
    ///
    /// # Errors
    /// [`HostError::NoSuchInstance`]; [`HostError::InsideCall`].
    pub fn remove(&self, instance_id: Uuid) -> Result<(), HostError> {
        let _ = instance_id;
        todo!()
    }

    /// Gives a client to a device instance that was powered on with [`Listen::Handed`](crate::Listen::Handed).
    ///
    /// # Errors
    /// [`HostError::NoSuchInstance`]; too many connections wait.
    pub fn connect(&self, instance_id: Uuid, client: UnixStream) -> Result<(), HostError> {
        let _ = (instance_id, client);
        todo!()
    }

    /// Why the last `Start` that a client's first use brought failed, if it did.
    ///
    /// # Errors
    /// [`HostError::NoSuchInstance`].
    pub fn start_failure(&self, instance_id: Uuid) -> Result<Option<DeviceError>, HostError> {
        let _ = instance_id;
        todo!()
    }

    /// Where a device instance is in its life.
    ///
    /// # Errors
    /// [`HostError::NoSuchInstance`].
    pub fn state(&self, instance_id: Uuid) -> Result<DeviceState, HostError> {
        let _ = instance_id;
        todo!()
    }

    /// Whether this thread is inside a call into a device of the host.
    #[must_use]
    pub fn inside_call(&self) -> bool {
        todo!()
    }

    /// Whether both are of the same host.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Weak::ptr_eq(&self.shared, &other.shared)
    }
}

impl fmt::Debug for HostHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostHandle").finish_non_exhaustive()
    }
}

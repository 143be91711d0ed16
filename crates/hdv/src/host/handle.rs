//! A host as its system sees it: what the life of a device under a VM is driven by. It does not keep the host alive.

use std::fmt;
use std::sync::{Arc, Weak};

use uuid::Uuid;

use super::handed::Client;
use super::{DeviceStatus, Shared, status};
use crate::calls;
use crate::device::DeviceError;
use crate::error::HostError;
use crate::instance::DeviceInstance;
use crate::slot::DeviceState;
use crate::system::{HandedClient, Place};

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

    /// The host, as long as it is not closed.
    fn shared(&self) -> Result<Arc<Shared>, HostError> {
        self.shared.upgrade().ok_or(HostError::Closed)
    }

    /// The host, for what waits for calls into its devices.
    fn outside(&self) -> Result<Arc<Shared>, HostError> {
        let shared = self.shared()?;
        if calls::inside(shared.token) {
            return Err(HostError::InsideCall);
        }
        Ok(shared)
    }

    fn instance(shared: &Shared, instance_id: Uuid) -> Result<DeviceInstance, HostError> {
        shared.instances().known_instance(instance_id)
    }

    /// Powers a device instance that was announced on (`Initialize`, `SetConfiguration`, `GetDetails`), and lets
    /// clients in from then on. Also while it is still being announced.
    ///
    /// # Errors
    /// The device's own error, unchanged, or a socket that cannot be had; the device is torn down then.
    /// [`HostError::PoweredOn`], which changes nothing; [`HostError::NoSuchInstance`], also when it is removed meanwhile;
    /// [`HostError::InsideCall`].
    pub fn power_on(&self, instance_id: Uuid, place: &Place) -> Result<(), HostError> {
        let shared = self.outside()?;
        let instance = shared.instances().begin_power_on(instance_id)?;
        match shared.power_on(&instance, place) {
            Err(HostError::NoSuchDevice(_)) => Err(HostError::NoSuchInstance(instance_id)),
            done => done,
        }
    }

    /// Virtual processors are about to run again. Nothing happens to a device that is started, or that no client has
    /// used yet: its `Start` comes with the client's first use.
    ///
    /// # Errors
    /// The device's own; [`HostError::NoSuchInstance`]; [`HostError::InsideCall`].
    pub fn start(&self, instance_id: Uuid) -> Result<(), HostError> {
        let shared = self.outside()?;
        Ok(Self::instance(&shared, instance_id)?.slot.resume()?)
    }

    /// Virtual processors have stopped: the device's state stays. Nothing happens to one that is not started. A client that
    /// comes, or uses the device for the first time, meanwhile starts it.
    ///
    /// # Errors
    /// [`HostError::NoSuchInstance`]; [`HostError::InsideCall`].
    pub fn stop(&self, instance_id: Uuid) -> Result<(), HostError> {
        let shared = self.outside()?;
        Self::instance(&shared, instance_id)?.slot.stop();
        Ok(())
    }

    /// Stops a device instance and tears it down, also while its program removes it: that is then done too, or this fails.
    /// A client that it has keeps a stub.
    ///
    /// # Errors
    /// [`HostError::NoSuchInstance`]; [`HostError::InsideCall`].
    pub fn remove(&self, instance_id: Uuid) -> Result<(), HostError> {
        let shared = self.outside()?;
        let instance = shared.instances().take_known(instance_id)?;
        shared.discard(&instance);
        Ok(())
    }

    /// Gives a client to a device instance that was powered on with [`Listen::Handed`](crate::Listen::Handed). It gets the
    /// device as one that connected to a socket does: when it has sent its VERSION, if nobody else has the device. Its
    /// lease is dropped when this process has let go of the connection: not before the client has left, also where the
    /// device is removed or the host closed.
    ///
    /// # Errors
    /// [`HostError::NoSuchInstance`]; [`HostError::NotHanded`]; [`HostError::TooManyClients`]; the file of its ledger is
    /// something else.
    pub fn connect(
        &self,
        instance_id: Uuid,
        client: impl Into<HandedClient>,
    ) -> Result<(), HostError> {
        let client = Client::of(client.into())?;
        let shared = self.shared()?;
        let id = Self::instance(&shared, instance_id)?.id;
        let endpoint = shared.endpoints().get(id).cloned();
        if !endpoint.is_some_and(|endpoint| endpoint.takes_handed()) {
            return Err(HostError::NotHanded(instance_id));
        }
        shared.handed.give(id, client)?;
        shared.wake.wake();
        Ok(())
    }

    /// With what the last `Start` failed, if it did: that of a client's first use, or [`HostHandle::start`]'s. Never waits.
    ///
    /// # Errors
    /// [`HostError::NoSuchInstance`].
    pub fn start_failure(&self, instance_id: Uuid) -> Result<Option<DeviceError>, HostError> {
        let shared = self.shared()?;
        Ok(Self::instance(&shared, instance_id)?.slot.start_failure())
    }

    /// The devices that are served or get their clients handed over, their state and who is connected.
    #[must_use]
    pub fn devices(&self) -> Vec<DeviceStatus> {
        self.shared
            .upgrade()
            .map(|shared| status::devices(&shared))
            .unwrap_or_default()
    }

    /// Where a device instance is in its life. Never waits.
    ///
    /// # Errors
    /// [`HostError::NoSuchInstance`].
    pub fn state(&self, instance_id: Uuid) -> Result<DeviceState, HostError> {
        let shared = self.shared()?;
        Ok(Self::instance(&shared, instance_id)?.slot.state())
    }

    /// Whether this thread is inside a call into a device of the host.
    #[must_use]
    pub fn inside_call(&self) -> bool {
        self.shared
            .upgrade()
            .is_some_and(|shared| calls::inside(shared.token))
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

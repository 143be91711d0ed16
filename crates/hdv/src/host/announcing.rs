//! How device instances come: a host attaches to a system, creates them, announces them, powers them on.

use std::sync::Arc;

use super::carrier::HostCarrier;
use super::instances::Announcing;
use super::{DeviceHost, HostHandle, Shared};
use crate::error::{DeviceId, HostError};
use crate::function::Function;
use crate::instance::DeviceInstance;
use crate::slot::Slot;
use crate::system::{DeviceIds, Place, System};

impl DeviceHost {
    /// Attaches the host to a system, which every device instance announced before gets into now.
    ///
    /// # Errors
    /// [`HostError::AlreadyAttached`]; the system's own, and the host stays without one; or the first error of a device
    /// that was waiting: that one is torn down, the host is attached all the same.
    pub fn attach(&self, system: Arc<dyn System>) -> Result<(), HostError> {
        self.shared.instances().begin_attaching()?;
        let handle = HostHandle::of(&self.shared);
        if let Err(error) = system.attached(handle.clone()) {
            self.shared.instances().not_attached();
            return Err(error);
        }
        let attached = self.shared.instances().attached(system);
        let waiting = attached.map_err(|system| {
            system.detached(&handle);
            HostError::Closed
        })?;
        // All of them, also after the first error.
        let results: Vec<_> = waiting.into_iter().map(|id| self.announce(id)).collect();
        results.into_iter().collect()
    }

    /// Creates a device instance. Nothing of it is called before it is announced.
    ///
    /// # Errors
    /// [`HostError::InstanceExists`], [`HostError::TooManyDevices`], [`HostError::Closed`], or a function that panicked;
    /// the function is torn down then.
    pub fn create_device(
        &self,
        ids: DeviceIds,
        function: Box<dyn Function>,
    ) -> Result<DeviceInstance, HostError> {
        let name = ids.instance_id.to_string();
        // Dropping the slot on the way out tears the device down, outside the lock.
        let id = DeviceId::next();
        let carrier = Arc::new(HostCarrier::new(&self.shared, id));
        let slot = Slot::new(&name, self.shared.token, function, Some(carrier))?;
        self.shared.limit_doorbells(&slot);
        let instance = DeviceInstance {
            id,
            ids: Some(ids),
            brought_by: None,
            slot: Arc::new(slot),
        };
        let mut instances = self.shared.instances();
        self.shared.check_devices(&instances)?;
        instances.add(&instance)?;
        drop(instances);
        Ok(instance)
    }

    /// Tells the system of a device instance, which says where it is served: on a directory of sockets at once, on a
    /// compute system when its VM is started or the device is added to it. On a host that is not attached yet this happens
    /// when it is. Once announced, nothing more happens.
    ///
    /// # Errors
    /// The system does not want it; the device's own error, unchanged, or a place that cannot be had. The device is
    /// torn down then. There is no such device, or it was removed meanwhile.
    pub fn announce(&self, id: DeviceId) -> Result<(), HostError> {
        let begun = self.shared.instances().begin_announcing(id)?;
        let Some(Announcing { system, instance }) = begun else {
            return Ok(());
        };
        let Some(ids) = instance.ids else {
            return Ok(());
        };
        let handle = HostHandle::of(&self.shared);
        let place = system.announced(&handle, &ids);
        let unwanted = self.shared.instances().announced(id);
        let place = match place {
            Ok(place) => place,
            Err(error) => {
                self.shared.discard(&instance);
                return Err(error);
            }
        };
        if unwanted {
            system.withdrawn(&handle, &ids);
        }
        let powered_on = place.map_or(Ok(()), |place| {
            // Not if it has gone, or, by a system that says both at once, been powered on.
            let ours = self.shared.instances().claim_power_on(id);
            if ours {
                self.shared.power_on(&instance, &place)
            } else {
                Ok(())
            }
        });
        if let Err(error) = powered_on {
            system.withdrawn(&handle, &ids);
            return Err(error);
        }
        if self.shared.instances().get(id).is_none() {
            // Whoever removed it may be about to tear it down: not after its creator was told of the failure.
            instance.slot.remove();
            return Err(HostError::NoSuchDevice(id));
        }
        Ok(())
    }
}

impl Shared {
    /// Powers an instance on and lets clients in.
    ///
    /// # Errors
    /// The device's own, unchanged, or a place that cannot be had; [`HostError::NoSuchDevice`] when it was removed
    /// meanwhile. It is torn down then.
    pub(super) fn power_on(
        &self,
        instance: &DeviceInstance,
        place: &Place,
    ) -> Result<(), HostError> {
        let Place {
            listen,
            configuration,
        } = place;
        let slot = Arc::clone(&instance.slot);
        let served = self.serve_slot(listen, instance.id, instance.ids, slot, configuration);
        if served.is_err() {
            self.discard(instance);
            return served;
        }
        // Whoever removed it meanwhile did not find it among those that are served.
        if self.instances().get(instance.id).is_none() {
            self.discard(instance);
            return Err(HostError::NoSuchDevice(instance.id));
        }
        Ok(())
    }
}

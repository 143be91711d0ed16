//! Device instances of a host: created, announced to the host's system, forgotten. How a device is
//! served is not here.

use std::sync::Arc;

use super::carrier::HostCarrier;
use super::{DeviceHost, HostHandle};
use crate::error::{DeviceId, HostError};
use crate::function::Function;
use crate::instance::DeviceInstance;
use crate::slot::Slot;
use crate::system::{DeviceIds, Listen, Place, System};

/// How far an instance has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Created,
    /// Announced before there was a system.
    Waiting,
    /// Announced to the system.
    Announced,
}

struct Entry {
    instance: DeviceInstance,
    progress: Progress,
}

/// Device instances and the system they are for.
#[derive(Default)]
pub(super) struct Instances {
    system: Option<Arc<dyn System>>,
    entries: Vec<Entry>,
    /// The host is shut down: nothing new comes.
    closed: bool,
}

impl Instances {
    fn entry(&mut self, id: DeviceId) -> Option<&mut Entry> {
        self.entries
            .iter_mut()
            .find(|entry| entry.instance.id == id)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = DeviceId> {
        self.entries.iter().map(|entry| entry.instance.id)
    }

    pub(super) fn get(&mut self, id: DeviceId) -> Option<DeviceInstance> {
        Some(self.entry(id)?.instance.clone())
    }

    /// Takes an instance out, so that nobody else does.
    pub(super) fn take(&mut self, id: DeviceId) -> Option<DeviceInstance> {
        let index = self
            .entries
            .iter()
            .position(|entry| entry.instance.id == id)?;
        Some(self.entries.remove(index).instance)
    }

    /// Takes all instances out and lets none in any more.
    pub(super) fn close(&mut self) -> Vec<DeviceInstance> {
        self.closed = true;
        self.system = None;
        self.entries.drain(..).map(|entry| entry.instance).collect()
    }
}

impl DeviceHost {
    /// Attaches the host to a system, which every device instance announced before gets into now.
    ///
    /// # Errors
    /// [`HostError::AlreadyAttached`], or the first error of a device that was waiting; that one
    /// is torn down, the host is attached all the same.
    pub fn attach(&self, system: Arc<dyn System>) -> Result<(), HostError> {
        let waiting: Vec<DeviceId> = {
            let mut instances = self.shared.instances();
            if instances.closed {
                return Err(HostError::Closed);
            }
            if instances.system.is_some() {
                return Err(HostError::AlreadyAttached);
            }
            instances.system = Some(system);
            instances
                .entries
                .iter()
                .filter(|entry| entry.progress == Progress::Waiting)
                .map(|entry| entry.instance.id)
                .collect()
        };
        // All of them, also after the first error.
        let results: Vec<_> = waiting.into_iter().map(|id| self.announce(id)).collect();
        results.into_iter().collect()
    }

    /// Creates a device instance. Nothing of it is called before it is announced.
    ///
    /// # Errors
    /// [`HostError::InstanceExists`], [`HostError::Closed`], or a function that panicked; the
    /// function is torn down then.
    pub fn create_device(
        &self,
        ids: DeviceIds,
        function: Box<dyn Function>,
    ) -> Result<DeviceInstance, HostError> {
        let name = ids.instance_id.to_string();
        // Dropping the slot on the way out tears the device down, outside the lock.
        let id = self.shared.next_id();
        let carrier = Arc::new(HostCarrier::new(&self.shared, id));
        let slot = Slot::new(&name, self.shared.token, function, Some(carrier))?;
        let instance = DeviceInstance {
            id,
            ids: Some(ids),
            brought_by: None,
            slot: Arc::new(slot),
        };
        let mut instances = self.shared.instances();
        if instances.closed {
            return Err(HostError::Closed);
        }
        let taken = instances.entries.iter().any(|other| {
            other
                .instance
                .ids
                .is_some_and(|other| other.instance_id == ids.instance_id)
        });
        if taken {
            return Err(HostError::InstanceExists(ids.instance_id));
        }
        instances.entries.push(Entry {
            instance: instance.clone(),
            progress: Progress::Created,
        });
        Ok(instance)
    }

    /// Tells the system of a device instance: on a directory of sockets it is powered on and served. On
    /// a host that is not attached yet this happens when it is. Once announced, nothing more happens.
    ///
    /// # Errors
    /// The device's own error, unchanged, or a place that cannot be had; the device is torn down then.
    /// There is no such device, or it was removed meanwhile.
    pub fn announce(&self, id: DeviceId) -> Result<(), HostError> {
        let (system, instance) = {
            let mut instances = self.shared.instances();
            let system = instances.system.clone();
            let entry = instances.entry(id).ok_or(HostError::NoSuchDevice(id))?;
            match (entry.progress, system) {
                (Progress::Announced, _) => return Ok(()),
                (_, None) => {
                    entry.progress = Progress::Waiting;
                    return Ok(());
                }
                (_, Some(system)) => {
                    entry.progress = Progress::Announced;
                    (system, entry.instance.clone())
                }
            }
        };
        let served = instance.ids.map_or(Ok(()), |ids| {
            let handle = HostHandle::of(&self.shared);
            let Some(Place {
                listen,
                configuration,
            }) = system.announced(&handle, &ids)?
            else {
                return Ok(());
            };
            let Listen::Socket(socket) = listen else {
                todo!()
            };
            let slot = Arc::clone(&instance.slot);
            self.serve_slot(&socket, id, Some(ids), slot, &configuration)
        });
        if served.is_err() {
            self.shared.instances().take(id);
            instance.slot.remove();
            return served;
        }
        // Whoever removed it meanwhile did not find it among those that are served.
        if self.shared.instances().entry(id).is_none() {
            self.stop_serving(id);
            // Whoever did may be about to tear it down: not after its creator was told of the failure.
            instance.slot.remove();
            return Err(HostError::NoSuchDevice(id));
        }
        Ok(())
    }
}

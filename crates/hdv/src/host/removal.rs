//! How devices go: one of them, because its program or its system wants it, or all with their host.

use std::sync::PoisonError;

use super::instances::Removal;
use super::{DeviceHost, HostHandle, Shared};
use crate::calls;
use crate::error::{DeviceId, HostError};
use crate::instance::DeviceInstance;

impl DeviceHost {
    /// Stops a device and tears it down, after what it brought; its socket goes. The system of a device instance is told
    /// first, so that its VM lets go of it if it can. A VM that uses it still keeps a stub: reads are all
    /// ones, writes are dropped, until it disconnects. A call into the device that is under way is
    /// waited for.
    ///
    /// # Errors
    /// There is no such device, or it is being removed; this thread is inside a call into a device of this host.
    pub fn remove(&self, id: DeviceId) -> Result<(), HostError> {
        if calls::inside(self.shared.token) {
            return Err(HostError::InsideCall);
        }
        let removal = self.shared.instances().begin_removal(id);
        match removal {
            Removal::Withdraw(instance, system) => {
                if let Some(ids) = instance.ids {
                    system.withdrawn(&HostHandle::of(&self.shared), &ids);
                }
                self.shared.discard(&instance);
            }
            Removal::Taken(instance) => self.shared.discard(&instance),
            Removal::None => {
                let known = self.shared.instances().get(id).is_some();
                if known || !self.shared.stop_serving(id) {
                    return Err(HostError::NoSuchDevice(id));
                }
            }
        }
        Ok(())
    }

    /// Tears down every device; no new one comes. The system is told that the host leaves. As for
    /// [`DeviceHost::remove`], VMs keep stubs for as long as this process lives. A second time does nothing.
    ///
    /// # Errors
    /// This thread is inside a call into a device of this host.
    pub fn close(&self) -> Result<(), HostError> {
        if calls::inside(self.shared.token) {
            return Err(HostError::InsideCall);
        }
        self.shut_down();
        Ok(())
    }

    fn shut_down(&self) {
        let (instances, system) = self.shared.instances().close();
        if let Some(system) = system {
            system.detached(&HostHandle::of(&self.shared));
        }
        self.shared.endpoints().close();
        self.shared.wake.stop();
        let acceptor = self
            .acceptor
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(acceptor) = acceptor {
            // It catches what devices do; a panic of its own has been printed already.
            let _ = acceptor.join();
        }
        self.shared.handed.close();
        let endpoints = self.shared.endpoints().take_all();
        self.shared.retire(&endpoints);
        for instance in instances {
            instance.slot.remove();
        }
    }
}

impl Drop for DeviceHost {
    fn drop(&mut self) {
        self.shut_down();
        self.shared.notes.set_server(None);
    }
}

impl Shared {
    /// Tears an instance down, whether or not it is served. When this returns it is, whoever did it.
    pub(super) fn discard(&self, instance: &DeviceInstance) {
        self.instances().take(instance.id);
        self.stop_serving(instance.id);
        instance.slot.remove();
    }
}

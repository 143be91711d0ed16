//! Devices that go without being asked: the guest has let go of one, or ejects it; a device host is gone.

use std::sync::Arc;

use super::events::{in_background, in_background_or_here};
use super::hosts::HostId;
use super::worker::{Inner, Worker};
use crate::document::{DeviceStatus, HostingModel};

impl Worker {
    /// The guest has let go of a device.
    pub(super) fn let_go(self: &Arc<Self>, name: &str) {
        let ejected = {
            let mut inner = self.lock();
            inner.ports.free(name);
            inner.kept_by_guest.remove(name);
            let instance = inner.devices.of_plug(name);
            instance.and_then(|instance| {
                let device = inner.devices.get_mut(instance)?;
                device.plug = None;
                match device.status {
                    DeviceStatus::Stub | DeviceStatus::Lost => {
                        inner.devices.remove(instance);
                        None
                    }
                    // Nobody asked it to.
                    DeviceStatus::Attached => {
                        device.status = DeviceStatus::Removing;
                        Some((device.key.clone(), instance))
                    }
                    // Who adds or removes it goes on.
                    DeviceStatus::Waiting | DeviceStatus::Adding | DeviceStatus::Removing => None,
                }
            })
        };
        self.notify();
        if let Some((key, instance)) = ejected {
            tracing::info!(device = key, "the guest has ejected it");
            let worker = Arc::clone(self);
            in_background_or_here("ejected", move || {
                // Nobody is there to be told what goes wrong.
                let _ = worker.take_out(&key, instance, None);
            });
        }
    }

    /// A device host is gone: its devices are unplugged.
    pub(super) fn host_gone(self: &Arc<Self>, host: HostId) {
        let gone = self.lock().hosts.remove(host);
        if let Some(gone) = gone {
            tracing::info!(pid = gone.pid, "a device host is gone");
            if gone.hosting_model == HostingModel::Internal {
                self.internal_gone(gone.pid);
            }
            self.unplug_lost();
        }
        self.notify();
    }

    /// Unplugs what is plugged in and whose host is gone.
    pub(super) fn unplug_lost(self: &Arc<Self>) {
        let lost: Vec<String> = {
            let mut inner = self.lock();
            let Inner { devices, hosts, .. } = &mut *inner;
            devices
                .iter_mut()
                .filter(|(_, device)| {
                    device.status == DeviceStatus::Attached
                        && device.host.is_some_and(|host| hosts.get(host).is_none())
                })
                .filter_map(|(_, device)| {
                    device.status = DeviceStatus::Lost;
                    device.host = None;
                    let plug = device.plug.as_ref()?;
                    tracing::warn!(
                        device = device.key,
                        pid = device.pid,
                        port = plug.port,
                        "its device host is gone; the guest is asked to let go of it"
                    );
                    Some(plug.name.clone())
                })
                .collect()
        };
        for name in lost {
            let worker = Arc::clone(self);
            in_background("lost", move || {
                let answer = worker.ask_to_let_go(&name);
                tracing::info!(
                    device = name,
                    ?answer,
                    "asked to let go of a device whose host is gone"
                );
            });
        }
    }
}

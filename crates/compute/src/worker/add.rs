//! Plugging a device in while the system runs or is paused: it returns when the device was started and QEMU has it. Before
//! the start it is only configured.

use std::sync::Arc;

use hdv_control::ControlError;
use hdv_qemu::Error as QemuError;
use uuid::Uuid;

use super::claim::Claimed;
use super::devices::{Device, describe};
use super::machine;
use super::refusal::{Result, ended_meanwhile, of_qemu, refused};
use super::start::MESSAGE_TIMEOUT;
use super::state::Request;
use super::worker::Worker;
use crate::document::{DeviceStatus, FlexibleIoDevice, HostingModel, State};
use crate::error::codes;

const WHAT: &str = "have a device added";

/// A device that is on its way in.
struct Added {
    instance: Uuid,
    /// What made room for it.
    replaced: Option<Device>,
}

impl Worker {
    /// Adds a device.
    pub(super) fn add(self: &Arc<Self>, key: &str, settings: FlexibleIoDevice) -> Result<()> {
        let model = settings.hosting_model;
        let Some(added) = self.note_added(key, settings)? else {
            return Ok(());
        };
        let made = match model {
            HostingModel::Internal => self.make_internal(added.instance),
            HostingModel::External | HostingModel::ExternalRestricted => Ok(()),
        };
        let claimed = match made.and_then(|()| self.claim_added(added.instance)) {
            Ok(claimed) => claimed,
            Err(error) => {
                self.forget_added(added);
                return Err(error);
            }
        };
        tracing::info!(device = key, port = claimed.plug.port, "adding");
        let powered = claimed.device.power_on(
            &self.device_socket(&claimed.plug.name),
            &claimed.configuration,
        );
        if let Err(error) = powered {
            self.undo_add(&claimed);
            return Err(error);
        }
        self.plug_in(&claimed)
    }

    /// Adds it to the list; `None` if the system has not been started, and it is configured only.
    fn note_added(&self, key: &str, settings: FlexibleIoDevice) -> Result<Option<Added>> {
        let mut inner = self.lock();
        self.allows(&inner, Request::Plug, WHAT)?;
        let is_created = inner.life.state() == State::Created;
        if is_created && inner.devices.count() >= inner.ports.count() {
            return Err(self.no_port(inner.ports.count()));
        }
        let status = if is_created {
            DeviceStatus::Waiting
        } else {
            DeviceStatus::Adding
        };
        match inner.devices.add(key, settings, status) {
            Ok(_) if is_created => Ok(None),
            Ok((instance, replaced)) => Ok(Some(Added { instance, replaced })),
            Err(taken) => Err(self.taken(key, taken.status)),
        }
    }

    fn taken(&self, key: &str, status: DeviceStatus) -> ControlError {
        refused(
            codes::ALREADY_EXISTS,
            format!(
                "compute system {:?} has a device {key:?} already: it {}{remedy}",
                self.id,
                describe(status)
            ),
        )
    }

    fn claim_added(&self, instance: Uuid) -> Result<Claimed> {
        let mut inner = self.lock();
        self.allows(&inner, Request::Plug, WHAT)?;
        self.claim(&mut inner, instance)
    }

    fn forget_added(&self, added: Added) {
        self.discard_internal(Some(added.instance));
        let mut inner = self.lock();
        inner.devices.remove(added.instance);
        // It is still to be seen, unless the guest has let go meanwhile.
        if let Some(replaced) = added.replaced
            && let Some(plug) = &replaced.plug
            && inner.ports.holds(&plug.name)
        {
            inner.devices.restore(added.instance, replaced);
        }
        drop(inner);
        self.notify();
        let remedy = match status {
            DeviceStatus::Waiting | DeviceStatus::Adding | DeviceStatus::Attached => {
                "; choose another name (`hdv plug --name`)"
            }
            // Its name is free before long.
            DeviceStatus::Removing | DeviceStatus::Stub | DeviceStatus::Lost => "",
        };
    }

    /// Removes what an addition that failed has left.
    fn undo_add(&self, claimed: &Claimed) {
        self.tear_down([claimed.device.instance]);
        let mut inner = self.lock();
        inner.ports.free(&claimed.plug.name);
        inner.devices.remove(claimed.device.instance);
        drop(inner);
        self.notify();
    }

    /// Hands a device that is powered on to QEMU.
    fn plug_in(self: &Arc<Self>, claimed: &Claimed) -> Result<()> {
        let device = machine::vfio_user(&self.first_device(&claimed.plug), MESSAGE_TIMEOUT);
        let described = device.to_json().map_err(|error| of_qemu(&error));
        let plugged = described.and_then(|device| {
            let vmm = self.vmm(WHAT)?;
            let _order = self.order();
            match vmm.add_device(device) {
                Ok(()) => {
                    self.hold(&vmm, &claimed.plug.name);
                    self.note_plugged(claimed);
                    Ok(())
                }
                Err(error) => Err(self.why_not_plugged(claimed, &error)),
            }
        });
        if plugged.is_ok() {
            self.notify();
            // Its host may have gone just now.
            self.unplug_lost();
        }
        plugged
    }

    fn note_plugged(&self, claimed: &Claimed) {
        let mut inner = self.lock();
        if let Some(device) = inner.devices.get_mut(claimed.device.instance)
            && device.status == DeviceStatus::Adding
        {
            device.status = DeviceStatus::Attached;
        }
    }

    /// What an addition failed with, after what it left is removed: the device's own error, unchanged, where there is one.
    fn why_not_plugged(self: &Arc<Self>, claimed: &Claimed, error: &QemuError) -> ControlError {
        let failure = claimed.device.failure();
        if matches!(error, QemuError::TimedOut { .. }) {
            // QEMU may still take it: its port cannot be given to another.
            self.leave_stub(claimed.device.instance);
            let name = claimed.plug.name.clone();
            let worker = Arc::clone(self);
            super::events::in_background("unplug", move || {
                if let Ok(vmm) = worker.vmm(WHAT) {
                    // QEMU carries it out after the addition.
                    let _order = worker.order();
                    worker.hold(&vmm, &name);
                }
                worker.ask_to_let_go(&name);
            });
        } else {
            self.undo_add(claimed);
        }
        failure.unwrap_or_else(|| match error {
            QemuError::Closed { .. } => ended_meanwhile(&self.id, "a device was added"),
            error => of_qemu(error),
        })
    }
}

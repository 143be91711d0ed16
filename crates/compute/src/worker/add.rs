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
use super::worker::{Inner, Worker};
use crate::document::{DeviceStatus, FlexibleIoDevice, HostingModel, State};
use crate::error::codes;

const WHAT: &str = "have a device added";

/// A device that is on its way in.
struct Added {
    instance: Uuid,
    /// What made room for it.
    replaced: Option<Device>,
}

impl Inner {
    /// Forgets a device that was not added.
    fn forget_added(&mut self, added: Added) {
        self.devices.remove(added.instance);
        // It is still to be seen, unless the guest has let go meanwhile.
        if let Some(replaced) = added.replaced
            && let Some(plug) = &replaced.plug
            && self.ports.holds(&plug.name)
        {
            self.devices.restore(added.instance, replaced);
        }
    }

    /// QEMU has it; false if the guest has ejected it already, and it is to be taken out.
    fn note_plugged(&mut self, instance: Uuid) -> bool {
        let device = self.devices.get_mut(instance);
        let Some(device) = device.filter(|device| device.status == DeviceStatus::Adding) else {
            return true;
        };
        let is_there = device.plug.is_some();
        device.status = if is_there {
            DeviceStatus::Attached
        } else {
            DeviceStatus::Removing
        };
        is_there
    }
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
        if let Err(error) = self.make_ready(&claimed) {
            self.undo_add(&claimed, added);
            return Err(error);
        }
        self.plug_in(&claimed, added)
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
        let remedy = match status {
            DeviceStatus::Waiting | DeviceStatus::Adding | DeviceStatus::Attached => {
                "; choose another name (`hdv plug --name`)"
            }
            // Its name is free before long.
            DeviceStatus::Removing | DeviceStatus::Stub | DeviceStatus::Lost => "",
        };
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
        self.lock().forget_added(added);
        self.notify();
    }

    /// Removes what an addition that failed has left.
    fn undo_add(&self, claimed: &Claimed, added: Added) {
        // At the end of all, others have torn it down before it was awaited.
        self.connections.stop_listening(&claimed.plug.name);
        self.tear_down([claimed.device.instance]);
        let mut inner = self.lock();
        inner.ports.free(&claimed.plug.name);
        inner.forget_added(added);
        drop(inner);
        self.notify();
    }

    /// Hands a device that is powered on to QEMU.
    fn plug_in(self: &Arc<Self>, claimed: &Claimed, added: Added) -> Result<()> {
        let device = machine::vfio_user(&self.first_device(&claimed.plug), MESSAGE_TIMEOUT);
        let described = device.to_json().map_err(|error| of_qemu(&error));
        let prepared = described.and_then(|device| Ok((device, self.vmm(WHAT)?)));
        let (device, vmm) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                self.undo_add(claimed, added);
                return Err(error);
            }
        };
        let plugged = {
            let _order = self.order();
            vmm.add_device(device).map(|()| {
                self.hold(&vmm, &claimed.plug.name);
                self.lock().note_plugged(added.instance)
            })
        };
        // Without the turn, which others need while the device is asked and torn down.
        let is_there = plugged.map_err(|error| self.why_not_plugged(claimed, added, &error))?;
        self.notify();
        if is_there {
            // Its host may have gone just now.
            self.unplug_lost();
        } else {
            let key = &claimed.device.key;
            tracing::info!(device = key, "the guest has ejected it");
            // It was added; nobody is there to be told what goes wrong with its end.
            let _ = self.take_out(key, claimed.device.instance, None);
        }
        Ok(())
    }

    /// What an addition failed with, after what it left is removed: the device's own error, unchanged, where there is one.
    fn why_not_plugged(
        self: &Arc<Self>,
        claimed: &Claimed,
        added: Added,
        error: &QemuError,
    ) -> ControlError {
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
            self.undo_add(claimed, added);
        }
        failure.unwrap_or_else(|| match error {
            QemuError::Closed { .. } => ended_meanwhile(&self.id, "a device was added"),
            error => of_qemu(error),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::devices::Plug;
    use super::super::worker::tests::inner;
    use super::*;

    fn settings() -> FlexibleIoDevice {
        FlexibleIoDevice {
            emulator_id: Uuid::from_u128(1),
            hosting_model: HostingModel::External,
            configuration: Vec::new(),
        }
    }

    fn plug(inner: &mut Inner, instance: Uuid) {
        let plug = Plug {
            name: "hdv1".to_owned(),
            port: inner.ports.take("hdv1").unwrap(),
        };
        inner.devices.get_mut(instance).unwrap().plug = Some(plug);
    }

    #[test]
    fn what_made_room_comes_back_while_its_port_is_taken() {
        for lets_go in [false, true] {
            let mut inner = inner();
            let stub = inner.devices.add("a", settings(), DeviceStatus::Stub);
            plug(&mut inner, stub.unwrap().0);
            let (instance, replaced) = inner
                .devices
                .add("a", settings(), DeviceStatus::Adding)
                .unwrap();
            assert!(replaced.is_some());
            if lets_go {
                inner.ports.free("hdv1");
            }
            inner.forget_added(Added { instance, replaced });
            let seen = inner.devices.get(instance).map(|device| device.status);
            assert_eq!(seen, (!lets_go).then_some(DeviceStatus::Stub));
        }
    }

    #[test]
    fn one_that_is_ejected_before_it_is_noted_is_to_be_taken_out() {
        for (is_there, status) in [
            (true, DeviceStatus::Attached),
            (false, DeviceStatus::Removing),
        ] {
            let mut inner = inner();
            let added = inner.devices.add("a", settings(), DeviceStatus::Adding);
            let instance = added.unwrap().0;
            if is_there {
                plug(&mut inner, instance);
            }
            assert_eq!(inner.note_plugged(instance), is_there);
            assert_eq!(inner.devices.get(instance).unwrap().status, status);
        }
    }
}

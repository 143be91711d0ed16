//! Giving a configured device the host that has announced it, and a port.

use hdv_control::ControlError;
use uuid::Uuid;

use super::devices::Plug;
use super::hosts::Announced;
use super::machine::FirstDevice;
use super::power::{Hosted, model_name};
use super::refusal::{Result, refused};
use super::worker::{Inner, Worker};
use crate::document::{DeviceStatus, FlexibleIoDevice, HostingModel};
use crate::error::codes;

/// A device that is to be powered on.
#[derive(Clone, Debug)]
pub(super) struct Claimed {
    pub(super) device: Hosted,
    pub(super) plug: Plug,
    pub(super) configuration: Vec<String>,
}

/// Whether what was announced is what is configured.
pub(super) fn check_announced(
    key: &str,
    settings: &FlexibleIoDevice,
    class_id: Uuid,
    hosting_model: HostingModel,
    pid: u32,
) -> Result<(), ControlError> {
    if class_id != settings.emulator_id {
        return Err(refused(
            codes::E_INVALIDARG,
            format!(
                "device {key:?} is of class {} (EmulatorId) in the document, and the device host, process {pid}, has it as one of class {class_id}",
                settings.emulator_id
            ),
        ));
    }
    if hosting_model != settings.hosting_model {
        return Err(refused(
            codes::E_INVALIDARG,
            format!(
                "device {key:?} has the hosting model {} in the document, and its device host, process {pid}, is {}",
                model_name(settings.hosting_model),
                model_name(hosting_model)
            ),
        ));
    }
    Ok(())
}

impl Worker {
    /// Every port is taken.
    pub(super) fn no_port(&self, count: usize) -> ControlError {
        refused(
            codes::E_FAIL,
            format!(
                "all {count} root ports of compute system {:?} are taken: remove a device first, or create the system with more devices",
                self.id
            ),
        )
    }

    /// What QEMU is told of a device.
    pub(super) fn first_device(&self, plug: &Plug) -> FirstDevice {
        FirstDevice {
            id: plug.name.clone(),
            socket: self.device_socket(&plug.name),
            port: plug.port.clone(),
        }
    }

    /// Finds the host of a configured device and takes a port for it; its status is `Adding` then.
    pub(super) fn claim(&self, inner: &mut Inner, instance: Uuid) -> Result<Claimed> {
        let missing = |key: &str| {
            refused(
                codes::NOT_FOUND,
                format!(
                    "no device host has announced device {key:?} (instance {instance}) to compute system {:?}: start its device host first",
                    self.id
                ),
            )
        };
        let Some(device) = inner.devices.get(instance) else {
            return Err(missing(&instance.to_string()));
        };
        let (key, settings) = (device.key.clone(), device.settings.clone());
        let Some(Announced { class_id, host }) = inner.hosts.announced(instance).cloned() else {
            return Err(missing(&key));
        };
        check_announced(&key, &settings, class_id, host.hosting_model, host.pid)?;
        let name = format!("hdv{}", inner.number());
        let Some(port) = inner.ports.take(&name) else {
            return Err(self.no_port(inner.ports.count()));
        };
        let plug = Plug { name, port };
        if let Some(device) = inner.devices.get_mut(instance) {
            device.status = DeviceStatus::Adding;
            device.host = Some(host.id);
            device.pid = Some(host.pid);
            device.plug = Some(plug.clone());
        }
        Ok(Claimed {
            device: Hosted {
                instance,
                key,
                host,
            },
            plug,
            configuration: settings.configuration,
        })
    }
}

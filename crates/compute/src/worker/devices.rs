//! The devices of device hosts that a compute system has, and where each is in its life. No I/O.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::hosts::HostId;
use crate::document::{DeviceProperties, DeviceStatus, FlexibleIoDevice, instance_id};

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    /// Its key in the document.
    pub(super) key: String,
    pub(super) settings: FlexibleIoDevice,
    pub(super) status: DeviceStatus,
    /// The host that was told to power it on; none before, and none once it was told to remove it.
    pub(super) host: Option<HostId>,
    /// Its host's process.
    pub(super) pid: Option<u32>,
    /// What it is for QEMU, from the moment that it has a port.
    pub(super) plug: Option<Plug>,
}

/// What a device is for QEMU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plug {
    /// QEMU's name for it, of which no other ever has the same.
    pub(super) name: String,
    /// The root port that it is behind.
    pub(super) port: String,
}

/// The devices, by instance id.
#[derive(Debug, Default)]
pub(super) struct Devices {
    devices: BTreeMap<Uuid, Device>,
}

/// An instance id that has a device already.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// That device's key.
    pub(super) key: String,
    /// Where it is in its life.
    pub(super) status: DeviceStatus,
}

impl Devices {
    /// Adds a device. What only waits for the guest to let go of its port makes room, and comes back.
    pub(super) fn add(
        &mut self,
        key: &str,
        settings: FlexibleIoDevice,
        status: DeviceStatus,
    ) -> Result<(Uuid, Option<Device>), Taken> {
        let instance = instance_id(key);
        if let Some(device) = self.devices.get(&instance)
            && !matches!(device.status, DeviceStatus::Stub | DeviceStatus::Lost)
        {
            return Err(Taken {
                key: device.key.clone(),
                status: device.status,
            });
        }
        let device = Device {
            key: key.to_owned(),
            settings,
            status,
            host: None,
            pid: None,
            plug: None,
        };
        let replaced = self.devices.insert(instance, device);
        Ok((instance, replaced))
    }

    /// Puts back what made room.
    pub(super) fn restore(&mut self, instance: Uuid, device: Device) {
        self.devices.insert(instance, device);
    }

    pub(super) fn get(&self, instance: Uuid) -> Option<&Device> {
        self.devices.get(&instance)
    }

    pub(super) fn get_mut(&mut self, instance: Uuid) -> Option<&mut Device> {
        self.devices.get_mut(&instance)
    }

    /// Forgets a device.
    pub(super) fn remove(&mut self, instance: Uuid) -> Option<Device> {
        self.devices.remove(&instance)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Uuid, &Device)> {
        self.devices
            .iter()
            .map(|(instance, device)| (*instance, device))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Uuid, &mut Device)> {
        self.devices
            .iter_mut()
            .map(|(instance, device)| (*instance, device))
    }

    /// The device that QEMU knows by a name.
    pub(super) fn of_plug(&self, name: &str) -> Option<Uuid> {
        self.iter()
            .find(|(_, device)| device.plug.as_ref().is_some_and(|plug| plug.name == name))
            .map(|(instance, _)| instance)
    }

    /// The devices whose host is to hear of processors that stop or go on.
    pub(super) fn attached(&self) -> Vec<(Uuid, HostId)> {
        self.iter()
            .filter(|(_, device)| {
                matches!(
                    device.status,
                    DeviceStatus::Attached | DeviceStatus::Removing
                )
            })
            .filter_map(|(instance, device)| Some((instance, device.host?)))
            .collect()
    }

    /// There is no QEMU any more that they could be plugged in: those that stay are as they were before the start.
    pub(super) fn unplug_all(&mut self) {
        self.devices.retain(|_, device| match device.status {
            DeviceStatus::Waiting | DeviceStatus::Adding | DeviceStatus::Attached => true,
            DeviceStatus::Removing | DeviceStatus::Stub | DeviceStatus::Lost => false,
        });
        for device in self.devices.values_mut() {
            device.status = DeviceStatus::Waiting;
            device.pid = None;
            device.plug = None;
        }
    }

    pub(super) fn count(&self) -> usize {
        self.devices.len()
    }

    /// All of them as properties, by key.
    pub(super) fn properties(&self) -> BTreeMap<String, DeviceProperties> {
        let properties = |(instance, device): (Uuid, &Device)| {
            let properties = DeviceProperties {
                instance_id: instance,
                emulator_id: device.settings.emulator_id,
                hosting_model: device.settings.hosting_model,
                status: device.status,
                process_id: device.pid,
                port: device.plug.as_ref().map(|plug| plug.port.clone()),
            };
            (device.key.clone(), properties)
        };
        self.iter().map(properties).collect()
    }
}

/// Words for where a device is in its life: the end of a sentence that begins with "it".
pub(super) fn describe(status: DeviceStatus) -> &'static str {
    match status {
        DeviceStatus::Waiting => "is configured",
        DeviceStatus::Adding => "is being added",
        DeviceStatus::Attached => "is plugged in",
        DeviceStatus::Removing => "is being removed",
        DeviceStatus::Stub => "is removed, and the guest has not let go of its port",
        DeviceStatus::Lost => "lost its device host, and the guest has not let go of its port",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::HostingModel;

    fn settings() -> FlexibleIoDevice {
        FlexibleIoDevice {
            emulator_id: Uuid::from_u128(1),
            hosting_model: HostingModel::External,
            configuration: Vec::new(),
        }
    }

    #[test]
    fn without_a_vmm_what_was_plugged_in_waits_and_what_was_to_go_is_gone() {
        let mut devices = Devices::default();
        let statuses = [
            (DeviceStatus::Waiting, true),
            (DeviceStatus::Adding, true),
            (DeviceStatus::Attached, true),
            (DeviceStatus::Removing, false),
            (DeviceStatus::Stub, false),
            (DeviceStatus::Lost, false),
        ];
        let made = statuses.map(|(status, stays)| {
            let key = format!("{status:?}");
            let (instance, _) = devices.add(&key, settings(), status).unwrap();
            let device = devices.get_mut(instance).unwrap();
            device.pid = Some(7);
            device.plug = Some(Plug {
                name: "hdv1".into(),
                port: "port".into(),
            });
            (instance, stays)
        });
        devices.unplug_all();
        for (instance, stays) in made {
            let device = devices.get(instance);
            assert_eq!(device.is_some(), stays);
            if let Some(device) = device {
                let seen = (device.status, device.pid, &device.plug);
                assert_eq!(seen, (DeviceStatus::Waiting, None, &None));
            }
        }
    }

    #[test]
    fn an_instance_is_there_once_until_only_its_port_is_taken() {
        let mut devices = Devices::default();
        let (instance, replaced) = devices
            .add("a", settings(), DeviceStatus::Attached)
            .unwrap();
        assert_eq!(replaced, None);
        for status in [
            DeviceStatus::Waiting,
            DeviceStatus::Adding,
            DeviceStatus::Attached,
            DeviceStatus::Removing,
        ] {
            devices.get_mut(instance).unwrap().status = status;
            // The same device under its GUID.
            let taken = devices
                .add(&instance.to_string(), settings(), DeviceStatus::Adding)
                .unwrap_err();
            assert_eq!(
                taken,
                Taken {
                    key: "a".into(),
                    status
                }
            );
        }
        for status in [DeviceStatus::Stub, DeviceStatus::Lost] {
            devices.get_mut(instance).unwrap().status = status;
            let (_, replaced) = devices.add("a", settings(), DeviceStatus::Adding).unwrap();
            assert_eq!(replaced.unwrap().status, status);
            assert_eq!(devices.get(instance).unwrap().status, DeviceStatus::Adding);
        }
        assert_eq!(devices.count(), 1);
    }

    #[test]
    fn those_with_a_host_that_are_in_hear_of_processors() {
        let mut devices = Devices::default();
        let mut add = |key: &str, status, host| {
            let (instance, _) = devices.add(key, settings(), status).unwrap();
            let device = devices.get_mut(instance).unwrap();
            device.host = host;
            device.plug = Some(Plug {
                name: format!("q{key}"),
                port: format!("p{key}"),
            });
            instance
        };
        let host = HostId(7);
        let a = add("a", DeviceStatus::Attached, Some(host));
        add("b", DeviceStatus::Adding, Some(host));
        add("c", DeviceStatus::Stub, None);
        let d = add("d", DeviceStatus::Removing, Some(host));
        add("e", DeviceStatus::Removing, None);
        let mut attached = devices.attached();
        attached.sort_unstable();
        let mut expected = vec![(a, host), (d, host)];
        expected.sort_unstable();
        assert_eq!(attached, expected);
        assert_eq!(devices.of_plug("qd"), Some(d));
        assert_eq!(devices.of_plug("qx"), None);
        assert_eq!(devices.properties()["a"].port.as_deref(), Some("pa"));
    }
}

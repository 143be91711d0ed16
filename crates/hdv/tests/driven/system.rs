//! A system that does as a test says, and notes what it is told.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use hdv::{
    DeviceHost, DeviceIds, DeviceInstance, HostError, HostHandle, Listen, PciDevice, Place, System,
    Uuid, pci_function,
};

use crate::support::{Record, Recorder, lock};

/// What a system is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Attached,
    Announced(u128),
    Withdrawn(u128),
    Detached,
}

type Hook = Box<dyn Fn(&HostHandle, Uuid) + Send + Sync>;

#[derive(Default)]
pub(crate) struct Scripted {
    told: Mutex<Vec<Told>>,
    handle: Mutex<Option<HostHandle>>,
    pub(crate) refuse_host: Mutex<bool>,
    pub(crate) refuse_device: Mutex<bool>,
    /// What it answers to an announcement.
    pub(crate) place: Mutex<Option<Place>>,
    pub(crate) on_announced: Mutex<Option<Arc<Hook>>>,
    pub(crate) on_withdrawn: Mutex<Option<Arc<Hook>>>,
}

impl std::fmt::Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scripted")
    }
}

pub(crate) fn refused() -> HostError {
    HostError::Refused {
        message: "as the test wants".to_owned(),
        code: Some(-77),
    }
}

impl Scripted {
    pub(crate) fn told(&self) -> Vec<Told> {
        std::mem::take(&mut lock(&self.told))
    }

    pub(crate) fn handle(&self) -> HostHandle {
        lock(&self.handle).clone().expect("attached")
    }

    fn note(&self, told: Told) {
        lock(&self.told).push(told);
    }
}

pub(crate) fn hook(hook: impl Fn(&HostHandle, Uuid) + Send + Sync + 'static) -> Option<Arc<Hook>> {
    Some(Arc::new(Box::new(hook)))
}

impl System for Scripted {
    fn attached(&self, host: HostHandle) -> Result<(), HostError> {
        self.note(Told::Attached);
        *lock(&self.handle) = Some(host);
        if *lock(&self.refuse_host) {
            return Err(refused());
        }
        Ok(())
    }

    fn announced(&self, host: &HostHandle, ids: &DeviceIds) -> Result<Option<Place>, HostError> {
        assert!(host.is(&self.handle()));
        self.note(Told::Announced(ids.instance_id.as_u128()));
        let hook = lock(&self.on_announced).clone();
        if let Some(hook) = hook {
            hook(host, ids.instance_id);
        }
        if *lock(&self.refuse_device) {
            return Err(refused());
        }
        Ok(lock(&self.place).clone())
    }

    fn withdrawn(&self, host: &HostHandle, ids: &DeviceIds) {
        assert!(host.is(&self.handle()));
        self.note(Told::Withdrawn(ids.instance_id.as_u128()));
        let hook = lock(&self.on_withdrawn).clone();
        if let Some(hook) = hook {
            hook(host, ids.instance_id);
        }
    }

    fn detached(&self, host: &HostHandle) {
        assert!(host.is(&self.handle()));
        self.note(Told::Detached);
    }
}

pub(crate) fn ids(instance: u128) -> DeviceIds {
    DeviceIds {
        class_id: Uuid::from_u128(0xc1a5),
        instance_id: Uuid::from_u128(instance),
    }
}

pub(crate) fn id(instance: u128) -> Uuid {
    Uuid::from_u128(instance)
}

pub(crate) fn create(
    host: &DeviceHost,
    instance: u128,
    device: impl PciDevice + 'static,
) -> DeviceInstance {
    let function = pci_function(Box::new(device)).expect("a function");
    host.create_device(ids(instance), function)
        .expect("created")
}

pub(crate) fn socket(path: PathBuf, configuration: &[&str]) -> Place {
    Place {
        listen: Listen::Socket(path),
        configuration: configuration.iter().map(ToString::to_string).collect(),
    }
}

pub(crate) fn handed() -> Place {
    Place {
        listen: Listen::Handed { beside: None },
        configuration: Vec::new(),
    }
}

/// A host that is attached to a scripted system.
pub(crate) fn attached() -> (DeviceHost, Arc<Scripted>, HostHandle) {
    let host = crate::support::host();
    let system = Arc::new(Scripted::default());
    host.attach(Arc::clone(&system) as _).expect("attached");
    assert_eq!(system.told(), [Told::Attached]);
    let handle = system.handle();
    (host, system, handle)
}

/// A device that notes what happens to it.
pub(crate) fn recorded(host: &DeviceHost, instance: u128) -> (Record, DeviceInstance) {
    let device = Recorder::default();
    let record = device.record.clone();
    (record, create(host, instance, device))
}

/// Where a device can listen, as long as the directory is kept.
pub(crate) fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("device.sock");
    (directory, path)
}

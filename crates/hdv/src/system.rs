//! Compute systems as a device host sees them: where a device instance is served, and what it is
//! configured with. Here is the one that is a directory of sockets.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::error::HostError;

/// Names a device instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceIds {
    /// Which emulator (`DeviceClassId`, `EmulatorId`). Many devices may share it.
    pub class_id: Uuid,
    /// Which device (`DeviceInstanceId`, the key under `FlexibleIov`).
    pub instance_id: Uuid,
}

/// How a system wants a device instance served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The socket to listen on.
    pub socket: PathBuf,
    /// The strings of the VM's configuration for the device.
    pub configuration: Vec<String>,
}

/// What a device host attaches to.
pub trait System: fmt::Debug + Send + Sync {
    /// A device instance is announced: where it is to be served, at once.
    ///
    /// # Errors
    /// The system does not want it; it is torn down.
    fn place(&self, ids: &DeviceIds) -> Result<Place, HostError>;
}

/// A system that is a directory: its devices listen on `<directory>/<instance id>.sock` for whatever VMM
/// connects.
#[derive(Debug)]
pub struct SocketDirectory {
    directory: PathBuf,
    configurations: Mutex<HashMap<Uuid, Vec<String>>>,
}

impl SocketDirectory {
    /// A system of `directory`.
    ///
    /// # Errors
    /// It is not a directory.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, HostError> {
        let directory = directory.into();
        match std::fs::metadata(&directory) {
            Ok(found) if found.is_dir() => Ok(Self {
                directory,
                configurations: Mutex::default(),
            }),
            Ok(_) => Err(HostError::NoSuchSystem(
                directory,
                "it is not a directory".to_owned(),
            )),
            Err(error) => Err(HostError::NoSuchSystem(directory, error.to_string())),
        }
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// The socket of a device instance.
    #[must_use]
    pub fn socket(&self, instance_id: Uuid) -> PathBuf {
        self.directory.join(format!("{instance_id}.sock"))
    }

    /// Sets the strings that a device instance gets when it is powered on; none unless set.
    pub fn configure(&self, instance_id: Uuid, values: Vec<String>) {
        self.configurations().insert(instance_id, values);
    }

    fn configurations(&self) -> MutexGuard<'_, HashMap<Uuid, Vec<String>>> {
        self.configurations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl System for SocketDirectory {
    fn place(&self, ids: &DeviceIds) -> Result<Place, HostError> {
        Ok(Place {
            socket: self.socket(ids.instance_id),
            configuration: self
                .configurations()
                .get(&ids.instance_id)
                .cloned()
                .unwrap_or_default(),
        })
    }
}

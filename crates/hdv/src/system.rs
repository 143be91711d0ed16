//! Compute systems as a device host sees them: where a device instance is served, and what it is
//! configured with. Here is the one that is a directory of sockets.

use std::collections::HashMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::error::HostError;
use crate::host::HostHandle;

/// Names a device instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceIds {
    /// Which emulator (`DeviceClassId`, `EmulatorId`). Many devices may share it.
    pub class_id: Uuid,
    /// Which device (`DeviceInstanceId`, the key under `FlexibleIov`).
    pub instance_id: Uuid,
}

/// Where the clients of a device instance come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// From a socket that the host listens on.
    Socket(PathBuf),
    /// From the system, which accepts them and hands them over ([`HostHandle::connect`]).
    Handed {
        /// What the device's function brings is served on sockets beside this path, where there is none itself:
        /// `/x/nic.sock` has `/x/nic-vf0.sock` beside it. Without a path it cannot bring anything.
        beside: Option<PathBuf>,
    },
}

/// A client that a system hands over.
#[derive(Debug)]
pub struct HandedClient {
    /// The connection, whose client has not been answered yet.
    pub socket: UnixStream,
    /// Kept open until nothing is read from the connection or written to it any more, for a system that goes on with a
    /// duplicate of it then.
    pub lease: Option<OwnedFd>,
    /// The file of a [`Ledger`](hdv_vfio_user::server::Ledger), for the same system.
    pub ledger: Option<OwnedFd>,
}

impl From<UnixStream> for HandedClient {
    fn from(socket: UnixStream) -> Self {
        Self {
            socket,
            lease: None,
            ledger: None,
        }
    }
}

/// How a system wants a device instance served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where its clients come from.
    pub listen: Listen,
    /// The strings of the VM's configuration for the device.
    pub configuration: Vec<String>,
}

/// What a device host attaches to. A system calls back through the [`HostHandle`] that it gets.
pub trait System: fmt::Debug + Send + Sync {
    /// A host attaches; its device instances are announced afterwards. Called once for each host.
    ///
    /// # Errors
    /// The system does not want the host, which stays without a system.
    fn attached(&self, host: HostHandle) -> Result<(), HostError> {
        let _ = host;
        Ok(())
    }

    /// A device instance is announced: where it is to be served, at once; `None` if the system says so later
    /// ([`HostHandle::power_on`]).
    ///
    /// # Errors
    /// The system does not want it; it is torn down.
    fn announced(&self, host: &HostHandle, ids: &DeviceIds) -> Result<Option<Place>, HostError>;

    /// The host's program is about to remove a device instance that was announced: its VM must let go of it first. It is
    /// torn down when this returns. Not called for what the system itself removes, nor by a host that is closed.
    fn withdrawn(&self, host: &HostHandle, ids: &DeviceIds) {
        let _ = (host, ids);
    }

    /// The host is closed: its devices are about to be torn down. Once for each host that attached.
    fn detached(&self, host: &HostHandle) {
        let _ = host;
    }
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
    fn announced(&self, _: &HostHandle, ids: &DeviceIds) -> Result<Option<Place>, HostError> {
        Ok(Some(Place {
            listen: Listen::Socket(self.socket(ids.instance_id)),
            configuration: self
                .configurations()
                .get(&ids.instance_id)
                .cloned()
                .unwrap_or_default(),
        }))
    }
}

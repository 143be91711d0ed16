//! A device host: devices of this process on sockets, each for one client after another.
//!
//! [`DeviceHost`] is what programs use; the threads behind it are in `acceptor` (listening
//! sockets, VERSION) and `session` (one connected client).

mod acceptor;
mod announcing;
mod carrier;
mod control;
mod descriptors;
mod endpoint;
mod endpoints;
mod extensions;
mod handed;
mod handle;
mod instances;
mod listeners;
mod options;
mod removal;
mod session;
mod status;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use hdv_control::{Registry, SocketClaim};

use crate::calls::{self, HostToken};
use crate::device::PciDevice;
use crate::error::{DeviceId, HostError};
use crate::function::Function;
use crate::instance::DeviceInstance;
use crate::mmio::Allowance;
use crate::pci_function::PciFunction;
use crate::slot::Slot;
use crate::system::{DeviceIds, Listen};

use acceptor::Wake;
use carrier::HostCarrier;
use control::Notes;
use endpoint::{Endpoint, Source};
use endpoints::Endpoints;
use extensions::Extensions;
use handed::Handed;
pub use handle::HostHandle;
use instances::Instances;
use listeners::Listeners;
pub use options::HostOptions;
pub use status::{BroughtBy, ClientStatus, DeviceStatus};

/// What the host's threads share.
struct Shared {
    options: HostOptions,
    token: HostToken,
    endpoints: Mutex<Endpoints>,
    /// Of the endpoints.
    listeners: Arc<Listeners>,
    instances: Mutex<Instances>,
    /// Clients that the system has handed over and that the accepting thread has not seen yet.
    handed: Handed,
    /// For its devices' doorbells, if they are limited.
    allowance: Option<Arc<Allowance>>,
    notes: Notes,
    wake: Wake,
}

impl Shared {
    fn instances(&self) -> MutexGuard<'_, Instances> {
        self.instances
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn endpoints(&self) -> MutexGuard<'_, Endpoints> {
        self.endpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// # Errors
    /// [`HostError::TooManyDevices`].
    fn check_devices(&self, instances: &Instances) -> Result<(), HostError> {
        match self.options.devices {
            Some(limit) if self.ids_with(instances).len() >= limit => {
                Err(HostError::TooManyDevices { limit })
            }
            _ => Ok(()),
        }
    }

    fn limit_doorbells(&self, slot: &Slot) {
        if let Some(allowance) = &self.allowance {
            slot.mmio().limit_doorbells(allowance);
        }
    }

    fn ids_with(&self, instances: &Instances) -> Vec<DeviceId> {
        let mut ids: Vec<DeviceId> = instances.ids().collect();
        ids.extend(self.endpoints().ids());
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Powers on what is in a slot and lets clients in.
    fn serve_slot(
        &self,
        listen: &Listen,
        id: DeviceId,
        ids: Option<DeviceIds>,
        slot: Arc<Slot>,
        configuration: &[String],
    ) -> Result<(), HostError> {
        let source = match listen {
            Listen::Socket(socket) => {
                let (listener, claim) = SocketClaim::bind(socket)?;
                listener
                    .set_nonblocking(true)
                    .map_err(|e| HostError::system("making the socket non-blocking", e))?;
                Source::Socket(Arc::new(listener), claim)
            }
            Listen::Handed { beside } => Source::Handed {
                beside: beside.clone(),
            },
        };
        slot.power_on(configuration)?;
        let noted = match &source {
            Source::Socket(_, claim) => self.notes.note(&[claim.path()])?,
            Source::Handed { .. } => Vec::new(),
        };
        let endpoint = Arc::new(Endpoint::new(id, ids, None, slot, source));
        let added = self.endpoints().add(&endpoint);
        if added.is_err() {
            drop(endpoint);
            self.notes.forget(&noted);
        }
        added
    }

    /// Tears down a device that is served; false if it is not.
    fn stop_serving(&self, id: DeviceId) -> bool {
        let endpoints = self.endpoints().take(id);
        self.retire(&endpoints);
        !endpoints.is_empty()
    }

    /// Lets no client in any more.
    fn close_sources(&self, endpoints: &[Arc<Endpoint>]) {
        if endpoints.is_empty() {
            return;
        }
        for endpoint in endpoints {
            endpoint.close_source();
        }
        let paths: Vec<_> = endpoints
            .iter()
            .filter_map(|endpoint| endpoint.path())
            .collect();
        self.notes.forget(&paths);
        // Connections that have not agreed on a version go too.
        self.wake.wake();
    }

    /// Tears down what was served, in this order.
    fn retire(&self, endpoints: &[Arc<Endpoint>]) {
        self.close_sources(endpoints);
        for endpoint in endpoints {
            endpoint.slot().remove();
        }
    }
}

/// Serves devices on Unix sockets to vfio-user clients.
///
/// One client at a time has a device; a further one is refused with `EBUSY`. A client that leaves,
/// in whatever way, leaves a reset device for the next. Dropping the host stops and tears down
/// every device and removes the sockets ([`DeviceHost::close`]).
///
/// Must not be dropped from inside a call into one of its own devices ([`DeviceHost::inside_call`]).
pub struct DeviceHost {
    shared: Arc<Shared>,
    acceptor: Mutex<Option<JoinHandle<()>>>,
    commands: Option<Registry>,
    extensions: Extensions,
}

impl DeviceHost {
    /// A host without devices.
    ///
    /// # Errors
    /// A thread, a descriptor or the control socket cannot be had.
    pub fn new(options: HostOptions) -> Result<Self, HostError> {
        let wake = Wake::new().map_err(|e| HostError::system("creating an eventfd", e))?;
        let listeners =
            Listeners::new().map_err(|e| HostError::system("creating an epoll descriptor", e))?;
        let listeners = Arc::new(listeners);
        let control = options.control;
        let allowance = options
            .doorbells
            .map(|limit| Arc::new(Allowance::new(limit)));
        let shared = Arc::new(Shared {
            options,
            token: HostToken::new(),
            endpoints: Mutex::new(Endpoints::new(Arc::clone(&listeners))),
            listeners,
            instances: Mutex::default(),
            handed: Handed::default(),
            allowance,
            notes: Notes::default(),
            wake,
        });
        let commands = if control {
            let (server, registry) = control::start(&shared)?;
            shared.notes.set_server(Some(server));
            Some(registry)
        } else {
            None
        };
        let acceptor = acceptor::start(Arc::clone(&shared))
            .map_err(|e| HostError::system("starting the accepting thread", e))?;
        Ok(Self {
            shared,
            acceptor: Mutex::new(Some(acceptor)),
            commands,
            extensions: Extensions::default(),
        })
    }

    /// Powers a device on and serves it on `socket`. A socket that a dead process left there is replaced.
    ///
    /// # Errors
    /// The device's own error, a wrong declaration, or a socket that cannot be had; the device is torn
    /// down then.
    pub fn serve(
        &self,
        socket: impl AsRef<Path>,
        name: &str,
        device: impl PciDevice + 'static,
    ) -> Result<DeviceId, HostError> {
        self.serve_boxed(socket, name, Box::new(device))
    }

    /// [`DeviceHost::serve`] for a device whose type is known at run time only.
    ///
    /// # Errors
    /// As there.
    pub fn serve_boxed(
        &self,
        socket: impl AsRef<Path>,
        name: &str,
        device: Box<dyn PciDevice>,
    ) -> Result<DeviceId, HostError> {
        let function = PciFunction::new(device)?;
        self.serve_function(socket, name, Box::new(function))
    }

    /// Serves something that is a [`Function`] already.
    ///
    /// # Errors
    /// As [`DeviceHost::serve`].
    pub fn serve_function(
        &self,
        socket: impl AsRef<Path>,
        name: &str,
        function: Box<dyn Function>,
    ) -> Result<DeviceId, HostError> {
        let id = DeviceId::next();
        let carrier = Arc::new(HostCarrier::new(&self.shared, id));
        // Dropping the slot on the way out tears the device down.
        let slot = Slot::new(name, self.shared.token, function, Some(carrier))?;
        self.shared.check_devices(&self.shared.instances())?;
        self.shared.limit_doorbells(&slot);
        let listen = Listen::Socket(socket.as_ref().to_owned());
        self.shared
            .serve_slot(&listen, id, None, Arc::new(slot), &[])?;
        Ok(id)
    }

    /// Whether this thread is inside a call into a device of this host, so that the host can be
    /// neither dropped nor made to remove a device.
    #[must_use]
    pub fn inside_call(&self) -> bool {
        calls::inside(self.shared.token)
    }

    /// The ids of all devices, also of instances that are not served yet.
    #[must_use]
    pub fn device_ids(&self) -> Vec<DeviceId> {
        self.shared.ids_with(&self.shared.instances())
    }

    /// A device that is served, or an instance that is not yet.
    #[must_use]
    pub fn instance(&self, id: DeviceId) -> Option<DeviceInstance> {
        let endpoint = self.shared.endpoints().get(id).cloned();
        match endpoint {
            Some(endpoint) => Some(endpoint.instance()),
            None => self.shared.instances().get(id),
        }
    }

    /// The commands that the host answers on its control socket, to add to; `None` without one.
    #[must_use]
    pub fn control_commands(&self) -> Option<&Registry> {
        self.commands.as_ref()
    }

    /// What a crate above keeps with this host, one of each type: made at the first call, dropped with the host.
    pub fn extension<T: Send + Sync + 'static>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        self.extensions.get_or_make(make)
    }

    /// The devices that are served, their state and who is connected.
    #[must_use]
    pub fn devices(&self) -> Vec<DeviceStatus> {
        status::devices(&self.shared)
    }
}

impl fmt::Debug for DeviceHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceHost")
            .field("devices", &self.devices())
            .finish_non_exhaustive()
    }
}

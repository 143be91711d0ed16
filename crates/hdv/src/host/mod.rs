//! A device host: devices of this process on sockets, each for one client after another.
//!
//! [`DeviceHost`] is what programs use; the threads behind it are in `acceptor` (listening
//! sockets, VERSION) and `session` (one connected client).

mod acceptor;
mod carrier;
mod control;
mod descriptors;
mod endpoint;
mod endpoints;
mod extensions;
mod handle;
mod instances;
mod listeners;
mod options;
mod session;
mod status;

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use hdv_control::{Registry, SocketClaim};

use crate::calls::{self, HostToken};
use crate::device::PciDevice;
use crate::error::{DeviceId, HostError};
use crate::function::Function;
use crate::instance::DeviceInstance;
use crate::pci_function::PciFunction;
use crate::slot::Slot;
use crate::system::DeviceIds;

use acceptor::Wake;
use carrier::HostCarrier;
use control::Notes;
use endpoint::Endpoint;
use endpoints::Endpoints;
use extensions::Extensions;
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
    notes: Notes,
    wake: Wake,
    next_id: AtomicU64,
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

    fn next_id(&self) -> DeviceId {
        DeviceId(self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    /// Lets no client in any more.
    fn close_sockets(&self, endpoints: &[Arc<Endpoint>]) {
        if endpoints.is_empty() {
            return;
        }
        for endpoint in endpoints {
            endpoint.close_socket();
        }
        let paths: Vec<_> = endpoints.iter().map(|endpoint| endpoint.path()).collect();
        self.notes.forget(&paths);
        // Connections that have not agreed on a version go too.
        self.wake.wake();
    }

    /// Tears down what was served, in this order.
    fn retire(&self, endpoints: &[Arc<Endpoint>]) {
        self.close_sockets(endpoints);
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
        let shared = Arc::new(Shared {
            options,
            token: HostToken::new(),
            endpoints: Mutex::new(Endpoints::new(Arc::clone(&listeners))),
            listeners,
            instances: Mutex::default(),
            notes: Notes::default(),
            wake,
            next_id: AtomicU64::new(1),
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
        let id = self.shared.next_id();
        let carrier = Arc::new(HostCarrier::new(&self.shared, id));
        // Dropping the slot on the way out tears the device down.
        let slot = Slot::new(name, self.shared.token, function, Some(carrier))?;
        self.serve_slot(socket.as_ref(), id, None, Arc::new(slot), &[])?;
        Ok(id)
    }

    /// Powers on what is in a slot and listens for its clients.
    fn serve_slot(
        &self,
        socket: &Path,
        id: DeviceId,
        ids: Option<DeviceIds>,
        slot: Arc<Slot>,
        configuration: &[String],
    ) -> Result<(), HostError> {
        let (listener, claim) = SocketClaim::bind(socket)?;
        listener
            .set_nonblocking(true)
            .map_err(|e| HostError::system("making the socket non-blocking", e))?;
        slot.power_on(configuration)?;
        let noted = self.shared.notes.note(&[claim.path()])?;
        let endpoint = Arc::new(Endpoint::new(id, ids, None, slot, listener, claim));
        let added = self.shared.endpoints().add(&endpoint);
        if added.is_err() {
            drop(endpoint);
            self.shared.notes.forget(&noted);
        }
        added
    }

    /// Stops a device and tears it down, after what it brought; its socket goes. A VM that uses it keeps a stub: reads are all
    /// ones, writes are dropped, until it disconnects. A call into the device that is under way is
    /// waited for.
    ///
    /// # Errors
    /// There is no such device, or this thread is inside a call into a device of this host.
    pub fn remove(&self, id: DeviceId) -> Result<(), HostError> {
        if calls::inside(self.shared.token) {
            return Err(HostError::InsideCall);
        }
        let instance = self.shared.instances().take(id);
        let served = self.stop_serving(id);
        match instance {
            Some(instance) => instance.slot.remove(),
            None if !served => return Err(HostError::NoSuchDevice(id)),
            None => {}
        }
        Ok(())
    }

    /// Tears down a device that is served; false if it is not.
    fn stop_serving(&self, id: DeviceId) -> bool {
        let endpoints = self.shared.endpoints().take(id);
        self.shared.retire(&endpoints);
        !endpoints.is_empty()
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
        let mut ids: Vec<DeviceId> = self.shared.instances().ids().collect();
        ids.extend(self.shared.endpoints().ids());
        ids.sort_unstable();
        ids.dedup();
        ids
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

    /// Tears down every device; no new one comes. As for [`DeviceHost::remove`], VMs keep stubs for as
    /// long as this process lives. A second time does nothing.
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
        let instances = self.shared.instances().close();
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

impl fmt::Debug for DeviceHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceHost")
            .field("devices", &self.devices())
            .finish_non_exhaustive()
    }
}

//! A device host: devices of this process on sockets, each for one client after another.
//!
//! [`DeviceHost`] is what programs use; the threads behind it are in `acceptor` (listening
//! sockets, VERSION) and `session` (one connected client).

mod acceptor;
mod endpoint;
mod instance;
mod session;
mod status;

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use hdv_control::{ControlServer, Registry, RuntimeDirectory, SocketClaim};

use crate::calls::{self, HostToken};
use crate::device::PciDevice;
use crate::error::{DeviceId, HostError};
use crate::function::Function;
use crate::pci_function::PciFunction;
use crate::slot::Slot;
use crate::system::{DeviceIds, System};

use acceptor::Wake;
use endpoint::Endpoint;
pub use instance::DeviceInstance;
pub use status::{ClientStatus, DeviceStatus};

/// How a host serves its devices.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct HostOptions {
    /// How long a session looks for the next message before it blocks. It costs a CPU for that long
    /// after each message and saves the wake-up, most of an access's time on two CPUs.
    pub poll: Option<Duration>,
    /// Answer on a control socket in the user's runtime directory, so that `hdv ls` finds this host.
    pub control: bool,
}

impl HostOptions {
    /// Blocking, with a control socket.
    #[must_use]
    pub fn new() -> Self {
        Self {
            poll: None,
            control: true,
        }
    }

    /// Sets [`HostOptions::poll`].
    #[must_use]
    pub fn poll(mut self, poll: Option<Duration>) -> Self {
        self.poll = poll;
        self
    }

    /// Sets [`HostOptions::control`].
    #[must_use]
    pub fn control(mut self, control: bool) -> Self {
        self.control = control;
        self
    }
}

/// What the host's threads share.
struct Shared {
    options: HostOptions,
    token: HostToken,
    endpoints: Mutex<Vec<Arc<Endpoint>>>,
    instances: Mutex<Instances>,
    /// Threads of sessions that may still run, also those of removed devices.
    sessions: Mutex<Vec<session::Running>>,
    wake: Wake,
    next_id: AtomicU64,
}

/// Device instances and the system they are for.
#[derive(Default)]
struct Instances {
    system: Option<Arc<dyn System>>,
    all: Vec<DeviceInstance>,
    /// Announced before there was a system.
    waiting: Vec<DeviceId>,
}

impl Shared {
    fn instances(&self) -> MutexGuard<'_, Instances> {
        self.instances
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn endpoints(&self) -> MutexGuard<'_, Vec<Arc<Endpoint>>> {
        self.endpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn sessions(&self) -> MutexGuard<'_, Vec<session::Running>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves devices on Unix sockets to vfio-user clients.
///
/// One client at a time has a device; a further one is refused with `EBUSY`. A client that leaves,
/// in whatever way, leaves a reset device for the next. Dropping the host stops and tears down
/// every device and removes the sockets.
///
/// Must not be dropped from inside a call into one of its own devices ([`DeviceHost::inside_call`]).
pub struct DeviceHost {
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
    control: Option<ControlServer>,
}

impl DeviceHost {
    /// A host without devices.
    ///
    /// # Errors
    /// A thread, a descriptor or the control socket cannot be had.
    pub fn new(options: HostOptions) -> Result<Self, HostError> {
        let wake = Wake::new().map_err(|e| HostError::system("creating an eventfd", e))?;
        let control = options.control;
        let shared = Arc::new(Shared {
            options,
            token: HostToken::new(),
            endpoints: Mutex::default(),
            instances: Mutex::default(),
            sessions: Mutex::default(),
            wake,
            next_id: AtomicU64::new(1),
        });
        let control = if control {
            Some(start_control(&shared)?)
        } else {
            None
        };
        let acceptor = acceptor::start(Arc::clone(&shared))
            .map_err(|e| HostError::system("starting the accepting thread", e))?;
        Ok(Self {
            shared,
            acceptor: Some(acceptor),
            control,
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
        // Dropping the slot on the way out tears the device down.
        let slot = Arc::new(Slot::new(name, self.shared.token, function)?);
        let id = self.next_id();
        self.serve_slot(socket.as_ref(), id, None, slot, &[])?;
        Ok(id)
    }

    fn next_id(&self) -> DeviceId {
        DeviceId(self.shared.next_id.fetch_add(1, Ordering::Relaxed))
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
        if let Some(control) = &self.control {
            control
                .note_socket(claim.path())
                .map_err(|e| HostError::system("noting the socket in the runtime directory", e))?;
        }
        let endpoint = Arc::new(Endpoint::new(id, ids, slot, listener, claim));
        self.shared.endpoints().push(endpoint);
        self.shared.wake.wake();
        Ok(())
    }

    /// Attaches the host to a system, which every device instance announced before gets into now.
    ///
    /// # Errors
    /// [`HostError::AlreadyAttached`], or the first error of a device that was waiting; that one
    /// is torn down, the host is attached all the same.
    pub fn attach(&self, system: Arc<dyn System>) -> Result<(), HostError> {
        let waiting = {
            let mut instances = self.shared.instances();
            if instances.system.is_some() {
                return Err(HostError::AlreadyAttached);
            }
            instances.system = Some(system);
            std::mem::take(&mut instances.waiting)
        };
        let results: Vec<_> = waiting.into_iter().map(|id| self.announce(id)).collect();
        results.into_iter().collect()
    }

    /// Creates a device instance. Nothing of it is called before it is announced.
    ///
    /// # Errors
    /// [`HostError::InstanceExists`], or a function that panicked; it is torn down then.
    pub fn create_device(
        &self,
        ids: DeviceIds,
        function: Box<dyn Function>,
    ) -> Result<DeviceInstance, HostError> {
        let name = ids.instance_id.to_string();
        // Dropping the slot on the way out tears the device down.
        let slot = Arc::new(Slot::new(&name, self.shared.token, function)?);
        let instance = DeviceInstance {
            id: self.next_id(),
            ids,
            slot,
        };
        let mut instances = self.shared.instances();
        let taken = instances
            .all
            .iter()
            .any(|other| other.ids.instance_id == ids.instance_id);
        if taken {
            // The device is called outside the lock.
            drop(instances);
            return Err(HostError::InstanceExists(ids.instance_id));
        }
        instances.all.push(instance.clone());
        Ok(instance)
    }

    /// Tells the system of a device instance: on a directory of sockets it is powered on and served. On
    /// a host that is not attached yet this happens when it is.
    ///
    /// # Errors
    /// The device's own error, unchanged, or a place that cannot be had; the device is torn down then.
    pub fn announce(&self, id: DeviceId) -> Result<(), HostError> {
        let (system, instance) = {
            let mut instances = self.shared.instances();
            let instance = instances
                .all
                .iter()
                .find(|instance| instance.id == id)
                .cloned()
                .ok_or(HostError::NoSuchDevice(id))?;
            let Some(system) = instances.system.clone() else {
                instances.waiting.push(id);
                return Ok(());
            };
            (system, instance)
        };
        let served = system.place(&instance.ids).and_then(|place| {
            let ids = Some(instance.ids);
            self.serve_slot(
                &place.socket,
                id,
                ids,
                Arc::clone(&instance.slot),
                &place.configuration,
            )
        });
        if served.is_err() {
            self.forget(id);
            instance.slot.remove();
        }
        served
    }

    fn forget(&self, id: DeviceId) -> Option<DeviceInstance> {
        let mut instances = self.shared.instances();
        instances.waiting.retain(|&waiting| waiting != id);
        let index = instances
            .all
            .iter()
            .position(|instance| instance.id == id)?;
        Some(instances.all.remove(index))
    }

    /// Stops a device and tears it down; its socket goes. A VM that uses it keeps a stub: reads are all
    /// ones, writes are dropped, until it disconnects. A call into the device that is under way is
    /// waited for.
    ///
    /// # Errors
    /// There is no such device, or this thread is inside a call into a device of this host.
    pub fn remove(&self, id: DeviceId) -> Result<(), HostError> {
        if calls::inside(self.shared.token) {
            return Err(HostError::InsideCall);
        }
        let instance = self.forget(id);
        let endpoint = {
            let mut endpoints = self.shared.endpoints();
            let index = endpoints.iter().position(|endpoint| endpoint.id() == id);
            index.map(|index| endpoints.remove(index))
        };
        match (endpoint, instance) {
            (Some(endpoint), _) => {
                self.retire(&endpoint);
                self.shared.wake.wake();
            }
            (None, Some(instance)) => instance.slot.remove(),
            (None, None) => return Err(HostError::NoSuchDevice(id)),
        }
        Ok(())
    }

    /// Whether this thread is inside a call into a device of this host, so that the host can be
    /// neither dropped nor made to remove a device.
    #[must_use]
    pub fn inside_call(&self) -> bool {
        calls::inside(self.shared.token)
    }

    fn retire(&self, endpoint: &Endpoint) {
        endpoint.close_socket();
        if let Some(control) = &self.control
            && let Err(error) = control.forget_socket(endpoint.path())
        {
            tracing::warn!("the socket's note in the runtime directory stays: {error}");
        }
        endpoint.slot().remove();
    }

    /// The devices, their state and who is connected.
    #[must_use]
    pub fn devices(&self) -> Vec<DeviceStatus> {
        status::devices(&self.shared)
    }

    fn shut_down(&mut self) {
        self.shared.wake.stop();
        if let Some(acceptor) = self.acceptor.take() {
            // It catches what devices do; a panic of its own has been printed already.
            let _ = acceptor.join();
        }
        let endpoints = std::mem::take(&mut *self.shared.endpoints());
        for endpoint in &endpoints {
            self.retire(endpoint);
        }
        let instances = std::mem::take(&mut self.shared.instances().all);
        for instance in instances {
            instance.slot.remove();
        }
        let sessions = std::mem::take(&mut *self.shared.sessions());
        for session in sessions {
            session.end();
        }
    }
}

impl Drop for DeviceHost {
    fn drop(&mut self) {
        self.shut_down();
    }
}

impl fmt::Debug for DeviceHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceHost")
            .field("devices", &self.devices())
            .finish_non_exhaustive()
    }
}

/// Opens the control socket, with the commands of this crate.
fn start_control(shared: &Arc<Shared>) -> Result<ControlServer, HostError> {
    fn failed(error: impl std::error::Error + Send + Sync + 'static) -> HostError {
        HostError::Control(Box::new(error))
    }
    let registry = Registry::new();
    // Not an owner: the server lives in the host that owns `shared`.
    let weak = Arc::downgrade(shared);
    registry
        .register("list", move |_| {
            let devices = weak
                .upgrade()
                .map(|shared| status::devices(&shared))
                .unwrap_or_default();
            serde_json::to_value(devices)
                .map_err(|error| hdv_control::ControlError::internal(error.to_string()))
        })
        .map_err(failed)?;
    let directory = RuntimeDirectory::locate().map_err(failed)?;
    ControlServer::start(&directory, registry).map_err(failed)
}

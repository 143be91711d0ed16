//! The broker of a restricted device host: it speaks to the worker in the host's name, checks everything that the host says,
//! and passes the clients of its devices on to it, whose data then goes straight.
//!
//! What the host may say is in `host`, what the worker may ask in `worker`, which devices there are in `devices`, how often
//! it may say something in `rate`, how a host's process is started in `spawn`, how other programs find the devices in `list`.

mod devices;
mod host;
mod list;
mod rate;
mod spawn;
mod worker;

use std::fmt;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use hdv_control::{CallError, ControlError, ControlServer, Link, RuntimeDirectory};
use serde::Serialize;
use serde_json::Value;

use crate::document::HostingModel;
use crate::error::codes;
use crate::host_commands::value;
use crate::protocol::{HELLO, Hello};
use crate::{ComputeSystem, Error, Result, places};
use devices::{Announcement, Devices};
use rate::Rate;

/// How long the worker may take to note the host, or a device.
const WORKER_LIMIT: Duration = Duration::from_secs(30);
/// How much of an untrusted message is passed on, in characters.
const MESSAGE_LIMIT: usize = 2048;

/// What a restricted device host may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokerLimits {
    /// Devices that it may announce.
    pub devices: usize,
}

impl Default for BrokerLimits {
    fn default() -> Self {
        Self { devices: 16 }
    }
}

/// A broker, for as long as it is kept; dropped, or when the host or the worker is gone, it ends both connections, and the worker
/// unplugs the devices.
pub struct Broker {
    shared: Arc<Shared>,
    /// Answers other programs of the user.
    control: Option<Arc<ControlServer>>,
}

/// What the two connections have in common.
struct Shared {
    /// The host's process.
    pid: u32,
    devices: Mutex<Devices>,
    rate: Mutex<Rate>,
    /// What the worker said at the beginning.
    welcome: OnceLock<Value>,
    worker: OnceLock<Link>,
    host: OnceLock<Link>,
}

impl Broker {
    /// Starts a program as a restricted device host, with nothing but its standard streams, which are as `command` says, and one
    /// end of a socket, whose other end is for [`Broker::start`]. There it is [`broker_socket`](crate::broker_socket). The process
    /// is killed when this one ends.
    ///
    /// # Errors
    /// As [`Command::spawn`]; the kernel is older than Linux 5.11.
    pub fn spawn(command: Command) -> Result<(Child, UnixStream)> {
        spawn::spawn(command)
    }

    /// Speaks for the device host at the other end of `socket`, which is process `pid`.
    ///
    /// # Errors
    /// The worker is gone or refuses.
    pub fn start(
        socket: UnixStream,
        pid: u32,
        system: &ComputeSystem,
        limits: BrokerLimits,
    ) -> Result<Self> {
        let place = places::place(&RuntimeDirectory::locate()?, system.id())?;
        Self::at(socket, pid, &place.socket, limits)
    }

    /// [`Broker::start`], with the socket of a compute system's worker ([`Summary::socket`](crate::Summary)).
    ///
    /// # Errors
    /// The worker is gone or refuses.
    pub fn at(socket: UnixStream, pid: u32, worker: &Path, limits: BrokerLimits) -> Result<Self> {
        let shared = Arc::new(Shared {
            pid,
            devices: Mutex::new(Devices::new(limits.devices)),
            rate: Mutex::new(Rate::new()),
            welcome: OnceLock::new(),
            worker: OnceLock::new(),
            host: OnceLock::new(),
        });
        let name = worker.display().to_string();
        let control = list::start(&shared)?;
        let broker = Self {
            shared: Arc::clone(&shared),
            control: Some(control),
        };
        let from_worker = Arc::new(worker::FromWorker {
            shared: Arc::clone(&shared),
        });
        let link =
            Link::connect(worker, from_worker).map_err(|error| Error::of_connect(&name, &error))?;
        let link = shared.worker.get_or_init(|| link);
        let hello = value(&Hello::DeviceHost {
            pid,
            hosting_model: HostingModel::ExternalRestricted,
        });
        let welcome = hello
            .map_err(CallError::from)
            .and_then(|hello| link.call(HELLO, &hello, WORKER_LIMIT))
            .map_err(|error| Error::of_call(&name, "hello to the worker", error))?;
        shared.welcome.get_or_init(|| welcome);
        let from_host = Arc::new(host::FromHost::new(Arc::clone(&shared)));
        let link =
            Link::over(socket, "the restricted device host", from_host).map_err(|source| {
                Error::Io {
                    doing: format!("speaking to the restricted device host, process {pid}"),
                    source,
                }
            })?;
        shared.host.get_or_init(|| link);
        if shared.is_over() {
            // Whichever end went while the other was being made did not see it.
            shared.end();
        }
        Ok(broker)
    }

    /// Whether the host or the worker is gone, so that nothing follows.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.shared.is_over()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.shared.end();
        self.control = None;
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("pid", &self.shared.pid)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn devices(&self) -> MutexGuard<'_, Devices> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn links(&self) -> impl Iterator<Item = &Link> {
        [self.worker.get(), self.host.get()].into_iter().flatten()
    }

    fn is_over(&self) -> bool {
        self.links().any(Link::is_closed)
    }

    /// A device is gone, as far as the worker and others see.
    fn forget(&self, which: Announcement) {
        self.devices().forget(which);
    }

    /// Ends both connections, and lets nobody in any more.
    fn end(&self) {
        for link in self.links() {
            link.close();
        }
        self.devices().close();
    }

    /// Calls the host, which need not answer.
    fn call_host(
        &self,
        command: &str,
        args: &impl Serialize,
        limit: Duration,
    ) -> Result<Value, ControlError> {
        self.call_host_with(command, args, &[], limit)
    }

    /// The same, with descriptors.
    fn call_host_with(
        &self,
        command: &str,
        args: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
        limit: Duration,
    ) -> Result<Value, ControlError> {
        let args = value(args)?;
        let gone = || refused(codes::HCS_E_SERVICE_DISCONNECT, self.gone());
        let host = self.host.get().ok_or_else(gone)?;
        let answer = host.call_with(command, &args, descriptors, limit);
        answer.map_err(|error| self.not_done(command, error))
    }

    fn gone(&self) -> String {
        format!("the restricted device host, process {}, is gone", self.pid)
    }

    /// Why the host did not do something. What it says itself is passed on as far as it can be an error.
    fn not_done(&self, command: &str, error: CallError) -> ControlError {
        match error {
            CallError::Command(ControlError {
                kind,
                message,
                code,
            }) => {
                // One that is no error would pass for success.
                let code = code.filter(|code| *code < 0).unwrap_or(codes::E_FAIL);
                ControlError::new(kind, printable(&message)).with_code(code)
            }
            CallError::TimedOut { patience, .. } => refused(
                codes::HCS_E_OPERATION_TIMEOUT,
                format!(
                    "the restricted device host, process {}, did not answer {command} within {} s: its device hangs, or the \
                     process is stopped",
                    self.pid,
                    patience.as_secs()
                ),
            ),
            error => refused(
                codes::HCS_E_SERVICE_DISCONNECT,
                format!("{}: {error}", self.gone()),
            ),
        }
    }

    /// Calls the worker.
    fn call_worker(
        &self,
        command: &str,
        args: &impl Serialize,
        limit: Duration,
    ) -> Result<Value, ControlError> {
        let args = value(args)?;
        let gone = || {
            refused(
                codes::HCS_E_SERVICE_DISCONNECT,
                "the worker is gone".to_owned(),
            )
        };
        let worker = self.worker.get().ok_or_else(gone)?;
        worker
            .call(command, &args, limit)
            .map_err(|error| match error {
                CallError::Command(error) => error,
                CallError::TimedOut { patience, .. } => refused(
                    codes::HCS_E_OPERATION_TIMEOUT,
                    format!("the worker did not answer within {} s", patience.as_secs()),
                ),
                error => refused(
                    codes::HCS_E_SERVICE_DISCONNECT,
                    format!("the worker is gone: {error}"),
                ),
            })
    }
}

/// As much of an untrusted message as is passed on to people's terminals and logs.
fn printable(message: &str) -> String {
    message
        .chars()
        .filter(|character| !character.is_control())
        .take(MESSAGE_LIMIT)
        .collect()
}

fn refused(code: i32, message: String) -> ControlError {
    ControlError::internal(message).with_code(code)
}

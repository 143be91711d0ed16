//! [`ComputeSystem`]: a handle to a compute system, which is a connection to its worker.
//!
//! | module | what it has |
//! | --- | --- |
//! | `program` | where the worker's program is |
//! | `launch` | starting it, and handing the document over |
//! | `events` | what a handle has heard, and who is told of it |
//! | `list` | the compute systems that there are |

mod events;
mod launch;
mod list;
mod program;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hdv_control::{ConnectError, Link, RuntimeDirectory};
use hdv_qemu::cache::Cache;
use hdv_qemu::lab::{Lab, VARIABLE};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::attach::{self, WorkerSystem};
use crate::document::{
    ComputeSystemDocument, DeviceProperties, HostingModel, LAB_VARIABLE, ModifyRequest, Properties,
    RequestType, State, expand,
};
use crate::error::codes;
use crate::handover::Order;
use crate::places::{self, Place};
use crate::protocol::{HELLO, Hello, Welcome, handle};
use crate::{Error, Result};

use events::{Events, Listener};

/// How long a worker may take for an operation, which consists of steps that it bounds itself.
pub(crate) const OPERATION_PATIENCE: Duration = Duration::from_secs(10 * 60);
/// How long a worker may take for what it answers without waiting for anything.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// A handle to a compute system. Clones are the same handle, which is closed when the last one is dropped.
///
/// Calls wait until the worker is done, ten minutes at most; the worker bounds everything that it waits for itself.
#[derive(Clone)]
pub struct ComputeSystem {
    shared: Arc<Shared>,
}

struct Shared {
    id: String,
    runtime_id: Uuid,
    socket: PathBuf,
    link: Link,
    events: Arc<Events>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.events.nobody_listens();
    }
}

/// A compute system in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Its id.
    pub id: String,
    /// The id of this run of it.
    pub runtime_id: Uuid,
    /// Who made it.
    pub owner: String,
    /// Its state.
    pub state: State,
    /// Its worker's socket.
    pub socket: PathBuf,
    /// QEMU's process, while there is one.
    pub vmm_process_id: Option<u32>,
    /// Devices of device hosts, by their key.
    pub devices: BTreeMap<String, DeviceProperties>,
}

/// How a compute system ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitType {
    /// Never started, or not yet ended.
    None,
    /// The guest powered off, or reset where its document says that this ends it.
    GracefulExit,
    /// It was terminated.
    ForcedExit,
    /// QEMU or the worker ended by themselves.
    UnexpectedExit,
}

/// HCS's `SystemExitStatus`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ExitStatus {
    /// A result code: 0, or why it ended.
    pub status: i32,
    /// How it ended.
    pub exit_type: ExitType,
    /// What was seen of the end, for people; empty when there is nothing to say.
    #[serde(default)]
    pub detail: String,
}

/// What a compute system tells its handles.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// It has ended.
    Exited(ExitStatus),
    /// The worker is gone; nothing follows.
    Disconnected,
}

/// Who is told of events.
pub type EventCallback = Arc<dyn Fn(&Event) + Send + Sync>;

/// Greets a worker over a new connection.
fn greet(link: &Link, id: &str, hello: &Hello, patience: Duration) -> Result<Welcome> {
    let hello = to_value(hello)?;
    let answer = link
        .call(HELLO, &hello, patience)
        .map_err(|error| Error::of_call(id, "connecting to the worker", error))?;
    understood(id, answer)
}

fn to_value(message: &impl Serialize) -> Result<Value> {
    serde_json::to_value(message).map_err(|error| Error::Io {
        doing: "writing a message to a worker".to_owned(),
        source: error.into(),
    })
}

/// A document's text with the guest lab's folder in it, if it names that.
fn with_lab(document: &str) -> Result<Cow<'_, str>> {
    if !document.contains(LAB_VARIABLE) {
        return Ok(document.into());
    }
    let failed = |source| Error::Io {
        doing: format!("finding the folder that {LAB_VARIABLE} stands for"),
        source,
    };
    let cache = Cache::user().map_err(|error| failed(io::Error::other(error)))?;
    let lab = Lab::of(&cache);
    if !lab.is_ready() {
        let missing = format!(
            "there is no guest lab at {}: `cargo xtask lab`, in a checkout of OpenHDV, makes it; {VARIABLE} names another folder \
             with vmlinuz and initrd",
            lab.directory().display()
        );
        return Err(failed(io::Error::new(io::ErrorKind::NotFound, missing)));
    }
    Ok(expand(document, lab.directory()).into())
}

/// A worker's answer.
fn understood<T: DeserializeOwned>(id: &str, answer: Value) -> Result<T> {
    serde_json::from_value(answer).map_err(|error| Error::Gone {
        id: id.to_owned(),
        reason: format!("its answer cannot be understood: {error}"),
    })
}

impl ComputeSystem {
    /// Creates a compute system: checks the document and starts its worker. `${OPENHDV_LAB}` in the document stands for the guest
    /// lab's folder ([`LAB_VARIABLE`]).
    ///
    /// # Errors
    /// The document is wrong, the id is taken, or the worker cannot be started.
    pub fn create(id: &str, document: &str) -> Result<Self> {
        let runtime = RuntimeDirectory::locate()?;
        let place = places::place(&runtime, id)?;
        let document = with_lab(document)?;
        ComputeSystemDocument::parse(&document)?;
        // What dead workers left goes now, whatever becomes of this one.
        places::living(&runtime)?;
        let order = Order {
            id: id.to_owned(),
            document: document.into_owned(),
        };
        let socket = launch::launch(&order)?;
        let events = Arc::new(Events::default());
        let listener = Arc::new(Listener::new(&events));
        let name = place.socket.display().to_string();
        let link = Link::over(socket, &name, listener).map_err(|source| Error::Io {
            doing: format!("connecting to the worker of compute system {id:?}"),
            source,
        })?;
        Self::over(id, place, link, events)
    }

    /// Opens a compute system of this user by its id.
    ///
    /// # Errors
    /// There is no compute system of that id, or its worker does not answer.
    pub fn open(id: &str) -> Result<Self> {
        let runtime = RuntimeDirectory::locate()?;
        let place = places::place(&runtime, id)?;
        let events = Arc::new(Events::default());
        let listener = Arc::new(Listener::new(&events));
        let link = match Link::connect(&place.socket, listener) {
            Ok(link) => link,
            Err(error) if nobody_listens(&error) => {
                places::living(&runtime)?;
                return Err(Error::NotFound(id.to_owned()));
            }
            Err(error) => return Err(Error::of_connect(id, &error)),
        };
        Self::over(id, place, link, events)
    }

    fn over(id: &str, place: Place, link: Link, events: Arc<Events>) -> Result<Self> {
        let welcome = greet(&link, id, &Hello::Handle, ANSWER_PATIENCE)?;
        if welcome.id != id {
            return Err(Error::NotFound(id.to_owned()));
        }
        Ok(Self {
            shared: Arc::new(Shared {
                id: welcome.id,
                runtime_id: welcome.runtime_id,
                socket: place.socket,
                link,
                events,
            }),
        })
    }

    /// The compute systems of this user, by id; what dead workers left is removed. A worker that does not answer within a
    /// few seconds is left out.
    ///
    /// # Errors
    /// The runtime directory cannot be used.
    pub fn enumerate() -> Result<Vec<Summary>> {
        list::systems(&RuntimeDirectory::locate()?)
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.shared.id
    }

    /// The id of this run of it.
    #[must_use]
    pub fn runtime_id(&self) -> Uuid {
        self.shared.runtime_id
    }

    /// Whether this thread is inside a call into a device that a host of this process has in it: what waits for such calls
    /// to end is refused there.
    #[must_use]
    pub fn inside_call(&self) -> bool {
        attach::inside_call(self.runtime_id())
    }

    /// Has the worker do something, and waits until it is done.
    fn operate(&self, what: &str, command: &str, args: &Value) -> Result<Value> {
        let answer = self.shared.link.call(command, args, OPERATION_PATIENCE);
        answer.map_err(|error| Error::of_call(self.id(), what, error))
    }

    /// [`Self::operate`], for what waits for calls into the system's devices to end.
    fn operate_outside(&self, what: &'static str, command: &str) -> Result<()> {
        if self.inside_call() {
            return Err(self.inside(what));
        }
        self.operate(what, command, &Value::Null).map(drop)
    }

    fn inside(&self, what: &'static str) -> Error {
        Error::InsideCall {
            what,
            id: self.id().to_owned(),
        }
    }

    /// Starts it: powers the devices of its document on, starts QEMU with them, lets processors run.
    ///
    /// # Errors
    /// It is not in state Created; a device's own error, unchanged; no device host has announced a device; QEMU's error; this
    /// thread is inside a call into a device of it.
    pub fn start(&self) -> Result<()> {
        self.operate_outside("the start", handle::START)
    }

    /// Pauses it: stops processors, then devices.
    ///
    /// # Errors
    /// It does not run; this thread is inside a call into a device of it.
    pub fn pause(&self) -> Result<()> {
        self.operate_outside("the pause", handle::PAUSE)
    }

    /// Resumes it: starts devices, then processors.
    ///
    /// # Errors
    /// It is not paused; a device's own error; this thread is inside a call into a device of it.
    pub fn resume(&self) -> Result<()> {
        self.operate_outside("the resumption", handle::RESUME)
    }

    /// Presses the guest's power button. The guest decides; its end is an event.
    ///
    /// # Errors
    /// It does not run.
    pub fn shut_down(&self) -> Result<()> {
        self.operate("the shutdown", handle::SHUT_DOWN, &Value::Null)
            .map(drop)
    }

    /// Ends it at once; its devices are torn down.
    ///
    /// # Errors
    /// It has ended already.
    pub fn terminate(&self) -> Result<()> {
        self.operate("the termination", handle::TERMINATE, &Value::Null)
            .map(drop)
    }

    /// Changes it: plugs a device in or takes one out. The request's form is
    /// [`ModifyRequest`]'s.
    ///
    /// # Errors
    /// The request is wrong, the device's own error, no device host has it, no port is free. For a removal: the guest has not
    /// let go in time (the device is gone, its port stays taken until the guest lets go), or this thread is inside a call
    /// into a device of the same host.
    pub fn modify(&self, request: &str) -> Result<()> {
        let parsed = ModifyRequest::parse(request)?;
        if parsed.request_type == RequestType::Remove
            && attach::inside_call_beside(self.runtime_id(), parsed.instance_id)
        {
            return Err(self.inside("the removal of a device"));
        }
        self.operate("the change", handle::MODIFY, &request.into())
            .map(drop)
    }

    /// What it says of itself. Answered also while an operation is under way.
    ///
    /// # Errors
    /// The worker is gone.
    pub fn properties(&self) -> Result<Properties> {
        let link = &self.shared.link;
        properties(link, self.id(), ANSWER_PATIENCE)
    }

    /// Waits until it has ended, at most `limit`; `None` if it has not by then. Where the worker has gone without a word,
    /// that is an unexpected exit.
    #[must_use]
    pub fn wait_for_exit(&self, limit: Duration) -> Option<ExitStatus> {
        self.shared.events.wait_for_exit(limit)
    }

    /// Sets who is told of events, on a thread of the handle's; instead of who was told before. One that has happened is told
    /// at once. Nobody is told after the handle is closed, but who is just being told still is.
    pub fn set_callback(&self, callback: Option<EventCallback>) {
        Events::set_callback(&self.shared.events, callback);
    }

    /// Connects to a serial port: what it has written lately comes first.
    ///
    /// # Errors
    /// There is no such port.
    pub fn console(&self, port: u8) -> Result<UnixStream> {
        let path = self.console_socket(port)?;
        hdv_control::connect(&path).map_err(|error| Error::Io {
            doing: format!("connecting to serial port {port}"),
            source: std::io::Error::other(error),
        })
    }

    /// The socket of a serial port, on which any number of clients read and write it.
    ///
    /// # Errors
    /// There is no such port.
    pub fn console_socket(&self, port: u8) -> Result<PathBuf> {
        let mut consoles = self.properties()?.consoles;
        if let Some(path) = consoles.remove(&port.to_string()) {
            return Ok(path);
        }
        let known: Vec<&str> = consoles.keys().map(String::as_str).collect();
        let known = if known.is_empty() {
            "it has none: add one under VirtualMachine/Devices/ComPorts".to_owned()
        } else {
            format!("its serial ports: {}", known.join(", "))
        };
        Err(Error::Refused {
            message: format!(
                "compute system {:?} has no serial port {port}; {known}",
                self.id()
            ),
            code: codes::NOT_FOUND,
        })
    }

    /// It, for device hosts to attach to: they have its `External` devices. Keeps no handle open.
    #[must_use]
    pub fn system(&self) -> Arc<dyn hdv::System> {
        self.system_for(HostingModel::External)
    }

    /// It, for device hosts of this process that are behind a proxy in this process: they have its `ExternalRestricted`
    /// devices. A proxy for another process is a [`Broker`](crate::Broker). Keeps no handle open.
    #[must_use]
    pub fn restricted_system(&self) -> Arc<dyn hdv::System> {
        self.system_for(HostingModel::ExternalRestricted)
    }

    fn system_for(&self, hosting_model: HostingModel) -> Arc<dyn hdv::System> {
        let socket = &self.shared.socket;
        Arc::new(WorkerSystem::of_user(self.id(), socket, hosting_model))
    }
}

fn properties(link: &Link, id: &str, patience: Duration) -> Result<Properties> {
    let answer = link
        .call(handle::PROPERTIES, &Value::Null, patience)
        .map_err(|error| Error::of_call(id, "asking for the properties", error))?;
    understood(id, answer)
}

fn nobody_listens(error: &ConnectError) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    matches!(error, ConnectError::Io { source, .. } if matches!(source.kind(), ConnectionRefused | NotFound))
}

impl fmt::Debug for ComputeSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComputeSystem")
            .field("id", &self.shared.id)
            .field("runtime_id", &self.shared.runtime_id)
            .finish_non_exhaustive()
    }
}

//! [`ComputeSystem`]: a handle to a compute system, which is a connection to its worker.

use std::fmt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Result;
use crate::document::{Properties, State};

/// A handle to a compute system. Clones are the same handle, which is closed when the last one is dropped.
///
/// Calls wait until the worker is done, as long as it takes; the worker bounds everything that it waits for itself.
#[derive(Clone)]
pub struct ComputeSystem {
    shared: Arc<Shared>,
}

struct Shared {}

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

impl ComputeSystem {
    /// Creates a compute system: checks the document and starts its worker.
    ///
    /// # Errors
    /// The document is wrong, the id is taken, or the worker cannot be started.
    pub fn create(id: &str, document: &str) -> Result<Self> {
        let _ = (id, document);
        todo!()
    }

    /// Opens a compute system of this user by its id.
    ///
    /// # Errors
    /// There is none.
    pub fn open(id: &str) -> Result<Self> {
        let _ = id;
        todo!()
    }

    /// The compute systems of this user, by id; what dead workers left is removed.
    ///
    /// # Errors
    /// The runtime directory cannot be used.
    pub fn enumerate() -> Result<Vec<Summary>> {
        todo!()
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        todo!()
    }

    /// The id of this run of it.
    #[must_use]
    pub fn runtime_id(&self) -> Uuid {
        todo!()
    }

    /// Starts it: powers the devices of its document on, starts QEMU with them, lets processors run.
    ///
    /// # Errors
    /// It is not in state Created; a device's own error, unchanged; no device host has announced a device; QEMU's error.
    pub fn start(&self) -> Result<()> {
        todo!()
    }

    /// Pauses it: stops processors, then devices.
    ///
    /// # Errors
    /// It does not run; this thread is inside a call into a device of it.
    pub fn pause(&self) -> Result<()> {
        todo!()
    }

    /// Resumes it: starts devices, then processors.
    ///
    /// # Errors
    /// It is not paused; a device's own error; this thread is inside a call into a device of it.
    pub fn resume(&self) -> Result<()> {
        todo!()
    }

    /// Presses the guest's power button. The guest decides; its end is an event.
    ///
    /// # Errors
    /// It does not run.
    pub fn shut_down(&self) -> Result<()> {
        todo!()
    }

    /// Ends it at once; its devices are torn down.
    ///
    /// # Errors
    /// It has ended already.
    pub fn terminate(&self) -> Result<()> {
        todo!()
    }

    /// Changes it: plugs a device in or takes one out. The request's form is
    /// [`ModifyRequest`](crate::document::ModifyRequest)'s.
    ///
    /// # Errors
    /// The request is wrong, the device's own error, no device host has it, no port is free. For a removal: the guest has not
    /// let go in time (the device is gone, its port stays taken until the guest lets go).
    pub fn modify(&self, request: &str) -> Result<()> {
        let _ = request;
        todo!()
    }

    /// What it says of itself. Answered also while an operation is under way.
    ///
    /// # Errors
    /// The worker is gone.
    pub fn properties(&self) -> Result<Properties> {
        todo!()
    }

    /// Waits until it has ended, at most `limit`; `None` if it has not by then.
    #[must_use]
    pub fn wait_for_exit(&self, limit: Duration) -> Option<ExitStatus> {
        let _ = limit;
        todo!()
    }

    /// Sets who is told of events, on a thread of the handle's; instead of who was told before. One that has happened is told
    /// at once.
    pub fn set_callback(&self, callback: Option<Arc<dyn Fn(&Event) + Send + Sync>>) {
        let _ = callback;
        todo!()
    }

    /// Connects to a serial port: what it has written lately comes first.
    ///
    /// # Errors
    /// There is no such port.
    pub fn console(&self, port: u8) -> Result<UnixStream> {
        let _ = port;
        todo!()
    }

    /// Whether this thread is inside a call into one of its devices, of a device host of this process: it must not wait for
    /// a pause, a resume or a removal then. For those who hand calls over to other threads, where the calls cannot tell.
    #[must_use]
    pub fn inside_call(&self) -> bool {
        todo!()
    }

    /// It, for device hosts to attach to. Keeps no handle open.
    #[must_use]
    pub fn system(&self) -> Arc<dyn hdv::System> {
        todo!()
    }
}

impl fmt::Debug for ComputeSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let _ = &self.shared;
        f.debug_struct("ComputeSystem").finish_non_exhaustive()
    }
}

//! What crosses a worker's socket, and the one between a broker and its restricted device host: commands and notices of
//! [`Link`](hdv_control::Link)s, with their arguments. What they do is in `worker`, `attach` and `broker`.
//!
//! Every connection begins with [`HELLO`].

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::document::HostingModel;

/// First command to a worker: [`Hello`]; the answer is [`Welcome`].
pub const HELLO: &str = "hello";

/// Commands of handles to the worker, without arguments unless said. They answer when done.
pub mod handle {
    /// Starts the system: devices, QEMU, then processors.
    pub const START: &str = "start";
    /// Pauses it.
    pub const PAUSE: &str = "pause";
    /// Resumes it.
    pub const RESUME: &str = "resume";
    /// Presses the guest's power button; answers when QEMU has taken it. The end comes as [`EXITED`].
    pub const SHUT_DOWN: &str = "shut-down";
    /// Ends it at once.
    pub const TERMINATE: &str = "terminate";
    /// Argument: the request's JSON as a string.
    pub const MODIFY: &str = "modify";
    /// Answers [`Properties`](crate::document::Properties); never waits for an operation.
    pub const PROPERTIES: &str = "properties";
    /// Notice of the worker: the system has ended, [`ExitStatus`](crate::ExitStatus). A handle that comes later gets it
    /// right after its hello.
    pub const EXITED: &str = "exited";
}

/// Commands of device hosts, and of brokers for them, to the worker (or to their broker).
pub mod host {
    /// A device is there: [`super::Device`]. Answers when it has been noted.
    pub const ANNOUNCE: &str = "announce";
    /// A device is about to be removed by its host: [`super::Instance`]. Answers when the VM has let go of it.
    pub const WITHDRAW: &str = "withdraw";
}

/// Commands of the worker (or of a broker) to device hosts, about one device: [`Instance`] unless said. A device's own
/// error comes back with its code.
pub mod device {
    /// Makes one of our own devices and announces it: [`super::Device`]. To the worker's own device host only.
    pub const CREATE: &str = "create";
    /// Powers it on, and has it take clients: [`super::PowerOn`].
    pub const POWER_ON: &str = "power-on";
    /// A client of the device. Three descriptors come with it: the client's socket; a lease, which is closed when nothing is
    /// read from the socket or written to it any more; the file of a
    /// [`Ledger`](hdv_vfio_user::server::Ledger). Answers when the client has been taken in.
    pub const CONNECT: &str = "connect";
    /// Processors run again.
    pub const START: &str = "start";
    /// Processors have stopped.
    pub const STOP: &str = "stop";
    /// It is removed: stopped, torn down.
    pub const REMOVE: &str = "remove";
    /// Answers the host's devices, as [`hdv::DeviceStatus`]; to a broker only.
    pub const LIST: &str = "list";
    /// Answers null, or the error with which its `Start` failed, as [`super::DeviceFailure`].
    pub const FAILURE: &str = "failure";
}

/// Who connects, and what for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "role")]
pub enum Hello {
    /// A handle: the system lives on while there is one, if its document says so.
    Handle,
    /// Like a handle, but keeps nothing alive: for lists.
    Observer,
    /// A device host, or a broker for one.
    DeviceHost {
        /// Its process.
        pid: u32,
        /// Which devices it is for.
        hosting_model: HostingModel,
    },
}

/// A worker's answer to [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Welcome {
    /// The system's id.
    pub id: String,
    /// The id of this run of it.
    pub runtime_id: Uuid,
}

/// A device by class and instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Device {
    /// Its class id.
    pub class_id: Uuid,
    /// Its instance id.
    pub instance_id: Uuid,
}

/// A device by instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Instance {
    /// Its instance id.
    pub instance_id: Uuid,
}

/// How a device is powered on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PowerOn {
    /// Its instance id.
    pub instance_id: Uuid,
    /// What the device brings is served on sockets beside this path ([`hdv::Listen::Handed`]); nowhere without one.
    pub beside: Option<PathBuf>,
    /// The strings for `SetConfiguration`.
    pub configuration: Vec<String>,
}

/// A device's own error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DeviceFailure {
    /// What was wrong.
    pub message: String,
    /// Its result code, if it has one.
    pub code: Option<i32>,
}

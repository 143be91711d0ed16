//! What a compute system says of itself.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::HostingModel;

/// A compute system's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Not yet started.
    Created,
    /// Its processors run.
    Running,
    /// They are stopped and can go on.
    Paused,
    /// It has ended.
    Stopped,
}

/// A compute system's properties; names are HCS's, what HCS has no name for is added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Properties {
    /// Its id.
    pub id: String,
    /// `VirtualMachine`.
    pub system_type: String,
    /// Who made it.
    pub owner: String,
    /// The id of this run of it.
    pub runtime_id: Uuid,
    /// Its state.
    pub state: State,
    /// How it ended, once it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_type: Option<String>,
    /// It ends when no handle to it is open any more.
    pub terminate_on_last_handle_closed: bool,
    /// Its memory.
    pub memory: MemoryProperties,
    /// Number of processors.
    pub processor_count: u16,
    /// Its worker's process id.
    pub worker_process_id: u32,
    /// QEMU's process id, while there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vmm_process_id: Option<u32>,
    /// How its processors run, once they do: `kvm` or `tcg`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<String>,
    /// The sockets of its serial ports, by number, on which any number of clients read and write the port.
    pub consoles: BTreeMap<String, PathBuf>,
    /// Devices of device hosts, by their key.
    pub devices: BTreeMap<String, DeviceProperties>,
}

/// Guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MemoryProperties {
    /// Its size in MiB.
    #[serde(rename = "SizeInMB")]
    pub size_in_mb: u32,
}

/// Where a device is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceStatus {
    /// Configured; the system has not been started.
    Waiting,
    /// On its way in.
    Adding,
    /// Plugged in.
    Attached,
    /// On its way out.
    Removing,
    /// Removed here, its port still taken: the guest has not let go.
    Stub,
    /// Its device host died, or it failed; the guest is asked to let go.
    Lost,
}

/// A device of a device host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeviceProperties {
    /// Its instance id.
    pub instance_id: Uuid,
    /// Its class id.
    pub emulator_id: Uuid,
    /// Where it runs.
    pub hosting_model: HostingModel,
    /// Where it is in its life.
    pub status: DeviceStatus,
    /// The process of its device host, once that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process_id: Option<u32>,
    /// The root port that it is behind, once it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
}

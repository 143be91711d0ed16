//! Devices of running hosts, in the form that this command's JSON has everywhere: ids as
//! hexadecimal text.

use std::path::PathBuf;

use hdv::{ClientStatus, DeviceStatus};
use serde::Serialize;

use crate::decode::Hex;
use crate::process;

/// A device of a host.
#[derive(Debug, Serialize)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) vendor: Hex<4>,
    pub(crate) device: Hex<4>,
    pub(crate) class: Hex<6>,
    pub(crate) socket: PathBuf,
    pub(crate) state: String,
    pub(crate) client: Option<DeviceClient>,
}

/// Who uses it.
#[derive(Debug, Serialize)]
pub(crate) struct DeviceClient {
    pub(crate) pid: Option<u32>,
    /// Its command name.
    pub(crate) process: Option<String>,
    pub(crate) messages: u64,
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    pub(crate) bar_reads: u64,
    pub(crate) bar_writes: u64,
}

impl From<DeviceStatus> for Device {
    fn from(status: DeviceStatus) -> Self {
        Self {
            name: status.name,
            vendor: Hex(status.vendor_id.into()),
            device: Hex(status.device_id.into()),
            class: Hex(status.class_code.into()),
            socket: status.socket,
            state: status.state,
            client: status.client.map(DeviceClient::from),
        }
    }
}

impl From<ClientStatus> for DeviceClient {
    fn from(status: ClientStatus) -> Self {
        let pid = status.pid.and_then(|pid| u32::try_from(pid).ok());
        Self {
            pid,
            process: pid.and_then(process::name),
            messages: status.messages,
            reads: status.reads,
            writes: status.writes,
            bar_reads: status.bar_reads,
            bar_writes: status.bar_writes,
        }
    }
}

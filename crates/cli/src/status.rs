//! Devices of running hosts, in the form that this command's JSON has everywhere: ids as
//! hexadecimal text, VFs right behind their PF.

use std::path::PathBuf;

use hdv::{BroughtBy, ClientStatus, DeviceStatus, Uuid};
use serde::Serialize;

use crate::decode::Hex;
use crate::process;

/// A device of a host.
#[derive(Debug, Serialize)]
pub(crate) struct Device {
    /// Names it within its host.
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) vendor: Hex<4>,
    pub(crate) device: Hex<4>,
    pub(crate) class: Hex<6>,
    pub(crate) socket: PathBuf,
    pub(crate) state: String,
    pub(crate) client: Option<DeviceClient>,
    /// Which VF of which PF it is, if it is one.
    pub(crate) vf_of: Option<VfOf>,
    /// Its instance id, if it has one.
    pub(crate) instance_id: Option<Uuid>,
    /// The compute system that has it, if one has.
    pub(crate) system: Option<String>,
    /// Its key in that one's document.
    pub(crate) key: Option<String>,
}

/// Names a VF within its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct VfOf {
    /// The id of the PF.
    pub(crate) pf: u64,
    /// Its number, from 0.
    pub(crate) vf: u16,
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
            id: status.id,
            name: status.name,
            vendor: Hex(status.vendor_id.into()),
            device: Hex(status.device_id.into()),
            class: Hex(status.class_code.into()),
            socket: status.socket,
            state: status.state,
            client: status.client.map(DeviceClient::from),
            vf_of: status
                .brought_by
                .map(|BroughtBy { device, vf }| VfOf { pf: device, vf }),
            instance_id: status.instance_id,
            system: None,
            key: None,
        }
    }
}

/// The devices of a host, each PF followed by its VFs in their order.
pub(crate) fn devices(statuses: Vec<DeviceStatus>) -> Vec<Device> {
    let mut devices: Vec<Device> = statuses.into_iter().map(Device::from).collect();
    // Ids count up, so devices stay in the order in which they came.
    devices.sort_by_key(|device| (device.vf_of.map_or(device.id, |of| of.pf), device.vf_of));
    devices
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

#[cfg(test)]
mod tests {
    use super::*;

    fn status(id: u64, brought_by: Option<(u64, u16)>) -> DeviceStatus {
        DeviceStatus {
            id,
            name: "nic".to_owned(),
            class_id: None,
            instance_id: None,
            socket: "/s".into(),
            vendor_id: 0x4f48,
            device_id: 1,
            class_code: 0,
            state: "powered-off".to_owned(),
            client: None,
            brought_by: brought_by.map(|(device, vf)| BroughtBy { device, vf }),
        }
    }

    #[test]
    fn vfs_come_right_behind_their_pf() {
        // The VFs of 1 came after 2 did, and those of 2 before.
        let statuses = vec![
            status(1, None),
            status(2, None),
            status(3, Some((2, 0))),
            status(5, Some((1, 1))),
            status(4, Some((1, 0))),
            status(6, None),
        ];
        let ids: Vec<u64> = devices(statuses).iter().map(|device| device.id).collect();
        assert_eq!(ids, [1, 4, 5, 2, 3, 6]);
    }
}

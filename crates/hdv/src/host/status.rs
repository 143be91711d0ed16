//! What a host says of its devices, to its own program and over the control socket.

use std::path::PathBuf;

use hdv_vfio_user::server::Statistics;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Shared;
use super::endpoint::{Endpoint, Occupancy};
use crate::slot::DeviceState;

/// A device of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// Names it within the host.
    pub id: u64,
    /// What its creator called it.
    pub name: String,
    /// Its class id, if it is an instance of a class.
    pub class_id: Option<Uuid>,
    /// Its instance id, if it is an instance of a class.
    pub instance_id: Option<Uuid>,
    /// Its listening socket; empty if its clients are handed over.
    pub socket: PathBuf,
    /// PCI vendor id.
    pub vendor_id: u16,
    /// PCI device id.
    pub device_id: u16,
    /// Class code, 24 bits: base class, subclass, interface.
    pub class_code: u32,
    /// `powered-off`, `stopped`, `started`, `failed` or `gone`.
    pub state: String,
    /// The client that has it.
    pub client: Option<ClientStatus>,
    /// Which device brought it, if one did. Its ids and its class are then what that device says of it until
    /// it is powered on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brought_by: Option<BroughtBy>,
}

/// Which device of the same host brought another, and as which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BroughtBy {
    /// The [`id`](DeviceStatus::id) of that device: the PF.
    pub device: u64,
    /// Its number among those which that device brings, from 0.
    pub vf: u16,
}

/// A connected client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientStatus {
    /// The process that connected, where the kernel knows it.
    pub pid: Option<i32>,
    /// Messages received from it.
    pub messages: u64,
    /// Region reads.
    pub reads: u64,
    /// Region writes.
    pub writes: u64,
    /// Reads of BARs among them, whoever answered: the device or a section. What a guest reads through
    /// a mapping of its own is not here.
    pub bar_reads: u64,
    /// Writes to BARs among them, whoever took them: the device, a section or a doorbell.
    pub bar_writes: u64,
}

pub(super) fn devices(shared: &Shared) -> Vec<DeviceStatus> {
    // The list is copied, so that nobody waits for it meanwhile.
    let endpoints: Vec<_> = shared.endpoints().iter().cloned().collect();
    endpoints
        .iter()
        .filter_map(|endpoint| status(endpoint))
        .collect()
}

fn status(endpoint: &Endpoint) -> Option<DeviceStatus> {
    let slot = endpoint.slot();
    let brought = endpoint.brought();
    let identity = slot
        .identity()
        .or(brought.map(|brought| brought.identity))?;
    let ids = endpoint.ids();
    let client = match &*endpoint.occupancy() {
        Occupancy::Taken(connected) => {
            let counters = connected.statistics.as_deref();
            let count = |of: fn(&Statistics) -> u64| counters.map_or(0, of);
            Some(ClientStatus {
                pid: connected.pid,
                messages: count(Statistics::messages),
                reads: count(Statistics::reads),
                writes: count(Statistics::writes),
                bar_reads: connected.accesses.reads(),
                bar_writes: connected.accesses.writes(),
            })
        }
        Occupancy::Free | Occupancy::Leaving => None,
    };
    Some(DeviceStatus {
        id: endpoint.id().0,
        name: slot.name().to_owned(),
        class_id: ids.map(|ids| ids.class_id),
        instance_id: ids.map(|ids| ids.instance_id),
        socket: endpoint.path().map(ToOwned::to_owned).unwrap_or_default(),
        vendor_id: identity.vendor_id,
        device_id: identity.device_id,
        class_code: identity.class.to_u24(),
        state: match slot.state() {
            DeviceState::PoweredOff => "powered-off",
            DeviceState::Stopped => "stopped",
            DeviceState::Started => "started",
            DeviceState::Failed => "failed",
            DeviceState::Gone => "gone",
        }
        .to_owned(),
        client,
        brought_by: brought.map(|brought| BroughtBy {
            device: brought.by.0,
            vf: brought.vf,
        }),
    })
}

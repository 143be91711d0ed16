//! How other programs of the user find a restricted host's devices: its broker answers for it in the runtime directory.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use hdv::DeviceStatus;
use hdv_control::{ControlError, ControlServer, Registry, RuntimeDirectory};

use super::Shared;
use crate::host_commands::{arguments, value};
use crate::protocol::device;
use crate::{Error, Result};

/// How long the host may take to say what it has.
const LIST_LIMIT: Duration = Duration::from_secs(2);
/// What a device's state may be, in characters.
const STATE_LIMIT: usize = 16;

/// Opens the control socket.
pub(super) fn start(shared: &Arc<Shared>) -> Result<Arc<ControlServer>> {
    let failed = |error: &dyn std::fmt::Display| Error::Io {
        doing: "answering for a restricted device host".to_owned(),
        source: std::io::Error::other(error.to_string()),
    };
    let registry = Registry::new();
    // Not an owner: whoever asks must not keep it.
    let weak = Arc::downgrade(shared);
    registry
        .register_slow("list", move |_| value(&devices(&weak)?))
        .map_err(|error| failed(&error))?;
    let server = ControlServer::start(&RuntimeDirectory::locate()?, registry)
        .map_err(|error| failed(&error))?;
    Ok(Arc::new(server))
}

/// What the host says of its devices, as far as the broker knows of them.
fn devices(shared: &Weak<Shared>) -> std::result::Result<Vec<DeviceStatus>, ControlError> {
    let Some(shared) = shared.upgrade() else {
        return Ok(Vec::new());
    };
    let answer = shared.call_host(device::LIST, &(), LIST_LIMIT)?;
    let said: Vec<DeviceStatus> = arguments(answer)?;
    let mut seen = BTreeSet::new();
    Ok(said
        .into_iter()
        // However often it says the same, nobody's list grows with it.
        .filter(|status| seen.insert(status.instance_id))
        .filter_map(|status| known(&shared, status))
        .collect())
}

/// A device's status without what only its host says of how it is found.
fn known(shared: &Shared, status: DeviceStatus) -> Option<DeviceStatus> {
    let instance = status.instance_id?;
    let class_id = shared.devices().class_of_open(instance)?;
    let plain = |character: &char| character.is_ascii_lowercase() || *character == '-';
    Some(DeviceStatus {
        name: instance.to_string(),
        class_id: Some(class_id),
        socket: PathBuf::new(),
        state: status
            .state
            .chars()
            .filter(plain)
            .take(STATE_LIMIT)
            .collect(),
        brought_by: None,
        ..status
    })
}

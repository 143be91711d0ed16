//! The control socket of a host: the commands by which other programs of the user find its devices.

use std::sync::Arc;

use hdv_control::{ControlServer, Registry, RuntimeDirectory};

use super::{Shared, status};
use crate::error::HostError;

/// Opens the control socket, with the commands of this crate.
pub(super) fn start(shared: &Arc<Shared>) -> Result<(ControlServer, Registry), HostError> {
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
    let server = ControlServer::start(&directory, registry.clone()).map_err(failed)?;
    Ok((server, registry))
}

//! A compute system as an [`hdv::System`]: a device host that attaches registers with the worker and does as it says.
//!
//! Each host has a link of its own. The calls that the worker makes over it are carried out in `commands`, which hosts of this
//! process are in which system is known to `inside`.

mod commands;
mod inside;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdv::{DeviceIds, HostError, HostHandle, Place, System};
use hdv_control::{ControlError, Link};
use serde::Serialize;

use crate::document::HostingModel;
use crate::error::codes;
use crate::host_commands;
use crate::protocol::{Device, HELLO, Hello, Instance, Welcome, host};

use commands::Commands;
pub(crate) use inside::{inside_call, inside_call_beside};

/// How long a worker may take to note something.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
/// How long a worker may take until its VM has let go of a device, which it bounds itself.
const WITHDRAW_PATIENCE: Duration = Duration::from_secs(10 * 60);

/// Makes a device on behalf of a worker, and announces it.
pub(crate) type MakeDevice = dyn Fn(&Device) -> Result<(), ControlError> + Send + Sync;

/// A worker, for device hosts of this process.
pub(crate) struct WorkerSystem {
    id: String,
    socket: PathBuf,
    hosting_model: HostingModel,
    make: Option<Arc<MakeDevice>>,
    attached: Mutex<Vec<Attached>>,
}

/// A host that has attached.
struct Attached {
    host: HostHandle,
    link: Link,
    commands: Arc<Commands>,
}

impl WorkerSystem {
    /// The system of `id`, for hosts in a process of the user's, which have the devices of a hosting model. Its worker is at
    /// `socket`.
    pub(crate) fn of_user(id: &str, socket: &Path, hosting_model: HostingModel) -> Self {
        Self {
            id: id.to_owned(),
            socket: socket.to_owned(),
            hosting_model,
            make: None,
            attached: Mutex::default(),
        }
    }

    /// The system of the worker at `socket`, for its own device host, for which `make` makes the devices that it asks for.
    pub(crate) fn internal(socket: &Path, make: Arc<MakeDevice>) -> Self {
        Self {
            id: socket.display().to_string(),
            socket: socket.to_owned(),
            hosting_model: HostingModel::Internal,
            make: Some(make),
            attached: Mutex::default(),
        }
    }

    fn attachments(&self) -> MutexGuard<'_, Vec<Attached>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, host: &HostHandle) -> Result<(Link, Arc<Commands>), HostError> {
        let attached = self.attachments();
        let found = attached.iter().find(|attached| attached.host.is(host));
        let found = found.map(|attached| (attached.link.clone(), Arc::clone(&attached.commands)));
        found.ok_or(HostError::Closed)
    }

    /// Has the worker do something.
    fn call(
        &self,
        link: &Link,
        command: &str,
        args: &impl Serialize,
        patience: Duration,
    ) -> Result<serde_json::Value, HostError> {
        let args = host_commands::value(args).map_err(|error| self.refused(&error))?;
        link.call(command, &args, patience)
            .map_err(|error| host_commands::host_error(&self.name(), error))
    }

    fn name(&self) -> String {
        format!("the worker of compute system {:?}", self.id)
    }

    fn refused(&self, reason: &impl std::fmt::Display) -> HostError {
        HostError::Refused {
            message: format!("{}: {reason}", self.name()),
            code: Some(codes::HCS_E_SERVICE_DISCONNECT),
        }
    }
}

impl System for WorkerSystem {
    fn attached(&self, host: HostHandle) -> Result<(), HostError> {
        let commands = Arc::new(Commands::new(host.clone(), self.make.clone()));
        let handler = Arc::clone(&commands);
        let link = Link::connect(&self.socket, handler).map_err(|error| self.refused(&error))?;
        let hello = Hello::DeviceHost {
            pid: std::process::id(),
            hosting_model: self.hosting_model,
        };
        let welcome = self.call(&link, HELLO, &hello, ANSWER_PATIENCE)?;
        let welcome: Welcome =
            serde_json::from_value(welcome).map_err(|error| self.refused(&error))?;
        inside::add(welcome.runtime_id, &host);
        self.attachments().push(Attached {
            host,
            link,
            commands,
        });
        Ok(())
    }

    fn announced(&self, host: &HostHandle, ids: &DeviceIds) -> Result<Option<Place>, HostError> {
        let (link, commands) = self.of(host)?;
        let device = host_commands::device(ids);
        // Before the worker knows of it, so that nothing is left when that ends at this moment.
        commands.add(ids.instance_id);
        let announced = self.call(&link, host::ANNOUNCE, &device, ANSWER_PATIENCE);
        if announced.is_err() {
            commands.forget(ids.instance_id);
        }
        announced.map(|_| None)
    }

    fn withdrawn(&self, host: &HostHandle, ids: &DeviceIds) {
        let Ok((link, commands)) = self.of(host) else {
            return;
        };
        let instance = Instance {
            instance_id: ids.instance_id,
        };
        if let Err(error) = self.call(&link, host::WITHDRAW, &instance, WITHDRAW_PATIENCE) {
            tracing::warn!(instance = %ids.instance_id, %error, "a device is removed that its VM may still have");
        }
        commands.forget(ids.instance_id);
    }

    fn detached(&self, host: &HostHandle) {
        inside::remove(host);
        let gone: Vec<Attached> = {
            let mut attached = self.attachments();
            attached
                .extract_if(.., |attached| attached.host.is(host))
                .collect()
        };
        for attached in gone {
            attached.link.close();
        }
    }
}

impl std::fmt::Debug for WorkerSystem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerSystem")
            .field("id", &self.id)
            .field("socket", &self.socket)
            .field("hosting_model", &self.hosting_model)
            .finish_non_exhaustive()
    }
}

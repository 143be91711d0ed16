//! The end of a restricted device host: its system, which is a broker at the other end of a socket ([`RestrictedSystem`]), how it
//! comes by that socket (`socket`), and how its process locks itself in (`lock_in`, `calls`).
//!
//! The broker is of the same user, but what it says is checked all the same.

mod calls;
mod lock_in;
mod socket;

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use hdv::{DeviceIds, HostError, HostHandle, Listen, Place, System};
use hdv_control::{CallError, ControlError, ErrorKind, Link, LinkHandler};
use serde_json::Value;
use uuid::Uuid;

use crate::document::HostingModel;
use crate::error::codes;
use crate::host_commands::{self, host_error, value};
use crate::protocol::{HELLO, Hello, Instance, device, host};
use crate::{Error, Result};

pub use lock_in::lock_in;
pub use socket::{BROKER_FD_VARIABLE, broker_socket};

/// What errors call the other end.
const BROKER: &str = "the broker";
/// How long the broker may take to take the host in, or a device.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// How long the broker may take until the VM has let go of a device.
const WITHDRAW_LIMIT: Duration = Duration::from_secs(200);

/// The compute system behind a broker, for one device host to attach to.
///
/// When the broker is gone, so are the devices: they are stopped and torn down.
#[derive(Debug)]
pub struct RestrictedSystem {
    link: Link,
    end: Arc<End>,
}

/// What carries out what the broker asks.
#[derive(Debug, Default)]
struct End {
    host: OnceLock<HostHandle>,
    /// Those that were announced and have not gone.
    devices: Mutex<BTreeSet<Uuid>>,
}

impl RestrictedSystem {
    /// The system that the broker at the other end of `socket` speaks to.
    ///
    /// # Errors
    /// A thread or a descriptor cannot be had.
    pub fn over(socket: UnixStream) -> Result<Arc<dyn System>> {
        let end = Arc::new(End::default());
        let link =
            Link::over(socket, BROKER, Arc::clone(&end) as _).map_err(|source| Error::Io {
                doing: "speaking to the broker".to_owned(),
                source,
            })?;
        Ok(Arc::new(Self { link, end }))
    }

    fn call(&self, command: &str, args: &Value, limit: Duration) -> Result<Value, HostError> {
        let answer = self.link.call(command, args, limit);
        answer.map_err(|error| host_error(BROKER, error))
    }
}

impl System for RestrictedSystem {
    fn attached(&self, host: HostHandle) -> Result<(), HostError> {
        if self.end.host.set(host).is_err() {
            return Err(HostError::Refused {
                message: "a broker speaks for one device host, and has one already".to_owned(),
                code: Some(codes::ALREADY_EXISTS),
            });
        }
        let hello = argument(&Hello::DeviceHost {
            pid: std::process::id(),
            hosting_model: HostingModel::ExternalRestricted,
        })?;
        self.call(HELLO, &hello, ANSWER_LIMIT).map(drop)
    }

    fn announced(&self, _: &HostHandle, ids: &DeviceIds) -> Result<Option<Place>, HostError> {
        let argument = argument(&host_commands::device(ids))?;
        self.end.devices().insert(ids.instance_id);
        self.call(host::ANNOUNCE, &argument, ANSWER_LIMIT)
            .inspect_err(|_| self.end.forget(ids.instance_id))?;
        // Where it is served comes when its VM wants it.
        Ok(None)
    }

    fn withdrawn(&self, _: &HostHandle, ids: &DeviceIds) {
        self.end.forget(ids.instance_id);
        let instance = Instance {
            instance_id: ids.instance_id,
        };
        let withdrawn = argument(&instance)
            .and_then(|argument| self.call(host::WITHDRAW, &argument, WITHDRAW_LIMIT));
        if let Err(error) = withdrawn {
            tracing::warn!(device = %ids.instance_id, "the VM has not let go of the device: {error}");
        }
    }

    fn detached(&self, _: &HostHandle) {
        self.link.close();
    }
}

fn argument(of: &impl serde::Serialize) -> Result<Value, HostError> {
    value(of).map_err(|error| host_error(BROKER, CallError::Command(error)))
}

impl End {
    fn devices(&self) -> MutexGuard<'_, BTreeSet<Uuid>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, instance: Uuid) {
        self.devices().remove(&instance);
    }

    fn host(&self) -> Result<&HostHandle, ControlError> {
        let nobody = || ControlError::new(ErrorKind::Busy, "no device host has attached yet");
        self.host.get().ok_or_else(nobody)
    }
}

impl LinkHandler for End {
    fn call(
        &self,
        _: &Link,
        command: &str,
        args: Value,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Value, ControlError> {
        match command {
            device::CONNECT => host_commands::connect(self.host()?, args, descriptors),
            device::LIST => value(&self.host()?.devices()),
            device::REMOVE => {
                self.forget(host_commands::instance(args.clone())?.instance_id);
                host_commands::carry_out(self.host()?, command, args, handed)
            }
            _ => host_commands::carry_out(self.host()?, command, args, handed),
        }
    }

    fn notice(&self, _: &Link, name: &str, _: Value) {
        tracing::debug!("the broker told {name:?}, which means nothing here");
    }

    fn closed(&self, _: &Link) {
        let Some(host) = self.host.get() else { return };
        let devices = std::mem::take(&mut *self.devices());
        for instance in devices {
            match host.remove(instance) {
                Ok(()) => {
                    tracing::warn!(device = %instance, "the broker is gone, and the device with it");
                }
                // It has gone by itself, or with its host.
                Err(error) => tracing::debug!(device = %instance, "{error}"),
            }
        }
    }
}

/// Clients are handed over, and nothing has a socket.
fn handed(beside: Option<PathBuf>) -> Result<Listen, ControlError> {
    beside.map_or(Ok(Listen::Handed { beside: None }), |path| {
        Err(ControlError::bad_arguments(format!(
            "a restricted device host cannot have sockets beside {}, or anywhere",
            path.display()
        )))
    })
}

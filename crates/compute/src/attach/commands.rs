//! What a worker has a device host do: its devices' lives, each call as it comes.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hdv::{HostError, HostHandle, Listen};
use hdv_control::{ControlError, Link, LinkHandler};
use serde_json::Value;
use uuid::Uuid;

use super::MakeDevice;
use crate::host_commands;
use crate::protocol::device;

/// The host's end of its link.
pub(super) struct Commands {
    host: HostHandle,
    make: Option<Arc<MakeDevice>>,
    /// The instances that the worker knows of: they go when it does.
    known: Mutex<BTreeSet<Uuid>>,
}

impl Commands {
    pub(super) fn new(host: HostHandle, make: Option<Arc<MakeDevice>>) -> Self {
        Self {
            host,
            make,
            known: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeSet<Uuid>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker is about to hear of an instance.
    pub(super) fn add(&self, instance: Uuid) {
        self.known().insert(instance);
    }

    /// The worker knows nothing of an instance any more.
    pub(super) fn forget(&self, instance: Uuid) {
        self.known().remove(&instance);
    }

    fn carry_out(&self, command: &str, args: Value) -> Result<Value, ControlError> {
        let listen = |beside: Option<PathBuf>| Ok(Listen::Handed { beside });
        host_commands::carry_out(&self.host, command, args, listen)
    }
}

impl LinkHandler for Commands {
    fn call(
        &self,
        _: &Link,
        command: &str,
        args: Value,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Value, ControlError> {
        match command {
            device::CONNECT => host_commands::connect(&self.host, args, descriptors),
            device::REMOVE => {
                let instance = host_commands::instance(args.clone())?.instance_id;
                let removed = self.carry_out(command, args);
                self.forget(instance);
                removed
            }
            device::CREATE => match &self.make {
                Some(make) => make(&host_commands::arguments(args)?).map(|()| Value::Null),
                None => self.carry_out(command, args),
            },
            _ => self.carry_out(command, args),
        }
    }

    fn notice(&self, _: &Link, name: &str, _: Value) {
        tracing::debug!(
            name,
            "a worker told a device host something that is not known here"
        );
    }

    /// The worker is gone, and the VM with it, or the host is: then it has no devices any more.
    fn closed(&self, _: &Link) {
        let left = std::mem::take(&mut *self.known());
        for instance in left {
            match self.host.remove(instance) {
                Ok(()) => tracing::info!(%instance, "removed a device: its compute system is gone"),
                Err(HostError::Closed | HostError::NoSuchInstance(_)) => {}
                Err(error) => tracing::warn!(%instance, %error, "cannot remove a device"),
            }
        }
    }
}

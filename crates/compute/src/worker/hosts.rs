//! Device hosts: their links, which devices they have announced, and calls to them.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hdv_control::{CallError, ControlError, Link};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::refusal::{Result, refused};
use crate::document::HostingModel;
use crate::error::codes;
use crate::protocol::{self, DeviceFailure, Instance};

/// The most devices that are announced at a time.
const ANNOUNCED_LIMIT: usize = 1024;

/// Names a device host of this worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HostId(pub(super) u64);

/// A device host, or the broker of one.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) id: HostId,
    pub(super) pid: u32,
    pub(super) hosting_model: HostingModel,
    link: Link,
    closed: AtomicBool,
}

impl Host {
    pub(super) fn new(id: HostId, pid: u32, hosting_model: HostingModel, link: Link) -> Self {
        Self {
            id,
            pid,
            hosting_model,
            link,
            closed: AtomicBool::new(false),
        }
    }

    /// Notes that its link has ended.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Whether its link has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Calls a command about a device, which errors call `key`. The device's own error comes back with its code.
    pub(super) fn call(
        &self,
        key: &str,
        command: &str,
        arguments: &impl Serialize,
        limit: Duration,
    ) -> Result<Value> {
        let arguments = serde_json::to_value(arguments)
            .map_err(|error| ControlError::internal(error.to_string()))?;
        let called = self.link.call(command, &arguments, limit);
        called.map_err(|error| self.failed(key, command, error))
    }

    /// Gives the device a client: its socket and what goes with it.
    pub(super) fn connect(
        &self,
        instance: Uuid,
        key: &str,
        descriptors: &[BorrowedFd<'_>],
        limit: Duration,
    ) -> Result<()> {
        let command = protocol::device::CONNECT;
        let argument = Instance {
            instance_id: instance,
        };
        let argument = serde_json::to_value(argument)
            .map_err(|error| ControlError::internal(error.to_string()))?;
        let called = self.link.call_with(command, &argument, descriptors, limit);
        called
            .map(drop)
            .map_err(|error| self.failed(key, command, error))
    }

    /// Calls a command that has no argument but the device.
    pub(super) fn tell(
        &self,
        instance: Uuid,
        key: &str,
        command: &str,
        limit: Duration,
    ) -> Result<()> {
        let argument = Instance {
            instance_id: instance,
        };
        self.call(key, command, &argument, limit).map(drop)
    }

    /// The error with which the device's `Start` failed, if it did and its host says so.
    pub(super) fn failure(
        &self,
        instance: Uuid,
        key: &str,
        limit: Duration,
    ) -> Option<ControlError> {
        let argument = Instance {
            instance_id: instance,
        };
        let answer = self
            .call(key, protocol::device::FAILURE, &argument, limit)
            .ok()?;
        let failure: DeviceFailure = serde_json::from_value(answer).ok()?;
        let error = ControlError::internal(format!("device {key:?}: {}", failure.message));
        Some(error.with_code(failure.code.unwrap_or(codes::E_FAIL)))
    }

    fn failed(&self, key: &str, command: &str, error: CallError) -> ControlError {
        let pid = self.pid;
        match error {
            CallError::Command(mut error) => {
                error.message = format!("device {key:?}: {}", error.message);
                error
            }
            CallError::TimedOut { patience, .. } => refused(
                codes::HCS_E_OPERATION_TIMEOUT,
                format!(
                    "the device host, process {pid}, did not answer {command} for device {key:?} within {} s: its device hangs, or the process is stopped",
                    patience.as_secs()
                ),
            ),
            error => refused(
                codes::HCS_E_SERVICE_DISCONNECT,
                format!(
                    "the device host, process {pid}, is gone before it answered {command} for device {key:?}: {error}"
                ),
            ),
        }
    }
}

/// What a host said that it has.
#[derive(Clone, Debug)]
pub(super) struct Announced {
    pub(super) class_id: Uuid,
    pub(super) host: Arc<Host>,
}

/// The hosts, and what they have announced and not yet removed.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    hosts: BTreeMap<HostId, Arc<Host>>,
    announced: BTreeMap<Uuid, Announced>,
}

impl Hosts {
    pub(super) fn add(&mut self, host: &Arc<Host>) {
        self.hosts.insert(host.id, Arc::clone(host));
    }

    /// A host's link has ended: what it announced is forgotten.
    pub(super) fn remove(&mut self, id: HostId) -> Option<Arc<Host>> {
        self.announced
            .retain(|_, announced| announced.host.id != id);
        let host = self.hosts.remove(&id)?;
        host.close();
        Some(host)
    }

    pub(super) fn get(&self, id: HostId) -> Option<&Arc<Host>> {
        self.hosts.get(&id)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Host>> {
        self.hosts.values()
    }

    /// All that is announced, by instance id.
    pub(super) fn all_announced(&self) -> impl Iterator<Item = (Uuid, &Announced)> {
        self.announced
            .iter()
            .map(|(instance, announced)| (*instance, announced))
    }

    /// Notes an announcement.
    pub(super) fn announce(
        &mut self,
        instance: Uuid,
        class_id: Uuid,
        host: &Arc<Host>,
    ) -> Result<()> {
        if let Some(other) = self.announced.get(&instance) {
            return Err(refused(
                codes::ALREADY_EXISTS,
                format!(
                    "device instance {instance} was announced before, by the device host that is process {}",
                    other.host.pid
                ),
            ));
        }
        if self.announced.len() >= ANNOUNCED_LIMIT {
            return Err(refused(
                codes::E_ACCESSDENIED,
                format!(
                    "{ANNOUNCED_LIMIT} device instances are announced already, the most that there may be"
                ),
            ));
        }
        let host = Arc::clone(host);
        self.announced
            .insert(instance, Announced { class_id, host });
        Ok(())
    }

    /// The host no longer has it.
    pub(super) fn forget(&mut self, instance: Uuid, host: HostId) {
        if self
            .announced
            .get(&instance)
            .is_some_and(|announced| announced.host.id == host)
        {
            self.announced.remove(&instance);
        }
    }

    pub(super) fn announced(&self, instance: Uuid) -> Option<&Announced> {
        self.announced.get(&instance)
    }
}

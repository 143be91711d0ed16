//! Devices of our own: the process that has them is started with the first one, and asked to make each.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::events::in_background_or_here;
use super::hosts::Host;
use super::internal::{InternalHost, LOG};
use super::parallel;
use super::power::Hosted;
use super::refusal::{Result, ended_meanwhile, refused};
use super::worker::Worker;
use crate::document::HostingModel;
use crate::error::codes;
use crate::protocol::{Device, device};

/// How long the process may take to connect.
pub(super) const ATTACH_LIMIT: Duration = Duration::from_secs(30);
/// How often is looked meanwhile whether it has ended.
const LOOK: Duration = Duration::from_millis(100);
/// How long it may take to make a device.
pub(super) const CREATE_LIMIT: Duration = Duration::from_secs(30);

impl Worker {
    fn internal(&self) -> MutexGuard<'_, Option<InternalHost>> {
        self.internal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process of our own devices, if there is one.
    pub(super) fn internal_pid(&self) -> Option<u32> {
        // Who is just starting it is waited for: the process may connect before its id is known here.
        self.internal().as_ref().map(InternalHost::pid)
    }

    /// Has a configured device of our own made and announced; one that is already stays.
    pub(super) fn make_internal(&self, instance: Uuid) -> Result<()> {
        let (key, class_id) = {
            let inner = self.lock();
            if inner.hosts.announced(instance).is_some() {
                return Ok(());
            }
            let Some(device) = inner.devices.get(instance) else {
                return Err(ended_meanwhile(&self.id, "a device was made"));
            };
            (device.key.clone(), device.settings.emulator_id)
        };
        let argument = Device {
            class_id,
            instance_id: instance,
        };
        let host = self.internal_host()?;
        host.call(&key, device::CREATE, &argument, CREATE_LIMIT)
            .map(drop)
    }

    /// The device host of our own devices, started if it is not there.
    fn internal_host(&self) -> Result<Arc<Host>> {
        let pid = {
            let mut internal = self.internal();
            if self.lock().life.has_ended() {
                return Err(ended_meanwhile(&self.id, "a device was made"));
            }
            // One that has ended may not have been missed yet.
            if let Some(ended) = internal.take_if(|internal| internal.ended().is_some()) {
                tracing::warn!(
                    pid = ended.pid(),
                    "the process of our own devices has ended"
                );
            }
            match &*internal {
                Some(internal) => internal.pid(),
                None => {
                    let started = InternalHost::start(&self.socket);
                    let started = started.map_err(|error| error.to_control())?;
                    internal.insert(started).pid()
                }
            }
        };
        let find = |inner: &super::worker::Inner| {
            let is_ours =
                |host: &&Arc<Host>| host.hosting_model == HostingModel::Internal && host.pid == pid;
            inner.hosts.iter().find(is_ours).cloned()
        };
        let deadline = Instant::now() + ATTACH_LIMIT;
        loop {
            let look = deadline.min(Instant::now() + LOOK);
            {
                let inner = self.wait_until(Some(look), |inner| {
                    find(inner).is_some() || inner.life.has_ended()
                });
                if inner.life.has_ended() {
                    return Err(ended_meanwhile(&self.id, "a device was made"));
                }
                if let Some(host) = find(&inner) {
                    return Ok(host);
                }
            }
            if let Some(status) = self.internal_ended(pid) {
                return Err(refused(
                    codes::HCS_E_SERVICE_DISCONNECT,
                    format!(
                        "the process of OpenHDV's own devices ({pid}) ended ({status}) before it connected: why is in {}",
                        self.directory.join(LOG).display()
                    ),
                ));
            }
            if Instant::now() >= deadline {
                self.internal_gone(pid);
                return Err(refused(
                    codes::HCS_E_OPERATION_TIMEOUT,
                    format!(
                        "the process of OpenHDV's own devices ({pid}) did not connect within {} s",
                        ATTACH_LIMIT.as_secs()
                    ),
                ));
            }
        }
    }

    /// How the process of our own devices has ended, if it has, or somebody else has seen that it has; it is forgotten then.
    fn internal_ended(&self, pid: u32) -> Option<String> {
        let mut internal = self.internal();
        let Some(current) = internal.as_mut().filter(|current| current.pid() == pid) else {
            return Some("its status is not known any more".to_owned());
        };
        let status = current.ended()?;
        let ended = internal.take();
        drop(internal);
        drop(ended);
        Some(status)
    }

    /// The process of our own devices is gone, or of no use: the next device starts another.
    pub(super) fn internal_gone(&self, pid: u32) {
        let gone = self.internal().take_if(|internal| internal.pid() == pid);
        if let Some(gone) = gone {
            // It is waited for.
            in_background_or_here("internal-end", move || drop(gone));
        }
    }

    /// Removes those of our own devices that were made and not powered on.
    pub(super) fn discard_internal(&self, instance: Option<Uuid>) {
        let discarded: Vec<Hosted> = {
            let mut inner = self.lock();
            let unused: Vec<_> = inner
                .hosts
                .all_announced()
                .filter(|(announced, of)| {
                    of.host.hosting_model == HostingModel::Internal
                        && instance.is_none_or(|instance| instance == *announced)
                        && inner
                            .devices
                            .get(*announced)
                            .is_none_or(|device| device.host.is_none())
                })
                .map(|(instance, of)| (instance, Arc::clone(&of.host)))
                .collect();
            for (instance, host) in &unused {
                inner.hosts.forget(*instance, host.id);
            }
            let hosted = |(instance, host): (Uuid, Arc<Host>)| Hosted {
                instance,
                key: instance.to_string(),
                host,
            };
            unused.into_iter().map(hosted).collect()
        };
        parallel::each(&discarded, Hosted::remove);
    }

    /// Ends the process of our own devices.
    pub(super) fn end_internal(&self) {
        let internal = self.internal().take();
        drop(internal);
    }
}

//! What device hosts are told of their devices, for one or many at a time, with limits: power on, start, stop, remove.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hdv_control::ControlError;
use uuid::Uuid;

use super::hosts::{Host, HostId};
use super::parallel;
use super::refusal::Result;
use super::worker::{Inner, Worker};
use crate::document::HostingModel;
use crate::error::codes;
use crate::protocol::{PowerOn, device};

/// How long a device may take to be powered on: `Initialize`, `SetConfiguration` and `GetDetails` together.
pub(super) const POWER_ON_LIMIT: Duration = Duration::from_secs(30);
/// How long a device may take to start, or to stop.
const SWITCH_LIMIT: Duration = Duration::from_secs(30);
/// How long a device may take to be removed: `Stop` and `Teardown` together.
pub(super) const REMOVE_LIMIT: Duration = Duration::from_secs(10);
/// How long a host may take to say why a device did not start.
pub(super) const FAILURE_LIMIT: Duration = Duration::from_secs(5);

/// A device and its host.
#[derive(Clone, Debug)]
pub(super) struct Hosted {
    pub(super) instance: Uuid,
    pub(super) key: String,
    pub(super) host: Arc<Host>,
}

impl Hosted {
    /// A device, if its host is still there.
    pub(super) fn find(inner: &Inner, instance: Uuid, host: HostId) -> Option<Self> {
        Some(Self {
            instance,
            key: inner.devices.get(instance)?.key.clone(),
            host: Arc::clone(inner.hosts.get(host)?),
        })
    }

    /// Devices that are plugged in.
    pub(super) fn attached(inner: &Inner) -> Vec<Self> {
        let attached = inner.devices.attached();
        attached
            .into_iter()
            .filter_map(|(instance, host)| Self::find(inner, instance, host))
            .collect()
    }

    /// Powers it on. What it brings is served on sockets beside a path, where its host may have any.
    pub(super) fn power_on(&self, beside: &Path, configuration: &[String]) -> Result<()> {
        tracing::info!(device = self.key, host = self.host.pid, "powering on");
        let argument = PowerOn {
            instance_id: self.instance,
            beside: Some(beside.to_owned()),
            configuration: configuration.to_vec(),
        };
        self.host
            .call(&self.key, device::POWER_ON, &argument, POWER_ON_LIMIT)
            .map(drop)
    }

    /// Its processors are about to go on.
    pub(super) fn start(&self) -> Result<()> {
        self.host
            .tell(self.instance, &self.key, device::START, SWITCH_LIMIT)
    }

    /// Its processors have stopped.
    pub(super) fn stop(&self) -> Result<()> {
        self.host
            .tell(self.instance, &self.key, device::STOP, SWITCH_LIMIT)
    }

    /// The error with which its `Start` failed, if it did.
    pub(super) fn failure(&self) -> Option<ControlError> {
        self.host.failure(self.instance, &self.key, FAILURE_LIMIT)
    }

    /// Has it stopped and torn down. What goes wrong is logged: it is gone for us in any case.
    pub(super) fn remove(&self) {
        if self.host.is_closed() {
            return;
        }
        let removed = self
            .host
            .tell(self.instance, &self.key, device::REMOVE, REMOVE_LIMIT);
        match removed {
            Ok(()) => tracing::info!(device = self.key, host = self.host.pid, "removed"),
            // One that could not be powered on, or that its program removes.
            Err(error) if error.code == Some(codes::NOT_FOUND) => {
                tracing::debug!(device = self.key, "the device is gone already: {error}");
            }
            Err(error) => tracing::warn!(device = self.key, "the device was not removed: {error}"),
        }
    }
}

/// Does something with devices, several at a time; the first error in their order.
pub(super) fn all(devices: &[Hosted], work: impl Fn(&Hosted) -> Result<()> + Sync) -> Result<()> {
    parallel::each(devices, work).into_iter().collect()
}

impl Worker {
    /// Takes devices away from their hosts, which tear them down: each is told once, whoever asks.
    pub(super) fn tear_down(&self, instances: impl IntoIterator<Item = Uuid>) {
        let mut names = Vec::new();
        let removed: Vec<Hosted> = {
            let mut inner = self.lock();
            instances
                .into_iter()
                .filter_map(|instance| {
                    let host = inner.take_host(instance)?;
                    let plug = inner.devices.get(instance)?.plug.as_ref();
                    names.extend(plug.map(|plug| plug.name.clone()));
                    let device = Hosted::find(&inner, instance, host);
                    inner.hosts.forget(instance, host);
                    device
                })
                .collect()
        };
        for name in names {
            self.connections.stop_listening(&name);
        }
        parallel::each(&removed, Hosted::remove);
    }

    /// Every device that a host has powered on, or is just powering on.
    pub(super) fn hosted(&self) -> Vec<Uuid> {
        let inner = self.lock();
        let hosted = inner
            .devices
            .iter()
            .filter(|(_, device)| device.host.is_some());
        hosted.map(|(instance, _)| instance).collect()
    }

    /// The socket at which QEMU connects to a device, by QEMU's name for it.
    pub(super) fn device_socket(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.sock"))
    }
}

/// Words for where a device runs.
pub(super) fn model_name(model: HostingModel) -> &'static str {
    match model {
        HostingModel::Internal => "Internal",
        HostingModel::External => "External",
        HostingModel::ExternalRestricted => "ExternalRestricted",
    }
}

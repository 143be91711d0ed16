//! What the worker asks, passed on to the restricted host, within limits shorter than the worker's own.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use hdv_control::{ControlError, ErrorKind, Link, LinkHandler};
use serde_json::Value;

use super::{Shared, printable};
use crate::host_commands::{arguments, instance, value};
use crate::protocol::{DeviceFailure, Instance, PowerOn, device};

/// How long a device may take to be powered on.
const POWER_ON_LIMIT: Duration = Duration::from_secs(25);
/// How long the host may take to take a client in.
const CONNECT_LIMIT: Duration = Duration::from_secs(8);
/// How long a device may take to start, or to stop.
const SWITCH_LIMIT: Duration = Duration::from_secs(25);
/// How long a device may take to be removed.
const REMOVE_LIMIT: Duration = Duration::from_secs(8);
/// How long the host may take to say why a device did not start.
const FAILURE_LIMIT: Duration = Duration::from_secs(4);

/// The worker's end, as it calls.
pub(super) struct FromWorker {
    pub(super) shared: Arc<Shared>,
}

impl FromWorker {
    fn power_on(&self, args: Value) -> Result<(), ControlError> {
        let mut power_on: PowerOn = arguments(args)?;
        // The host may have no sockets.
        power_on.beside = None;
        let which = self.shared.devices().begin_power_on(power_on.instance_id)?;
        // If that fails, the worker removes the device. Its host must hear of it: it may be powering it on still.
        self.shared
            .call_host(device::POWER_ON, &power_on, POWER_ON_LIMIT)?;
        self.shared.devices().open(which)
    }

    /// Passes a client on. What came with it is kept by nobody here.
    fn connect(&self, instance: Instance, descriptors: &[OwnedFd]) -> Result<(), ControlError> {
        self.shared.devices().check_open(instance.instance_id)?;
        let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        self.shared
            .call_host_with(device::CONNECT, &instance, &descriptors, CONNECT_LIMIT)
            .map(drop)
    }

    fn remove(&self, instance: Instance) -> Result<(), ControlError> {
        self.shared.devices().take(instance.instance_id)?;
        self.pass_on(device::REMOVE, &instance, REMOVE_LIMIT)
    }

    fn switch(&self, command: &str, instance: Instance) -> Result<(), ControlError> {
        self.shared.devices().check(instance.instance_id)?;
        self.pass_on(command, &instance, SWITCH_LIMIT)
    }

    fn pass_on(
        &self,
        command: &str,
        instance: &Instance,
        limit: Duration,
    ) -> Result<(), ControlError> {
        self.shared.call_host(command, instance, limit).map(drop)
    }

    fn failure(&self, instance: Instance) -> Result<Value, ControlError> {
        self.shared.devices().check(instance.instance_id)?;
        let answer = self
            .shared
            .call_host(device::FAILURE, &instance, FAILURE_LIMIT)?;
        let failure: Option<DeviceFailure> = arguments(answer)?;
        value(
            &failure.map(|DeviceFailure { message, code }| DeviceFailure {
                message: printable(&message),
                code: code.filter(|code| *code < 0),
            }),
        )
    }
}

impl LinkHandler for FromWorker {
    fn call(
        &self,
        _: &Link,
        command: &str,
        args: Value,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Value, ControlError> {
        let done = match command {
            device::POWER_ON => self.power_on(args),
            device::CONNECT => self.connect(instance(args)?, &descriptors),
            device::START | device::STOP => self.switch(command, instance(args)?),
            device::REMOVE => self.remove(instance(args)?),
            device::FAILURE => return self.failure(instance(args)?),
            other => Err(ControlError::new(
                ErrorKind::UnknownCommand,
                format!("a broker does not know the command {other:?}"),
            )),
        };
        done.map(|()| Value::Null)
    }

    fn notice(&self, _: &Link, name: &str, _: Value) {
        tracing::debug!("the worker told {name:?}, which means nothing here");
    }

    fn closed(&self, _: &Link) {
        tracing::info!(pid = self.shared.pid, "the worker is gone");
        self.shared.end();
    }
}

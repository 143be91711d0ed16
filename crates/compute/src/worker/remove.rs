//! Taking a device out: the guest is asked to let go; when it has, or a time has passed, the device is torn down. A guest
//! that has not let go keeps a stub, and the port stays taken until it does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdv_control::ControlError;
use hdv_qemu::Error as QemuError;
use uuid::Uuid;

use super::devices::{Plug, describe};
use super::hosts::HostId;
use super::refusal::{Result, ended_meanwhile, refused};
use super::state::Request;
use super::worker::{Inner, Worker};
use crate::document::DeviceStatus;
use crate::error::codes;

/// How long the guest may take to let go: with PCI Express hot plug it takes six seconds, five of them for a change of mind.
const LET_GO_LIMIT: Duration = Duration::from_secs(30);
/// How often it is asked: who has just booted may have missed it. While it considers, QEMU does not ask it again.
const ASK_AGAIN: Duration = Duration::from_secs(7);
/// How long an operation on a device waits for another that is under way on the same device.
const TURN_LIMIT: Duration = Duration::from_secs(120);

const WHAT: &str = "have a device removed";

/// What came of asking the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It has let go.
    LetGo,
    /// It said that it does not.
    Refused,
    /// It has said nothing.
    Silent,
    /// Its processors are stopped.
    Paused,
    /// The system has ended.
    Ended,
}

/// What is known without waiting.
fn answer(inner: &Inner, name: &str) -> Option<Answer> {
    if inner.life.has_ended() {
        Some(Answer::Ended)
    } else if inner.ports.holds(name) {
        None
    } else {
        Some(Answer::LetGo)
    }
}

impl Worker {
    /// Removes a device.
    pub(super) fn remove(self: &Arc<Self>, key: &str, instance: Uuid) -> Result<()> {
        let plug = {
            let mut inner = self.lock();
            self.allows(&inner, Request::Plug, WHAT)?;
            let Some(device) = inner.devices.get_mut(instance) else {
                return Err(refused(
                    codes::NOT_FOUND,
                    format!(
                        "compute system {0:?} has no device {key:?} (instance {instance}); `hdv inspect {0}` lists its devices",
                        self.id
                    ),
                ));
            };
            match device.status {
                DeviceStatus::Waiting => {
                    inner.devices.remove(instance);
                    return Ok(());
                }
                DeviceStatus::Adding | DeviceStatus::Removing => {
                    return Err(refused(
                        codes::HCS_E_INVALID_STATE,
                        format!(
                            "device {key:?} of compute system {:?} cannot be removed now: it {}",
                            self.id,
                            describe(device.status)
                        ),
                    ));
                }
                DeviceStatus::Attached | DeviceStatus::Stub | DeviceStatus::Lost => {
                    device.status = DeviceStatus::Removing;
                    device.plug.clone()
                }
            }
        };
        tracing::info!(device = key, "removing");
        self.take_out(key, instance, plug.as_ref())
    }

    /// A device host's program is about to remove a device: returns when the guest has let go of it. The host tears it down.
    pub(super) fn withdraw(self: &Arc<Self>, instance: Uuid, host: HostId) -> Result<()> {
        let busy = |inner: &Inner| {
            inner.devices.get(instance).is_some_and(|device| {
                device.host == Some(host)
                    && matches!(device.status, DeviceStatus::Adding | DeviceStatus::Removing)
            })
        };
        let deadline = Instant::now() + TURN_LIMIT;
        let found = {
            let mut inner = self.wait_until(Some(deadline), |inner| !busy(inner));
            if busy(&inner) {
                return Err(refused(
                    codes::HCS_E_OPERATION_TIMEOUT,
                    format!(
                        "device instance {instance} of compute system {:?} cannot be removed now: it has been added or removed by somebody else for {} s already; try again",
                        self.id,
                        TURN_LIMIT.as_secs()
                    ),
                ));
            }
            inner.hosts.forget(instance, host);
            inner
                .devices
                .get_mut(instance)
                .filter(|device| {
                    device.host == Some(host) && device.status == DeviceStatus::Attached
                })
                .map(|device| {
                    // The host does it by itself.
                    device.host = None;
                    device.status = DeviceStatus::Removing;
                    (device.key.clone(), device.plug.clone())
                })
        };
        match found {
            Some((key, plug)) => {
                tracing::info!(device = key, "withdrawn by its device host");
                self.take_out(&key, instance, plug.as_ref())
            }
            None => Ok(()),
        }
    }

    /// Has the guest let go of a device whose status is `Removing`, then has it torn down.
    pub(super) fn take_out(
        self: &Arc<Self>,
        key: &str,
        instance: Uuid,
        plug: Option<&Plug>,
    ) -> Result<()> {
        let answer = plug.map_or(Answer::LetGo, |plug| self.ask_to_let_go(&plug.name));
        if answer == Answer::LetGo {
            self.tear_down([instance]);
            self.lock().devices.remove(instance);
            self.notify();
            return Ok(());
        }
        if answer == Answer::Ended {
            return Err(ended_meanwhile(&self.id, "a device was removed"));
        }
        if self.leave_stub(instance) {
            // It let go just now.
            return Ok(());
        }
        Err(self.still_taken(key, plug, answer))
    }

    fn still_taken(&self, key: &str, plug: Option<&Plug>, answer: Answer) -> ControlError {
        let why = match answer {
            Answer::Paused => {
                "the guest's processors are stopped, so that it cannot let go".to_owned()
            }
            Answer::Refused => "the guest refuses to let go of it".to_owned(),
            _ => format!(
                "the guest has not let go of it within {} s",
                LET_GO_LIMIT.as_secs()
            ),
        };
        let port = plug.map_or("its port", |plug| plug.port.as_str());
        refused(
            codes::HCS_E_OPERATION_TIMEOUT,
            format!(
                "device {key:?} of compute system {:?} was removed, but {why}: it sees a device that answers nothing, and {port} stays taken until it lets go",
                self.id
            ),
        )
    }

    /// Tears a device down whose port stays taken; whether the guest has let go meanwhile, and the device is forgotten.
    pub(super) fn leave_stub(&self, instance: Uuid) -> bool {
        self.tear_down([instance]);
        let mut inner = self.lock();
        let has_let_go = match inner.devices.get_mut(instance) {
            Some(device) if device.plug.is_some() => {
                device.status = DeviceStatus::Stub;
                device.pid = None;
                false
            }
            Some(_) => true,
            None => true,
        };
        if has_let_go {
            inner.devices.remove(instance);
        }
        drop(inner);
        self.notify();
        has_let_go
    }

    /// Asks the guest to let go of a device, by QEMU's name for it, and waits until it has, or waiting makes no sense.
    pub(super) fn ask_to_let_go(self: &Arc<Self>, name: &str) -> Answer {
        let deadline = Instant::now() + LET_GO_LIMIT;
        loop {
            let vmm = {
                let mut inner = self.lock();
                if let Some(answer) = answer(&inner, name) {
                    return answer;
                }
                inner.kept_by_guest.remove(name);
                inner.vmm.clone()
            };
            match vmm.map(|vmm| vmm.remove_device(name)) {
                Some(Ok(())) => {}
                Some(Err(QemuError::Refused { class, .. })) if class == "DeviceNotFound" => {
                    self.let_go(name);
                }
                // Most likely it has been asked, and considers.
                Some(Err(error)) => tracing::debug!(name, "the guest was not asked: {error}"),
                None => return Answer::Ended,
            }
            let until = deadline.min(Instant::now() + ASK_AGAIN);
            let inner = self.wait_until(Some(until), |inner| {
                answer(inner, name).is_some()
                    || inner.kept_by_guest.contains(name)
                    || Self::is_paused(inner)
            });
            if let Some(answer) = answer(&inner, name) {
                return answer;
            }
            if inner.kept_by_guest.contains(name) {
                return Answer::Refused;
            }
            if Self::is_paused(&inner) {
                return Answer::Paused;
            }
            if Instant::now() >= deadline {
                return Answer::Silent;
            }
        }
    }
}

//! Starting a compute system: devices are powered on, QEMU comes up with them, processors run. What fails leaves nothing
//! behind: devices that were powered on are torn down, and the system can be started again once their hosts announce them
//! again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdv_control::ControlError;
use hdv_qemu::machine::Machine;
use uuid::Uuid;

use super::accelerator::{self, Chosen};
use super::claim::Claimed;
use super::machine::{self, FirstDevice};
use super::refusal::{Result, ended_meanwhile, of_qemu, refused};
use super::state::Operation;
use super::vmm::Vmm;
use super::worker::{Finish, Worker};
use super::{end, events, internal, parallel};
use crate::Error;
use crate::document::{DeviceStatus, HostingModel};
use crate::error::codes;

/// How long QEMU waits for a device's answer; meanwhile the VM stands still. QEMU's own 5 s would cost a device that is
/// slow its connection.
pub(super) const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long it may take until QEMU is there with its devices, however many they are: who asked for the start does not give up
/// before it has failed and what it leaves is removed. A step that has begun goes on for its own limit.
const START_LIMIT: Duration = Duration::from_secs(4 * 60);

/// The name of QEMU's control socket.
const QMP_SOCKET: &str = "qmp";

const WHAT: &str = "it was being started";

impl Worker {
    /// Starts it.
    pub(super) fn start(self: &Arc<Self>) -> Result<()> {
        self.begin(Operation::Start)?;
        match self.bring_up() {
            Ok(()) => Ok(()),
            Err(error) => {
                tracing::warn!("the system was not started: {error}");
                self.undo_start();
                let undone = self.lock().life.finish(Operation::Start, false);
                self.notify();
                // What broke off the start is why it failed.
                Err(if undone {
                    error
                } else {
                    ended_meanwhile(&self.id, WHAT)
                })
            }
        }
    }

    fn bring_up(self: &Arc<Self>) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        let checked = self.document.check(&self.runtime_directory);
        checked.map_err(|error| Error::from(error).to_control())?;
        let chosen = accelerator::choose(&self.document, &self.directory)?;
        self.make_internal_devices(deadline)?;
        let claimed = self.claim_all()?;
        let powered = parallel::each(&claimed, |claimed| self.make_ready(claimed));
        powered.into_iter().collect::<Result<()>>()?;
        self.still_starting(&claimed)?;
        let machine = self.machine(&chosen, &claimed)?;
        let vmm = self.start_vmm(&chosen, &machine, &claimed, deadline)?;
        self.still_starting(&claimed)?;
        for claimed in &claimed {
            self.hold(&vmm, &claimed.plug.name);
        }
        self.run(&vmm)
    }

    /// Has the worker's own device host make the devices that are ours, and begins with none after `deadline`.
    fn make_internal_devices(self: &Arc<Self>, deadline: Instant) -> Result<()> {
        let internal: Vec<Uuid> = {
            let inner = self.lock();
            let of_ours = inner
                .devices
                .iter()
                .filter(|(_, device)| device.settings.hosting_model == HostingModel::Internal);
            of_ours.map(|(instance, _)| instance).collect()
        };
        for instance in internal {
            if Instant::now() >= deadline {
                return Err(refused(
                    codes::HCS_E_OPERATION_TIMEOUT,
                    format!(
                        "OpenHDV's own devices of compute system {:?} were not made within {} s: their process is slow, or hangs; its log is {}",
                        self.id,
                        START_LIMIT.as_secs(),
                        self.directory.join(internal::LOG).display()
                    ),
                ));
            }
            self.make_internal(instance)?;
        }
        Ok(())
    }

    /// All devices or none: a host that is missing is told before any device is powered on.
    fn claim_all(&self) -> Result<Vec<Claimed>> {
        let mut inner = self.lock();
        if !inner.life.is_during(Operation::Start) {
            return Err(ended_meanwhile(&self.id, WHAT));
        }
        let instances: Vec<Uuid> = inner.devices.iter().map(|(instance, _)| instance).collect();
        let claimed: Result<Vec<Claimed>> = instances
            .iter()
            .map(|instance| self.claim(&mut inner, *instance))
            .collect();
        if claimed.is_err() {
            // Nobody was told anything.
            for instance in instances {
                inner.take_host(instance);
            }
        }
        claimed
    }

    fn still_starting(&self, claimed: &[Claimed]) -> Result<()> {
        if !self.lock().life.is_during(Operation::Start) {
            return Err(ended_meanwhile(&self.id, WHAT));
        }
        let gone = claimed
            .iter()
            .find(|claimed| claimed.device.host.is_closed());
        gone.map_or(Ok(()), |claimed| {
            Err(refused(
                codes::HCS_E_SERVICE_DISCONNECT,
                format!(
                    "the device host of device {:?}, process {}, ended while compute system {:?} was being started",
                    claimed.device.key, claimed.device.host.pid, self.id
                ),
            ))
        })
    }

    fn machine(&self, chosen: &Chosen, claimed: &[Claimed]) -> Result<Machine> {
        let consoles: BTreeMap<u8, PathBuf> = self
            .consoles
            .iter()
            .map(|(number, hub)| (*number, hub.qemu_socket().to_owned()))
            .collect();
        let devices: Vec<FirstDevice> = claimed
            .iter()
            .map(|claimed| self.first_device(&claimed.plug))
            .collect();
        let parts = machine::Parts {
            accelerator: chosen.accelerator,
            qmp: &self.directory.join(QMP_SOCKET),
            consoles: &consoles,
            devices: &devices,
            firmware: chosen.firmware.clone(),
            message_timeout: MESSAGE_TIMEOUT,
        };
        Ok(machine::machine(&self.document, &parts))
    }

    /// Starts QEMU and waits until it and its devices are there, processors stopped.
    fn start_vmm(
        self: &Arc<Self>,
        chosen: &Chosen,
        machine: &Machine,
        claimed: &[Claimed],
        deadline: Instant,
    ) -> Result<Arc<Vmm>> {
        let (vmm, child) = Vmm::start(&chosen.qemu, chosen.accelerator, machine)?;
        let is_wanted = {
            let mut inner = self.lock();
            let is_wanted = inner.life.is_during(Operation::Start);
            if is_wanted {
                inner.vmm = Some(Arc::clone(&vmm));
            }
            is_wanted
        };
        end::watch(self, &vmm, child)?;
        if !is_wanted {
            vmm.kill();
            return Err(ended_meanwhile(&self.id, WHAT));
        }
        let socket = self.directory.join(QMP_SOCKET);
        let handler = events::handler(self, &vmm);
        let connected = vmm.connect(&socket, claimed.len(), deadline, handler);
        connected.map_err(|error| self.why_not(&vmm, &error, claimed))?;
        Ok(vmm)
    }

    /// Why QEMU did not come up: a device's own error, unchanged, where there is one.
    fn why_not(&self, vmm: &Vmm, error: &hdv_qemu::Error, claimed: &[Claimed]) -> ControlError {
        let failures = parallel::each(claimed, |claimed| claimed.device.failure());
        if let Some(failure) = failures.into_iter().flatten().next() {
            return failure;
        }
        if !vmm.has_ended() {
            return of_qemu(error);
        }
        refused(
            codes::HCS_E_UNEXPECTED_EXIT,
            format!(
                "compute system {:?} was not started: {}",
                self.id,
                vmm.ended().detail
            ),
        )
    }

    /// Lets processors run.
    fn run(self: &Arc<Self>, vmm: &Arc<Vmm>) -> Result<()> {
        let order = self.order();
        vmm.run().map_err(|error| of_qemu(&error))?;
        let mut inner = self.lock();
        let finish = inner.finish(Operation::Start, true);
        if finish == Finish::Ended {
            return Err(ended_meanwhile(&self.id, WHAT));
        }
        for (_, device) in inner.devices.iter_mut() {
            if device.status == DeviceStatus::Adding {
                device.status = DeviceStatus::Attached;
            }
        }
        drop(inner);
        drop(order);
        self.notify();
        tracing::info!(accelerator = %vmm.accelerator, "running");
        // Who ended meanwhile was not heard while there was no state for it.
        if vmm.has_ended() {
            end::vmm_ended(self, vmm);
        }
        self.unplug_lost();
        if finish == Finish::Pauses {
            self.stopped_by_itself();
        }
        Ok(())
    }

    /// Removes what a start that failed has left.
    fn undo_start(&self) {
        let vmm = self.lock().vmm.take();
        if let Some(vmm) = vmm {
            vmm.kill();
        }
        self.tear_down(self.hosted());
        self.discard_internal(None);
        self.connections.stop_all();
        self.lock().unplug_all();
    }
}

#[cfg(test)]
mod tests {
    use super::super::internal_devices::{ATTACH_LIMIT, CREATE_LIMIT};
    use super::super::power::{FAILURE_LIMIT, POWER_ON_LIMIT, REMOVE_LIMIT};
    use super::super::vmm::{KILL_LIMIT, SWITCH_LIMIT};
    use super::*;
    use crate::document::limits::DEVICES_MAXIMUM;
    use crate::system::OPERATION_PATIENCE;

    #[test]
    fn who_asked_for_a_start_has_not_given_up_when_it_has_failed() {
        let turns = u32::try_from(DEVICES_MAXIMUM.div_ceil(parallel::THREADS)).unwrap();
        let removed = (REMOVE_LIMIT + REMOVE_LIMIT) * turns + KILL_LIMIT;
        // The last of our own devices begins in time, and everybody is slow to power on; QEMU has no time left then.
        let begun = START_LIMIT + ATTACH_LIMIT + CREATE_LIMIT + POWER_ON_LIMIT * turns;
        let refused = begun + FAILURE_LIMIT * turns + removed;
        assert!(refused < OPERATION_PATIENCE, "{refused:?}");
        // QEMU is there at the last moment, and its processors do not run.
        let stuck = START_LIMIT + SWITCH_LIMIT + removed;
        assert!(stuck < OPERATION_PATIENCE, "{stuck:?}");
    }
}

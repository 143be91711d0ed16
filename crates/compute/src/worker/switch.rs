//! Pause and resume: processors and devices stop and go on together. And the power button.
//!
//! A pause whose devices do not all answer leaves the system paused: its processors are stopped, and so are the other
//! devices. A resume that fails leaves it paused, with all devices stopped again.

use std::sync::Arc;

use super::power::{self, Hosted};
use super::refusal::{Result, ended_meanwhile, of_qemu};
use super::state::{Operation, Request};
use super::vmm::Vmm;
use super::worker::Worker;
use crate::document::State;

impl Worker {
    /// Pauses it: processors, then devices.
    pub(super) fn pause(&self) -> Result<()> {
        self.begin(Operation::Pause)?;
        let stopped = self.stop_processors();
        self.finish_pause(stopped)
    }

    /// QEMU has stopped processors by itself: devices follow. Nothing if they were stopped for another reason.
    pub(super) fn stopped_by_itself(&self) {
        if self.begin(Operation::Pause).is_err() {
            return;
        }
        tracing::warn!("QEMU has stopped the processors by itself; the system is paused");
        let attached = {
            let _order = self.order();
            Hosted::attached(&self.lock())
        };
        if let Err(error) = self.finish_pause(Ok(attached)) {
            tracing::warn!("a device did not stop: {error}");
        }
    }

    /// Stops processors; the devices that are to follow.
    fn stop_processors(&self) -> Result<Vec<Hosted>> {
        let vmm = self.vmm("be paused")?;
        let _order = self.order();
        vmm.stop().map_err(|error| of_qemu(&error))?;
        Ok(Hosted::attached(&self.lock()))
    }

    fn finish_pause(&self, stopped: Result<Vec<Hosted>>) -> Result<()> {
        let (is_done, result) = match stopped {
            Ok(devices) => (true, power::all(&devices, Hosted::stop)),
            Err(error) => (false, Err(error)),
        };
        self.finish(Operation::Pause, is_done, result)
    }

    /// Resumes it: devices, then processors.
    pub(super) fn resume(&self) -> Result<()> {
        self.begin(Operation::Resume)?;
        let devices = Hosted::attached(&self.lock());
        let result = self.go_on(&devices);
        if result.is_err()
            && let Err(error) = power::all(&devices, Hosted::stop)
        {
            tracing::warn!("a device is not stopped as the others are: {error}");
        }
        self.finish(Operation::Resume, result.is_ok(), result)
    }

    fn go_on(&self, devices: &[Hosted]) -> Result<()> {
        let vmm = self.vmm("be resumed")?;
        power::all(devices, Hosted::start)?;
        let _order = self.order();
        vmm.run().map_err(|error| of_qemu(&error))
    }

    fn finish(&self, operation: Operation, is_done: bool, result: Result<()>) -> Result<()> {
        let finished = self.lock().life.finish(operation, is_done);
        self.notify();
        if finished {
            result
        } else {
            let what = match operation {
                Operation::Resume => "it was being resumed",
                Operation::Start | Operation::Pause => "it was being paused",
            };
            Err(ended_meanwhile(&self.id, what))
        }
    }

    /// Presses the guest's power button.
    pub(super) fn shut_down(&self) -> Result<()> {
        const WHAT: &str = "be shut down";
        self.allows(&self.lock(), Request::ShutDown, WHAT)?;
        let pressed = self.vmm(WHAT)?.press_power_button();
        pressed.map_err(|error| of_qemu(&error))
    }

    /// QEMU, which is there while the system runs or is paused.
    pub(super) fn vmm(&self, what: &str) -> Result<Arc<Vmm>> {
        let vmm = self.lock().vmm.clone();
        vmm.ok_or_else(|| ended_meanwhile(&self.id, what))
    }

    /// Whether its processors are to run.
    pub(super) fn is_running(&self) -> bool {
        self.lock().life.state() == State::Running
    }
}

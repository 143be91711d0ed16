//! Pause and resume: processors and devices stop and go on together. And the power button.
//!
//! A pause whose devices do not all answer leaves the system paused: its processors are stopped, and so are the other
//! devices. A resume that fails leaves it paused, with all devices stopped again.

use std::sync::Arc;

use hdv_qemu::Error as QemuError;

use super::power::{self, Hosted};
use super::refusal::{Result, ended_meanwhile, of_qemu};
use super::state::{Operation, Request};
use super::vmm::Vmm;
use super::worker::{Finish, Worker};

impl Worker {
    /// Pauses it: processors, then devices.
    pub(super) fn pause(&self) -> Result<()> {
        self.begin(Operation::Pause)?;
        let stopped = self.stop_processors();
        self.finish_pause(stopped)
    }

    /// QEMU has stopped processors by itself, which has begun a pause: devices follow.
    pub(super) fn stopped_by_itself(&self) {
        tracing::warn!("QEMU has stopped the processors by itself; the system is paused");
        let attached = {
            let _order = self.order();
            let inner = self.lock();
            if !inner.is_stopped() {
                drop(inner);
                // They run again already.
                let _ = self.finish(Operation::Pause, false, Ok(()));
                return;
            }
            Hosted::attached(&inner)
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
        vmm.run().map_err(|error| {
            // QEMU may still carry it out, and this after it.
            if matches!(error, QemuError::TimedOut { .. })
                && let Err(error) = vmm.stop()
            {
                tracing::warn!("QEMU does not say that processors stay stopped: {error}");
            }
            of_qemu(&error)
        })
    }

    fn finish(&self, operation: Operation, is_done: bool, result: Result<()>) -> Result<()> {
        let finish = self.lock().finish(operation, is_done);
        self.notify();
        match finish {
            Finish::Over => result,
            Finish::Pauses => {
                self.stopped_by_itself();
                result
            }
            Finish::Ended => {
                let what = match operation {
                    Operation::Resume => "it was being resumed",
                    Operation::Start | Operation::Pause => "it was being paused",
                };
                Err(ended_meanwhile(&self.id, what))
            }
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
}

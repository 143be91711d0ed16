//! The VMM of a compute system: QEMU as a child process, its control socket, its last words, its end.
//!
//! What its events mean for the system is in `events`.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use hdv_qemu::accelerator::Accelerator;
use hdv_qemu::locate::Qemu;
use hdv_qemu::machine::Machine;
use hdv_qemu::qmp::{Event, Monitor, Qmp};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::{Value, json};

use super::refusal::{Result, of_qemu, refused};
use super::words::Words;
use crate::error::codes;

/// How long QEMU may take to come up, and to realize each of its devices.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long QEMU may take for a command that asks no device.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);
/// How long `stop` and `cont` may take: QEMU may wait for a device's answer just then.
pub(super) const SWITCH_LIMIT: Duration = Duration::from_secs(60);
/// How long `device_add` may take: QEMU asks the device for all that it is.
const ADD_LIMIT: Duration = Duration::from_secs(60);
/// How long QEMU may take to end when it is asked to; then it is killed.
const END_LIMIT: Duration = Duration::from_secs(5);
/// How long the kernel may take to end a killed process.
pub(super) const KILL_LIMIT: Duration = Duration::from_secs(10);
/// How long what QEMU said last may take to arrive after its end.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(2);

/// A running QEMU, or one that has ended.
#[derive(Debug)]
pub(super) struct Vmm {
    pub(super) pid: u32,
    pub(super) accelerator: Accelerator,
    process: OwnedFd,
    words: Words,
    monitor: OnceLock<Monitor>,
    end: Mutex<End>,
    changed: Condvar,
}

/// What is known of QEMU's end.
#[derive(Debug, Default)]
struct End {
    /// What QEMU said of it before: who asked for it.
    reason: Option<String>,
    /// The guest said that it is broken.
    has_panicked: bool,
    /// The process's exit status.
    status: Option<String>,
    /// It says that nothing went wrong.
    has_succeeded: bool,
}

/// Why QEMU ended, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// QMP's `ShutdownCause`, if QEMU gave one.
    pub(super) reason: Option<String>,
    pub(super) has_panicked: bool,
    /// The process ended by itself, and not because of an error.
    pub(super) has_succeeded: bool,
    /// For people.
    pub(super) detail: String,
}

/// How long QEMU with so many devices may take to come up, where so much time is left.
fn start_limit(devices: usize, left: Duration) -> Duration {
    let devices = u32::try_from(devices).unwrap_or(u32::MAX);
    let limit = START_LIMIT.saturating_add(ADD_LIMIT.saturating_mul(devices));
    limit.min(left)
}

impl Vmm {
    /// Starts QEMU.
    pub(super) fn start(
        qemu: &Qemu,
        accelerator: Accelerator,
        machine: &Machine,
    ) -> Result<(Arc<Self>, Child)> {
        let mut command = machine.command(qemu).map_err(|error| of_qemu(&error))?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        tracing::debug!(?command, "starting QEMU");
        let failed = |error: std::io::Error| {
            refused(
                codes::E_FAIL,
                format!(
                    "QEMU ({}) cannot be started: {error}",
                    qemu.path().display()
                ),
            )
        };
        let mut child = hdv_qemu::child::spawn(command).map_err(failed)?;
        let vmm = Self::of(&mut child, accelerator).map_err(|error| {
            // It dies with its parent in any case.
            let _ = child.kill();
            let _ = child.wait();
            failed(error)
        })?;
        Ok((Arc::new(vmm), child))
    }

    /// A process that has just been started, whose standard error is piped.
    fn of(child: &mut Child, accelerator: Accelerator) -> std::io::Result<Self> {
        let words = child.stderr.take().map(Words::of);
        Ok(Self {
            pid: child.id(),
            accelerator,
            process: pidfd_open(Pid::from_child(child), PidfdFlags::empty())?,
            words: words.transpose()?.unwrap_or_default(),
            monitor: OnceLock::new(),
            end: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    fn end(&self) -> MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects to its control socket, which answers once every one of its `devices` is realized; until `deadline` at the
    /// most, however many they are.
    pub(super) fn connect(
        &self,
        socket: &Path,
        devices: usize,
        deadline: Instant,
        events: impl FnMut(Event) + Send + 'static,
    ) -> hdv_qemu::Result<()> {
        let limit = start_limit(devices, deadline.saturating_duration_since(Instant::now()));
        let qmp = Qmp::connect_while(socket, limit, || !self.has_ended())?;
        // Nobody else connects.
        let _ = self.monitor.set(Monitor::start(qmp, events)?);
        Ok(())
    }

    fn execute(&self, command: &str, arguments: Value, limit: Duration) -> hdv_qemu::Result<Value> {
        match self.monitor.get() {
            Some(monitor) => monitor.execute(command, arguments, limit),
            None => Err(hdv_qemu::Error::Closed {
                doing: format!("answering {command}"),
            }),
        }
    }

    /// Asks for something that needs no device.
    pub(super) fn query(&self, command: &str, arguments: Value) -> hdv_qemu::Result<Value> {
        self.execute(command, arguments, COMMAND_LIMIT)
    }

    /// Lets processors run.
    pub(super) fn run(&self) -> hdv_qemu::Result<()> {
        self.execute("cont", Value::Null, SWITCH_LIMIT).map(drop)
    }

    /// Stops processors.
    pub(super) fn stop(&self) -> hdv_qemu::Result<()> {
        self.execute("stop", Value::Null, SWITCH_LIMIT).map(drop)
    }

    /// Presses the power button.
    pub(super) fn press_power_button(&self) -> hdv_qemu::Result<()> {
        self.execute("system_powerdown", Value::Null, COMMAND_LIMIT)
            .map(drop)
    }

    /// Plugs a device in.
    pub(super) fn add_device(&self, device: Value) -> hdv_qemu::Result<()> {
        self.execute("device_add", device, ADD_LIMIT).map(drop)
    }

    /// Asks the guest to let go of a device.
    pub(super) fn remove_device(&self, name: &str) -> hdv_qemu::Result<()> {
        self.execute("device_del", json!({ "id": name }), COMMAND_LIMIT)
            .map(drop)
    }

    /// Notes who asked for QEMU's end.
    pub(super) fn note_reason(&self, reason: &str) {
        self.end().reason = Some(reason.to_owned());
    }

    /// Notes that the guest said that it is broken.
    pub(super) fn note_panic(&self) {
        self.end().has_panicked = true;
    }

    /// Waits for the end of the process and of what it said.
    pub(super) fn watch(&self, mut child: Child) {
        let (status, has_succeeded) = match child.wait() {
            Ok(status) => (status.to_string(), status.success()),
            Err(error) => (error.to_string(), false),
        };
        if let Some(monitor) = self.monitor.get() {
            // Its last events say why.
            let _ = monitor.wait_for_end(LAST_WORDS_LIMIT);
        }
        tracing::info!(pid = self.pid, status, "QEMU has ended");
        {
            let mut end = self.end();
            end.status = Some(status);
            end.has_succeeded = has_succeeded;
        }
        self.changed.notify_all();
    }

    /// Whether the process has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.end().status.is_some()
    }

    /// Waits for the end of the process; false if it did not come.
    fn wait(&self, limit: Duration) -> bool {
        let waited = self
            .changed
            .wait_timeout_while(self.end(), limit, |end| end.status.is_none());
        let end = waited.unwrap_or_else(PoisonError::into_inner).0;
        end.status.is_some()
    }

    /// Ends QEMU: it is asked to, so that it writes what it holds of disks, and killed if it does not.
    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
        if !self.wait(END_LIMIT) {
            tracing::warn!(pid = self.pid, "QEMU does not end and is killed");
            self.kill();
        }
    }

    /// Ends QEMU at once.
    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
        if !self.wait(KILL_LIMIT) {
            tracing::error!(pid = self.pid, "QEMU was killed and has not ended");
        }
    }

    fn signal(&self, signal: Signal) {
        // It may have ended by itself.
        let _ = pidfd_send_signal(&self.process, signal);
    }

    /// What is known of its end, which has come.
    pub(super) fn ended(&self) -> Ended {
        let words = self.words.last(LAST_WORDS_LIMIT);
        let end = self.end();
        let status = end.status.as_deref().unwrap_or("it has not ended");
        let mut detail = format!("QEMU ended ({status})");
        if let Some(reason) = &end.reason {
            detail = format!("{detail}, because of {reason}");
        }
        if !words.is_empty() {
            detail = format!("{detail}; it said:\n{words}");
        }
        Ended {
            reason: end.reason.clone(),
            has_panicked: end.has_panicked,
            has_succeeded: end.has_succeeded,
            detail,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::process::Command;

    use super::*;

    /// A process that is no QEMU: it says something on standard error, and ends when its input does.
    pub(in super::super) fn played() -> (Arc<Vmm>, Child) {
        let mut child = Command::new("sh")
            .args(["-c", "echo words >&2; read line"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let vmm = Vmm::of(&mut child, Accelerator::Tcg).unwrap();
        (Arc::new(vmm), child)
    }

    #[test]
    fn each_device_has_its_time_while_there_is_time() {
        let hour = Duration::from_secs(3600);
        assert_eq!(start_limit(0, hour), START_LIMIT);
        assert_eq!(start_limit(3, hour), START_LIMIT + ADD_LIMIT * 3);
        assert_eq!(start_limit(3, START_LIMIT), START_LIMIT);
        assert_eq!(start_limit(usize::MAX, hour), hour);
    }
}

//! Devices of our own: the process that has them, `openhdv-worker --devices <worker's socket>`. Here are both ends of its life,
//! the worker's ([`InternalHost`]) and its own ([`run`]).
//!
//! For the worker it is a device host like any other, which besides makes a device when it is asked to. What devices there are
//! is the catalog's business.

use std::io;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hdv::{DeviceHost, DeviceIds, HostError, HostOptions};
use hdv_control::ControlError;
use hdv_devices::{by_class, catalog};

use super::log;
use crate::attach::WorkerSystem;
use crate::error::{Error, Result, codes};
use crate::host_commands::refusal;
use crate::protocol::Device;

/// The argument that makes `openhdv-worker` the process of our own devices; the worker's socket follows.
pub(super) const ARGUMENT: &str = "--devices";
/// The name of its log, beside the worker's.
pub(super) const LOG: &str = "devices.log";
/// How long the process may take to tear its devices down.
const END_LIMIT: Duration = Duration::from_secs(5);

/// The worker's end: the process, which ends when this is dropped, and dies with the worker in any case.
#[derive(Debug)]
pub(super) struct InternalHost {
    child: Child,
    /// Its end tells the process to end.
    life: Option<ChildStdin>,
}

impl InternalHost {
    /// Starts the process. It connects to the worker's socket as the device host of the hosting model Internal.
    ///
    /// # Errors
    /// The system refused.
    pub(super) fn start(worker_socket: &Path) -> Result<Self> {
        let failed = |source| Error::Io {
            doing: "starting the process of OpenHDV's own devices".to_owned(),
            source,
        };
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command
            .arg(ARGUMENT)
            .arg(worker_socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        let mut child = hdv_qemu::child::spawn(command).map_err(failed)?;
        let life = child.stdin.take();
        Ok(Self { child, life })
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How the process has ended, if it has.
    pub(super) fn ended(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(status) => status.map(|status| status.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }
}

impl Drop for InternalHost {
    fn drop(&mut self) {
        drop(self.life.take());
        if !matches!(
            hdv_qemu::child::wait_within(&mut self.child, END_LIMIT),
            Ok(Some(_))
        ) {
            tracing::warn!(
                pid = self.pid(),
                "the process of our own devices does not end, and is killed"
            );
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The process itself, for the worker that listens on `worker_socket`.
pub(super) fn run(worker_socket: &Path) -> ExitCode {
    // What `hdv ls` and `ps` call it.
    let _ = rustix::thread::set_name(c"openhdv-devices");
    let directory = worker_socket.with_extension("");
    if let Err(error) = log::start(&directory, LOG) {
        eprintln!("openhdv-worker {ARGUMENT}: no log: {error}");
    }
    hdv_control::raise_descriptor_limit();
    match serve(worker_socket) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("no devices of our own: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(worker_socket: &Path) -> Result<(), HostError> {
    let host = Arc::new(DeviceHost::new(HostOptions::new())?);
    let gate = Arc::new(Mutex::new(()));
    let maker = {
        let (host, gate) = (Arc::downgrade(&host), Arc::clone(&gate));
        move |device: &Device| {
            // The worker asks as soon as it knows of this process: a device is announced when the host has attached.
            drop(gate.lock());
            match host.upgrade() {
                Some(host) => make(&host, device),
                None => Err(refusal(&HostError::Closed)),
            }
        }
    };
    {
        let _attaching = gate.lock();
        host.attach(Arc::new(WorkerSystem::internal(
            worker_socket,
            Arc::new(maker),
        )))?;
    }
    wait_for_the_end();
    host.close()
}

/// Makes one of our own devices and announces it.
fn make(host: &DeviceHost, device: &Device) -> Result<(), ControlError> {
    let kind = by_class(device.class_id).ok_or_else(|| {
        let known: Vec<String> = catalog()
            .iter()
            .map(|kind| format!("{} ({})", kind.class_id, kind.name))
            .collect();
        ControlError::internal(format!(
            "OpenHDV has no device of class {}: it has {}; one of another class is External, and its device host attaches",
            device.class_id,
            known.join(", ")
        ))
        .with_code(codes::NOT_FOUND)
    })?;
    let made = kind.configured().map_err(|error| {
        ControlError::internal(error.to_string()).with_code(codes::E_INVALIDARG)
    })?;
    let function = hdv::pci_function(made).map_err(|error| refusal(&error))?;
    let ids = DeviceIds {
        class_id: device.class_id,
        instance_id: device.instance_id,
    };
    let instance = host
        .create_device(ids, function)
        .map_err(|error| refusal(&error))?;
    host.announce(instance.id())
        .map_err(|error| refusal(&error))
}

/// Waits until the worker wants this process to end.
fn wait_for_the_end() {
    // An error is an end too.
    let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
}

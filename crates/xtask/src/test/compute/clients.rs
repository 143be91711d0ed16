//! A VM whose devices are left to clients of ours: one of each hosting model, a real worker, and a VMM that is none.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hdv::{DeviceHost, DeviceIds, Function, HostOptions, Uuid};
use hdv_compute::ComputeSystem;
use hdv_compute::document::HostingModel;
use hdv_devices::DeviceKind;
use serde_json::json;
use tempfile::TempDir;

use super::actor::{self, Actor, Playing, say, stay};
use super::hosting::Restricted;
use super::vm::settings_of;
use super::vmm;
use crate::test::Failure;

/// How a device is hosted, in the order of the VM's devices.
pub(crate) const MODELS: [HostingModel; 3] = [
    HostingModel::Internal,
    HostingModel::External,
    HostingModel::ExternalRestricted,
];

const ID: &str = "clients";

const fn instance(number: usize) -> Uuid {
    Uuid::from_u128(0xc11e_0000 + number as u128)
}

/// Our own sensor, as the worker has it.
fn own_sensor() -> Result<&'static DeviceKind, Failure> {
    let kinds = hdv_devices::catalog();
    let sensor = kinds.iter().find(|kind| kind.name == "sensor");
    sensor.ok_or_else(|| "there is no sensor".into())
}

/// The worker's own sensor, for a host of another process. What it measures until it is configured opens files: it is made before
/// its process locks itself in.
pub(crate) fn function() -> Result<Box<dyn Function>, Failure> {
    Ok(hdv::pci_function(own_sensor()?.configured()?)?)
}

/// Announces it.
pub(crate) fn announce(
    host: &DeviceHost,
    instance: Uuid,
    function: Box<dyn Function>,
) -> Result<(), Failure> {
    let ids = DeviceIds {
        class_id: own_sensor()?.class_id,
        instance_id: instance,
    };
    let device = host.create_device(ids, function)?;
    Ok(host.announce(device.id())?)
}

/// The VM, in a process of its own, which has a runtime directory to itself.
#[derive(Debug)]
pub(crate) struct Clients {
    /// Ended before the directory goes.
    process: Option<Playing>,
    sockets: Vec<PathBuf>,
    _directory: TempDir,
}

impl Clients {
    /// Starts it, with the worker of this path.
    pub(crate) fn start(worker: &Path) -> Result<Self, Failure> {
        let directory = tempfile::Builder::new()
            .prefix("openhdv-clients-")
            .tempdir()?;
        let mut command: Command = actor::command(&Actor::Clients)?;
        command
            .env("XDG_RUNTIME_DIR", directory.path())
            // Nothing of this VMM is to be remembered.
            .env("XDG_CACHE_HOME", directory.path().join("cache"))
            .env("OPENHDV_QEMU", vmm::program(directory.path())?)
            .env("OPENHDV_WORKER", worker)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Playing::of(command.spawn()?)?;
        let mut sockets = Vec::new();
        for _ in MODELS {
            sockets.push(process.next_line()?.into());
        }
        Ok(Self {
            process: Some(process),
            sockets,
            _directory: directory,
        })
    }

    /// The socket of each device, in the order of [`MODELS`].
    pub(crate) fn sockets(&self) -> &[PathBuf] {
        &self.sockets
    }

    /// Ends it.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        let process = self.process.take().ok_or("it has ended")?;
        let status = process.end()?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("the process with the VM: {status}").into())
        }
    }
}

/// That process.
pub(crate) fn run() -> Result<(), Failure> {
    // As the worker is, whose own devices are compared with what is hosted here: switching between processes of different
    // sessions takes Linux longer (sched_autogroup), a tenth of an access on one CPU.
    rustix::process::setsid()?;
    let class = own_sensor()?.class_id;
    let devices: serde_json::Map<_, _> = MODELS
        .into_iter()
        .enumerate()
        .map(|(number, model)| {
            let configuration = ["source=sine".to_owned()];
            let settings = settings_of(class, model, &configuration);
            (instance(number).to_string(), settings)
        })
        .collect();
    let document = json!({
        "Owner": "xtask",
        "SchemaVersion": { "Major": 2, "Minor": 7 },
        "ShouldTerminateOnLastHandleClosed": true,
        "VirtualMachine": {
            "ComputeTopology": { "Memory": { "SizeInMB": 64 }, "Processor": { "Count": 1 } },
            "Devices": { "FlexibleIov": devices },
        },
    });
    let system = ComputeSystem::create(ID, &document.to_string())?;
    let host = DeviceHost::new(HostOptions::default())?;
    host.attach(system.system())?;
    announce(&host, instance(1), function()?)?;
    let restricted = Restricted::start(instance(2), true, &system)?;
    system.start()?;
    let properties = system.properties()?;
    let vmm = properties.vmm_process_id.ok_or("there is no VMM")?;
    let sockets = vmm::sockets(vmm)?;
    for number in 0..MODELS.len() {
        let device = properties.devices.get(&instance(number).to_string());
        let port = device.and_then(|device| device.port.as_deref());
        let socket = sockets
            .iter()
            .find(|(behind, _)| Some(behind.as_str()) == port)
            .ok_or_else(|| format!("device {number} has no socket: {device:?}, {sockets:?}"))?;
        say(&socket.1.display().to_string());
    }
    stay();
    system.terminate()?;
    restricted.end()?;
    Ok(host.close()?)
}

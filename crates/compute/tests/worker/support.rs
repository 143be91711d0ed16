//! What the tests share: a place of one's own for each, a device that records its life, its host, documents.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdv::{
    Bar, BarAccess, BarIndex, BarOffset, ClassCode, ConfigError, ConfigSpace, DeviceContext,
    DeviceError, DeviceHost, DeviceId, DeviceIds, HostOptions, Identity, Msix, PciDevice,
    PciExpress, Uuid,
};
use hdv_compute::ComputeSystem;
use hdv_compute::document::{DeviceProperties, DeviceStatus, State};
use serde_json::{Value, json};

/// Longer than anything takes; a wait that lasts this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Says in a process of a test which one it is for.
const ALONE: &str = "OPENHDV_TEST_ALONE";

/// Runs a test in a process of its own, with a runtime directory of its own, of which nothing may be left.
pub(crate) fn alone(test: impl FnOnce()) {
    let name = std::thread::current().name().expect("a test").to_owned();
    if std::env::var_os(ALONE).is_some() {
        return test();
    }
    let directory = tempfile::Builder::new()
        .prefix("hdv")
        .tempdir_in("/tmp")
        .expect("a directory");
    let status = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", &name, "--nocapture"])
        .env(ALONE, "1")
        .env("XDG_RUNTIME_DIR", directory.path())
        .env("OPENHDV_WORKER", env!("CARGO_BIN_EXE_openhdv-worker"))
        .env("OPENHDV_WORKER_ERRORS", directory.path().join("errors"))
        .status()
        .expect("this program runs");
    let errors = std::fs::read_to_string(directory.path().join("errors")).unwrap_or_default();
    assert!(status.success(), "{name} failed; workers said: {errors}");
    let systems = directory.path().join("openhdv/systems");
    let left = || -> Vec<_> {
        let entries = std::fs::read_dir(&systems).into_iter().flatten();
        entries
            .map(|entry| entry.expect("an entry").path())
            .collect()
    };
    wait_for("end of all workers", || left().is_empty());
}

/// Waits until `condition` holds.
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "no {what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call into a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Initialize,
    Configure,
    Start,
    Stop,
    Reset,
    Teardown,
}

/// What a test sees of its device.
#[derive(Clone, Default)]
pub(crate) struct Record {
    calls: Arc<Mutex<Vec<Call>>>,
    configuration: Arc<Mutex<Vec<String>>>,
    /// Calls that fail, with this code.
    fails: Arc<Mutex<Option<(Call, i32)>>>,
    /// Calls that wait until [`Record::go_on`].
    held: Arc<(Mutex<Option<Call>>, Condvar)>,
    is_in_held: Arc<AtomicBool>,
}

impl Record {
    pub(crate) fn calls(&self) -> Vec<Call> {
        lock(&self.calls).clone()
    }

    /// The calls but for resets, of which the firmware decides.
    pub(crate) fn life(&self) -> Vec<Call> {
        let mut calls = self.calls();
        calls.retain(|call| *call != Call::Reset);
        calls
    }

    pub(crate) fn count(&self, call: Call) -> usize {
        self.calls().iter().filter(|&&one| one == call).count()
    }

    pub(crate) fn configuration(&self) -> Vec<String> {
        lock(&self.configuration).clone()
    }

    /// Makes a call fail.
    pub(crate) fn fail(&self, call: Call, code: i32) {
        *lock(&self.fails) = Some((call, code));
    }

    /// Makes a call wait.
    pub(crate) fn hold(&self, call: Call) {
        *lock(&self.held.0) = Some(call);
    }

    /// Whether the device is in a call that waits.
    pub(crate) fn is_held(&self) -> bool {
        self.is_in_held.load(Ordering::SeqCst)
    }

    pub(crate) fn go_on(&self) {
        *lock(&self.held.0) = None;
        self.held.1.notify_all();
    }

    fn note(&self, call: Call) -> Result<(), DeviceError> {
        lock(&self.calls).push(call);
        let mut held = lock(&self.held.0);
        while *held == Some(call) {
            self.is_in_held.store(true, Ordering::SeqCst);
            held = self.held.1.wait(held).expect("no panic");
        }
        drop(held);
        self.is_in_held.store(false, Ordering::SeqCst);
        match *lock(&self.fails) {
            Some((failing, code)) if failing == call => {
                Err(DeviceError::new("as the test wants").with_code(code))
            }
            _ => Ok(()),
        }
    }
}

/// A device without a driver.
struct Recorder {
    record: Record,
    has_msix: bool,
}

impl PciDevice for Recorder {
    fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
        let identity = Identity {
            vendor_id: 0x4f48,
            device_id: 0x7ffe,
            revision_id: 1,
            class: ClassCode::from_u24(0xff_0000),
            subsystem_vendor_id: 0,
            subsystem_id: 0,
        };
        let builder = ConfigSpace::builder(identity)
            .bar(BarIndex::BAR0, Bar::memory32(4096))
            .capability(PciExpress::endpoint());
        let place = |offset| BarOffset::new(BarIndex::BAR0, offset);
        match self.has_msix {
            true => builder.capability(Msix::new(2, place(0x800), place(0xc00))),
            false => builder,
        }
        .build()
    }

    fn initialize(&mut self, _: DeviceContext) -> Result<(), DeviceError> {
        self.record.note(Call::Initialize)
    }

    fn set_configuration(&mut self, values: &[String]) -> Result<(), DeviceError> {
        *lock(&self.record.configuration) = values.to_vec();
        self.record.note(Call::Configure)
    }

    fn start(&mut self) -> Result<(), DeviceError> {
        self.record.note(Call::Start)
    }

    fn stop(&mut self) {
        // It cannot fail.
        let _ = self.record.note(Call::Stop);
    }

    fn read(&mut self, _: BarAccess) -> u64 {
        0
    }

    fn write(&mut self, _: BarAccess, _: u64) {}

    fn reset(&mut self) {
        let _ = self.record.note(Call::Reset);
    }

    fn teardown(&mut self) {
        let _ = self.record.note(Call::Teardown);
    }
}

/// The class of the tests' devices.
pub(crate) const CLASS: Uuid = Uuid::from_u128(0xc1a5);

/// Instance `number`.
pub(crate) fn instance(number: u128) -> Uuid {
    Uuid::from_u128(0x1000 + number)
}

/// A device host that is attached to a system.
pub(crate) struct Host {
    pub(crate) host: DeviceHost,
}

impl Host {
    pub(crate) fn attach(system: &ComputeSystem) -> Self {
        let host = DeviceHost::new(HostOptions::new().control(false)).expect("a host");
        host.attach(system.system()).expect("attached");
        Self { host }
    }

    /// Announces a device, with MSI-X if its number is even.
    pub(crate) fn device(&self, number: u128) -> Record {
        self.try_device(number, CLASS).expect("announced").1
    }

    pub(crate) fn try_device(
        &self,
        number: u128,
        class_id: Uuid,
    ) -> Result<(DeviceId, Record), hdv::HostError> {
        let record = Record::default();
        let function = hdv::pci_function(Box::new(Recorder {
            record: record.clone(),
            has_msix: number.is_multiple_of(2),
        }))?;
        let ids = DeviceIds {
            class_id,
            instance_id: instance(number),
        };
        let device = self.host.create_device(ids, function)?;
        self.host.announce(device.id())?;
        Ok((device.id(), record))
    }
}

/// Settings of a device of an external host.
pub(crate) fn settings() -> Value {
    json!({ "EmulatorId": CLASS, "HostingModel": "External", "Configuration": ["one", "two"] })
}

/// A document with these devices, and no disk and no kernel: its guest stays in the firmware.
pub(crate) fn document(devices: impl IntoIterator<Item = u128>) -> Value {
    let devices: serde_json::Map<String, Value> = devices
        .into_iter()
        .map(|number| (instance(number).to_string(), settings()))
        .collect();
    json!({
        "Owner": "test", "SchemaVersion": { "Major": 2, "Minor": 4 },
        "ShouldTerminateOnLastHandleClosed": true,
        "VirtualMachine": {
            "ComputeTopology": { "Memory": { "SizeInMB": 64 }, "Processor": { "Count": 1 } },
            "Devices": { "FlexibleIov": devices },
        },
    })
}

pub(crate) fn create(document: &Value) -> ComputeSystem {
    ComputeSystem::create("test", &document.to_string()).expect("created")
}

/// A guest with a shell on its console.
pub(crate) struct Guest {
    pub(crate) system: ComputeSystem,
    console: std::os::unix::net::UnixStream,
    heard: String,
    _lab: tempfile::TempDir,
}

impl Guest {
    /// Creates the system of a guest with these devices, and their host.
    pub(crate) fn create(devices: impl IntoIterator<Item = u128>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let cache = hdv_qemu::cache::Cache::user().expect("a cache");
        hdv_qemu::fetch::fetch(&cache, &hdv_qemu::lab::BUNDLES, &mut |_| {}).expect("fetched");
        let lab = hdv_qemu::lab::Lab::at(directory.path());
        lab.make(&cache, None).expect("a lab");
        let mut document = document(devices);
        let machine = &mut document["VirtualMachine"];
        machine["Chipset"] = json!({ "LinuxKernelDirect": {
            "KernelFilePath": lab.kernel(), "InitRdPath": lab.initrd(),
            "KernelCmdLine": "console=ttyS0 panic=-1 quiet",
        } });
        machine["StopOnReset"] = true.into();
        machine["ComputeTopology"]["Memory"]["SizeInMB"] = 256.into();
        machine["Devices"]["ComPorts"] =
            json!({ "0": { "NamedPipe": directory.path().join("com0") } });
        let system = create(&document);
        let console = system.console(0).expect("a console");
        console.set_read_timeout(Some(PATIENCE)).expect("a limit");
        Self {
            system,
            console,
            heard: String::new(),
            _lab: directory,
        }
    }

    /// Waits until the guest has said something, and takes all up to it.
    pub(crate) fn expect(&mut self, text: &str) -> String {
        use std::io::Read as _;
        let begin = Instant::now();
        loop {
            if let Some(at) = self.heard.find(text) {
                let rest = self.heard.split_off(at + text.len());
                return std::mem::replace(&mut self.heard, rest);
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "no {text:?} in {:?}",
                self.heard
            );
            let mut buffer = [0; 4096];
            let count = self
                .console
                .read(&mut buffer)
                .expect("the guest says something");
            assert!(count > 0, "the guest is gone; it said {:?}", self.heard);
            self.heard
                .push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    }

    /// Runs a command in the guest; what it prints.
    pub(crate) fn run(&mut self, command: &str) -> String {
        self.say(&format!("{command}; echo do''ne"));
        let said = self.expect("done");
        self.expect("# ");
        said
    }

    pub(crate) fn say(&mut self, line: &str) {
        use std::io::Write as _;
        writeln!(self.console, "{line}").expect("said");
    }

    /// How many of the tests' devices the guest has.
    pub(crate) fn devices(&mut self) -> usize {
        let said = self.run("cat /sys/bus/pci/devices/*/device");
        said.lines().filter(|line| line.trim() == "0x7ffe").count()
    }
}

/// A request about a device.
pub(crate) fn request(what: &str, number: u128) -> String {
    let mut request = json!({
        "ResourcePath": format!("VirtualMachine/Devices/FlexibleIov/{}", instance(number)),
        "RequestType": what,
    });
    if what == "Add" {
        request["Settings"] = settings();
    }
    request.to_string()
}

pub(crate) fn state(system: &ComputeSystem) -> State {
    system.properties().expect("properties").state
}

pub(crate) fn device(system: &ComputeSystem, number: u128) -> Option<DeviceProperties> {
    let mut devices = system.properties().expect("properties").devices;
    devices.remove(&instance(number).to_string())
}

pub(crate) fn status(system: &ComputeSystem, number: u128) -> Option<DeviceStatus> {
    device(system, number).map(|device| device.status)
}

/// Whether a process is there, and not only its remains.
pub(crate) fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| {
        let state = rest.trim_start().chars().next();
        state.is_some_and(|state| state != 'Z')
    })
}

pub(crate) fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("a process id"));
    rustix::process::kill_process(pid.expect("a process id"), rustix::process::Signal::KILL)
        .expect("killed");
}

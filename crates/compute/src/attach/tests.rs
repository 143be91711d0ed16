//! Device hosts and a worker that is played here: what is called when, which errors cross, what happens at the end of either.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Instant;

use hdv::{
    Bar, BarAccess, BarIndex, ClassCode, ConfigError, ConfigSpace, DeviceContext, DeviceError,
    DeviceHost, DeviceState, HostOptions, Identity, PciDevice, pci_function,
};
use hdv_control::{CallError, LinkHandler, LinkServer, SocketClaim};
use hdv_vfio_user::client::{Client, ClientOptions};
use hdv_vfio_user::server::{Ledger, Left};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::protocol::{DeviceFailure, PowerOn, device};

const GENEROUS: Duration = Duration::from_secs(60);
const CLASS: Uuid = Uuid::from_u128(0xc1a5);
const RUNTIME: Uuid = Uuid::from_u128(0x12);

/// What the worker heard, with the link over which it can answer back.
#[derive(Debug)]
enum Heard {
    Hello(Link, Hello),
    Call(String, Value),
    Closed,
}

struct Played {
    hears: Mutex<Sender<Heard>>,
    runtime_id: Uuid,
}

impl LinkHandler for Played {
    fn call(
        &self,
        link: &Link,
        command: &str,
        args: Value,
        _: Vec<OwnedFd>,
    ) -> Result<Value, ControlError> {
        let hears = self.hears.lock().unwrap();
        if command == HELLO {
            let hello = serde_json::from_value(args).unwrap();
            hears.send(Heard::Hello(link.clone(), hello)).unwrap();
            let welcome = Welcome {
                id: "vm".to_owned(),
                runtime_id: self.runtime_id,
            };
            return Ok(serde_json::to_value(welcome).unwrap());
        }
        if args["class-id"] == json!(Uuid::nil()) {
            return Err(ControlError::internal("not that one").with_code(-77));
        }
        hears.send(Heard::Call(command.to_owned(), args)).unwrap();
        Ok(Value::Null)
    }

    fn notice(&self, _: &Link, _: &str, _: Value) {}

    fn closed(&self, _: &Link) {
        let _ = self.hears.lock().unwrap().send(Heard::Closed);
    }
}

/// The worker and one host that has attached to it.
struct Scene {
    _directory: tempfile::TempDir,
    server: Option<LinkServer>,
    _claim: SocketClaim,
    heard: Receiver<Heard>,
    host: DeviceHost,
    link: Link,
}

fn scene(runtime_id: Uuid) -> Scene {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("worker.sock");
    let (listener, claim) = SocketClaim::bind(&socket).unwrap();
    let (hears, heard) = mpsc::channel();
    let server = LinkServer::start(listener, "worker", 8, move |_| {
        let hears = Mutex::new(hears.clone());
        Arc::new(Played { hears, runtime_id })
    })
    .unwrap();
    let host = DeviceHost::new(HostOptions::new().control(false)).unwrap();
    host.attach(Arc::new(WorkerSystem::of_user(
        "vm",
        &socket,
        HostingModel::External,
    )))
    .unwrap();
    let Heard::Hello(link, hello) = heard.recv_timeout(GENEROUS).unwrap() else {
        panic!("no hello");
    };
    let expected = Hello::DeviceHost {
        pid: std::process::id(),
        hosting_model: HostingModel::External,
    };
    assert_eq!(hello, expected);
    Scene {
        _directory: directory,
        server: Some(server),
        _claim: claim,
        heard,
        host,
        link,
    }
}

impl Scene {
    fn heard(&self) -> Heard {
        self.heard.recv_timeout(GENEROUS).unwrap()
    }

    fn create(&self, instance: u128, device: impl PciDevice + 'static) -> hdv::DeviceInstance {
        let ids = DeviceIds {
            class_id: CLASS,
            instance_id: Uuid::from_u128(instance),
        };
        let function = pci_function(Box::new(device)).unwrap();
        self.host.create_device(ids, function).unwrap()
    }

    /// Creates and announces a device, of which the worker hears.
    fn announce(&self, instance: u128, device: impl PciDevice + 'static) -> hdv::DeviceInstance {
        let instance = self.create(instance, device);
        self.host.announce(instance.id()).unwrap();
        let Heard::Call(command, args) = self.heard() else {
            panic!("no announcement");
        };
        assert_eq!(command, host::ANNOUNCE);
        let announced: Device = serde_json::from_value(args).unwrap();
        assert_eq!(announced, host_commands::device(&instance.ids().unwrap()));
        instance
    }

    fn order(&self, command: &str, args: &impl Serialize) -> Result<Value, CallError> {
        let args = serde_json::to_value(args).unwrap();
        self.link.call(command, &args, GENEROUS)
    }

    fn power_on(&self, instance: u128, configuration: &[&str]) -> Result<Value, CallError> {
        let order = PowerOn {
            instance_id: Uuid::from_u128(instance),
            beside: None,
            configuration: configuration.iter().map(ToString::to_string).collect(),
        };
        self.order(device::POWER_ON, &order)
    }

    fn about(&self, command: &str, instance: u128) -> Result<Value, CallError> {
        let instance_id = Uuid::from_u128(instance);
        self.order(command, &Instance { instance_id })
    }
}

fn command_error(result: Result<Value, CallError>) -> ControlError {
    match result {
        Err(CallError::Command(error)) => error,
        other => panic!("{other:?}"),
    }
}

type Calls = Arc<Mutex<Vec<String>>>;

/// Notes what is called.
#[derive(Default)]
struct Recorder {
    calls: Calls,
    fails: bool,
    /// Called from inside `initialize`.
    inside: Option<Box<dyn Fn() + Send>>,
}

impl Recorder {
    fn note(&self, call: &str) {
        self.calls.lock().unwrap().push(call.to_owned());
    }
}

impl PciDevice for Recorder {
    fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
        let identity = Identity {
            vendor_id: 0x4f48,
            device_id: 0x7ffe,
            revision_id: 0,
            class: ClassCode::from_u24(0xff_0000),
            subsystem_vendor_id: 0,
            subsystem_id: 0,
        };
        ConfigSpace::builder(identity)
            .bar(BarIndex::BAR0, Bar::memory32(4096))
            .build()
    }

    fn initialize(&mut self, _: DeviceContext) -> Result<(), DeviceError> {
        self.note("initialize");
        if let Some(inside) = &self.inside {
            inside();
        }
        if self.fails {
            return Err(DeviceError::new("on purpose").with_code(-5));
        }
        Ok(())
    }

    fn set_configuration(&mut self, values: &[String]) -> Result<(), DeviceError> {
        self.note(&values.join(","));
        Ok(())
    }

    fn start(&mut self) -> Result<(), DeviceError> {
        self.note("start");
        Ok(())
    }

    fn read(&mut self, _: BarAccess) -> u64 {
        0
    }

    fn write(&mut self, _: BarAccess, _: u64) {}

    fn reset(&mut self) {}

    fn teardown(&mut self) {
        self.note("teardown");
    }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + GENEROUS;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_device_lives_as_the_worker_says() {
    let scene = scene(RUNTIME);
    let calls = Calls::default();
    let recorder = Recorder {
        calls: Arc::clone(&calls),
        ..Recorder::default()
    };
    let instance = scene.announce(1, recorder);
    assert_eq!(instance.state(), DeviceState::PoweredOff);
    scene.power_on(1, &["a", "b"]).unwrap();
    assert_eq!(*calls.lock().unwrap(), ["initialize", "a,b"]);
    // No client has used it: neither does anything.
    scene.about(device::START, 1).unwrap();
    scene.about(device::STOP, 1).unwrap();
    assert_eq!(scene.about(device::FAILURE, 1).unwrap(), Value::Null);
    let failure: Option<DeviceFailure> = serde_json::from_value(Value::Null).unwrap();
    assert_eq!(failure, None);
    scene.about(device::REMOVE, 1).unwrap();
    assert_eq!(*calls.lock().unwrap(), ["initialize", "a,b", "teardown"]);
    let error = command_error(scene.about(device::REMOVE, 1));
    assert_eq!(error.code, Some(codes::NOT_FOUND));
}

#[test]
fn errors_cross_unchanged() {
    let scene = scene(RUNTIME);
    let recorder = Recorder {
        fails: true,
        ..Recorder::default()
    };
    scene.announce(1, recorder);
    let error = command_error(scene.power_on(1, &[]));
    assert_eq!(error.code, Some(-5));
    assert!(error.message.contains("on purpose"), "{error}");
    let error = command_error(scene.about("dance", 1));
    assert_eq!(error.kind, hdv_control::ErrorKind::UnknownCommand);
    let error = command_error(scene.order(device::STOP, &json!({"instance-id": 5})));
    assert_eq!(error.code, Some(codes::E_INVALIDARG));
    // To one that is not the worker's own, the worker says nothing of making devices.
    let error = command_error(scene.order(device::CREATE, &json!({})));
    assert_eq!(error.kind, hdv_control::ErrorKind::UnknownCommand);

    let ids = DeviceIds {
        class_id: Uuid::nil(),
        instance_id: Uuid::from_u128(2),
    };
    let function = pci_function(Box::new(Recorder::default())).unwrap();
    let unwanted = scene.host.create_device(ids, function).unwrap();
    match scene.host.announce(unwanted.id()) {
        Err(HostError::Refused { message, code }) => {
            assert_eq!((message.as_str(), code), ("not that one", Some(-77)));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(unwanted.state(), DeviceState::Gone);
}

#[test]
fn a_client_comes_as_its_socket_a_lease_and_a_ledger() {
    let scene = scene(RUNTIME);
    scene.announce(1, Recorder::default());
    scene.power_on(1, &[]).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (end, lease) = rustix::pipe::pipe().unwrap();
    let file = Ledger::file().unwrap();
    let instance_id = Uuid::from_u128(1);
    let args = serde_json::to_value(Instance { instance_id }).unwrap();
    let connect = |clients: &[BorrowedFd<'_>]| {
        scene
            .link
            .call_with(device::CONNECT, &args, clients, GENEROUS)
    };
    let [socket, lease_fd, ledger] = [theirs.as_fd(), lease.as_fd(), file.as_fd()];
    for wrong in [
        &[][..],
        &[socket],
        &[socket, lease_fd],
        &[lease_fd, lease_fd, ledger],
        &[socket, ledger, ledger],
        &[socket, lease_fd, socket],
        &[socket, lease_fd, ledger, socket],
    ] {
        let error = command_error(connect(wrong));
        assert!(!error.message.is_empty(), "{wrong:?}");
    }
    connect(&[socket, lease_fd, ledger]).unwrap();
    drop((theirs, lease));
    let mut client = Client::from_stream(ours, ClientOptions::default()).unwrap();
    client.region_read(7, 0, &mut [0; 4]).unwrap();
    assert!(Left::read(file.as_fd()).unwrap().is_agreed());
    drop(client);
    // Which ends when nobody has the other end of it any more.
    let mut byte = [0];
    assert_eq!(rustix::io::read(&end, &mut byte).unwrap(), 0);
}

#[test]
fn what_its_program_removes_is_withdrawn_first() {
    let scene = scene(RUNTIME);
    let instance = scene.announce(1, Recorder::default());
    scene.host.remove(instance.id()).unwrap();
    let Heard::Call(command, args) = scene.heard() else {
        panic!("not withdrawn");
    };
    assert_eq!(command, host::WITHDRAW);
    assert_eq!(args["instance-id"], json!(Uuid::from_u128(1)));
    assert_eq!(instance.state(), DeviceState::Gone);
}

#[test]
fn a_host_that_is_closed_hangs_up() {
    let scene = scene(RUNTIME);
    let instance = scene.announce(1, Recorder::default());
    let Scene {
        host, heard, link, ..
    } = scene;
    drop(host);
    assert!(matches!(heard.recv_timeout(GENEROUS), Ok(Heard::Closed)));
    assert!(link.is_closed());
    assert_eq!(instance.state(), DeviceState::Gone);
}

#[test]
fn a_worker_that_is_gone_takes_its_devices_with_it() {
    let mut scene = scene(RUNTIME);
    let calls = Calls::default();
    let recorder = || Recorder {
        calls: Arc::clone(&calls),
        ..Recorder::default()
    };
    let on = scene.announce(1, recorder());
    scene.announce(2, recorder());
    let alone = scene.create(3, recorder());
    scene.power_on(1, &[]).unwrap();
    drop(scene.server.take());
    until("the teardown of both", || {
        let calls = calls.lock().unwrap();
        calls.iter().filter(|call| *call == "teardown").count() == 2
    });
    assert_eq!(on.state(), DeviceState::Gone);
    // What it never heard of stays, and cannot be announced any more.
    assert_eq!(alone.state(), DeviceState::PoweredOff);
    match scene.host.announce(alone.id()) {
        Err(HostError::Refused { code, .. }) => {
            assert_eq!(code, Some(codes::HCS_E_SERVICE_DISCONNECT));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_inside_of_a_call_is_known_by_system_and_by_host() {
    let (ours, other) = (Uuid::from_u128(0xa), Uuid::from_u128(0xb));
    let scene = scene(ours);
    let (tell, told) = mpsc::channel();
    let recorder = Recorder {
        inside: Some(Box::new(move || {
            let beside = |system, instance| inside_call_beside(system, Uuid::from_u128(instance));
            tell.send([
                inside_call(ours),
                inside_call(other),
                beside(ours, 1),
                beside(ours, 2),
                beside(ours, 3),
                beside(other, 1),
            ])
            .unwrap();
        })),
        ..Recorder::default()
    };
    scene.announce(1, recorder);
    scene.announce(2, Recorder::default());
    scene.power_on(1, &[]).unwrap();
    assert_eq!(
        told.recv_timeout(GENEROUS).unwrap(),
        [true, false, true, true, false, false]
    );
    assert!(!inside_call(ours));
    assert!(!inside_call_beside(ours, Uuid::from_u128(1)));
}

#[test]
fn a_system_that_is_not_there_takes_no_host() {
    let directory = tempfile::tempdir().unwrap();
    let host = DeviceHost::new(HostOptions::new().control(false)).unwrap();
    let socket = directory.path().join("none.sock");
    let refused = host.attach(Arc::new(WorkerSystem::of_user(
        "vm",
        &socket,
        HostingModel::External,
    )));
    match refused {
        Err(HostError::Refused { message, .. }) => assert!(message.contains("\"vm\""), "{message}"),
        other => panic!("{other:?}"),
    }
}

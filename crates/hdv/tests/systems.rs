//! Device instances: created on a host, announced to its system, configured, removed; and what is refused
//! from inside a call into a device.

mod support;

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex};

use hdv::{
    BarAccess, BindError, ConfigError, ConfigSpace, Delivery, DeviceContext, DeviceError,
    DeviceHost, DeviceIds, DeviceState, GuestAddress, HostError, MemoryError, PciDevice,
    SocketDirectory, Uuid, pci_function,
};
use hdv_vfio_user::vfio;
use support::*;

fn ids(instance: u128) -> DeviceIds {
    DeviceIds {
        class_id: Uuid::from_u128(0xc1a5),
        instance_id: Uuid::from_u128(instance),
    }
}

fn system(directory: &Path) -> Arc<SocketDirectory> {
    Arc::new(SocketDirectory::open(directory).expect("a system"))
}

fn create(
    host: &DeviceHost,
    instance: u128,
    device: impl PciDevice + 'static,
) -> hdv::DeviceInstance {
    let function = pci_function(Box::new(device)).expect("a function");
    host.create_device(ids(instance), function)
        .expect("created")
}

#[test]
fn an_instance_is_served_under_its_id() {
    let directory = tempfile::tempdir().unwrap();
    let system = system(directory.path());
    let host = host();
    host.attach(system.clone()).unwrap();
    let device = Recorder::default();
    let record = device.record.clone();
    let instance = create(&host, 1, device);
    assert_eq!(instance.state(), DeviceState::PoweredOff);
    assert_eq!(record.calls(), [Call::ConfigSpace]);
    assert!(!system.socket(instance.ids().unwrap().instance_id).exists());

    host.announce(instance.id()).unwrap();
    assert_eq!(record.calls(), [Call::ConfigSpace, Call::Initialize]);
    assert_eq!(instance.state(), DeviceState::Stopped);
    let socket = directory
        .path()
        .join("00000000-0000-0000-0000-000000000001.sock");
    let mut client = connect(&socket);
    assert_eq!(read32(&mut client, CONFIG, 0), 0x7ffe_4f48);
    assert!(instance.has_client());
    let status = &host.devices()[0];
    assert_eq!(
        status.instance_id,
        Some(instance.ids().unwrap().instance_id)
    );
    assert_eq!(status.class_id, Some(instance.ids().unwrap().class_id));

    host.remove(instance.id()).unwrap();
    assert_eq!(instance.state(), DeviceState::Gone);
    assert_eq!(record.count(Call::Teardown), 1);
    assert!(!socket.exists());
    assert_eq!(read32(&mut client, CONFIG, 0), u32::MAX);
    drop(client);
    wait_for("the client to be gone", || !instance.has_client());
}

#[test]
fn an_instance_that_is_never_announced_is_torn_down_once() {
    let host = host();
    let device = Recorder::default();
    let record = device.record.clone();
    let instance = create(&host, 1, device);
    host.announce(instance.id()).unwrap();
    drop(host);
    assert_eq!(
        record.calls(),
        [Call::ConfigSpace, Call::Teardown, Call::Drop]
    );
    assert_eq!(instance.state(), DeviceState::Gone);
}

#[test]
fn what_was_announced_before_gets_into_the_system_when_there_is_one() {
    let directory = tempfile::tempdir().unwrap();
    let system = system(directory.path());
    let host = host();
    let announced = Recorder::default();
    let (created, refused) = (
        Recorder::default(),
        Recorder::with(|device| device.refuse_initialize = true),
    );
    let records = [&announced, &created, &refused].map(|device| device.record.clone());
    let announced = create(&host, 1, announced);
    let created = create(&host, 2, created);
    let refused = create(&host, 3, refused);
    host.announce(announced.id()).unwrap();
    host.announce(refused.id()).unwrap();
    assert!(
        records
            .iter()
            .all(|record| record.count(Call::Initialize) == 0)
    );

    let error = host.attach(system.clone()).unwrap_err();
    assert!(matches!(error, HostError::Device(error) if error.code() == Some(7)));
    assert_eq!(announced.state(), DeviceState::Stopped);
    assert_eq!(created.state(), DeviceState::PoweredOff);
    assert_eq!(refused.state(), DeviceState::Gone);
    assert_eq!(records[2].count(Call::Teardown), 1);
    assert!(matches!(
        host.attach(system).unwrap_err(),
        HostError::AlreadyAttached
    ));
    host.announce(created.id()).unwrap();
    assert_eq!(host.devices().len(), 2);
    assert!(matches!(
        host.announce(refused.id()).unwrap_err(),
        HostError::NoSuchDevice(_)
    ));
}

#[test]
fn an_instance_id_is_used_once() {
    let directory = tempfile::tempdir().unwrap();
    let system = system(directory.path());
    let (host, other) = (host(), host());
    host.attach(system.clone()).unwrap();
    other.attach(system).unwrap();
    let first = create(&host, 1, Recorder::default());
    host.announce(first.id()).unwrap();

    let second = Recorder::default();
    let record = second.record.clone();
    let function = pci_function(Box::new(second)).unwrap();
    assert!(matches!(
        host.create_device(ids(1), function).unwrap_err(),
        HostError::InstanceExists(id) if id == ids(1).instance_id
    ));
    assert_eq!(record.count(Call::Teardown), 1);

    // On another host of the system the socket tells.
    let third = create(&other, 1, Recorder::default());
    assert!(matches!(
        other.announce(third.id()).unwrap_err(),
        HostError::Socket(BindError::InUse { .. })
    ));
    assert_eq!(third.state(), DeviceState::Gone);

    host.remove(first.id()).unwrap();
    let again = create(&other, 1, Recorder::default());
    other.announce(again.id()).unwrap();
}

#[test]
fn a_system_is_a_directory_that_exists() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    let error = SocketDirectory::open(&missing).unwrap_err();
    assert!(
        error.to_string().contains(missing.to_str().unwrap()),
        "{error}"
    );
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = SocketDirectory::open(&file).unwrap_err();
    assert!(error.to_string().contains("not a directory"), "{error}");
}

/// Notes its configuration and, when told by a write, asks its host for what it must not.
#[derive(Default)]
struct Asking {
    configuration: Arc<Mutex<Option<Vec<String>>>>,
    host: Arc<Mutex<Option<Arc<DeviceHost>>>>,
    answers: Arc<Mutex<Vec<String>>>,
    refuse_configuration: bool,
}

impl PciDevice for Asking {
    fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
        Recorder::default().config_space()
    }

    fn initialize(&mut self, _context: DeviceContext) -> Result<(), DeviceError> {
        assert!(lock(&self.configuration).is_none());
        Ok(())
    }

    fn set_configuration(&mut self, values: &[String]) -> Result<(), DeviceError> {
        *lock(&self.configuration) = Some(values.to_vec());
        if self.refuse_configuration {
            return Err(DeviceError::new("no such setting").with_code(-5));
        }
        Ok(())
    }

    fn read(&mut self, _access: BarAccess) -> u64 {
        0
    }

    fn write(&mut self, _access: BarAccess, value: u64) {
        let host = lock(&self.host).clone().expect("a host");
        let mut answers = lock(&self.answers);
        answers.push(host.inside_call().to_string());
        let id = host
            .devices()
            .iter()
            .find(|device| device.id == value)
            .map(|_| value);
        answers.push(match id {
            Some(_) => match host.remove(device_id(&host, value)) {
                Err(error) => error.to_string(),
                Ok(()) => "removed".to_owned(),
            },
            None => "no such device".to_owned(),
        });
    }

    fn reset(&mut self) {}
}

/// The id that a test knows by number only.
fn device_id(host: &DeviceHost, number: u64) -> hdv::DeviceId {
    host.device_ids()
        .into_iter()
        .find(|id| id.to_string() == number.to_string())
        .expect("a device")
}

#[test]
fn configuration_strings_arrive_once_after_initialize() {
    let directory = tempfile::tempdir().unwrap();
    let system = system(directory.path());
    let strings = vec!["rate=9".to_owned(), String::new(), "größe".to_owned()];
    system.configure(ids(1).instance_id, strings.clone());
    let host = host();
    host.attach(system).unwrap();

    let device = Asking::default();
    let seen = device.configuration.clone();
    let with = create(&host, 1, device);
    host.announce(with.id()).unwrap();
    assert_eq!(lock(&seen).take(), Some(strings));

    let device = Asking::default();
    let seen = device.configuration.clone();
    let without = create(&host, 2, device);
    host.announce(without.id()).unwrap();
    assert_eq!(lock(&seen).take(), Some(Vec::new()));

    let refusing = create(
        &host,
        3,
        Asking {
            refuse_configuration: true,
            ..Asking::default()
        },
    );
    let error = host.announce(refusing.id()).unwrap_err();
    assert!(matches!(error, HostError::Device(error) if error.code() == Some(-5)));
}

#[test]
fn nothing_is_removed_from_inside_a_call() {
    let directory = tempfile::tempdir().unwrap();
    let host = Arc::new(host());
    host.attach(system(directory.path())).unwrap();
    let asking = Asking::default();
    let (asked, answers) = (asking.host.clone(), asking.answers.clone());
    *lock(&asked) = Some(Arc::clone(&host));
    let asking = create(&host, 1, asking);
    host.announce(asking.id()).unwrap();
    let neighbour = create(&host, 2, Recorder::default());
    host.announce(neighbour.id()).unwrap();

    let mut client = connect(
        &directory
            .path()
            .join(format!("{}.sock", ids(1).instance_id)),
    );
    for id in [asking.id(), neighbour.id()] {
        let number: u32 = id.to_string().parse().unwrap();
        write32(&mut client, BAR0, 0, number);
        let answers = std::mem::take(&mut *lock(&answers));
        assert_eq!(answers[0], "true");
        assert!(answers[1].contains("inside"), "{answers:?}");
    }
    assert_eq!(neighbour.state(), DeviceState::Stopped);
    assert!(!host.inside_call());
    host.remove(neighbour.id()).unwrap();

    // Another host's device may go.
    let other = Arc::new(support::host());
    other.attach(system(directory.path())).unwrap();
    let removable = create(&other, 3, Recorder::default());
    other.announce(removable.id()).unwrap();
    *lock(&asked) = Some(Arc::clone(&other));
    write32(
        &mut client,
        BAR0,
        0,
        removable.id().to_string().parse().unwrap(),
    );
    assert_eq!(*lock(&answers), ["false", "removed"]);
    assert_eq!(removable.state(), DeviceState::Gone);
    *lock(&asked) = None;
}

#[test]
fn announcing_again_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let host = host();
    host.attach(system(directory.path())).unwrap();
    let device = Recorder::default();
    let record = device.record.clone();
    let instance = create(&host, 1, device);
    for _ in 0..2 {
        host.announce(instance.id()).unwrap();
    }
    assert_eq!(instance.state(), DeviceState::Stopped);
    assert_eq!(record.count(Call::Initialize), 1);
}

/// Is closed while it is powered on.
struct Closing(Arc<DeviceHost>);

impl PciDevice for Closing {
    fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
        Recorder::default().config_space()
    }

    fn initialize(&mut self, _context: DeviceContext) -> Result<(), DeviceError> {
        assert!(matches!(self.0.close(), Err(HostError::InsideCall)));
        // It waits for this call, so nobody waits for it.
        let host = Arc::clone(&self.0);
        std::thread::spawn(move || host.close());
        wait_for("the host to close", || self.0.device_ids().is_empty());
        Ok(())
    }

    fn read(&mut self, _access: BarAccess) -> u64 {
        0
    }

    fn write(&mut self, _access: BarAccess, _value: u64) {}

    fn reset(&mut self) {}
}

#[test]
fn a_host_that_is_closed_takes_nothing_new() {
    let directory = tempfile::tempdir().unwrap();
    let host = Arc::new(host());
    host.attach(system(directory.path())).unwrap();
    let instance = create(&host, 1, Closing(Arc::clone(&host)));
    let socket = directory
        .path()
        .join(format!("{}.sock", ids(1).instance_id));
    assert!(matches!(
        host.announce(instance.id()),
        Err(HostError::Closed | HostError::NoSuchDevice(_))
    ));
    wait_for("teardown", || instance.state() == DeviceState::Gone);
    wait_for("the socket to go", || !socket.exists());
    let function = pci_function(Box::new(Recorder::default())).unwrap();
    assert!(matches!(
        host.create_device(ids(2), function),
        Err(HostError::Closed)
    ));
    assert!(matches!(
        host.attach(system(directory.path())),
        Err(HostError::Closed)
    ));
    host.close().unwrap();
}

#[test]
fn two_hosts_serve_eight_devices_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let system = system(directory.path());
    let hosts = [host(), host()];
    let mut instances = Vec::new();
    for (host, first) in hosts.iter().zip([0, 4]) {
        host.attach(system.clone()).unwrap();
        for instance in first..first + 4 {
            let instance = create(host, instance, Recorder::default());
            host.announce(instance.id()).unwrap();
            instances.push(instance);
        }
    }
    std::thread::scope(|scope| {
        for instance in &instances {
            let system = &system;
            scope.spawn(move || {
                let mut client = connect(&system.socket(instance.ids().unwrap().instance_id));
                for value in 0..500 {
                    write32(&mut client, BAR0, 0x10, value);
                    assert_eq!(read32(&mut client, BAR0, 0x10), value);
                }
            });
        }
    });
}

#[test]
fn handles_of_a_device_that_is_gone_reach_nothing_of_its_vm() {
    let directory = tempfile::tempdir().unwrap();
    let host = host();
    host.attach(system(directory.path())).unwrap();
    let instance = create(&host, 1, Recorder::default());
    host.announce(instance.id()).unwrap();
    let socket = directory
        .path()
        .join(format!("{}.sock", ids(1).instance_id));
    let mut client = connect(&socket);
    let before = connect_vectors(&mut client, vfio::irq::MSIX, 0, 1);
    assert_eq!(instance.interrupts().signal(0), Delivery::Signalled);
    assert_eq!(taken(&before[0]), 1);
    host.remove(instance.id()).unwrap();
    // The VM does not know, and goes on: also with a memory map and vectors of its own making.
    let after = connect_vectors(&mut client, vfio::irq::MSIX, 0, 2);
    let file = memfd(0x1000);
    client
        .dma_map(0, 0x1000, READ_WRITE, Some((file.as_fd(), 0)))
        .unwrap();
    assert_eq!(instance.interrupts().signal(0), Delivery::Disabled);
    assert_eq!(
        instance.memory().write(GuestAddress(0), &[1]),
        Err(MemoryError::NoMemory)
    );
    assert_eq!([&before[0], &after[0], &after[1]].map(taken), [0; 3]);
    client.dma_unmap(0, 0x1000).unwrap();
    client.disable_irqs(vfio::irq::MSIX).unwrap();
}

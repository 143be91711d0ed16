//! The life of a device, event by event, as its system drives it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hdv::{DeviceState, HostError};
use hdv_vfio_user::client::Client;

use crate::device::{Called, Script};
use crate::support::*;
use crate::system::{
    Scripted, Told, attached, create, hook, id, ids, place, recorded, refused, socket,
};

const MSIX: u32 = hdv_vfio_user::vfio::irq::MSIX;

/// A message that counts as use and reaches no device.
fn use_it(client: &mut Client) {
    client.device_info().expect("answered");
}

#[test]
fn each_event_brings_its_calls() {
    let (_directory, path) = place();
    let (host, system, handle) = attached();
    let (record, instance) = recorded(&host, 1);
    assert!(matches!(
        handle.power_on(id(1), &socket(path.clone(), &[])),
        Err(HostError::NoSuchInstance(_))
    ));
    host.announce(instance.id()).unwrap();
    host.announce(instance.id()).unwrap();
    assert_eq!(system.told(), [Told::Announced(1)]);
    assert_eq!(handle.state(id(1)).unwrap(), DeviceState::PoweredOff);
    assert_eq!(record.life(), [Call::ConfigSpace]);
    record.forget();
    assert!(!path.exists());

    handle
        .power_on(id(1), &socket(path.clone(), &["a", "b"]))
        .unwrap();
    assert_eq!(record.life(), [Call::Initialize]);
    assert!(matches!(
        handle.power_on(id(1), &socket(path.clone(), &[])),
        Err(HostError::PoweredOn(_))
    ));
    assert_eq!(handle.state(id(1)).unwrap(), DeviceState::Stopped);
    // Nobody has used it: processors are not its business yet.
    handle.start(id(1)).unwrap();
    handle.stop(id(1)).unwrap();
    let mut client = connect(&path);
    handle.start(id(1)).unwrap();
    assert_eq!(record.life(), [Call::Initialize]);
    record.forget();

    use_it(&mut client);
    assert_eq!(record.life(), [Call::Start]);
    handle.start(id(1)).unwrap();
    handle.stop(id(1)).unwrap();
    handle.stop(id(1)).unwrap();
    assert_eq!(handle.state(id(1)).unwrap(), DeviceState::Stopped);
    // The session goes on, and its messages start nothing any more.
    write32(&mut client, BAR0, 0x10, 5);
    assert_eq!(read32(&mut client, BAR0, 0x10), 5);
    assert_eq!(record.life(), [Call::Start, Call::Stop]);
    record.forget();
    handle.start(id(1)).unwrap();
    assert_eq!(read32(&mut client, BAR0, 0x10), 5, "its state stays");
    assert_eq!(record.life(), [Call::Start]);
    record.forget();

    handle.stop(id(1)).unwrap();
    drop(client);
    wait_for("the client to leave", || !instance.has_client());
    wait_for("the reset", || record.count(Call::Reset) == 1);
    assert_eq!(record.life(), [Call::Stop, Call::Reset], "stopped already");
    record.forget();
    handle.start(id(1)).unwrap();
    assert_eq!(record.life(), [], "its next client has not used it yet");

    let mut client = connect(&path);
    use_it(&mut client);
    handle.remove(id(1)).unwrap();
    assert_eq!(
        record.life(),
        [Call::Start, Call::Stop, Call::Teardown, Call::Drop]
    );
    assert_eq!(read32(&mut client, CONFIG, 0), u32::MAX, "a stub");
    assert!(!path.exists());
    assert_eq!(system.told(), [], "the system knows what it does");
    for error in [
        handle.start(id(1)).unwrap_err(),
        handle.stop(id(1)).unwrap_err(),
        handle.remove(id(1)).unwrap_err(),
        handle.state(id(1)).unwrap_err(),
        handle.start_failure(id(1)).unwrap_err(),
        host.remove(instance.id()).unwrap_err(),
    ] {
        assert!(
            matches!(
                error,
                HostError::NoSuchInstance(_) | HostError::NoSuchDevice(_)
            ),
            "{error}"
        );
    }
}

#[test]
fn a_device_that_is_added_to_a_paused_system_is_started_once() {
    let (_directory, path) = place();
    let (host, _system, handle) = attached();
    let (record, instance) = recorded(&host, 1);
    host.announce(instance.id()).unwrap();
    handle.power_on(id(1), &socket(path.clone(), &[])).unwrap();
    handle.stop(id(1)).unwrap();
    let mut client = connect(&path);
    use_it(&mut client);
    handle.start(id(1)).unwrap();
    assert_eq!(record.count(Call::Start), 1);
    handle.stop(id(1)).unwrap();
    assert_eq!(record.count(Call::Stop), 1);
}

#[test]
fn a_reset_while_paused_leaves_it_stopped() {
    let (_directory, path) = place();
    let (host, _system, handle) = attached();
    let (record, instance) = recorded(&host, 1);
    host.announce(instance.id()).unwrap();
    handle.power_on(id(1), &socket(path.clone(), &[])).unwrap();
    let mut client = connect(&path);
    enable(&mut client);
    handle.stop(id(1)).unwrap();
    record.forget();
    client.reset().unwrap();
    assert_eq!(record.life(), [Call::Reset]);
    handle.start(id(1)).unwrap();
    assert_eq!(record.life(), [Call::Reset, Call::Start]);
}

#[test]
fn a_reset_while_paused_is_written_to_a_device_behind_callbacks() {
    let (_directory, path) = place();
    let (host, _system, handle) = attached();
    let script = Script::capable();
    let instance = host.create_device(ids(1), script.function()).unwrap();
    host.announce(instance.id()).unwrap();
    handle.power_on(id(1), &socket(path.clone(), &[])).unwrap();
    let mut client = connect(&path);
    enable(&mut client);
    connect_vectors(&mut client, MSIX, 0, 1);
    handle.stop(id(1)).unwrap();
    script.taken();
    client.reset().unwrap();
    let calls = script.taken();
    assert!(calls.contains(&Called::ConfigWrite(0x04, 0)), "{calls:?}");
    assert!(
        !calls.contains(&Called::Start) && !calls.contains(&Called::Stop),
        "{calls:?}"
    );
    handle.start(id(1)).unwrap();
    assert_eq!(script.taken(), [Called::Start]);
}

#[test]
fn a_device_that_refused_to_start_after_a_reset_gets_its_messages_back_at_the_resume() {
    let (_directory, path) = place();
    let (host, _system, handle) = attached();
    let script = Script::capable();
    let instance = host.create_device(ids(1), script.function()).unwrap();
    host.announce(instance.id()).unwrap();
    handle.power_on(id(1), &socket(path.clone(), &[])).unwrap();
    let mut client = connect(&path);
    enable(&mut client);
    connect_vectors(&mut client, MSIX, 0, 1);
    let message = |script: &Script| script.inside(|inside| inside.memory[0x800..0x808].to_vec());
    let programmed = message(&script);
    assert_ne!(programmed, [0; 8]);
    script.inside(|inside| {
        inside.fails.push(crate::device::Step::Start);
        inside.memory.fill(0);
    });
    client.reset().unwrap();
    assert_eq!(read32(&mut client, BAR0, 0), u32::MAX);
    assert_eq!(message(&script), [0; 8]);
    script.inside(|inside| inside.fails.clear());
    handle.stop(id(1)).unwrap();
    handle.start(id(1)).unwrap();
    assert_eq!(message(&script), programmed);
    assert_eq!(read32(&mut client, BAR0, 0), 0);
}

#[test]
fn a_failed_power_on_gives_the_devices_own_code_and_ends_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("device.sock");
    let (host, system, handle) = attached();
    let device = Recorder::with(|device| device.refuse_initialize = true);
    let record = device.record.clone();
    let instance = create(&host, 1, device);
    host.announce(instance.id()).unwrap();
    system.told();
    let error = handle
        .power_on(id(1), &socket(path.clone(), &[]))
        .unwrap_err();
    assert!(matches!(error, HostError::Device(error) if error.code() == Some(7)));
    assert_eq!(record.count(Call::Teardown), 1);
    assert_eq!(instance.state(), DeviceState::Gone);
    assert!(!path.exists());
    assert!(matches!(
        handle.state(id(1)),
        Err(HostError::NoSuchInstance(_))
    ));
    assert_eq!(system.told(), []);
    // So is one whose socket cannot be had.
    let other = create(&host, 2, Recorder::default());
    host.announce(other.id()).unwrap();
    let nowhere = directory.path().join("missing/device.sock");
    let error = handle.power_on(id(2), &socket(nowhere, &[])).unwrap_err();
    assert!(matches!(error, HostError::Socket(_)), "{error}");
    assert_eq!(other.state(), DeviceState::Gone);
}

#[test]
fn the_last_start_that_failed_is_remembered_until_one_succeeds() {
    let (_directory, path) = place();
    let (host, _system, handle) = attached();
    let (record, instance) = recorded(&host, 1);
    host.announce(instance.id()).unwrap();
    handle.power_on(id(1), &socket(path.clone(), &[])).unwrap();
    assert_eq!(handle.start_failure(id(1)).unwrap(), None);
    record.refuse_start.store(true, Ordering::SeqCst);
    let mut client = connect(&path);
    client.device_info().unwrap_err();
    drop(client);
    let failure = handle.start_failure(id(1)).unwrap().expect("a failure");
    assert_eq!(failure.to_string(), "as the test wants");
    wait_for("the client to leave", || record.count(Call::Reset) == 1);
    handle.start(id(1)).unwrap();
    assert_eq!(record.count(Call::Start), 1, "its client is gone");

    record.refuse_start.store(false, Ordering::SeqCst);
    let mut client = connect(&path);
    use_it(&mut client);
    assert_eq!(handle.start_failure(id(1)).unwrap(), None);
    handle.stop(id(1)).unwrap();
    record.refuse_start.store(true, Ordering::SeqCst);
    assert!(matches!(handle.start(id(1)), Err(HostError::Device(_))));
    assert!(handle.start_failure(id(1)).unwrap().is_some());
    assert_eq!(handle.state(id(1)).unwrap(), DeviceState::Stopped);
}

#[test]
fn a_program_that_removes_a_device_tells_the_system_first() {
    let (_directory, path) = place();
    let (host, system, handle) = attached();
    let host = Arc::new(host);
    let (record, instance) = recorded(&host, 1);
    host.announce(instance.id()).unwrap();
    handle.power_on(id(1), &socket(path.clone(), &[])).unwrap();
    let mut client = connect(&path);
    use_it(&mut client);
    system.told();
    let (seen, again) = (record.clone(), Arc::downgrade(&host));
    *lock(&system.on_withdrawn) = hook(move |handle, id| {
        // Nothing of it has happened yet, nothing is locked, and nobody else removes it.
        assert_eq!(seen.count(Call::Teardown), 0);
        assert_eq!(handle.state(id).unwrap(), DeviceState::Started);
        handle.stop(id).unwrap();
        let host = again.upgrade().unwrap();
        let device = host.device_ids()[0];
        assert!(matches!(
            host.remove(device),
            Err(HostError::NoSuchDevice(_))
        ));
    });
    host.remove(instance.id()).unwrap();
    assert_eq!(system.told(), [Told::Withdrawn(1)]);
    assert_eq!(record.count(Call::Teardown), 1);
    assert_eq!(read32(&mut client, CONFIG, 0), u32::MAX, "a stub");
    // Of one that was never announced the system has not heard.
    let quiet = create(&host, 2, Recorder::default());
    host.remove(quiet.id()).unwrap();
    assert_eq!(system.told(), []);
}

#[test]
fn a_system_may_remove_what_is_withdrawn() {
    let (host, system, _handle) = attached();
    let (record, instance) = recorded(&host, 1);
    host.announce(instance.id()).unwrap();
    *lock(&system.on_withdrawn) = hook(|handle, id| handle.remove(id).unwrap());
    host.remove(instance.id()).unwrap();
    assert_eq!(record.count(Call::Teardown), 1);
}

#[test]
fn a_system_refuses_hosts_and_devices() {
    let host = host();
    let system = Arc::new(Scripted::default());
    *lock(&system.refuse_host) = true;
    let error = host.attach(Arc::clone(&system) as _).unwrap_err();
    assert_eq!(error.to_string(), refused().to_string());
    *lock(&system.refuse_host) = false;
    *lock(&system.refuse_device) = true;
    let waiting = create(&host, 1, Recorder::default());
    host.announce(waiting.id()).unwrap();
    assert_eq!(
        system.told(),
        [Told::Attached],
        "it does not want this host"
    );
    let error = host.attach(Arc::clone(&system) as _).unwrap_err();
    assert!(matches!(
        error,
        HostError::Refused {
            code: Some(-77),
            ..
        }
    ));
    assert_eq!(system.told(), [Told::Attached, Told::Announced(1)]);
    assert_eq!(waiting.state(), DeviceState::Gone);
    assert!(matches!(
        host.attach(Arc::clone(&system) as _),
        Err(HostError::AlreadyAttached)
    ));
    host.close().unwrap();
    host.close().unwrap();
    drop(host);
    assert_eq!(system.told(), [Told::Detached]);
    assert!(matches!(
        system.handle().remove(id(1)),
        Err(HostError::Closed)
    ));
}

#[test]
fn a_device_that_fails_at_the_place_it_is_given_at_once_is_withdrawn() {
    let directory = tempfile::tempdir().unwrap();
    let (host, system, _handle) = attached();
    *lock(&system.place) = Some(socket(directory.path().join("device.sock"), &[]));
    let device = Recorder::with(|device| device.refuse_initialize = true);
    let instance = create(&host, 1, device);
    let error = host.announce(instance.id()).unwrap_err();
    assert!(matches!(error, HostError::Device(error) if error.code() == Some(7)));
    assert_eq!(system.told(), [Told::Announced(1), Told::Withdrawn(1)]);
    assert_eq!(instance.state(), DeviceState::Gone);
}

#[test]
fn a_host_that_is_closed_tells_before_it_tears_down() {
    let (host, system, handle) = attached();
    let (record, instance) = recorded(&host, 1);
    host.announce(instance.id()).unwrap();
    system.told();
    drop(host);
    assert_eq!(system.told(), [Told::Detached], "and of no device");
    assert_eq!(record.count(Call::Teardown), 1);
    assert!(matches!(handle.start(id(1)), Err(HostError::Closed)));
    assert!(!handle.inside_call());
}

//! Programs and systems that do things to one device at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

use hdv::{DeviceState, HostError};

use crate::support::*;
use crate::system::{Told, attached, create, handed, hook, id, place, recorded, socket};

const ROUNDS: usize = 200;

#[test]
fn a_device_that_both_remove_is_torn_down_once() {
    let directory = tempfile::tempdir().unwrap();
    let (host, _system, handle) = attached();
    for round in 0..ROUNDS {
        let device = Recorder::default();
        let record = device.record.clone();
        let instance = create(&host, 1, device);
        host.announce(instance.id()).unwrap();
        if round % 2 == 0 {
            let path = directory.path().join("device.sock");
            handle.power_on(id(1), &socket(path, &[])).unwrap();
        }
        let barrier = Barrier::new(2);
        let removed = std::thread::scope(|scope| {
            let ours = scope.spawn(|| {
                barrier.wait();
                host.remove(instance.id())
            });
            barrier.wait();
            let theirs = handle.remove(id(1));
            [ours.join().unwrap(), theirs]
        });
        assert!(removed.iter().any(Result::is_ok), "{removed:?}");
        assert_eq!(record.count(Call::Teardown), 1, "{removed:?}");
        assert_eq!(instance.state(), DeviceState::Gone);
        assert!(host.device_ids().is_empty());
    }
}

#[test]
fn a_device_that_goes_while_it_is_powered_on_does_not_stay() {
    let (host, _system, handle) = attached();
    for _ in 0..ROUNDS {
        let device = Recorder::default();
        let record = device.record.clone();
        let instance = create(&host, 1, device);
        host.announce(instance.id()).unwrap();
        let barrier = Barrier::new(2);
        let powered_on = std::thread::scope(|scope| {
            let powered_on = scope.spawn(|| {
                barrier.wait();
                handle.power_on(id(1), &handed())
            });
            barrier.wait();
            host.remove(instance.id()).unwrap();
            powered_on.join().unwrap()
        });
        if let Err(error) = powered_on {
            assert!(matches!(error, HostError::NoSuchInstance(_)), "{error}");
        }
        assert_eq!(record.count(Call::Teardown), 1);
        assert_eq!(record.calls().last(), Some(&Call::Drop));
        assert!(host.device_ids().is_empty());
    }
}

#[test]
fn one_that_its_program_removes_while_the_system_hears_of_it_is_withdrawn_afterwards() {
    let (host, system, _handle) = attached();
    let host = Arc::new(host);
    let instance = create(&host, 1, Recorder::default());
    let (remover, device) = (Arc::downgrade(&host), instance.id());
    *lock(&system.on_announced) = hook(move |_, _| {
        remover.upgrade().unwrap().remove(device).unwrap();
    });
    assert!(matches!(
        host.announce(instance.id()),
        Err(HostError::NoSuchDevice(_))
    ));
    assert_eq!(system.told(), [Told::Announced(1), Told::Withdrawn(1)]);
    assert_eq!(instance.state(), DeviceState::Gone);
}

#[test]
fn one_that_the_system_powers_on_while_it_hears_of_it_is_served() {
    let (host, system, handle) = attached();
    let (record, instance) = recorded(&host, 1);
    *lock(&system.on_announced) = hook(|handle, id| handle.power_on(id, &handed()).unwrap());
    host.announce(instance.id()).unwrap();
    assert_eq!(record.count(Call::Initialize), 1);
    assert_eq!(handle.state(id(1)).unwrap(), DeviceState::Stopped);
    // And one that the system removes is gone, and not withdrawn.
    let other = create(&host, 2, Recorder::default());
    *lock(&system.on_announced) = hook(|handle, id| handle.remove(id).unwrap());
    system.told();
    assert!(matches!(
        host.announce(other.id()),
        Err(HostError::NoSuchDevice(_))
    ));
    assert_eq!(system.told(), [Told::Announced(2)]);
}

#[test]
fn pauses_resumes_clients_and_a_close_get_along() {
    let (_directory, path) = place();
    let (host, _system, handle) = attached();
    let (record, instance) = recorded(&host, 1);
    host.announce(instance.id()).unwrap();
    handle.power_on(id(1), &socket(path.clone(), &[])).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    let done = handle.stop(id(1)).and_then(|()| handle.start(id(1)));
                    assert!(matches!(done, Ok(()) | Err(HostError::Closed)), "{done:?}");
                }
            });
        }
        for _ in 0..50 {
            let mut client = connect(&path);
            for _ in 0..20 {
                read32(&mut client, BAR0, 0x10);
            }
        }
        host.close().unwrap();
        over.store(true, Ordering::SeqCst);
    });
    // Start and Stop have alternated.
    let mut started = false;
    for call in record.life() {
        match call {
            Call::Start => assert!(!std::mem::replace(&mut started, true)),
            Call::Stop => assert!(std::mem::replace(&mut started, false)),
            Call::Teardown => assert!(!started),
            _ => {}
        }
    }
    assert_eq!(record.count(Call::Teardown), 1);
}

//! Devices that come to and go from the slots of a domain, on the test bench.

mod support;

use std::time::Duration;

use hdv::TestBench;
use hdv::domain::DomainError;
use hdv::pci::capability::Slot;
use support::domain::*;
use support::{Call, Kind, PATIENCE};

#[test]
fn what_is_put_in_while_software_runs_is_told_by_the_port() {
    let (domain, endpoint) = domain();
    let port = domain.add_root_port(1, 0, Some(Slot::hot_plug(1))).unwrap();
    let mut bench = TestBench::new(endpoint).unwrap();
    bench.enable_interrupts().unwrap();
    found(&mut bench);
    let slot = listen_to(&mut bench, id(0, 1, 0), 3);
    assert_eq!(bench.take_interrupts(3), 0);
    attach(&domain, port, 0, Kind::MsiX);
    assert!(bench.wait_interrupt(3, PATIENCE) >= 1);
    let status: u16 = bench.read(CONFIG, slot + 2);
    assert_eq!(status & 0x48, 0x48, "a device is there, which is new");
}

#[test]
fn what_comes_during_a_pause_is_an_event_and_changes_no_register_of_its_port() {
    let (domain, endpoint) = domain();
    let port = domain.add_root_port(1, 0, Some(Slot::hot_plug(1))).unwrap();
    attach(&domain, port, 0, Kind::MsiX);
    let mut bench = TestBench::new(endpoint).unwrap();
    let enumeration = found(&mut bench);
    let base = bar0(&enumeration, id(1, 0, 0));
    bench.write(MEMORY, base, 7_u32);
    bench.stop();
    let late = attach(&domain, port, 1, Kind::MsiX);
    assert_eq!(late.count(Call::Start), 0);
    bench.start().unwrap();
    assert_eq!(late.count(Call::Start), 1);
    assert_eq!(bench.read::<u32>(MEMORY, base), 7);
    assert_ne!(bench.read::<u32>(CONFIG, offset(id(1, 0, 1), 0)), u32::MAX);
}

#[test]
fn what_is_pulled_out_is_torn_down_and_its_port_says_so() {
    let (domain, endpoint) = domain();
    let port = domain.add_root_port(1, 0, Some(Slot::hot_plug(1))).unwrap();
    let records = [0, 1].map(|function| attach(&domain, port, function, Kind::MsiX));
    let mut bench = TestBench::new(endpoint).unwrap();
    bench.enable_interrupts().unwrap();
    let enumeration = found(&mut bench);
    let base = bar0(&enumeration, id(1, 0, 0));
    let slot = listen_to(&mut bench, id(0, 1, 0), 3);
    domain.pull(port).unwrap();
    for record in records {
        assert_eq!(record.count(Call::Teardown), 1);
    }
    assert!(bench.wait_interrupt(3, PATIENCE) >= 1);
    let status: u16 = bench.read(CONFIG, slot + 2);
    assert_eq!(
        status & 0x148,
        0x108,
        "nothing is there, and the link went down"
    );
    assert_eq!(bench.read::<u32>(CONFIG, offset(id(1, 0, 0), 0)), u32::MAX);
    assert_eq!(bench.read::<u32>(MEMORY, base), u32::MAX);
    assert_eq!(domain.walk().len(), 1);
    // Empty already.
    domain.pull(port).unwrap();
    // Another one comes to the same place.
    bench.write(CONFIG, slot + 2, 0x0109_u16);
    attach(&domain, port, 0, Kind::MsiX);
    assert_ne!(bench.read::<u32>(CONFIG, offset(id(1, 0, 0), 0)), u32::MAX);
}

#[test]
fn what_is_unplugged_waits_for_software_to_turn_its_slot_off() {
    let (domain, endpoint) = domain();
    let port = domain
        .add_root_port(1, 0, Some(Slot::hot_plug(1).attention_button()))
        .unwrap();
    let record = attach(&domain, port, 0, Kind::MsiX);
    let mut bench = TestBench::new(endpoint).unwrap();
    bench.enable_interrupts().unwrap();
    found(&mut bench);
    let slot = listen_to(&mut bench, id(0, 1, 0), 3);
    assert!(!domain.unplug(port, Duration::ZERO).unwrap());
    assert_eq!(record.count(Call::Teardown), 0);
    assert_eq!(bench.wait_interrupt(3, PATIENCE), 1);
    bench.write(CONFIG, slot + 2, 1_u16);
    std::thread::scope(|scope| {
        let unplug = scope.spawn(|| domain.unplug(port, PATIENCE).unwrap());
        assert_eq!(bench.wait_interrupt(3, PATIENCE), 1);
        let status: u16 = bench.read(CONFIG, slot + 2);
        assert_eq!(status & 1, 1, "the button was pressed");
        // Power Controller Control: off.
        bench.write(CONFIG, slot, 0x1429_u16);
        assert!(unplug.join().unwrap());
    });
    assert_eq!(record.count(Call::Teardown), 1);
    assert!(!domain.slot(port).unwrap().expect("a slot").powered);
}

#[test]
fn who_waits_for_software_is_woken_by_the_end_of_the_domain() {
    let (domain, endpoint) = domain();
    let port = domain
        .add_root_port(1, 0, Some(Slot::hot_plug(1).attention_button()))
        .unwrap();
    attach(&domain, port, 0, Kind::MsiX);
    let bench = TestBench::new(endpoint).unwrap();
    std::thread::scope(|scope| {
        let unplug = scope.spawn(|| domain.unplug(port, Duration::MAX));
        drop(bench);
        let ended = unplug.join().unwrap();
        assert!(matches!(ended, Err(DomainError::Closed)), "{ended:?}");
    });
}

//! What software is asked to let go of, and who else may be at the same slot meanwhile, on the test bench.

mod support;

use std::time::Duration;

use hdv::TestBench;
use hdv::domain::{Domain, DomainEndpoint, DomainError};
use hdv::pci::capability::Slot;
use hdv::pci::topology::PortId;
use support::domain::*;
use support::{Call, Kind, PATIENCE};

/// Slot control with what a driver sets, and the power off.
const POWER_OFF: u16 = 0x1429;

fn with_button() -> (Domain, DomainEndpoint, PortId) {
    let (domain, endpoint) = domain();
    let slot = Slot::hot_plug(1).attention_button();
    let port = domain.add_root_port(1, 0, Some(slot)).unwrap();
    (domain, endpoint, port)
}

#[test]
fn nobody_is_asked_for_what_cannot_be_unplugged() {
    let (domain, endpoint, empty) = with_button();
    let buttonless = domain.add_root_port(2, 0, Some(Slot::hot_plug(2))).unwrap();
    let fixed = domain.add_root_port(3, 0, None).unwrap();
    let records = [buttonless, fixed].map(|port| attach(&domain, port, 0, Kind::MsiX));
    let _bench = TestBench::new(endpoint).unwrap();
    for (port, reason) in [
        (empty, "01.0: nothing is in its slot"),
        (buttonless, "02.0: its slot has no attention button"),
        (fixed, "03.0: there is no slot"),
    ] {
        let error = domain.unplug(port, PATIENCE).unwrap_err();
        assert!(matches!(error, DomainError::Slot { .. }), "{error:?}");
        assert!(error.to_string().starts_with(reason), "{error}");
    }
    for record in records {
        assert_eq!(record.count(Call::Teardown), 0);
    }
}

#[test]
fn what_came_into_the_slot_meanwhile_stays() {
    let (domain, endpoint, port) = with_button();
    let first = attach(&domain, port, 0, Kind::MsiX);
    let mut bench = TestBench::new(endpoint).unwrap();
    bench.enable_interrupts().unwrap();
    found(&mut bench);
    let slot = listen_to(&mut bench, id(0, 1, 0), 3);
    std::thread::scope(|scope| {
        let unplug = scope.spawn(|| domain.unplug(port, Duration::MAX));
        assert_eq!(bench.wait_interrupt(3, PATIENCE), 1);
        // Somebody has no patience, and puts another one in.
        domain.pull(port).unwrap();
        let second = attach(&domain, port, 0, Kind::MsiX);
        // It is out: nobody has to turn anything off for that.
        assert!(unplug.join().unwrap().unwrap());
        bench.write(CONFIG, slot, POWER_OFF);
        assert_eq!(
            (first.count(Call::Teardown), second.count(Call::Teardown)),
            (1, 0)
        );
    });
}

#[test]
fn what_goes_with_the_switch_above_is_out() {
    let (domain, endpoint) = domain();
    let port = domain.add_root_port(1, 0, Some(Slot::hot_plug(1))).unwrap();
    let slots = [Some(Slot::hot_plug(2).attention_button())];
    let below = domain.add_switch(port, &slots).unwrap();
    let record = attach(&domain, below[0], 0, Kind::MsiX);
    let mut bench = TestBench::new(endpoint).unwrap();
    bench.enable_interrupts().unwrap();
    found(&mut bench);
    listen_to(&mut bench, id(2, 0, 0), 3);
    std::thread::scope(|scope| {
        let unplug = scope.spawn(|| domain.unplug(below[0], Duration::MAX));
        assert_eq!(bench.wait_interrupt(3, PATIENCE), 1);
        domain.pull(port).unwrap();
        assert!(unplug.join().unwrap().unwrap());
    });
    assert_eq!(record.count(Call::Teardown), 1);
}

#[test]
fn software_that_was_reset_lets_go_of_nothing() {
    let (domain, endpoint, port) = with_button();
    let record = attach(&domain, port, 0, Kind::MsiX);
    let mut bench = TestBench::new(endpoint).unwrap();
    bench.enable_interrupts().unwrap();
    found(&mut bench);
    listen_to(&mut bench, id(0, 1, 0), 3);
    std::thread::scope(|scope| {
        let unplug = scope.spawn(|| domain.unplug(port, Duration::MAX));
        assert_eq!(bench.wait_interrupt(3, PATIENCE), 1);
        bench.reset();
        assert!(!unplug.join().unwrap().unwrap());
    });
    assert_eq!(record.count(Call::Teardown), 0);
}

#[test]
fn who_unplugs_what_is_being_unplugged_presses_no_button() {
    let (domain, endpoint, port) = with_button();
    let record = attach(&domain, port, 0, Kind::MsiX);
    let mut bench = TestBench::new(endpoint).unwrap();
    bench.enable_interrupts().unwrap();
    found(&mut bench);
    let slot = listen_to(&mut bench, id(0, 1, 0), 3);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| domain.unplug(port, PATIENCE).unwrap());
        assert_eq!(bench.wait_interrupt(3, PATIENCE), 1);
        bench.write(CONFIG, slot + 2, 1_u16);
        for _ in 0..2 {
            assert!(!domain.unplug(port, Duration::ZERO).unwrap());
            assert_eq!(bench.take_interrupts(3), 0);
            assert_eq!(bench.read::<u16>(CONFIG, slot + 2) & 1, 0);
        }
        bench.write(CONFIG, slot, POWER_OFF);
        assert!(first.join().unwrap());
    });
    assert_eq!(record.count(Call::Teardown), 1);
    // What comes next is asked for anew, also after a reset.
    attach(&domain, port, 0, Kind::MsiX);
    bench.reset();
    let slot = listen_to(&mut bench, id(0, 1, 0), 3);
    bench.write(CONFIG, slot + 2, 0x0119_u16);
    assert!(!domain.unplug(port, Duration::ZERO).unwrap());
    assert_eq!(bench.read::<u16>(CONFIG, slot + 2) & 1, 1);
}

#[test]
fn a_device_of_several_functions_is_told_of_when_it_is_whole() {
    let (domain, endpoint) = domain();
    let port = domain.add_root_port(1, 0, Some(Slot::hot_plug(1))).unwrap();
    let mut bench = TestBench::new(endpoint).unwrap();
    bench.enable_interrupts().unwrap();
    found(&mut bench);
    let slot = listen_to(&mut bench, id(0, 1, 0), 3);
    domain
        .fill(port, || {
            attach(&domain, port, 0, Kind::MsiX);
            assert_eq!(bench.take_interrupts(3), 0);
            assert_eq!(bench.read::<u16>(CONFIG, slot + 2) & 0x48, 0);
            assert_eq!(bench.read::<u32>(CONFIG, offset(id(1, 0, 0), 0)), u32::MAX);
            let twice = domain.fill(port, || ()).unwrap_err();
            assert!(matches!(twice, DomainError::Slot { .. }), "{twice:?}");
            attach(&domain, port, 1, Kind::MsiX);
        })
        .unwrap();
    assert_eq!(bench.wait_interrupt(3, PATIENCE), 1);
    assert_eq!(bench.read::<u16>(CONFIG, slot + 2) & 0x48, 0x48);
    assert_eq!(found(&mut bench).functions.len(), 3);
    // Nothing came: nothing is told.
    let other = domain.add_root_port(2, 0, Some(Slot::hot_plug(2))).unwrap();
    domain.fill(other, || ()).unwrap();
    let present = domain.slot(other).unwrap().expect("a slot").present;
    assert!(!present);
}

#[test]
fn what_hangs_and_was_pulled_holds_up_nobody_else() {
    let (domain, endpoint) = domain();
    let port = domain.add_root_port(1, 0, Some(Slot::hot_plug(1))).unwrap();
    let beside = domain.add_root_port(2, 0, None).unwrap();
    let hanging = attach(&domain, port, 0, Kind::MsiX);
    let other = attach(&domain, beside, 0, Kind::MsiX);
    let mut bench = TestBench::new(endpoint).unwrap();
    found(&mut bench);
    hanging.close();
    std::thread::scope(|scope| {
        let pull = scope.spawn(|| domain.pull(port).unwrap());
        support::wait_for("its end", || hanging.count(Call::Teardown) == 1);
        bench.reset();
        assert_eq!(other.count(Call::Reset), 1);
        hanging.open();
        pull.join().unwrap();
    });
}

#[test]
fn ids_are_unique_in_the_process() {
    let (domain, _endpoint) = domain();
    let port = domain.add_root_port(1, 0, None).unwrap();
    let device = support::Recorder::new(Kind::MsiX);
    let content = hdv::pci_function(Box::new(device)).unwrap();
    let position = hdv::domain::Position::below(port);
    let inside = domain.attach(position, "inside", content, &[]).unwrap();
    let served = support::serve(support::Recorder::default());
    assert_ne!(inside.instance().id(), served.id);
}

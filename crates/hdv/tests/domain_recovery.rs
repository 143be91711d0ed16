//! What goes wrong in a domain while its devices and its software are busy: nothing hangs, nothing is left, and what comes back
//! is as after a reset.

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hdv::domain::{Domain, Injection, Position};
use hdv::pci::DetectedError;
use hdv::pci::capability::Slot;
use hdv::pci::spec::aer::{CorrectableError, UncorrectableError};
use hdv::pci::topology::{Member, PortId};
use hdv::{Delivery, DeviceContext, GuestAddress, MemoryError, TestBench, pci_function};
use support::domain::*;
use support::{Call, Kind, MSIX_TABLE, Record, Recorder};

const AT: GuestAddress = GuestAddress(0x10_0000);
const ROUNDS: usize = 200;

struct Guest {
    domain: Domain,
    bench: TestBench,
    port: PortId,
    function: Member,
    record: Record,
    base: u64,
}

fn attach_reporting(domain: &Domain, port: PortId) -> (Member, Record) {
    let device = Recorder::with(|device| device.reports_errors = true);
    let record = device.record.clone();
    let content = pci_function(Box::new(device)).unwrap();
    let attached = domain.attach(Position::below(port), "busy", content, &[]);
    (Member::Function(attached.unwrap().id()), record)
}

impl Guest {
    fn new() -> Self {
        let (domain, endpoint) = domain();
        let port = domain.add_root_port(1, 0, Some(Slot::hot_plug(1))).unwrap();
        let (function, record) = attach_reporting(&domain, port);
        let mut bench = TestBench::new(endpoint).unwrap();
        bench.add_memory(AT, 0x1000).unwrap();
        bench.enable_interrupts().unwrap();
        let enumeration = found(&mut bench);
        listen_to(&mut bench, id(0, 1, 0), 3);
        let base = bar0(&enumeration, id(1, 0, 0));
        let mut guest = Self {
            domain,
            bench,
            port,
            function,
            record,
            base,
        };
        guest.set_up();
        guest
    }

    /// As a driver does after each reset.
    fn set_up(&mut self) {
        let function = id(1, 0, 0);
        let address = u32::try_from(self.base + hdv::domain::MEMORY_BASE).unwrap();
        self.bench.write(CONFIG, offset(function, 0x10), address);
        self.bench.write(CONFIG, offset(function, 0x14), 0_u32);
        self.bench.write(CONFIG, offset(function, 4), 6_u16);
        let entry = self.base + MSIX_TABLE;
        self.bench.write(MEMORY, entry, 0xfee0_5000_u32);
        self.bench.write(MEMORY, entry + 12, 0_u32);
        let msix = capability(&self.bench, function, 0x11);
        self.bench.write(CONFIG, msix + 2, 0x8000_u16);
    }
}

/// A device that copies and signals without a pause until it is told to stop.
fn work(context: &DeviceContext, stop: &AtomicBool, rounds: &AtomicU64) {
    let mut value = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let _ = context.memory.write_obj(AT, value);
        let _ = context.memory.read_obj::<u64>(AT);
        let _ = context.interrupts.signal(0);
        value += 1;
        rounds.store(value, Ordering::Relaxed);
    }
}

/// Runs `test` while a thread of the device's works; gives it how many rounds that has done.
fn while_busy<R>(record: &Record, test: impl FnOnce(&AtomicU64) -> R) -> R {
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    let context = record.context();
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| work(&context, &stop, &rounds));
        support::wait_for("work", || rounds.load(Ordering::Relaxed) > 10);
        test(&rounds)
    })
}

#[test]
fn a_device_that_is_pulled_out_at_work_reaches_nobody_any_more() {
    let mut guest = Guest::new();
    let record = guest.record.clone();
    let context = record.context();
    while_busy(&record, |rounds| {
        assert!(guest.bench.wait_interrupt(5, support::PATIENCE) >= 1);
        guest.domain.pull(guest.port).unwrap();
        // The device's thread goes on, and its memory and interrupts are gone.
        assert_eq!(record.count(Call::Teardown), 1);
        let before = rounds.load(Ordering::Relaxed);
        support::wait_for("more work", || rounds.load(Ordering::Relaxed) > before + 2);
        let _ = guest.bench.take_interrupts(5);
        guest.bench.memory().write_obj(AT, u64::MAX).unwrap();
        let before = rounds.load(Ordering::Relaxed);
        support::wait_for("more work", || rounds.load(Ordering::Relaxed) > before + 2);
        assert_eq!(guest.bench.take_interrupts(5), 0);
        let kept: u64 = guest.bench.memory().read_obj(AT).unwrap();
        assert_eq!(kept, u64::MAX);
    });
    assert_eq!(context.interrupts.signal(0), Delivery::Disabled);
    assert!(context.memory.read_obj::<u64>(AT).is_err());
}

#[test]
fn devices_that_are_pulled_out_at_work_make_room_for_others() {
    let mut guest = Guest::new();
    for _ in 0..20 {
        let record = guest.record.clone();
        while_busy(&record, |_| guest.domain.pull(guest.port).unwrap());
        (guest.function, guest.record) = attach_reporting(&guest.domain, guest.port);
        guest.set_up();
    }
    assert_eq!(guest.domain.tree().len(), 2);
    assert_eq!(
        guest.record.context().interrupts.signal(0),
        Delivery::Signalled
    );
}

#[test]
fn links_resets_and_errors_meet_a_busy_device_and_busy_software() {
    let mut guest = Guest::new();
    let (domain, port, function) = (guest.domain.clone(), guest.port, guest.function);
    let record = guest.record.clone();
    let errors = [
        DetectedError::Correctable(CorrectableError::BAD_TLP),
        DetectedError::Uncorrectable(UncorrectableError::MALFORMED_TLP),
    ];
    while_busy(&record, |_| {
        std::thread::scope(|scope| {
            let injecting = scope.spawn(|| {
                for round in 0..ROUNDS {
                    let error = Injection::Error(errors[round % errors.len()]);
                    domain.inject(function, error).unwrap();
                    domain.inject(Member::Port(port), error).unwrap();
                }
            });
            let linking = scope.spawn(|| {
                for _ in 0..ROUNDS {
                    domain
                        .inject(Member::Port(port), Injection::LinkDown)
                        .unwrap();
                    domain
                        .inject(Member::Port(port), Injection::LinkUp)
                        .unwrap();
                }
            });
            let bridge_control = offset(id(0, 1, 0), 0x3e);
            while !(injecting.is_finished() && linking.is_finished()) {
                guest.bench.write(CONFIG, bridge_control, 0x42_u16);
                guest.bench.write(CONFIG, bridge_control, 0x02_u16);
                guest.set_up_or_not();
            }
        });
    });
    // All of it is over: the function is there and works.
    guest
        .bench
        .write(CONFIG, offset(id(0, 1, 0), 0x3e), 0x42_u16);
    guest
        .bench
        .write(CONFIG, offset(id(0, 1, 0), 0x3e), 0x02_u16);
    assert_eq!(
        guest.bench.read::<u32>(CONFIG, offset(id(1, 0, 0), 0)),
        0x7ffe_4f48
    );
    assert_eq!(guest.bench.read::<u16>(CONFIG, offset(id(1, 0, 0), 4)), 0);
    guest.set_up();
    let _ = guest.bench.take_interrupts(5);
    assert_eq!(record.context().interrupts.signal(0), Delivery::Signalled);
    assert_eq!(guest.bench.take_interrupts(5), 1);
    assert_eq!(record.count(Call::Teardown), 0);
}

impl Guest {
    /// Software that does not know whether anybody is there.
    fn set_up_or_not(&mut self) {
        let function = id(1, 0, 0);
        self.bench.write(CONFIG, offset(function, 4), 6_u16);
        let _: u32 = self.bench.read(CONFIG, offset(function, 0));
        let _: u32 = self.bench.read(MEMORY, self.base);
    }
}

#[test]
fn software_may_use_a_function_at_once_when_its_link_is_up_again() {
    let mut guest = Guest::new();
    let (domain, port) = (guest.domain.clone(), guest.port);
    for _ in 0..ROUNDS {
        domain
            .inject(Member::Port(port), Injection::LinkDown)
            .unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                domain
                    .inject(Member::Port(port), Injection::LinkUp)
                    .unwrap();
            });
            let ids = offset(id(1, 0, 0), 0);
            while guest.bench.read::<u32>(CONFIG, ids) == u32::MAX {
                std::hint::spin_loop();
            }
            guest.bench.write(CONFIG, ids + 0x3c, 7_u8);
        });
        // No reset of before has taken it back.
        let kept: u8 = guest.bench.read(CONFIG, offset(id(1, 0, 0), 0x3c));
        assert_eq!(kept, 7);
    }
}

#[test]
fn all_that_is_pulled_out_is_cut_off_whichever_hangs_at_its_end() {
    let (domain, endpoint) = domain();
    let port = domain.add_root_port(1, 0, Some(Slot::hot_plug(1))).unwrap();
    let [hanging, other] = [0, 1].map(|function| attach(&domain, port, function, Kind::MsiX));
    let mut bench = TestBench::new(endpoint).unwrap();
    bench.add_memory(AT, 0x1000).unwrap();
    found(&mut bench);
    let memory = other.context().memory;
    memory.write_obj(AT, 1_u8).unwrap();
    hanging.close();
    let (refused, ended) = std::thread::scope(|scope| {
        let pull = scope.spawn(|| domain.pull(port).unwrap());
        let begin = std::time::Instant::now();
        let refused = loop {
            match memory.write_obj(AT, 1_u8) {
                Err(error) => break Some(error),
                Ok(()) if begin.elapsed() > support::PATIENCE => break None,
                Ok(()) => std::thread::yield_now(),
            }
        };
        let ended = other.count(Call::Teardown);
        hanging.open();
        pull.join().unwrap();
        (refused, ended)
    });
    assert_eq!((refused, ended), (Some(MemoryError::NotBusMaster), 0));
    assert_eq!(other.count(Call::Teardown), 1);
}

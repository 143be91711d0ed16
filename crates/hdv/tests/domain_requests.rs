//! Functions of a domain send messages and reach guest memory only while Bus Master Enable says so, theirs and that of every port
//! above.

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hdv::domain::{Domain, Injection, MEMORY_BASE};
use hdv::pci::RoutingId;
use hdv::pci::capability::Slot;
use hdv::pci::topology::{Member, PortId};
use hdv::{Delivery, DeviceContext, GuestAddress, MemoryError, TestBench};
use support::domain::*;
use support::{Kind, MSIX_PENDING, MSIX_TABLE};
use vm_memory::Bytes;

const AT: GuestAddress = GuestAddress(0x10_0000);
const VECTOR: u16 = 5;

struct Guest {
    domain: Domain,
    bench: TestBench,
    port: PortId,
    context: DeviceContext,
    base: u64,
    function: RoutingId,
}

impl Guest {
    /// A function behind a switch whose vector 0 is enabled.
    fn new(kind: Kind) -> Self {
        let (domain, endpoint) = domain();
        let root = domain.add_root_port(1, 0, None).unwrap();
        let port = domain.add_switch(root, &[Some(Slot::hot_plug(1))]).unwrap()[0];
        let context = attach(&domain, port, 0, kind).context();
        let mut bench = TestBench::new(endpoint).unwrap();
        bench.add_memory(AT, 0x2000).unwrap();
        bench.enable_interrupts().unwrap();
        let enumeration = found(&mut bench);
        let function = id(3, 0, 0);
        let base = bar0(&enumeration, function);
        let mut guest = Self {
            domain,
            bench,
            port,
            context,
            base,
            function,
        };
        guest.listen(kind);
        guest
    }

    fn listen(&mut self, kind: Kind) {
        let address = 0xfee0_0000 | u32::from(VECTOR) << 12;
        match kind {
            Kind::MsiX => {
                let entry = self.base + MSIX_TABLE;
                self.bench.write(MEMORY, entry, address);
                self.bench.write(MEMORY, entry + 12, 0_u32);
                let msix = capability(&self.bench, self.function, 0x11);
                self.bench.write(CONFIG, msix + 2, 0x8000_u16);
            }
            Kind::Msi => {
                let msi = capability(&self.bench, self.function, 0x05);
                self.bench.write(CONFIG, msi + 4, address);
                self.bench.write(CONFIG, msi + 2, 1_u16);
            }
        }
    }

    fn command(&mut self, of: RoutingId, command: u16) {
        self.bench.write(CONFIG, offset(of, 4), command);
    }

    fn passes(&self) -> bool {
        let memory = self.context.memory.write_obj(AT, 1_u64);
        let delivery = self.context.interrupts.signal(0);
        match memory {
            Ok(()) => assert_eq!(delivery, Delivery::Signalled),
            Err(error) => {
                assert_eq!(error, MemoryError::NotBusMaster);
                assert_eq!(delivery, Delivery::Pending);
            }
        }
        memory.is_ok()
    }
}

#[test]
fn a_function_reaches_nobody_until_all_on_the_way_are_bus_masters() {
    for kind in [Kind::MsiX, Kind::Msi] {
        let mut guest = Guest::new(kind);
        let function = guest.function;
        assert!(guest.passes());
        assert_eq!(guest.bench.take_interrupts(VECTOR), 1);
        for of in [function, id(0, 1, 0), id(1, 0, 0), id(2, 0, 0)] {
            // Memory Space alone.
            guest.command(of, 2);
            assert!(!guest.passes(), "{of}");
            assert!(!guest.passes(), "{of}");
            assert_eq!(guest.bench.take_interrupts(VECTOR), 0, "{of}");
            guest.command(of, 6);
            assert_eq!(guest.bench.take_interrupts(VECTOR), 1, "{of}: was pending");
            assert!(guest.passes(), "{of}");
            assert_eq!(guest.bench.take_interrupts(VECTOR), 1, "{of}");
        }
    }
}

#[test]
fn what_is_pending_shows_and_is_kept_over_the_enabling_of_interrupts() {
    let mut guest = Guest::new(Kind::MsiX);
    guest.command(guest.function, 2);
    let msix = capability(&guest.bench, guest.function, 0x11);
    guest.bench.write(CONFIG, msix + 2, 0_u16);
    assert_eq!(guest.context.interrupts.signal(0), Delivery::Disabled);
    guest.bench.write(CONFIG, msix + 2, 0x8000_u16);
    assert_eq!(guest.context.interrupts.signal(0), Delivery::Pending);
    let pending = guest.base + MSIX_PENDING;
    assert_eq!(guest.bench.read::<u8>(MEMORY, pending), 1);
    guest.command(guest.function, 6);
    assert_eq!(guest.bench.take_interrupts(VECTOR), 1);
    assert_eq!(guest.bench.read::<u8>(MEMORY, pending), 0);
}

#[test]
fn resets_and_links_take_the_way_up_away() {
    let mut guest = Guest::new(Kind::MsiX);
    let link = Member::Port(guest.port);
    guest.domain.inject(link, Injection::LinkDown).unwrap();
    let reached = guest.context.memory.write_obj(AT, 1_u64);
    assert_eq!(reached, Err(MemoryError::NotBusMaster));
    assert_eq!(guest.context.interrupts.signal(0), Delivery::Disabled);
    guest.domain.inject(link, Injection::LinkUp).unwrap();
    let reached = guest.context.memory.write_obj(AT, 1_u64);
    assert_eq!(reached, Err(MemoryError::NotBusMaster), "as after a reset");
    let address = u32::try_from(guest.base + MEMORY_BASE).unwrap();
    guest
        .bench
        .write(CONFIG, offset(guest.function, 0x10), address);
    guest.command(guest.function, 6);
    guest.listen(Kind::MsiX);
    assert!(guest.passes());
    // From D3hot too.
    guest.bench.reset();
    let reached = guest.context.memory.write_obj(AT, 1_u64);
    assert_eq!(reached, Err(MemoryError::NotBusMaster));
}

#[test]
fn apertures_show_guest_memory_while_it_may_be_reached() {
    let mut guest = Guest::new(Kind::MsiX);
    guest.bench.memory().write_obj(AT, 77_u8).unwrap();
    let aperture = guest.context.memory.aperture(AT, 0x1000, false).unwrap();
    let shown = || aperture.as_volatile_slice().read_obj::<u8>(0).unwrap();
    assert_eq!(shown(), 77);
    guest.command(guest.function, 2);
    assert_eq!(shown(), 0);
    aperture.as_volatile_slice().write_obj(1_u8, 0).unwrap();
    assert_eq!(guest.bench.memory().read_obj::<u8>(AT).unwrap(), 77);
    let refused = guest.context.memory.aperture(AT, 0x1000, false);
    assert_eq!(refused.unwrap_err(), MemoryError::NotBusMaster);
    guest.command(guest.function, 6);
    assert_eq!(shown(), 77);
    aperture.as_volatile_slice().write_obj(78_u8, 0).unwrap();
    assert_eq!(guest.bench.memory().read_obj::<u8>(AT).unwrap(), 78);
}

#[test]
fn nothing_is_written_any_more_once_bus_mastering_is_off() {
    let mut guest = Guest::new(Kind::MsiX);
    let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    let context = guest.context.clone();
    std::thread::scope(|scope| {
        let device = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = context.memory.write(AT, &[0x55; 0x1000]);
                let _ = context.interrupts.signal(0);
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        for _ in 0..200 {
            guest.command(guest.function, 2);
            let _ = guest.bench.take_interrupts(VECTOR);
            guest.bench.memory().write(AT, &[0xaa; 0x1000]).unwrap();
            let before = rounds.load(Ordering::Relaxed);
            support::wait_for("work", || rounds.load(Ordering::Relaxed) > before + 2);
            let mut kept = [0; 0x1000];
            guest.bench.memory().read(AT, &mut kept).unwrap();
            let untouched = kept.iter().all(|byte| *byte == 0xaa);
            let interrupts = guest.bench.take_interrupts(VECTOR);
            guest.command(guest.function, 6);
            if !untouched || interrupts != 0 {
                stop.store(true, Ordering::Relaxed);
                panic!("{interrupts} interrupts, memory untouched: {untouched}");
            }
        }
        stop.store(true, Ordering::Relaxed);
        device.join().unwrap();
    });
    assert!(guest.passes());
}

#[test]
fn ports_are_bus_masters_for_messages_of_their_own() {
    let (domain, endpoint) = domain();
    let port = domain.add_root_port(1, 0, Some(Slot::hot_plug(1))).unwrap();
    let mut bench = TestBench::new(endpoint).unwrap();
    bench.enable_interrupts().unwrap();
    found(&mut bench);
    listen_to(&mut bench, id(0, 1, 0), 3);
    bench.write(CONFIG, offset(id(0, 1, 0), 4), 2_u16);
    attach(&domain, port, 0, Kind::MsiX);
    assert_eq!(bench.take_interrupts(3), 0);
    bench.write(CONFIG, offset(id(0, 1, 0), 4), 6_u16);
    assert_eq!(bench.take_interrupts(3), 1);
}

//! A PF inside a domain, controlled by its guest: VFs come and go on the bus, and are reached by their routing ids and
//! addresses.

mod support;

use std::sync::{Arc, Mutex, mpsc};

use hdv::domain::{BenchBus, Domain, DomainOptions, NodeKind, PREFETCHABLE_BASE, Position};
use hdv::pci::capability::Slot;
use hdv::pci::enumerate::{Enumeration, FoundFunction, disable_vfs, enable_vfs, enumerate};
use hdv::pci::topology::PortId;
use hdv::pci::{Port, RoutingId};
use hdv::{BarIndex, Delivery, GuestAddress, MemoryError, TestBench};
use hdv_sriov::{EmulatedPf, EnableVirtualization, PciVirtualization, PfOptions, Placement};
use support::{
    Author, FETCH, Lab, PF_DEVICE, PLAIN, Pf, Reset, SIGNAL, TOTAL, Teardown, VF_BAR, Vf,
};

const CONFIG: BarIndex = BarIndex::BAR0;
const PREFETCHABLE: BarIndex = BarIndex::BAR4;

fn offset(id: RoutingId, register: u16) -> u64 {
    u64::from(id.get()) << 12 | u64::from(register)
}

struct Guest {
    domain: Domain,
    port: PortId,
    bench: TestBench,
    pf: EmulatedPf,
    lab: Lab,
    found: Enumeration,
}

impl Guest {
    fn new() -> Self {
        let (domain, endpoint) = Domain::new(DomainOptions::new()).unwrap();
        let port = domain.add_root_port(1, 0, Some(Slot::hot_plug(1))).unwrap();
        let lab = Lab::default();
        let above = Port::new(1, 1).unwrap().ari_forwarding(true);
        let options = PfOptions {
            guest_controls_sriov: true,
            ..PfOptions::new(Placement::new(0, above, 0, 0).unwrap())
        };
        let author = Box::new(Author::new(&lab));
        let (_, pf) =
            EmulatedPf::inside(&domain, Position::below(port), "pf", author, options).unwrap();
        let mut bench = TestBench::new(endpoint).unwrap();
        let mut bus = BenchBus::new(&mut bench);
        let resources = bus.resources();
        let found = enumerate(&mut bus, &resources).unwrap();
        Self {
            domain,
            port,
            bench,
            pf,
            lab,
            found,
        }
    }

    fn pf(&self) -> &FoundFunction {
        let is_pf = |found: &&FoundFunction| found.device_id == PF_DEVICE;
        self.found.functions.iter().find(is_pf).expect("found")
    }

    fn enable(&mut self, count: u16) -> Vec<RoutingId> {
        let pf = self.pf().clone();
        enable_vfs(&mut BenchBus::new(&mut self.bench), &pf, count)
    }

    fn disable(&mut self) {
        let pf = self.pf().clone();
        disable_vfs(&mut BenchBus::new(&mut self.bench), &pf);
    }

    /// Where in the endpoint's window a capability is.
    fn capability(&self, of: RoutingId, wanted: u8) -> u64 {
        let byte = |at| u16::from(self.bench.read::<u8>(CONFIG, offset(of, at)));
        let mut at = byte(0x34);
        while byte(at) != u16::from(wanted) {
            at = byte(at + 1);
            assert_ne!(at, 0);
        }
        offset(of, at)
    }

    /// Has a VF send its first vector as a vector of the endpoint, and makes it a bus master.
    fn listen_to_vf(&mut self, vf: u16, id: RoutingId, vector: u32) {
        let entry = self.vf_bar(vf) + 0x800;
        self.bench
            .write(PREFETCHABLE, entry, 0xfee0_0000 | vector << 12);
        self.bench.write(PREFETCHABLE, entry + 12, 0_u32);
        let msix = self.capability(id, 0x11);
        self.bench.write(CONFIG, msix + 2, 0x8000_u16);
        self.bench.write(CONFIG, offset(id, 4), 4_u16);
    }

    /// Has the port tell of what is pulled by a vector of the endpoint.
    fn listen_to_slot(&mut self, vector: u32) {
        let port = RoutingId::new(0, 1, 0).expect("there is one");
        let msi = self.capability(port, 0x05);
        self.bench
            .write(CONFIG, msi + 4, 0xfee0_0000 | vector << 12);
        self.bench.write(CONFIG, msi + 2, 1_u16);
        let slot = self.capability(port, 0x10) + 0x18;
        self.bench.write(CONFIG, slot, 0x1029_u16);
    }

    /// Where in the endpoint's window BAR 0 of a VF is.
    fn vf_bar(&self, vf: u16) -> u64 {
        let sriov = self.pf().sriov.as_ref().expect("a PF");
        sriov.bars[0].address + u64::from(vf) * VF_BAR.size - PREFETCHABLE_BASE
    }
}

#[test]
fn vfs_come_and_go_as_the_guest_writes() {
    let mut guest = Guest::new();
    for count in [1, TOTAL, 3] {
        let ids = guest.enable(count);
        assert_eq!(ids.len(), usize::from(count));
        assert_eq!(guest.pf.registers().num_vfs, count);
        for (vf, id) in (0..).zip(&ids) {
            let ids: u32 = guest.bench.read(CONFIG, offset(*id, 0));
            assert_eq!(ids, u32::MAX, "VF {vf}");
            let class: u32 = guest.bench.read(CONFIG, offset(*id, 8));
            assert_eq!(class >> 8, 0x11_8000, "VF {vf} is there");
            let bar = guest.vf_bar(vf);
            guest
                .bench
                .write(PREFETCHABLE, bar + PLAIN, u64::from(vf) + 1);
        }
        for vf in 0..count {
            let bar = guest.vf_bar(vf);
            assert_eq!(
                guest.bench.read::<u64>(PREFETCHABLE, bar + PLAIN),
                u64::from(vf) + 1
            );
        }
        let behind = guest.vf_bar(count);
        assert_eq!(guest.bench.read::<u64>(PREFETCHABLE, behind), u64::MAX);
        guest.lab.take();
        guest.disable();
        for vf in 0..count {
            assert_eq!(guest.lab.count((Vf(vf), Teardown)), 1);
        }
        let class: u32 = guest.bench.read(CONFIG, offset(ids[0], 8));
        assert_eq!(class, u32::MAX, "gone");
        assert_eq!(
            guest.bench.read::<u64>(PREFETCHABLE, guest.vf_bar(0)),
            u64::MAX
        );
    }
}

#[test]
fn vfs_have_the_endpoints_memory_and_vectors() {
    let mut guest = Guest::new();
    guest.bench.enable_interrupts().unwrap();
    let ids = guest.enable(2);
    guest
        .bench
        .add_memory(GuestAddress(0x10_0000), 0x1000)
        .unwrap();
    guest
        .bench
        .memory()
        .write_obj(GuestAddress(0x10_0010), 77_u64)
        .unwrap();
    let bar = guest.vf_bar(1);
    // VFs are bus masters of their own.
    guest.bench.write(PREFETCHABLE, bar + FETCH, 0x10_0010_u64);
    assert_ne!(guest.bench.read::<u64>(PREFETCHABLE, bar + PLAIN), 77);
    guest.bench.write(CONFIG, offset(ids[1], 4), 4_u16);
    guest.bench.write(PREFETCHABLE, bar + FETCH, 0x10_0010_u64);
    assert_eq!(guest.bench.read::<u64>(PREFETCHABLE, bar + PLAIN), 77);
    guest.listen_to_vf(1, ids[1], 2);
    guest.bench.write(PREFETCHABLE, bar + SIGNAL, 0_u64);
    assert_eq!(guest.bench.wait_interrupt(2, support::PATIENCE), 1);
}

#[test]
fn vfs_that_are_pulled_out_reach_nobody_while_their_pf_hangs() {
    const AT: GuestAddress = GuestAddress(0x10_0000);
    let mut guest = Guest::new();
    guest.bench.enable_interrupts().unwrap();
    guest.bench.add_memory(AT, 0x1000).unwrap();
    let ids = guest.enable(2);
    guest.listen_to_slot(3);
    guest.listen_to_vf(1, ids[1], 2);
    let vf = guest.lab.context(Vf(1));
    vf.memory.write_obj(AT, 1_u64).unwrap();
    assert_eq!(vf.interrupts.signal(0), Delivery::Signalled);
    assert_eq!(guest.bench.take_interrupts(2), 1);
    let (release, released) = mpsc::channel::<()>();
    let (enter, entered) = mpsc::channel();
    let ends = Mutex::new((enter, released));
    guest.lab.hook(move |_, event| {
        if event == Teardown {
            let (enter, released) = &*ends.lock().unwrap();
            let _ = enter.send(());
            let _ = released.recv();
        }
        Ok(())
    });
    let (domain, port) = (&guest.domain, guest.port);
    std::thread::scope(|scope| {
        let pull = scope.spawn(move || domain.pull(port).unwrap());
        // As soon as software knows.
        let told = guest.bench.wait_interrupt(3, support::PATIENCE);
        let reached = vf.memory.write_obj(AT, 1_u64);
        let delivery = vf.interrupts.signal(0);
        let hangs = entered.recv_timeout(support::PATIENCE).is_ok();
        drop(release);
        pull.join().unwrap();
        assert!(hangs && told >= 1, "{hangs}, {told}");
        assert_eq!(reached, Err(MemoryError::NotBusMaster));
        assert_eq!(delivery, Delivery::Pending);
    });
    assert_eq!(guest.bench.take_interrupts(2), 0);
    assert_eq!(guest.domain.tree().len(), 1);
    assert_eq!(guest.lab.count((Vf(1), Teardown)), 1);
}

#[test]
fn a_bus_reset_takes_vfs_away() {
    let mut guest = Guest::new();
    guest.enable(2);
    guest.lab.take();
    guest.bench.write(
        CONFIG,
        offset(RoutingId::new(0, 1, 0).unwrap(), 0x3e),
        0x40_u16,
    );
    assert_eq!(guest.lab.count((Pf, Reset)), 1);
    assert_eq!(guest.lab.count((Vf(0), Teardown)), 1);
    assert!(!guest.pf.registers().vf_enable);
}

#[test]
fn vfs_that_the_owner_enables_are_reached_at_once() {
    let mut guest = Guest::new();
    let ids = guest.enable(2);
    guest.disable();
    let class = |guest: &Guest| guest.bench.read::<u32>(CONFIG, offset(ids[1], 8));
    assert_eq!(class(&guest), u32::MAX);
    let owner = &guest.pf;
    owner
        .enable_virtualization(EnableVirtualization::enable(2))
        .unwrap();
    assert_eq!(class(&guest) >> 8, 0x11_8000);
    owner
        .enable_virtualization(EnableVirtualization::disable())
        .unwrap();
    assert_eq!(class(&guest), u32::MAX);
}

#[test]
fn the_interface_shows_what_the_guest_did() {
    let mut guest = Guest::new();
    let ids = guest.enable(3);
    assert_eq!(guest.pf.virtual_functions().count(), 3);
    for (vf, id) in (0..).zip(ids) {
        let location = guest.pf.location(vf).unwrap();
        assert_eq!(location.routing_id, id);
    }
    let failures = Arc::new(Mutex::new(0));
    guest.lab.hook({
        let failures = Arc::clone(&failures);
        move |who, event| {
            if (who, event) == (Vf(0), support::Initialize) {
                *failures.lock().unwrap() += 1;
                return Err(hdv::DeviceError::new("as the test wants"));
            }
            Ok(())
        }
    });
    guest.disable();
    let ids = guest.enable(1);
    // It is powered on when it is used, and then answers nothing.
    let class: u32 = guest.bench.read(CONFIG, offset(ids[0], 8));
    assert_eq!(class, u32::MAX);
    assert!(*failures.lock().unwrap() >= 1);
}

#[test]
fn a_function_level_reset_of_the_pf_takes_vfs_away() {
    let mut guest = Guest::new();
    let ids = guest.enable(TOTAL);
    let vfs = |guest: &Guest| guest.domain.tree().len() - 2;
    assert_eq!(vfs(&guest), usize::from(TOTAL));
    guest.lab.take();
    let pf = guest.pf().id;
    let express = guest.capability(pf, 0x10);
    guest.bench.write(CONFIG, express + 8, 0x8000_u16);
    assert_eq!(guest.lab.count((Pf, Reset)), 1);
    for vf in 0..TOTAL {
        assert_eq!(guest.lab.count((Vf(vf), Teardown)), 1, "VF {vf}");
    }
    for id in ids {
        assert_eq!(guest.bench.read::<u32>(CONFIG, offset(id, 8)), u32::MAX);
    }
    assert!(!guest.pf.registers().vf_enable);
    assert_eq!(vfs(&guest), 0);
    // They come again.
    let ids = guest.enable(2);
    let class: u32 = guest.bench.read(CONFIG, offset(ids[1], 8));
    assert_eq!(class >> 8, 0x11_8000);
}

#[test]
fn the_tree_shows_vfs_below_their_pf() {
    let mut guest = Guest::new();
    let ids = guest.enable(2);
    guest.bench.write(CONFIG, offset(ids[1], 4), 4_u16);
    let tree = guest.domain.tree();
    let kinds: Vec<_> = tree.iter().map(|node| (node.depth, node.kind)).collect();
    use NodeKind::*;
    assert_eq!(
        kinds,
        [
            (0, RootPort),
            (1, PhysicalFunction),
            (2, VirtualFunction),
            (2, VirtualFunction)
        ]
    );
    let sriov = tree[1].sriov.unwrap();
    assert_eq!((sriov.total_vfs, sriov.num_vfs), (TOTAL, 2));
    for (node, id) in tree[2..].iter().zip(&ids) {
        assert_eq!(node.routing_id, Some(id.get()));
        assert_eq!(node.class_code, 0x11_8000);
        assert!(node.memory_enabled);
    }
    assert_eq!(tree[3].path, "01.0/00.0/vf1");
    assert_eq!((tree[2].bus_master, tree[3].bus_master), (false, true));
}

#[test]
fn the_interface_follows_the_guests_bus_numbers() {
    let mut guest = Guest::new();
    guest.enable(2);
    let port = RoutingId::new(0, 1, 0).unwrap();
    let bus = |guest: &Guest| guest.pf.location(1).unwrap().routing_id.bus();
    assert_eq!(bus(&guest), 1);
    for (secondary, subordinate) in [(5_u8, 7_u8), (9, 9), (2, 30)] {
        let numbers = u16::from_le_bytes([secondary, subordinate]);
        guest.bench.write(CONFIG, offset(port, 0x19), subordinate);
        guest.bench.write(CONFIG, offset(port, 0x19), numbers);
        let location = guest.pf.location(1).unwrap();
        assert_eq!(location.routing_id.bus(), secondary);
        assert_eq!(guest.pf.captured_buses(), subordinate - secondary);
        let class: u32 = guest.bench.read(CONFIG, offset(location.routing_id, 8));
        assert_eq!(class >> 8, 0x11_8000, "where the interface says it is");
    }
    // Nonsense on the way changes nothing.
    guest.bench.write(CONFIG, offset(port, 0x1a), 1_u8);
    assert_eq!((bus(&guest), guest.pf.captured_buses()), (2, 28));
    guest.bench.reset();
    assert_eq!((bus(&guest), guest.pf.captured_buses()), (0, 0));
}

//! What the tests of domains share: software's view through the endpoint's windows.

use hdv::domain::{BenchBus, Domain, DomainEndpoint, DomainOptions, MEMORY_BASE, Position};
use hdv::pci::RoutingId;
use hdv::pci::enumerate::{Enumeration, enumerate};
use hdv::pci::topology::PortId;
use hdv::{BarIndex, TestBench, pci_function};

use super::{Kind, Record, Recorder};

pub const CONFIG: BarIndex = BarIndex::BAR0;
pub const MEMORY: BarIndex = BarIndex::BAR2;

pub fn offset(id: RoutingId, register: u16) -> u64 {
    u64::from(id.get()) << 12 | u64::from(register)
}

pub fn found(bench: &mut TestBench) -> Enumeration {
    let mut bus = BenchBus::new(bench);
    let resources = bus.resources();
    enumerate(&mut bus, &resources).expect("it fits")
}

pub fn domain() -> (Domain, DomainEndpoint) {
    Domain::new(DomainOptions::new()).expect("possible sizes")
}

pub fn attach(domain: &Domain, port: PortId, function: u8, kind: Kind) -> Record {
    let device = Recorder::new(kind);
    let record = device.record.clone();
    let content = pci_function(Box::new(device)).expect("a function");
    // Names are each other's neighbours: each is taken once.
    let name = format!("function {function} of {port}");
    domain
        .attach(
            Position::below(port).function(function),
            &name,
            content,
            &[],
        )
        .expect("a free place");
    record
}

pub fn id(bus: u8, device: u8, function: u8) -> RoutingId {
    RoutingId::new(bus, device, function).expect("there is such a function")
}

/// Where in the endpoint's window BAR 0 of a function is.
pub fn bar0(enumeration: &Enumeration, id: RoutingId) -> u64 {
    let function = enumeration.function(id).expect("found");
    function.bars[0].address - MEMORY_BASE
}

/// Where in the endpoint's window a capability is.
pub fn capability(bench: &TestBench, of: RoutingId, wanted: u8) -> u64 {
    let mut at = u16::from(bench.read::<u8>(CONFIG, offset(of, 0x34)));
    while bench.read::<u8>(CONFIG, offset(of, at)) != wanted {
        at = bench.read::<u8>(CONFIG, offset(of, at + 1)).into();
        assert_ne!(at, 0);
    }
    offset(of, at)
}

/// Has a port tell of its slot's events by a vector; where its slot control is.
pub fn listen_to(bench: &mut TestBench, port: RoutingId, vector: u32) -> u64 {
    let msi = capability(bench, port, 0x05);
    bench.write(CONFIG, msi + 4, 0xfee0_0000 | vector << 12);
    bench.write(CONFIG, msi + 2, 1_u16);
    let slot = capability(bench, port, 0x10) + 0x18;
    // Attention Button Pressed, Presence Detect Changed, Hot-Plug Interrupt and Data Link Layer State Changed Enable; power on.
    bench.write(CONFIG, slot, 0x1029_u16);
    slot
}

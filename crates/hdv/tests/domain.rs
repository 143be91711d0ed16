//! A domain on the test bench: enumerated as software does it, its functions used through the endpoint's windows.

mod support;

use std::sync::atomic::Ordering;
use std::sync::mpsc;

use hdv::domain::{Domain, DomainError, MEMORY_BASE, Position};
use hdv::pci::capability::Slot;
use hdv::pci::topology::PortId;
use hdv::{
    Bar, BarAccess, BarIndex, ClassCode, ConfigError, ConfigSpace, DeviceState, GuestAddress,
    Identity, PciDevice, PciExpress, ResizableBar, TestBench, pci_function,
};
use support::domain::*;
use support::{Call, Kind, PATIENCE, Recorder, SIGNAL};

#[test]
fn software_finds_everything_and_reaches_each_function_by_its_address() {
    let (domain, endpoint) = domain();
    let first = domain.add_root_port(1, 0, Some(Slot::hot_plug(1))).unwrap();
    let second = domain.add_root_port(2, 0, None).unwrap();
    let below = domain
        .add_switch(second, &[None, Some(Slot::hot_plug(2))])
        .unwrap();
    attach(&domain, first, 0, Kind::MsiX);
    attach(&domain, first, 1, Kind::MsiX);
    attach(&domain, below[0], 0, Kind::Msi);
    attach(&domain, below[1], 0, Kind::MsiX);
    let mut bench = TestBench::new(endpoint).unwrap();
    let enumeration = found(&mut bench);
    let ids: Vec<_> = enumeration.functions.iter().map(|found| found.id).collect();
    // What is behind the hot-plug slots has spare buses.
    let behind = ids.last().copied().unwrap();
    assert_eq!(enumeration.functions.len(), 9, "{ids:?}");
    let functions: Vec<_> = enumeration
        .functions
        .iter()
        .filter(|found| found.device_id == 0x7ffe)
        .map(|found| found.id)
        .collect();
    assert_eq!(functions.len(), 4);
    assert_eq!(functions[3], behind);
    for (number, id) in (1_u32..).zip(&functions) {
        bench.write(MEMORY, bar0(&enumeration, *id) + 0x10, number);
    }
    for (number, id) in (1_u32..).zip(&functions) {
        assert_eq!(
            bench.read::<u32>(MEMORY, bar0(&enumeration, *id) + 0x10),
            number
        );
    }
    let last = functions
        .iter()
        .map(|id| bar0(&enumeration, *id))
        .max()
        .unwrap();
    assert_eq!(
        bench.read::<u32>(MEMORY, last + 0x1000),
        u32::MAX,
        "nobody's"
    );
    assert_eq!(domain.walk().len(), 9);
}

#[test]
fn a_device_does_not_know_that_it_has_further_functions() {
    let (domain, endpoint) = domain();
    let port = domain.add_root_port(1, 0, None).unwrap();
    attach(&domain, port, 0, Kind::MsiX);
    let mut bench = TestBench::new(endpoint).unwrap();
    found(&mut bench);
    let header_type = |bench: &TestBench| bench.read::<u8>(CONFIG, offset(id(1, 0, 0), 0x0e));
    assert_eq!(header_type(&bench), 0);
    attach(&domain, port, 3, Kind::MsiX);
    assert_eq!(header_type(&bench), 0x80);
    let dword: u32 = bench.read(CONFIG, offset(id(1, 0, 0), 0x0c));
    assert_eq!(dword >> 16, 0x80);
}

#[test]
fn messages_of_functions_are_vectors_of_the_endpoint() {
    let (domain, endpoint) = domain();
    let port = domain.add_root_port(1, 0, None).unwrap();
    attach(&domain, port, 0, Kind::MsiX);
    let mut bench = TestBench::new(endpoint).unwrap();
    bench.enable_interrupts().unwrap();
    let enumeration = found(&mut bench);
    let base = bar0(&enumeration, id(1, 0, 0));
    let entry = base + support::MSIX_TABLE + 16;
    bench.write(MEMORY, entry, 0xfee0_5000_u32);
    bench.write(MEMORY, entry + 12, 0_u32);
    // Not enabled yet.
    bench.write(MEMORY, base + SIGNAL, 1_u64);
    assert_eq!(bench.take_interrupts(5), 0);
    let msix = capability(&bench, id(1, 0, 0), 0x11);
    bench.write(CONFIG, msix + 2, 0x8000_u16);
    bench.write(MEMORY, base + SIGNAL, 1_u64);
    assert_eq!(bench.wait_interrupt(5, PATIENCE), 1);
    // Vector 0's entry is masked.
    bench.write(MEMORY, base + SIGNAL, 0_u64);
    assert_eq!(bench.read::<u8>(MEMORY, base + support::MSIX_PENDING), 1);
}

#[test]
fn guest_memory_is_the_endpoints() {
    let (domain, endpoint) = domain();
    let port = domain.add_root_port(1, 0, None).unwrap();
    let early = attach(&domain, port, 0, Kind::MsiX);
    let mut bench = TestBench::new(endpoint).unwrap();
    bench.add_memory(GuestAddress(0x10_0000), 0x1000).unwrap();
    let late = attach(&domain, port, 1, Kind::MsiX);
    found(&mut bench);
    for (number, record) in [(1_u64, early), (2, late)] {
        let at = GuestAddress(0x10_0000 + 8 * number);
        record.context().memory.write_obj(at, number).unwrap();
        assert_eq!(bench.memory().read_obj::<u64>(at).unwrap(), number);
    }
}

#[test]
fn a_secondary_bus_reset_resets_what_is_below() {
    let (domain, endpoint) = domain();
    let port = domain.add_root_port(1, 0, None).unwrap();
    let beside = domain.add_root_port(2, 0, None).unwrap();
    let record = attach(&domain, port, 0, Kind::MsiX);
    let other = attach(&domain, beside, 0, Kind::MsiX);
    let mut bench = TestBench::new(endpoint).unwrap();
    let enumeration = found(&mut bench);
    let base = bar0(&enumeration, id(1, 0, 0));
    bench.write(MEMORY, base, 7_u32);
    let control = offset(id(0, 1, 0), 0x3e);
    bench.write(CONFIG, control, 1_u16 << 6);
    assert_eq!(
        (record.count(Call::Reset), other.count(Call::Reset)),
        (1, 0)
    );
    assert_eq!(
        bench.read::<u32>(CONFIG, offset(id(1, 0, 0), 0)),
        u32::MAX,
        "in reset"
    );
    bench.write(CONFIG, control, 0_u16);
    assert_ne!(bench.read::<u32>(CONFIG, offset(id(1, 0, 0), 0)), u32::MAX);
    assert_eq!(bench.read::<u32>(MEMORY, base), u32::MAX, "memory is off");
    assert_eq!(
        bench.read::<u32>(CONFIG, offset(id(1, 0, 0), 0x10)) & !0xf,
        0
    );
}

#[test]
fn functions_live_as_on_a_socket() {
    let (domain, endpoint) = domain();
    let port = domain.add_root_port(1, 0, None).unwrap();
    let record = attach(&domain, port, 0, Kind::MsiX);
    assert_eq!(record.life(), [Call::ConfigSpace, Call::Initialize]);
    let mut bench = TestBench::new(endpoint).unwrap();
    assert_eq!(record.count(Call::Start), 1);
    record.forget();
    bench.stop_and_start().unwrap();
    bench.reset();
    assert_eq!(record.life(), [Call::Stop, Call::Start, Call::Reset]);
    record.forget();
    drop(bench);
    let life = record.life();
    assert_eq!(life.first(), Some(&Call::Stop));
    assert_eq!(life[life.len() - 2..], [Call::Teardown, Call::Drop]);
    let error = domain.add_and_fail(port);
    assert!(matches!(error, DomainError::Closed), "{error}");
}

trait Refused {
    fn add_and_fail(&self, port: PortId) -> DomainError;
}

impl Refused for Domain {
    fn add_and_fail(&self, port: PortId) -> DomainError {
        let device = Recorder::default();
        let record = device.record.clone();
        let content = pci_function(Box::new(device)).unwrap();
        let refused = self.attach(Position::below(port).function(1), "late", content, &[]);
        assert_eq!(record.count(Call::Teardown), 1);
        refused.unwrap_err()
    }
}

#[test]
fn a_function_that_is_refused_is_torn_down_and_its_place_stays_free() {
    let (domain, endpoint) = domain();
    let port = domain.add_root_port(1, 0, None).unwrap();
    let content = |device| pci_function(Box::new(device)).unwrap();
    let refusing = Recorder::with(|device| device.refuse_initialize = true);
    let error = domain
        .attach(Position::below(port), "refusing", content(refusing), &[])
        .unwrap_err();
    assert!(error.to_string().contains("as the test wants"), "{error}");
    let bench = TestBench::new(endpoint).unwrap();
    let late = Recorder::default();
    let record = late.record.clone();
    record.refuse_start.store(true, Ordering::SeqCst);
    domain
        .attach(Position::below(port), "late", content(late), &[])
        .unwrap_err();
    assert_eq!(record.count(Call::Teardown), 1);
    let attached = domain
        .attach(
            Position::below(port),
            "right",
            content(Recorder::default()),
            &[],
        )
        .unwrap();
    assert_eq!(attached.instance().state(), DeviceState::Started);
    drop(bench);
    assert_eq!(attached.instance().state(), DeviceState::Gone);
}

#[test]
fn devices_may_ask_their_domain_from_threads_of_their_own() {
    let (domain, endpoint) = domain();
    let port = domain.add_root_port(1, 0, None).unwrap();
    let bench = TestBench::new(endpoint).unwrap();
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            attach(&domain, port, 0, Kind::MsiX);
            sender.send(domain.walk().len()).unwrap();
        });
        for _ in 0..1000 {
            let _: u32 = bench.read(CONFIG, offset(id(0, 1, 0), 0));
        }
    });
    assert_eq!(receiver.recv().unwrap(), 2);
}

#[test]
fn a_switch_is_there_as_a_whole_or_not_at_all() {
    let (domain, _endpoint) = domain();
    let port = domain.add_root_port(1, 0, None).unwrap();
    let error = domain.add_switch(port, &[None; 33]).unwrap_err();
    assert!(matches!(error, DomainError::Topology(_)), "{error}");
    assert_eq!(domain.walk().len(), 1);
    assert_eq!(domain.add_switch(port, &[None; 32]).unwrap().len(), 32);
}

#[test]
fn a_function_that_does_not_start_leaves_none_started() {
    let (domain, endpoint) = domain();
    let port = domain.add_root_port(1, 0, None).unwrap();
    let first = attach(&domain, port, 0, Kind::MsiX);
    let second = attach(&domain, port, 1, Kind::MsiX);
    second.refuse_start.store(true, Ordering::SeqCst);
    let error = TestBench::new(endpoint).unwrap_err();
    assert!(error.to_string().contains("function 1"), "{error}");
    assert_eq!(first.count(Call::Start), first.count(Call::Stop));
}

/// A device whose BAR software can make larger and smaller.
struct Resizable;

impl PciDevice for Resizable {
    fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
        let identity = Identity {
            vendor_id: 0x4f48,
            device_id: 0x7ffd,
            revision_id: 1,
            class: ClassCode::from_u24(0xff_0000),
            subsystem_vendor_id: 0,
            subsystem_id: 0,
        };
        let sizes = [1 << 20, 2 << 20, 4 << 20];
        ConfigSpace::builder(identity)
            .bar(BarIndex::BAR0, Bar::memory64(2 << 20))
            .capability(PciExpress::endpoint())
            .extended_capability(ResizableBar::new().bar(BarIndex::BAR0, &sizes))
            .build()
    }

    fn read(&mut self, access: BarAccess) -> u64 {
        access.offset
    }

    fn write(&mut self, _: BarAccess, _: u64) {}

    fn reset(&mut self) {}
}

#[test]
fn a_bar_answers_as_far_as_software_has_made_it() {
    let (domain, endpoint) = domain();
    let port = domain.add_root_port(1, 0, None).unwrap();
    let content = pci_function(Box::new(Resizable)).unwrap();
    domain
        .attach(Position::below(port), "resizable", content, &[])
        .unwrap();
    let mut bench = TestBench::new(endpoint).unwrap();
    found(&mut bench);
    // The port's window reaches further than the BAR that was found.
    let window = u32::try_from(MEMORY_BASE >> 16).unwrap() | 0x8070_0000;
    bench.write(CONFIG, offset(id(0, 1, 0), 0x20), window);
    let function = offset(id(1, 0, 0), 0);
    let answers = |bench: &TestBench, at: u64| bench.read::<u32>(MEMORY, at) != u32::MAX;
    for (code, size) in [(1_u32, 2_u64 << 20), (2, 4 << 20), (0, 1 << 20)] {
        bench.write(CONFIG, function + 4, 0_u16);
        let control: u32 = bench.read(CONFIG, function + 0x108);
        bench.write(CONFIG, function + 0x108, control & !0x3f00 | code << 8);
        bench.write(CONFIG, function + 0x10, u32::try_from(MEMORY_BASE).unwrap());
        bench.write(CONFIG, function + 4, 6_u16);
        assert!(answers(&bench, size - 4), "{size:#x}");
        assert!(!answers(&bench, size), "{size:#x}");
    }
}

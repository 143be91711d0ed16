//! Errors that are injected into a domain: from the function's registers through the ports above to the root port and its
//! interrupt.

#[expect(dead_code, reason = "these tests use a part of it")]
#[path = "support/bringer.rs"]
mod bringer;
mod support;

use bringer::Hold;
use hdv::domain::{Domain, DomainError, Injection, Position};
use hdv::pci::spec::aer::{CorrectableError, UncorrectableError};
use hdv::pci::topology::{Member, PortId};
use hdv::pci::{DetectedError, RoutingId};
use hdv::{TestBench, pci_function};
use support::domain::*;
use support::{PATIENCE, Recorder};

const BAD_PACKET: Injection =
    Injection::Error(DetectedError::Correctable(CorrectableError::BAD_TLP));
const POISONED: Injection = Injection::Error(DetectedError::Uncorrectable(
    UncorrectableError::POISONED_TLP,
));
const MALFORMED: Injection = Injection::Error(DetectedError::Uncorrectable(
    UncorrectableError::MALFORMED_TLP,
));
const VECTOR: u16 = 6;
/// Of the advanced error reporting capability, which is the first extended one here.
const AER: u16 = 0x100;
const ROOT_STATUS: u16 = AER + 0x30;
const ERROR_SOURCE: u16 = AER + 0x34;

struct Guest {
    domain: Domain,
    bench: TestBench,
    function: Member,
    downstream: PortId,
}

fn reporting(domain: &Domain, position: Position, name: &str) -> Member {
    let device = Recorder::with(|device| device.reports_errors = true);
    let content = pci_function(Box::new(device)).unwrap();
    Member::Function(domain.attach(position, name, content, &[]).unwrap().id())
}

impl Guest {
    const ROOT: (u8, u8) = (0, 1);
    const FUNCTION: (u8, u8) = (3, 0);

    /// A function behind a switch, and software that wants to know of every error.
    fn new() -> Self {
        let (domain, endpoint) = domain();
        let root = domain.add_root_port(1, 0, None).unwrap();
        let downstream = domain.add_switch(root, &[None]).unwrap()[0];
        let function = reporting(&domain, Position::below(downstream), "reporting");
        let mut bench = TestBench::new(endpoint).unwrap();
        bench.enable_interrupts().unwrap();
        found(&mut bench);
        let mut guest = Self {
            domain,
            bench,
            function,
            downstream,
        };
        for (bus, device) in [Self::ROOT, (1, 0), (2, 0), Self::FUNCTION] {
            guest.listen(id(bus, device, 0));
        }
        let root = id(Self::ROOT.0, Self::ROOT.1, 0);
        let msi = capability(&guest.bench, root, 0x05);
        let address = 0xfee0_0000 | u32::from(VECTOR) << 12;
        guest.bench.write(CONFIG, msi + 4, address);
        guest.bench.write(CONFIG, msi + 2, 1_u16);
        guest.bench.write(CONFIG, offset(root, AER + 0x2c), 7_u32);
        guest
    }

    /// Enables reports of all errors, and that a bridge passes them on.
    fn listen(&mut self, of: RoutingId) {
        let express = capability(&self.bench, of, 0x10);
        self.bench.write(CONFIG, express + 8, 0x000f_u16);
        self.bench.write(CONFIG, offset(of, 0x3e), 2_u16);
    }

    fn inject(&self, member: Member, injection: Injection) {
        assert!(self.domain.inject(member, injection).unwrap(), "told");
    }

    fn inject_untold(&self, member: Member, injection: Injection) {
        assert!(!self.domain.inject(member, injection).unwrap(), "not told");
    }

    fn root(&self, register: u16) -> u32 {
        self.bench
            .read(CONFIG, offset(id(Self::ROOT.0, Self::ROOT.1, 0), register))
    }

    fn function(&self, register: u16) -> u32 {
        let at = offset(id(Self::FUNCTION.0, Self::FUNCTION.1, 0), register);
        self.bench.read(CONFIG, at)
    }

    fn clear(&mut self) {
        let root = offset(id(Self::ROOT.0, Self::ROOT.1, 0), ROOT_STATUS);
        self.bench.write(CONFIG, root, 0x7f_u32);
    }
}

#[test]
fn errors_of_a_function_reach_the_root_port_and_its_interrupt() {
    let mut guest = Guest::new();
    let source = u32::from(id(3, 0, 0).get());
    guest.inject(guest.function, BAD_PACKET);
    assert_eq!(guest.bench.wait_interrupt(VECTOR, PATIENCE), 1);
    assert_eq!(guest.function(AER + 0x10), 1 << 6, "bad TLP");
    assert_eq!(guest.root(ROOT_STATUS) & 0x7f, 1, "correctable");
    assert_eq!(guest.root(ERROR_SOURCE), source);
    // While one is pending there is no further interrupt.
    guest.inject(guest.function, BAD_PACKET);
    assert_eq!(guest.root(ROOT_STATUS) & 0x7f, 3, "several");
    assert_eq!(guest.bench.take_interrupts(VECTOR), 0);
    guest.clear();
    guest.inject(guest.function, POISONED);
    assert_eq!(guest.bench.wait_interrupt(VECTOR, PATIENCE), 1);
    assert_eq!(guest.function(AER + 4), 1 << 12);
    assert_eq!(guest.root(ROOT_STATUS) & 0x7f, 0x24, "non-fatal");
    guest.clear();
    guest.inject(guest.function, MALFORMED);
    assert_eq!(guest.bench.wait_interrupt(VECTOR, PATIENCE), 1);
    assert_eq!(guest.function(AER + 4), 1 << 12 | 1 << 18);
    assert_eq!(guest.root(ROOT_STATUS) & 0x7f, 0x54, "fatal");
    assert_eq!(guest.root(ERROR_SOURCE) >> 16, source);
}

#[test]
fn ports_report_errors_too() {
    let mut guest = Guest::new();
    for (place, source) in [
        ("01.0", id(0, 1, 0)),
        ("01.0/00.0", id(1, 0, 0)),
        ("01.0/00.0/00.0", id(2, 0, 0)),
    ] {
        let port = guest.domain.find(place).unwrap();
        guest.inject(port, MALFORMED);
        assert_eq!(guest.bench.wait_interrupt(VECTOR, PATIENCE), 1, "{place}");
        let told = guest.root(ERROR_SOURCE) >> 16;
        assert_eq!(told, u32::from(source.get()), "{place}");
        guest.clear();
    }
}

#[test]
fn what_software_does_not_want_to_know_is_recorded_only() {
    let mut guest = Guest::new();
    let express = capability(&guest.bench, id(3, 0, 0), 0x10);
    guest.bench.write(CONFIG, express + 8, 0_u16);
    guest.inject_untold(guest.function, POISONED);
    assert_eq!(guest.function(AER + 4), 1 << 12);
    assert_eq!(guest.root(ROOT_STATUS) & 0x7f, 0);
    guest.bench.write(CONFIG, express + 8, 0x000f_u16);
    // Masked.
    let mask = offset(id(3, 0, 0), AER + 0x14);
    guest.bench.write(CONFIG, mask, 1_u32 << 6);
    guest.inject_untold(guest.function, BAD_PACKET);
    // A port in between passes nothing on.
    guest.bench.write(CONFIG, offset(id(2, 0, 0), 0x3e), 0_u16);
    guest.inject_untold(guest.function, POISONED);
    guest.bench.write(CONFIG, offset(id(2, 0, 0), 0x3e), 2_u16);
    guest.inject(Member::Port(guest.downstream), Injection::LinkDown);
    guest.inject_untold(guest.function, MALFORMED);
    assert_eq!(guest.root(ROOT_STATUS) & 0x7f, 0, "the link is down");
    assert_eq!(guest.bench.take_interrupts(VECTOR), 0);
}

#[test]
fn an_interrupt_that_is_masked_meanwhile_comes_when_it_is_unmasked() {
    let mut guest = Guest::new();
    let msi = capability(&guest.bench, id(0, 1, 0), 0x05);
    guest.bench.write(CONFIG, msi + 0x10, 1_u32);
    guest.inject(guest.function, BAD_PACKET);
    assert_eq!(guest.bench.take_interrupts(VECTOR), 0);
    assert_eq!(guest.bench.read::<u32>(CONFIG, msi + 0x14), 1, "pending");
    guest.bench.write(CONFIG, msi + 0x10, 0_u32);
    assert_eq!(guest.bench.take_interrupts(VECTOR), 1);
    assert_eq!(guest.bench.read::<u32>(CONFIG, msi + 0x14), 0);
    // Of one that is disabled nothing comes, now or later.
    guest.clear();
    guest.bench.write(CONFIG, msi + 2, 0_u16);
    guest.inject(guest.function, BAD_PACKET);
    guest.bench.write(CONFIG, msi + 2, 1_u16);
    assert_eq!(guest.bench.take_interrupts(VECTOR), 0);
}

#[test]
fn errors_that_nobody_could_record_or_be_told_of_are_refused() {
    let (domain, endpoint) = domain();
    let port = domain.add_root_port(1, 0, None).unwrap();
    let alone = reporting(&domain, Position::on_root_bus(2), "alone");
    let own = Hold::default().function();
    let own = domain
        .attach(Position::below(port), "own", own, &[])
        .unwrap();
    let bench = TestBench::new(endpoint).unwrap();
    for (member, says) in [
        (alone, "root bus"),
        (Member::Function(own.id()), "keeps config space itself"),
    ] {
        let error = domain.inject(member, BAD_PACKET).unwrap_err();
        assert!(matches!(error, DomainError::Injection { .. }), "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
    domain.pull(port).unwrap();
    let gone = domain.inject(Member::Function(own.id()), BAD_PACKET);
    assert!(matches!(gone, Err(DomainError::Topology(_))), "{gone:?}");
    drop(bench);
}

#[test]
fn nothing_that_waits_is_done_from_inside_a_call_into_a_function() {
    let (domain, endpoint) = domain();
    let port = domain.add_root_port(1, 0, None).unwrap();
    let other = domain.add_root_port(2, 0, None).unwrap();
    let hold = Hold::default();
    let of = domain
        .attach(Position::below(port), "caller", hold.function(), &[])
        .unwrap();
    let mut bench = TestBench::new(endpoint).unwrap();
    let enumeration = found(&mut bench);
    let (sender, receiver) = std::sync::mpsc::channel();
    let asking = domain.clone();
    hold.on_call(move || {
        let refused = asking.inject(Member::Function(of.id()), BAD_PACKET);
        let waiting = [
            refused,
            asking.add_switch(other, &[None]).map(|_| true),
            asking.fill(other, || true),
        ];
        sender.send((waiting, asking.tree().len())).unwrap();
    });
    let base = bar0(&enumeration, id(1, 0, 0));
    bench.write(MEMORY, base + bringer::CALL, 1_u32);
    let (waiting, seen) = receiver.recv().unwrap();
    for refused in waiting {
        assert!(
            matches!(refused, Err(DomainError::InsideCall)),
            "{refused:?}"
        );
    }
    assert_eq!(seen, 3);
}

//! Names and places of a domain, its tree, and what is injected into it without an error message: links and config reads.

mod support;

use hdv::domain::{Domain, DomainError, Injection, InterruptMode, NodeKind, Position, TreeNode};
use hdv::pci::capability::Slot;
use hdv::pci::topology::{Member, PortId};
use hdv::{DeviceState, TestBench, pci_function};
use support::domain::*;
use support::{Call, Kind, Recorder};

fn attach_named(domain: &Domain, position: Position, name: &str) -> Result<Member, DomainError> {
    let content = pci_function(Box::new(Recorder::default())).unwrap();
    let attached = domain.attach(position, name, content, &[])?;
    Ok(Member::Function(attached.id()))
}

/// A root port with a function, and one with a switch that has a function in its second slot.
fn sample(domain: &Domain) -> (PortId, Vec<PortId>, [Member; 2]) {
    let first = domain.add_root_port(1, 0, Some(Slot::hot_plug(7))).unwrap();
    let second = domain.add_root_port(2, 1, None);
    assert!(second.is_err(), "function 0 comes first");
    let second = domain.add_root_port(2, 0, None).unwrap();
    let below = domain.add_switch(second, &[None, None, None]).unwrap();
    let near = attach_named(domain, Position::below(first), "near").unwrap();
    let far = attach_named(domain, Position::below(below[2]), "far").unwrap();
    (first, below, [near, far])
}

#[test]
fn places_are_found_by_name_and_by_way() {
    let (domain, _endpoint) = domain();
    let (first, below, [near, far]) = sample(&domain);
    domain.set_port_name(first, "the first").unwrap();
    domain.set_port_name(below[2], "third slot").unwrap();
    for (place, member) in [
        ("near", near),
        ("far", far),
        ("the first", Member::Port(first)),
        ("third slot", Member::Port(below[2])),
        ("01.0", Member::Port(first)),
        ("1.0", Member::Port(first)),
        ("01.0/00.0", near),
        ("02.0/00.0/02.0", Member::Port(below[2])),
        ("02.0/00.0/02.0/00.0", far),
    ] {
        assert_eq!(domain.find(place).unwrap(), member, "{place}");
    }
    for nowhere in [
        "",
        "/",
        "nearer",
        "01.1",
        "01.0/",
        "/01.0",
        "01.0/00.0/00.0",
        "the first/00.0",
        "02.0//02.0",
    ] {
        let error = domain.find(nowhere).unwrap_err();
        assert!(
            matches!(error, DomainError::NoSuchPlace { .. }),
            "{nowhere}"
        );
    }
}

#[test]
fn names_are_taken_once_and_free_again_when_their_owner_goes() {
    let (domain, _endpoint) = domain();
    let (first, below, _) = sample(&domain);
    let taken = |error| matches!(error, DomainError::NameTaken { .. });
    assert!(taken(domain.set_port_name(first, "near").unwrap_err()));
    domain.set_port_name(first, "slot").unwrap();
    domain.set_port_name(first, "slot").unwrap();
    assert!(taken(domain.set_port_name(below[0], "slot").unwrap_err()));
    let position = Position::below(below[0]);
    assert!(taken(
        attach_named(&domain, position, "slot").err().unwrap()
    ));
    assert!(taken(attach_named(&domain, position, "far").err().unwrap()));
    let wrong = attach_named(&domain, position, "00.0").unwrap_err();
    assert!(matches!(wrong, DomainError::Name { .. }), "{wrong}");
    domain.pull(below[2]).unwrap();
    attach_named(&domain, position, "far").unwrap();
    domain.set_port_name(first, "other").unwrap();
    domain.set_port_name(below[0], "slot").unwrap();
    assert_eq!(domain.find("slot").unwrap(), Member::Port(below[0]));
}

fn node(domain: &Domain, path: &str) -> TreeNode {
    let tree = domain.tree();
    let found = tree.into_iter().find(|node| node.path == path);
    found.expect("it is there")
}

#[test]
fn the_tree_shows_what_the_guest_has_made_of_it() {
    let (domain, endpoint) = domain();
    sample(&domain);
    let early = domain.tree();
    let of_first = early.iter().find(|node| node.path == "01.0/00.0").unwrap();
    assert_eq!(of_first.routing_id, None);
    assert_eq!(of_first.state, Some(DeviceState::Stopped));
    let bench = TestBench::new(endpoint).unwrap();
    let mut bench = bench;
    found(&mut bench);
    let tree = domain.tree();
    let shape: Vec<_> = tree
        .iter()
        .map(|node| (node.depth, node.path.as_str(), node.kind))
        .collect();
    use NodeKind::*;
    assert_eq!(
        shape,
        [
            (0, "01.0", RootPort),
            (1, "01.0/00.0", Function),
            (0, "02.0", RootPort),
            (1, "02.0/00.0", UpstreamPort),
            (2, "02.0/00.0/00.0", DownstreamPort),
            (2, "02.0/00.0/01.0", DownstreamPort),
            (2, "02.0/00.0/02.0", DownstreamPort),
            (3, "02.0/00.0/02.0/00.0", Function),
        ]
    );
    for one in &tree {
        let place = domain.find(&one.path).unwrap();
        let by_name = one.name.as_deref().map(|name| domain.find(name).unwrap());
        assert!(by_name.is_none_or(|found| found == place), "{one:?}");
    }
    let function = node(&domain, "01.0/00.0");
    assert_eq!(function.name.as_deref(), Some("near"));
    assert_eq!(
        (function.vendor_id, function.device_id, function.class_code),
        (0x4f48, 0x7ffe, 0xff_0000)
    );
    assert_eq!(function.address().as_deref(), Some("01:00.0"));
    assert_eq!(function.state, Some(DeviceState::Started));
    assert!(function.memory_enabled);
    let slot = node(&domain, "01.0").port.unwrap().slot.unwrap();
    assert_eq!((slot.number, slot.occupied, slot.powered), (7, true, true));
    let port = node(&domain, "02.0/00.0/02.0").port.unwrap();
    let below = node(&domain, "02.0/00.0/02.0/00.0").routing_id.unwrap();
    assert_eq!(u16::from(port.secondary), below >> 8);
    assert!(port.link_up && port.slot.is_none());
    assert!(!node(&domain, "02.0/00.0/01.0").port.unwrap().link_up);
    // It goes to other programs and back.
    let json = serde_json::to_string(&tree).unwrap();
    assert!(json.contains("\"kind\":\"upstream-port\""), "{json}");
    assert!(json.contains("\"state\":\"started\""), "{json}");
    assert_eq!(serde_json::from_str::<Vec<TreeNode>>(&json).unwrap(), tree);
}

#[test]
fn the_tree_shows_interrupts_and_bus_mastering() {
    let (domain, endpoint) = domain();
    let port = domain.add_root_port(1, 0, None).unwrap();
    attach(&domain, port, 0, Kind::MsiX);
    attach(&domain, port, 1, Kind::Msi);
    let mut bench = TestBench::new(endpoint).unwrap();
    found(&mut bench);
    let [msix, msi] = [0, 1].map(|function| id(1, 0, function));
    bench.write(CONFIG, offset(msix, 4), 2_u16);
    assert!(!node(&domain, "01.0/00.0").bus_master);
    bench.write(CONFIG, offset(msix, 4), 6_u16);
    assert!(node(&domain, "01.0/00.0").bus_master);
    assert_eq!(node(&domain, "01.0/00.0").interrupts, InterruptMode::None);
    let control = capability(&bench, msix, 0x11) + 2;
    bench.write(CONFIG, control, 0x8000_u16);
    assert_eq!(node(&domain, "01.0/00.0").interrupts, InterruptMode::MsiX);
    let control = capability(&bench, msi, 0x05) + 2;
    bench.write(CONFIG, control, 1_u16);
    assert_eq!(node(&domain, "01.0/00.1").interrupts, InterruptMode::Msi);
    bench.reset();
    for function in ["01.0/00.0", "01.0/00.1"] {
        let node = node(&domain, function);
        assert_eq!(
            (node.interrupts, node.bus_master),
            (InterruptMode::None, false)
        );
    }
}

#[test]
fn the_tree_waits_for_no_device() {
    let (domain, endpoint) = domain();
    let port = domain.add_root_port(1, 0, None).unwrap();
    let record = attach(&domain, port, 0, Kind::MsiX);
    let mut bench = TestBench::new(endpoint).unwrap();
    let enumeration = found(&mut bench);
    let base = bar0(&enumeration, id(1, 0, 0));
    record.close();
    std::thread::scope(|scope| {
        scope.spawn(|| bench.read::<u32>(MEMORY, base + 0x700));
        support::wait_for("the read", || record.count(support::read_of(0x700, 4)) == 1);
        // The device is in that call and stays there.
        assert_eq!(domain.tree().len(), 2);
        record.open();
    });
}

#[test]
fn a_link_that_is_down_takes_what_is_below_away_until_it_is_up() {
    let (domain, endpoint) = domain();
    let port = domain.add_root_port(1, 0, Some(Slot::hot_plug(1))).unwrap();
    let record = attach(&domain, port, 0, Kind::MsiX);
    let mut bench = TestBench::new(endpoint).unwrap();
    bench.enable_interrupts().unwrap();
    let enumeration = found(&mut bench);
    let base = bar0(&enumeration, id(1, 0, 0));
    let slot = listen_to(&mut bench, id(0, 1, 0), 3);
    bench.write(MEMORY, base, 7_u32);
    let function = offset(id(1, 0, 0), 0);
    domain
        .inject(Member::Port(port), Injection::LinkDown)
        .unwrap();
    assert_eq!(bench.wait_interrupt(3, support::PATIENCE), 1);
    let status: u16 = bench.read(CONFIG, slot + 2);
    assert_eq!(status & 0x148, 0x140, "still there, but the link went down");
    assert_eq!(bench.read::<u32>(CONFIG, function), u32::MAX);
    assert_eq!(bench.read::<u32>(MEMORY, base), u32::MAX);
    assert!(!node(&domain, "01.0").port.unwrap().link_up);
    let routing_id = || node(&domain, "01.0/00.0").routing_id;
    assert_eq!(routing_id(), None, "it has no number any more");
    // It stays down, whatever software does.
    bench.write(CONFIG, slot, 0x1429_u16);
    bench.write(CONFIG, slot, 0x1029_u16);
    assert_eq!(bench.read::<u32>(CONFIG, function), u32::MAX);
    bench.write(CONFIG, slot + 2, 0x0100_u16);
    record.forget();
    domain
        .inject(Member::Port(port), Injection::LinkUp)
        .unwrap();
    assert_eq!(bench.wait_interrupt(3, support::PATIENCE), 1);
    assert_eq!(routing_id(), Some(id(1, 0, 0).get()));
    assert!(record.count(Call::Reset) >= 1);
    assert_ne!(bench.read::<u32>(CONFIG, function), u32::MAX);
    assert_eq!(bench.read::<u32>(CONFIG, function + 0x10) & !0xf, 0);
    assert_eq!(bench.read::<u32>(MEMORY, base), u32::MAX, "memory is off");
    assert_eq!(record.count(Call::Teardown), 0);
}

#[test]
fn a_link_is_one_of_a_port_with_something_below() {
    let (domain, _endpoint) = domain();
    let (first, below, [near, _]) = sample(&domain);
    let upstream = domain.find("02.0/00.0").unwrap();
    for wrong in [near, upstream, Member::Port(below[0])] {
        let error = domain.inject(wrong, Injection::LinkDown).unwrap_err();
        assert!(matches!(error, DomainError::Injection { .. }), "{error}");
    }
    domain.pull(first).unwrap();
    let gone = domain.inject(near, Injection::FailConfigReads(1));
    assert!(matches!(gone, Err(DomainError::Topology(_))), "{gone:?}");
}

#[test]
fn config_reads_fail_as_often_as_asked() {
    let (domain, endpoint) = domain();
    let (first, _, [near, _]) = sample(&domain);
    let mut bench = TestBench::new(endpoint).unwrap();
    found(&mut bench);
    for (member, at) in [(near, id(1, 0, 0)), (Member::Port(first), id(0, 1, 0))] {
        let read = |bench: &TestBench| bench.read::<u32>(CONFIG, offset(at, 0));
        domain
            .inject(member, Injection::FailConfigReads(2))
            .unwrap();
        let reads = [0; 3].map(|_: u32| read(&bench) == u32::MAX);
        assert_eq!(reads, [true, true, false]);
        domain
            .inject(member, Injection::FailConfigReads(u32::MAX))
            .unwrap();
        assert_eq!(read(&bench), u32::MAX);
        // Writes arrive.
        bench.write(CONFIG, offset(at, 0x3c), 9_u8);
        domain
            .inject(member, Injection::FailConfigReads(0))
            .unwrap();
        assert_eq!(bench.read::<u8>(CONFIG, offset(at, 0x3c)), 9);
    }
}

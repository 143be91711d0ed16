//! Topologies by hand: what answers as software programs ports and functions, links go down and resets
//! come, and in which order things are.

use hdv_pci::topology::{
    ConfigTarget, FunctionDecode, FunctionId, Member, MemoryTarget, Parent, PortId, TopologyError,
};
use hdv_pci::{
    Bar, BarIndex, ConfigSpace, Effects, PciExpress, PortKind, PowerManagement, RoutingId, Sriov,
    VfRouting,
};

use crate::common::{IDENTITY, read_u8, read_u32};
use crate::machine::Machine;

const ROOT: Parent = Parent::Root;

pub(crate) fn id(bus: u8, device: u8, function: u8) -> RoutingId {
    RoutingId::new(bus, device, function).unwrap()
}

/// A function that answers no memory accesses.
pub(crate) fn nothing() -> FunctionDecode {
    FunctionDecode::default()
}

pub(crate) fn endpoint() -> ConfigSpace {
    ConfigSpace::builder(IDENTITY)
        .bar(BarIndex::BAR0, Bar::memory32(1 << 12))
        .capability(PciExpress::endpoint())
        .capability(PowerManagement::new())
        .build()
        .unwrap()
}

fn write(machine: &mut Machine, port: PortId, offset: u16, data: &[u8]) -> Effects {
    machine.topology.write_port(port, offset, data).unwrap()
}

/// Gives a port bus numbers, a memory window of whole MiB, and enables it.
fn program(machine: &mut Machine, port: PortId, buses: [u8; 2], window: [u16; 2]) {
    let _ = write(machine, port, 0x19, &buses);
    let _ = write(machine, port, 0x20, &(window[0] << 4).to_le_bytes());
    let _ = write(machine, port, 0x22, &(window[1] << 4).to_le_bytes());
    let _ = write(machine, port, 0x04, &[6, 0]);
}

/// A root port, a switch with one downstream port, and an endpoint with a BAR at 0x8000_0000 below it:
/// buses 1, 2 and 3.
fn chain() -> (Machine, [PortId; 3], FunctionId) {
    let mut machine = Machine::new(0);
    let mut config = machine.port_config(PortKind::Root, true);
    let _ = config.set_presence(true);
    let root = machine.add_port(ROOT, 1, 0, config).unwrap();
    let upstream = machine.port(Parent::Port(root), 0, PortKind::Upstream);
    let downstream = machine.port(Parent::Port(upstream), 4, PortKind::Downstream);
    let function = machine
        .attach(Parent::Port(downstream), 0, 0, endpoint())
        .unwrap();
    let ports = [root, upstream, downstream];
    number(&mut machine, ports);
    machine.write_function(function, 0x10, &0x8000_0000_u32.to_le_bytes());
    machine.write_function(function, 0x04, &[6, 0]);
    (machine, ports, function)
}

fn number(machine: &mut Machine, ports: [PortId; 3]) {
    for (secondary, port) in (1..).zip(ports) {
        program(machine, port, [secondary, 3], [0x800, 0x800]);
    }
}

/// Config space, memory and the way up.
fn reached(machine: &mut Machine, function: FunctionId) -> [bool; 3] {
    let target = machine.topology.config_target(id(3, 0, 0));
    let memory = machine.topology.memory_target(0x8000_0ffc, 4);
    [
        target == Some(ConfigTarget::Function(function)),
        memory.is_some_and(|target| target.function == function && target.offset == 0xffc),
        machine.topology.bus_master(function),
    ]
}

#[test]
fn a_function_behind_a_switch_is_reached_and_reaches_up() {
    let (mut machine, [root, upstream, downstream], function) = chain();
    assert_eq!(reached(&mut machine, function), [true; 3]);
    let topology = &machine.topology;
    assert_eq!(topology.routing_id(function), Some(id(3, 0, 0)));
    assert_eq!(topology.port_routing_id(root), Some(id(0, 1, 0)));
    assert_eq!(topology.port_routing_id(downstream), Some(id(2, 4, 0)));
    assert_eq!(
        topology.config_target(id(2, 4, 0)),
        Some(ConfigTarget::Port(downstream))
    );
    assert_eq!(topology.parent(function), Some(Parent::Port(downstream)));
    assert_eq!(topology.port_parent(upstream), Some(Parent::Port(root)));
    assert_eq!(topology.port_kind(upstream), Some(PortKind::Upstream));
    assert_eq!(topology.functions_below(root), [function]);
    assert_eq!(topology.ports_below(root), [upstream, downstream]);
    assert_eq!(
        topology.member(Parent::Port(upstream), 4, 0),
        Some(Member::Port(downstream))
    );
    assert_eq!(topology.member(Parent::Port(upstream), 32, 0), None);
    assert_eq!(topology.member(Parent::Port(downstream), 1, 0), None);
}

#[test]
fn two_windows_side_by_side_lead_to_one_bar() {
    let mut machine = Machine::new(0);
    let port = machine.port(ROOT, 0, PortKind::Root);
    program(&mut machine, port, [1, 1], [0x800, 0x800]);
    let config = ConfigSpace::builder(IDENTITY)
        .bar(BarIndex::BAR0, Bar::memory32(1 << 22))
        .capability(PciExpress::endpoint())
        .build()
        .unwrap();
    let function = machine.attach(Parent::Port(port), 0, 0, config).unwrap();
    machine.write_function(function, 0x10, &0x8000_0000_u32.to_le_bytes());
    machine.write_function(function, 0x04, &[6, 0]);
    let mut offset = |address, length| {
        let target = machine.topology.memory_target(address, length)?;
        Some(target.offset)
    };
    assert_eq!(offset(0x800f_fffc, 4), Some(0xf_fffc));
    assert_eq!(offset(0x800f_fffc, 8), None);
    for (register, value) in [(0x24, 0x8010_u16), (0x26, 0x8010)] {
        let _ = write(&mut machine, port, register, &value.to_le_bytes());
    }
    let mut offset = |address, length| {
        let target = machine.topology.memory_target(address, length)?;
        Some(target.offset)
    };
    assert_eq!(offset(0x800f_fffc, 8), Some(0xf_fffc));
    assert_eq!(offset(0x801f_fffc, 4), Some(0x1f_fffc));
    assert_eq!(offset(0x801f_fffc, 8), None);
    assert_eq!(offset(0x8000_0000, 0), None);
}

#[test]
fn every_bridge_on_the_way_has_to_be_enabled() {
    for at in 0..3 {
        let (mut machine, ports, function) = chain();
        let _ = write(&mut machine, ports[at], 0x04, &[4, 0]);
        assert_eq!(reached(&mut machine, function), [true, false, true]);
        let _ = write(&mut machine, ports[at], 0x04, &[2, 0]);
        assert_eq!(reached(&mut machine, function), [true, true, false]);
        let _ = write(&mut machine, ports[at], 0x1a, &[2]);
        assert!(!reached(&mut machine, function)[0]);
    }
    let (mut machine, _, function) = chain();
    machine.write_function(function, 0x04, &[4, 0]);
    assert_eq!(reached(&mut machine, function), [true, false, true]);
    machine.write_function(function, 0x04, &[2, 0]);
    assert_eq!(reached(&mut machine, function), [true, true, false]);
}

#[test]
fn only_config_space_answers_outside_d0() {
    let (mut machine, _, function) = chain();
    let power = machine.functions[&function].capability(0x01).unwrap();
    machine.write_function(function, power + 4, &[3, 0]);
    assert_eq!(reached(&mut machine, function), [true, false, false]);
}

#[test]
fn vfs_answer_while_they_are_enabled_with_memory_and_the_pf_is_in_d0() {
    let routing = VfRouting {
        first_vf_offset: 8,
        vf_stride: 1,
    };
    let sriov = Sriov::new(4, 1, routing).bar(BarIndex::BAR2, Bar::memory32(1 << 14));
    let config = ConfigSpace::builder(IDENTITY)
        .capability(PciExpress::endpoint())
        .capability(PowerManagement::new())
        .extended_capability(sriov)
        .build()
        .unwrap();
    let power = config.capability(0x01).unwrap() + 4;
    let base = config.extended_capability(0x10).unwrap();
    let mut machine = Machine::new(0);
    let pf = machine.attach(ROOT, 0, 0, config).unwrap();
    machine.write_function(pf, base + 0x2c, &0x9000_0000_u32.to_le_bytes());
    machine.write_function(pf, base + 0x10, &[3, 0]);
    let answers = |machine: &mut Machine| {
        let target = machine.topology.memory_target(0x9000_b000, 4);
        let expected = MemoryTarget {
            function: pf,
            vf: Some(2),
            bar: BarIndex::BAR2,
            offset: 0x3000,
        };
        assert!(target.is_none_or(|target| target == expected));
        let config = machine.topology.config_target(id(0, 1, 2));
        assert_eq!(machine.topology.memory_target(0x9000_c000, 4), None);
        assert_eq!(machine.topology.config_target(id(0, 1, 3)), None);
        (config.is_some(), target.is_some())
    };
    for (control, config, memory) in [
        (0, false, false),
        (8, false, false),
        (1, true, false),
        (9, true, true),
    ] {
        machine.write_function(pf, base + 8, &[control, 0]);
        assert_eq!(answers(&mut machine), (config, memory), "{control}");
    }
    // Memory Space and Bus Master of the PF are its own.
    machine.write_function(pf, 0x04, &[0, 0]);
    assert_eq!(answers(&mut machine), (true, true));
    machine.write_function(pf, power, &[3, 0]);
    assert_eq!(answers(&mut machine), (true, false));
}

#[test]
fn a_port_outside_d0_passes_nothing_on_but_resets_nothing() {
    let mut machine = Machine::new(0);
    let config = ConfigSpace::bridge_builder(IDENTITY)
        .capability(PciExpress::root_port(0))
        .capability(PowerManagement::new())
        .build()
        .unwrap();
    let power = config.capability(0x01).unwrap() + 4;
    let root = machine.add_port(ROOT, 0, 0, config).unwrap();
    let upstream = machine.port(Parent::Port(root), 0, PortKind::Upstream);
    program(&mut machine, root, [1, 2], [0x800, 0x800]);
    program(&mut machine, upstream, [2, 2], [0x800, 0x800]);
    let reached = |machine: &Machine| machine.topology.config_target(id(1, 0, 0)).is_some();
    assert!(reached(&machine));
    let _ = write(&mut machine, root, power, &[3, 0]);
    assert!(!reached(&machine));
    assert!(!machine.topology.requests_pass(Parent::Port(upstream)));
    let _ = write(&mut machine, root, power, &[0, 0]);
    assert!(reached(&machine));
    assert_eq!(read_u8(machine.config(upstream), 0x19), 2);
}

#[test]
fn secondary_bus_reset_resets_the_ports_below_and_nothing_answers_meanwhile() {
    for at in 0..3 {
        let (mut machine, ports, function) = chain();
        let effects = write(&mut machine, ports[at], 0x3e, &[0x40, 0]);
        assert!(effects.contains(Effects::SECONDARY_BUS_RESET));
        assert_eq!(reached(&mut machine, function), [false; 3]);
        for (port, below) in (0..).zip(ports) {
            let numbers = read_u32(machine.config(below), 0x18);
            assert_eq!(numbers == 0, port > at, "port {port}, reset of {at}");
        }
        let _ = write(&mut machine, ports[at], 0x3e, &[0, 0]);
        number(&mut machine, ports);
        assert_eq!(reached(&mut machine, function), [true; 3]);
    }
}

#[test]
fn nothing_answers_below_a_link_that_is_down() {
    let (mut machine, ports, function) = chain();
    let [root, upstream, _] = ports;
    let down = |config: &mut ConfigSpace| config.set_link_active(false);
    let effects = machine.topology.change_port(root, down).unwrap();
    assert!(effects.contains(Effects::LINK));
    assert_eq!(reached(&mut machine, function), [false; 3]);
    assert_eq!(machine.topology.config_target(id(1, 0, 0)), None);
    assert_eq!(read_u8(machine.config(upstream), 0x19), 0);
    let up = |config: &mut ConfigSpace| config.set_link_active(true);
    let _ = machine.topology.change_port(root, up).unwrap();
    assert_eq!(
        machine.topology.config_target(id(1, 0, 0)),
        Some(ConfigTarget::Port(upstream))
    );
    number(&mut machine, ports);
    assert_eq!(reached(&mut machine, function), [true; 3]);

    // Software can do so too.
    let link_control = machine.config(root).capability(0x10).unwrap() + 0x10;
    let _ = write(&mut machine, root, link_control, &[0x10]);
    assert_eq!(reached(&mut machine, function), [false; 3]);
}

#[test]
fn a_slot_shows_its_device_when_it_is_said_to_be_there() {
    let mut machine = Machine::new(0);
    let slot = machine.port_config(PortKind::Root, true);
    let slot = machine.add_port(ROOT, 0, 0, slot).unwrap();
    let fixed = machine.port(ROOT, 1, PortKind::Root);
    for (secondary, port) in (1..).zip([slot, fixed]) {
        program(&mut machine, port, [secondary; 2], [0x800, 0x800]);
        machine
            .attach(Parent::Port(port), 0, 0, endpoint())
            .unwrap();
    }
    assert_eq!(machine.topology.config_target(id(1, 0, 0)), None);
    assert!(machine.topology.config_target(id(2, 0, 0)).is_some());
    assert!(machine.plug(slot).contains(Effects::LINK));
    assert!(machine.topology.config_target(id(1, 0, 0)).is_some());
}

#[test]
fn functions_above_7_need_ari_forwarding() {
    let mut machine = Machine::new(0);
    let port = machine.port(ROOT, 0, PortKind::Root);
    program(&mut machine, port, [1, 1], [0x800, 0x800]);
    let parent = Parent::Port(port);
    let first = machine.attach(parent, 0, 0, endpoint()).unwrap();
    let last = machine.attach(parent, 0, 255, endpoint()).unwrap();
    assert!(machine.topology.is_multi_function(first));
    let reached = |machine: &Machine| {
        let target = machine.topology.config_target(RoutingId::with_ari(1, 255));
        target == Some(ConfigTarget::Function(last))
    };
    assert!(!reached(&machine));
    let control_2 = machine.config(port).capability(0x10).unwrap() + 0x28;
    let effects = write(&mut machine, port, control_2, &[0x20, 0]);
    assert_eq!(effects, Effects::ARI_FORWARDING);
    assert!(reached(&machine));
    assert_eq!(machine.topology.routing_id(last).unwrap().get(), 0x01ff);
}

#[test]
fn a_port_goes_with_all_that_is_below() {
    let (mut machine, [root, upstream, downstream], function) = chain();
    let removed = machine.topology.remove_below(upstream).unwrap();
    assert_eq!(removed.ports, [downstream]);
    assert_eq!(removed.functions, [function]);
    assert_eq!(reached(&mut machine, function), [false; 3]);
    assert_eq!(machine.topology.decode(function), None);
    let removed = machine.topology.remove_port(root).unwrap();
    assert_eq!(removed.ports, [root, upstream]);
    let topology = &mut machine.topology;
    assert_eq!(topology.walk().count(), 0);
    assert_eq!(topology.config_target(id(0, 1, 0)), None);
    let gone = TopologyError::NoPort(root);
    assert_eq!(topology.remove_port(root), Err(gone));
    assert_eq!(topology.remove_below(root), Err(gone));
    assert_eq!(topology.write_port(root, 0, &[0]), Err(gone));
    let parent = Parent::Port(root);
    assert_eq!(topology.attach(parent, 0, 0, nothing()), Err(gone));
    let mut data = [0; 4];
    topology.read_port(root, 0, &mut data);
    assert_eq!(data, [0xff; 4]);
    assert!(!topology.requests_pass(parent));
}

#[test]
fn a_walk_is_in_the_order_of_lspci() {
    let (mut machine, [root, upstream, downstream], function) = chain();
    let late = machine.attach(ROOT, 2, 0, endpoint()).unwrap();
    let early = machine.attach(ROOT, 0, 0, endpoint()).unwrap();
    let walk: Vec<_> = machine
        .topology
        .walk()
        .map(|found| (found.depth, found.id, found.member))
        .collect();
    assert_eq!(
        walk,
        [
            (0, id(0, 0, 0), Member::Function(early)),
            (0, id(0, 1, 0), Member::Port(root)),
            (1, id(1, 0, 0), Member::Port(upstream)),
            (2, id(2, 4, 0), Member::Port(downstream)),
            (3, id(3, 0, 0), Member::Function(function)),
            (0, id(0, 2, 0), Member::Function(late)),
        ]
    );
}

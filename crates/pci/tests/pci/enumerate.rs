//! Enumerating hierarchies by hand: how deep they can be, what slots get, and what does not fit.

use hdv_pci::enumerate::{EnumerateError, HotPlugReserve, Resources, enumerate};
use hdv_pci::topology::{Member, Parent, TopologyError};
use hdv_pci::{
    Bar, BarIndex, BarKind, ConfigSpace, PciExpress, PortKind, RoutingId, Sriov, VfRouting,
};

use crate::machine::Machine;

pub(crate) fn resources(root_bus: u8) -> Resources {
    Resources {
        buses: root_bus..=255,
        memory: 0x4000_0000..=0xfebf_ffff,
        prefetchable: Some(1 << 40..=(1 << 46) - 1),
        hot_plug: HotPlugReserve::default(),
    }
}

fn endpoint(machine: &mut Machine, bar: Bar) -> ConfigSpace {
    ConfigSpace::builder(machine.identity())
        .bar(BarIndex::BAR0, bar)
        .capability(PciExpress::endpoint())
        .build()
        .unwrap()
}

/// As many switches in a row as there are bus numbers for: a root port, then an upstream and a
/// downstream port for each.
fn deep(ports: usize) -> Machine {
    let mut machine = Machine::new(0);
    let mut port = machine.port(Parent::Root, 0, PortKind::Root);
    for at in 1..ports {
        let kind = if at % 2 == 1 {
            PortKind::Upstream
        } else {
            PortKind::Downstream
        };
        port = machine.port(Parent::Port(port), 0, kind);
    }
    let config = endpoint(&mut machine, Bar::memory64(1 << 12));
    machine.attach(Parent::Port(port), 0, 0, config).unwrap();
    machine
}

#[test]
fn ports_in_a_row_go_as_deep_as_bus_numbers() {
    let mut machine = deep(255);
    let found = enumerate(&mut machine, &resources(0)).unwrap();
    let last = found.functions.last().unwrap();
    assert_eq!(last.id, RoutingId::new(255, 0, 0).unwrap());
    let address = last.bars[0].address;
    let target = machine.topology.memory_target(address + 8, 4).unwrap();
    let function = *machine.functions.keys().next().unwrap();
    assert_eq!((target.function, target.offset), (function, 8));
    assert!(machine.topology.bus_master(function));
    let deepest = machine.topology.walk().last().unwrap();
    assert_eq!(
        (deepest.depth, deepest.member),
        (255, Member::Function(function))
    );

    let full = machine.port_config(PortKind::Root, false);
    let refused = machine.topology.add_port(Parent::Root, 1, 0, full);
    assert_eq!(refused, Err(TopologyError::TooManyPorts));
}

#[test]
fn too_few_buses_are_an_error() {
    let mut machine = deep(9);
    let few = Resources {
        buses: 0..=8,
        ..resources(0)
    };
    let error = enumerate(&mut machine, &few).unwrap_err();
    let id = RoutingId::new(8, 0, 0).unwrap();
    assert_eq!(
        error,
        EnumerateError::Buses {
            id,
            needed: 9,
            last: 8
        }
    );
    let enough = Resources {
        buses: 0..=9,
        ..few
    };
    assert!(enumerate(&mut machine, &enough).is_ok());
}

#[test]
fn a_window_that_is_too_small_is_an_error() {
    let mut machine = Machine::new(0);
    for (device, size) in [(0, 1 << 16), (1, 1 << 12)] {
        let port = machine.port(Parent::Root, device, PortKind::Root);
        let config = endpoint(&mut machine, Bar::memory32(size));
        machine.attach(Parent::Port(port), 0, 0, config).unwrap();
    }
    let mut few = Resources {
        memory: 0x8000_0000..=0x801f_fffe,
        ..resources(0)
    };
    let error = enumerate(&mut machine, &few).unwrap_err();
    assert_eq!(
        error,
        EnumerateError::Window {
            window: "memory",
            needed: 2 << 20,
            alignment: 1 << 20,
            available: few.memory.clone(),
        }
    );
    few.memory = 0x8000_0000..=0x801f_ffff;
    assert!(enumerate(&mut machine, &few).is_ok());
    few.memory = 0x8000_0000..=0x1_0000_0000;
    let error = enumerate(&mut machine, &few).unwrap_err();
    assert_eq!(error, EnumerateError::MemoryAbove4G(0x1_0000_0000));
}

#[test]
fn without_a_prefetchable_window_all_is_below_4_gib() {
    let mut machine = Machine::new(0);
    let port = machine.port(Parent::Root, 0, PortKind::Root);
    let config = endpoint(&mut machine, Bar::memory64(1 << 20).prefetchable());
    machine.attach(Parent::Port(port), 0, 0, config).unwrap();
    let resources = Resources {
        prefetchable: None,
        ..resources(0)
    };
    let found = enumerate(&mut machine, &resources).unwrap();
    let bar = found.functions[1].bars[0];
    assert_eq!(bar.bar.kind, BarKind::Memory64);
    assert_eq!(bar.address, 0x4000_0000);
    assert!(machine.topology.memory_target(bar.address, 1).is_some());
    assert_eq!(
        found.functions[0].bridge.as_ref().unwrap().prefetchable,
        None
    );
}

#[test]
fn empty_slots_get_room_unless_buses_are_few() {
    let mut machine = Machine::new(0);
    for device in 0..3 {
        let config = machine.port_config(PortKind::Root, true);
        machine.add_port(Parent::Root, device, 0, config).unwrap();
    }
    let found = enumerate(&mut machine, &resources(0)).unwrap();
    let numbers: Vec<_> = found
        .functions
        .iter()
        .map(|function| function.bridge.clone().unwrap())
        .map(|bridge| (bridge.secondary, bridge.subordinate, bridge.hot_plug))
        .collect();
    assert_eq!(numbers, [(1, 9, true), (10, 18, true), (19, 27, true)]);
    let window = found.functions[1].bridge.as_ref().unwrap();
    assert_eq!(window.memory, Some(0x4020_0000..=0x403f_ffff));
    assert_eq!(
        window.prefetchable,
        Some((1 << 40) + (2 << 20)..=(1 << 40) + (4 << 20) - 1)
    );

    let few = Resources {
        buses: 0..=26,
        ..resources(0)
    };
    let found = enumerate(&mut machine, &few).unwrap();
    let last = found.functions[2].bridge.as_ref().unwrap();
    assert_eq!((last.secondary, last.subordinate), (3, 3));
}

#[test]
fn vfs_beyond_the_last_routing_id_are_an_error() {
    let mut machine = Machine::new(0x80);
    let routing = VfRouting {
        first_vf_offset: 1,
        vf_stride: 1,
    };
    let config = ConfigSpace::builder(machine.identity())
        .capability(PciExpress::endpoint())
        .extended_capability(Sriov::new(0x8000, 1, routing))
        .build()
        .unwrap();
    machine.attach(Parent::Root, 0, 0, config).unwrap();
    let error = enumerate(&mut machine, &resources(0x80)).unwrap_err();
    let pf = RoutingId::new(0x80, 0, 0).unwrap();
    assert_eq!(error, EnumerateError::VfRouting { pf });
}

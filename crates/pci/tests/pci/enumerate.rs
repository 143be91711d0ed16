//! Random hierarchies, enumerated through an ECAM window as software does: everything is found once, no
//! two BARs overlap, and every address and every routing id reaches what it is given to and nothing
//! else.

use std::collections::BTreeMap;

use hdv_pci::enumerate::{
    EnumerateError, Enumeration, FoundBar, HotPlugReserve, Resources, disable_vfs, enable_vfs,
    enumerate,
};
use hdv_pci::topology::{ConfigTarget, FunctionId, Member, MemoryTarget, Parent, TopologyError};
use hdv_pci::{
    Bar, BarIndex, BarKind, ConfigSpace, PciExpress, PortKind, RoutingId, Sriov, VfRouting,
};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::machine::Machine;
use crate::shapes::{build, hierarchy};

fn resources(root_bus: u8) -> Resources {
    Resources {
        buses: root_bus..=255,
        memory: 0x4000_0000..=0xfebf_ffff,
        prefetchable: Some(1 << 40..=(1 << 46) - 1),
        hot_plug: HotPlugReserve::default(),
    }
}

/// The config accesses that reach something, by routing id: as the enumeration says.
type Routes = BTreeMap<RoutingId, ConfigTarget>;

/// A range of addresses and what its start reaches.
#[derive(Clone, Copy, Debug)]
struct Range {
    first: u64,
    last: u64,
    target: MemoryTarget,
}

/// What the enumeration says of every function found, with all VFs enabled.
fn expected(machine: &Machine, found: &Enumeration) -> (Routes, Vec<Range>) {
    let mut routes = Routes::new();
    let mut ranges = Vec::new();
    let members: BTreeMap<_, _> = machine
        .topology
        .walk()
        .map(|found| (found.id, found.member))
        .collect();
    for function in &found.functions {
        let id = match members[&function.id] {
            Member::Port(port) => {
                routes.insert(function.id, ConfigTarget::Port(port));
                continue;
            }
            Member::Function(id) => id,
        };
        routes.insert(function.id, ConfigTarget::Function(id));
        let mut add = |bar: &FoundBar, vf: Option<u16>| {
            let size = bar.bar.size;
            let first = bar.address + size * u64::from(vf.unwrap_or(0));
            let target = MemoryTarget {
                function: id,
                vf,
                bar: bar.index,
                offset: 0,
            };
            let last = first + (size - 1);
            ranges.push(Range {
                first,
                last,
                target,
            });
        };
        for bar in &function.bars {
            add(bar, None);
        }
        let Some(sriov) = &function.sriov else {
            continue;
        };
        for vf in 0..sriov.total_vfs {
            let place = sriov.routing.routing_id(function.id, vf).unwrap();
            let taken = routes.insert(place, ConfigTarget::VirtualFunction(id, vf));
            assert_eq!(taken, None, "two functions at {place}");
            for bar in &sriov.bars {
                add(bar, Some(vf));
            }
        }
    }
    ranges.sort_by_key(|range| range.first);
    (routes, ranges)
}

/// What the last range that starts at the address or below says.
fn search(ranges: &[Range], address: u64, length: u64) -> Option<MemoryTarget> {
    let after = ranges.partition_point(|range| range.first <= address);
    let range = &ranges[after.checked_sub(1)?];
    let last = address.checked_add(length - 1)?;
    (last <= range.last).then_some(MemoryTarget {
        offset: address - range.first,
        ..range.target
    })
}

fn routes_agree(
    machine: &Machine,
    routes: &Routes,
    ids: impl IntoIterator<Item = RoutingId>,
) -> Result<(), TestCaseError> {
    for id in ids {
        let target = machine.topology.config_target(id);
        prop_assert_eq!(target, routes.get(&id).copied(), "at {}", id);
    }
    Ok(())
}

fn addresses_agree(machine: &mut Machine, ranges: &[Range]) -> Result<(), TestCaseError> {
    for pair in ranges.windows(2) {
        prop_assert!(pair[0].last < pair[1].first, "{:x?}", pair);
    }
    for range in ranges {
        let size = range.last - range.first + 1;
        let middle = range.first + size / 2;
        for (address, length) in [
            (range.first, 1),
            (range.first, size),
            (range.first, size + 1),
            (range.last, 1),
            (range.last, 2),
            (middle, 4),
            (range.first.wrapping_sub(1), 1),
            (range.first.wrapping_sub(1), 2),
            (range.last.wrapping_add(1), 1),
        ] {
            let target = machine.topology.memory_target(address, length);
            let expected = search(ranges, address, length);
            prop_assert_eq!(target, expected, "{} at {:#x}", length, address);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn all_is_found_and_reached(
        shapes in hierarchy(),
        root_bus in prop_oneof![Just(0_u8), Just(0x20)],
        random: Vec<u64>,
        gone: Index,
    ) {
        let mut machine = build(root_bus, &shapes);
        let resources = resources(root_bus);
        let result = enumerate(&mut machine, &resources);
        prop_assume!(!matches!(result, Err(EnumerateError::Buses { .. })));
        let found = result.unwrap();

        // All is found once, where the tree says it is.
        let walked: Vec<_> = machine.topology.walk().collect();
        prop_assert_eq!(walked.len(), found.functions.len());
        for place in &walked {
            let config = match place.member {
                Member::Port(port) => machine.topology.port(port).unwrap(),
                Member::Function(id) => &machine.functions[&id],
            };
            let function = found.function(place.id).expect("it is there");
            prop_assert_eq!(function.device_id, config.identity().device_id);
            let above = function.above.map(|above| found.functions[above].device_id);
            let parent = match place.parent {
                Parent::Root => None,
                Parent::Port(port) => machine.topology.port(port),
            };
            prop_assert_eq!(above, parent.map(|config| config.identity().device_id));
            let bars = BarIndex::ALL.into_iter().filter_map(|index| Some((index, config.bar(index)?)));
            let found = function.bars.iter().map(|bar| (bar.index, bar.bar));
            prop_assert!(bars.eq(found));
        }

        for function in &found.functions {
            let total_vfs = function.sriov.as_ref().map_or(0, |sriov| sriov.total_vfs);
            let vfs = enable_vfs(&mut machine, function, total_vfs);
            prop_assert_eq!(vfs.len(), usize::from(total_vfs));
        }
        let (mut routes, mut ranges) = expected(&machine, &found);
        let last = routes.keys().last().map_or(0, |id| id.bus());
        let every = (0..=u16::MAX).map(RoutingId::from);
        let near = every.filter(|id| id.bus() <= last || id.bus().is_power_of_two());
        routes_agree(&machine, &routes, near)?;
        let used: Vec<RoutingId> = routes.keys().copied().collect();
        addresses_agree(&mut machine, &ranges)?;
        for range in &ranges {
            let inside = resources.memory.contains(&range.first)
                || resources.prefetchable.as_ref().unwrap().contains(&range.first);
            prop_assert!(inside, "{:x?}", range);
        }
        for address in random {
            let target = machine.topology.memory_target(address, 1);
            prop_assert_eq!(target, search(&ranges, address, 1));
        }

        // Requests get through, with the requester ids that were given out.
        for (id, target) in &routes {
            match *target {
                ConfigTarget::Function(function) => {
                    prop_assert_eq!(machine.topology.routing_id(function), Some(*id));
                    prop_assert!(machine.topology.bus_master(function));
                }
                ConfigTarget::VirtualFunction(pf, vf) => {
                    prop_assert_eq!(machine.topology.vf_routing_id(pf, vf), Some(*id));
                }
                ConfigTarget::Port(port) => {
                    prop_assert_eq!(machine.topology.port_routing_id(port), Some(*id));
                }
            }
        }

        // Nothing answers any more where something was taken away.
        let functions: Vec<FunctionId> = machine.functions.keys().copied().collect();
        if !functions.is_empty() {
            let gone = *gone.get(&functions);
            match machine.topology.detach(gone) {
                Ok(()) => {
                    routes.retain(|_, target| match target {
                        ConfigTarget::Function(id) | ConfigTarget::VirtualFunction(id, _) => *id != gone,
                        ConfigTarget::Port(_) => true,
                    });
                    ranges.retain(|range| range.target.function != gone);
                    prop_assert_eq!(machine.topology.detach(gone), Err(TopologyError::NoFunction(gone)));
                    let parent = machine.topology.parent(gone);
                    prop_assert_eq!(parent, None);
                }
                Err(error) => {
                    let other_functions = matches!(error, TopologyError::FunctionZero { .. });
                    prop_assert!(other_functions, "{}", error);
                }
            }
            routes_agree(&machine, &routes, used.iter().copied())?;
            addresses_agree(&mut machine, &ranges)?;
        }

        // Without VFs there is nothing of them.
        for function in &found.functions {
            if routes.contains_key(&function.id) {
                disable_vfs(&mut machine, function);
            }
        }
        routes.retain(|_, target| !matches!(target, ConfigTarget::VirtualFunction(..)));
        ranges.retain(|range| range.target.vf.is_none());
        routes_agree(&machine, &routes, used.iter().copied())?;
        addresses_agree(&mut machine, &ranges)?;
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

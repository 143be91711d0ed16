//! Random hierarchies, enumerated through an ECAM window as software does: everything is found once, no
//! two BARs overlap, and every address and every routing id reaches what it is given to and nothing
//! else.

use std::collections::BTreeMap;

use hdv_pci::enumerate::{
    EnumerateError, Enumeration, FoundBar, disable_vfs, enable_vfs, enumerate,
};
use hdv_pci::topology::{ConfigTarget, FunctionId, Member, MemoryTarget, Parent, TopologyError};
use hdv_pci::{BarIndex, RoutingId};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::enumerate::resources;
use crate::machine::Machine;
use crate::shapes::{build, hierarchy};

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

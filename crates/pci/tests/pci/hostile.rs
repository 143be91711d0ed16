//! A guest that writes anything anywhere: nothing panics, and all lookups agree with a decoder that is
//! simple and slow.

use hdv_pci::topology::{BarSizes, FunctionDecode, FunctionId, Member, Parent, PortId};
use hdv_pci::{BarIndex, ConfigSpace, RoutingId};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::machine::Machine;
use crate::shapes::{build, hierarchy};

#[derive(Clone, Debug)]
enum Step {
    /// Software writes to a port.
    Port(Index, u16, Vec<u8>),
    /// Software writes to a function.
    Function(Index, u16, Vec<u8>),
    /// A port's bus numbers.
    Buses(Index, [u8; 2]),
    /// The MiB from and to which a port's windows are, all below 4 GiB.
    Windows(Index, [u8; 4]),
    /// The MiB that a BAR is at, and KiB beyond.
    Bar(Index, u16, [u8; 2]),
    /// As many VFs as there can be, at this address, with pages of this size and these bits of SR-IOV
    /// control.
    Vfs(Index, u64, u32, u8),
    /// Memory Space and Bus Master everywhere.
    Enable,
    /// Whether there is a device below a port.
    Presence(Index, bool),
    /// Take a function away.
    Detach(Index),
}

const BASE: u32 = 0x8000_0000;

fn step() -> impl Strategy<Value = Step> {
    let byte = prop_oneof![Just(0xff_u8), Just(0), any::<u8>()];
    let offset = prop_oneof![4 => 0_u16..0x80, 3 => 0x100_u16..0x160, 1 => any::<u16>()];
    let data = vec(byte, 0..=8);
    let random = (any::<Index>(), offset, data);
    let mib = prop_oneof![3 => 0_u8..4, 1 => 0_u8..16];
    // The last VFs may be beyond all addresses.
    let vf_address = prop_oneof![
        6 => mib.clone().prop_map(|mib| u64::from(BASE) + (u64::from(mib) << 20)),
        1 => (1_u64..32).prop_map(|page| page.wrapping_neg() << 12),
        1 => (1_u64..32).prop_map(|page| (1 << 32) - (page << 12)),
    ];
    let page = prop_oneof![3 => Just(0_u32), 1 => 0_u32..12];
    let control = prop_oneof![2 => Just(0x09_u8), 1 => 0_u8..0x20];
    let bus = prop_oneof![4 => 0_u8..8, 1 => any::<u8>()];
    prop_oneof![
        2 => random.clone().prop_map(|(at, offset, data)| Step::Port(at, offset, data)),
        2 => random.prop_map(|(at, offset, data)| Step::Function(at, offset, data)),
        6 => (any::<Index>(), [bus.clone(), bus]).prop_map(|(at, bus)| Step::Buses(at, bus)),
        6 => (any::<Index>(), [mib.clone(), mib.clone(), mib.clone(), mib.clone()])
            .prop_map(|(at, mib)| Step::Windows(at, mib)),
        8 => (any::<Index>(), 0_u16..6, [mib.clone(), mib.clone()])
            .prop_map(|(at, bar, place)| Step::Bar(at, bar, place)),
        5 => (any::<Index>(), vf_address, page, control)
            .prop_map(|(at, address, page, control)| Step::Vfs(at, address, page, control)),
        4 => Just(Step::Enable),
        1 => (any::<Index>(), any::<bool>()).prop_map(|(at, there)| Step::Presence(at, there)),
        1 => any::<Index>().prop_map(Step::Detach),
    ]
}

fn ports(machine: &Machine) -> Vec<PortId> {
    let port = |found: hdv_pci::topology::Found| match found.member {
        Member::Port(port) => Some(port),
        Member::Function(_) => None,
    };
    machine.topology.walk().filter_map(port).collect()
}

fn functions(machine: &Machine) -> Vec<FunctionId> {
    machine.functions.keys().copied().collect()
}

fn write_port(machine: &mut Machine, port: PortId, offset: u16, data: &[u8]) {
    let _ = machine.topology.write_port(port, offset, data).unwrap();
}

fn enable(machine: &mut Machine) {
    for port in ports(machine) {
        write_port(machine, port, 0x04, &[6, 0]);
    }
    for function in functions(machine) {
        machine.write_function(function, 0x04, &[6, 0]);
    }
}

fn take(machine: &mut Machine, step: &Step) {
    let (ports, functions) = (ports(machine), functions(machine));
    let port = |at: &Index| (!ports.is_empty()).then(|| *at.get(&ports));
    let function = |at: &Index| (!functions.is_empty()).then(|| *at.get(&functions));
    let mib = |at: u8| (BASE >> 16) as u16 + u16::from(at) * 16;
    match step {
        Step::Port(at, offset, data) => {
            if let Some(port) = port(at) {
                write_port(machine, port, *offset, data);
            }
        }
        Step::Function(at, offset, data) => {
            if let Some(function) = function(at) {
                machine.write_function(function, *offset, data);
            }
        }
        Step::Buses(at, buses) => {
            if let Some(port) = port(at) {
                write_port(machine, port, 0x19, buses);
            }
        }
        Step::Windows(at, places) => {
            if let Some(port) = port(at) {
                for (register, place) in (0x20..).step_by(2).zip(places) {
                    write_port(machine, port, register, &mib(*place).to_le_bytes());
                }
                write_port(machine, port, 0x28, &[0; 8]);
            }
        }
        Step::Bar(at, bar, [place, kib]) => {
            if let Some(function) = function(at) {
                let address = BASE + (u32::from(*place) << 20) + (u32::from(*kib) << 10);
                let register = 0x10 + 4 * bar;
                machine.write_function(function, register, &address.to_le_bytes());
                machine.write_function(function, register + 4, &[0; 4]);
            }
        }
        Step::Vfs(at, address, page, control) => {
            let Some(function) = function(at) else { return };
            let config = &machine.functions[&function];
            let Some(base) = config.extended_capability(0x10) else {
                return;
            };
            let total = config.sriov().unwrap().total_vfs;
            let mut write = |offset, data: &[u8]| {
                machine.write_function(function, base + offset, data);
            };
            write(0x08, &[0, 0]);
            write(0x10, &total.to_le_bytes());
            write(0x20, &(1_u32 << page).to_le_bytes());
            for bar in [0x24, 0x2c, 0x34] {
                write(bar, &address.to_le_bytes());
            }
            write(0x08, &[*control, 0]);
        }
        Step::Enable => enable(machine),
        Step::Presence(at, there) => {
            if let Some(port) = port(at) {
                let change = |config: &mut ConfigSpace| config.set_presence(*there);
                let _ = machine.topology.change_port(port, change).unwrap();
            }
        }
        Step::Detach(at) => {
            if let Some(function) = function(at) {
                machine.detach(function);
            }
        }
    }
}

/// Addresses where something begins or ends.
fn edges(machine: &Machine) -> Vec<u64> {
    let mut edges = vec![0, u32::MAX.into(), 1 << 32, u64::MAX];
    for config in machine.functions.values() {
        for index in BarIndex::ALL {
            if let (Some(bar), Some(address)) = (config.bar(index), config.bar_address(index)) {
                edges.extend([address, address.wrapping_add(bar.size)]);
            }
        }
        for bar in config
            .sriov()
            .iter()
            .flat_map(|sriov| sriov.vf_bars)
            .flatten()
        {
            edges.extend(
                [0, 1, 2, 29].map(|vf| bar.address.wrapping_add(bar.bar.size.wrapping_mul(vf))),
            );
        }
    }
    for port in ports(machine) {
        let bridge = machine.config(port).bridge().unwrap();
        for window in [bridge.memory, bridge.prefetchable].into_iter().flatten() {
            edges.extend([*window.start(), window.end().wrapping_add(1)]);
        }
    }
    edges.sort_unstable();
    edges.dedup();
    edges
}

fn memory_agrees(machine: &mut Machine, address: u64) -> Result<(), TestCaseError> {
    for length in [1, 2, 4, 8] {
        let target = machine.topology.memory_target(address, length);
        let found = target.map(|target| (target.function, target.vf, target.bar, target.offset));
        let mut expected = machine.slow_byte(address);
        if let Some((function, vf, bar, offset)) = expected {
            for beyond in 1..length {
                let next = address
                    .checked_add(beyond)
                    .and_then(|at| machine.slow_byte(at));
                if next != Some((function, vf, bar, offset + beyond)) {
                    expected = None;
                }
            }
        }
        prop_assert_eq!(found, expected, "{} at {:#x}", length, address);
        let map = machine.topology.memory_map().target(address, length);
        prop_assert_eq!(map, target);
    }
    Ok(())
}

fn config_agrees(machine: &Machine) -> Result<(), TestCaseError> {
    let buses = (0_u8..9).chain([0x40, 0xff]);
    for id in buses.flat_map(|bus| (0..=255).map(move |at| RoutingId::with_ari(bus, at))) {
        let target = machine.topology.config_target(id);
        prop_assert_eq!(target, machine.slow_config_target(id), "{}", id);
    }
    Ok(())
}

/// What reads of config space say is what the config space says.
fn reads_agree(machine: &Machine, sizes: &[(FunctionId, BarSizes)]) -> Result<(), TestCaseError> {
    for (id, sizes) in sizes {
        let Some(config) = machine.functions.get(id) else {
            continue;
        };
        let read = FunctionDecode::read(sizes, |offset, data| config.read(offset, data));
        prop_assert_eq!(&read, machine.topology.decode(*id).unwrap());
        let above = machine.topology.parent(*id).unwrap();
        let bus = machine.topology.bus_number(above).unwrap();
        prop_assert_eq!(machine.topology.routing_id(*id).unwrap().bus(), bus);
        prop_assert_eq!(
            machine.topology.bus_master(*id),
            read.bus_master() && machine.topology.requests_pass(above)
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_written_lookups_are_right(
        shapes in hierarchy(),
        root_bus in prop_oneof![3 => Just(0_u8), 1 => 0_u8..9],
        steps in vec(step(), 0..40),
        random: Vec<u64>,
    ) {
        let mut machine = build(root_bus, &shapes);
        let sizes: Vec<_> = machine.functions.iter().map(|(id, config)| {
            let bars = BarIndex::ALL.map(|index| config.bar(index).map_or(0, |bar| bar.size));
            let vf_bars = config.sriov().map_or([0; 6], |sriov| {
                // What is smaller than a page counts as one.
                let declared = |size| if size == 4096 { 16 } else { size };
                sriov.vf_bars.map(|bar| bar.map_or(0, |bar| declared(bar.bar.size)))
            });
            (*id, BarSizes { bars, vf_bars })
        }).collect();
        enable(&mut machine);
        for (at, step) in steps.iter().enumerate() {
            take(&mut machine, step);
            if at % 13 != 0 && at + 1 != steps.len() {
                continue;
            }
            for edge in edges(&machine) {
                for address in [edge.wrapping_sub(4), edge.wrapping_sub(1), edge] {
                    memory_agrees(&mut machine, address)?;
                }
            }
            for address in &random {
                memory_agrees(&mut machine, *address)?;
            }
            config_agrees(&machine)?;
            reads_agree(&machine, &sizes)?;
        }
    }

    #[test]
    fn reads_of_anything_end(bytes in vec(any::<u8>(), 4096), sizes: [u64; 12], known: bool) {
        let mut bytes = bytes;
        // A list, so that it is walked, and one that begins with SR-IOV.
        bytes[0x06] |= 0x10;
        if known {
            bytes[0x100..0x104].copy_from_slice(&[0x10, 0, 1, 0]);
        }
        let (bars, vf_bars) = sizes.split_at(6);
        let sizes = BarSizes {
            bars: bars.try_into().unwrap(),
            vf_bars: vf_bars.try_into().unwrap(),
        };
        let mut reads = 0;
        let decode = FunctionDecode::read(&sizes, |offset, data| {
            reads += 1;
            let start = usize::from(offset);
            data.copy_from_slice(&bytes[start..start + data.len()]);
        });
        prop_assert!(reads < 1200);
        let mut machine = Machine::new(0);
        let id = machine.topology.attach(Parent::Root, 0, 0, decode).unwrap();
        for bar in BarIndex::ALL.into_iter().filter_map(|index| decode.bar(index)) {
            let first = machine.topology.memory_target(*bar.start(), 1);
            prop_assert!(first.is_none_or(|target| target.function == id));
        }
        for other in (1..=u16::MAX).step_by(97).map(RoutingId::from) {
            let target = machine.topology.config_target(other);
            prop_assert!(target.is_none() || decode.active_vfs() > 0);
        }
    }
}

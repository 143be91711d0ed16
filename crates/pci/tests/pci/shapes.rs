//! Random hierarchies: switches in switches, devices with several functions, with and without ARI, PFs.

use hdv_pci::topology::{Parent, PortId};
use hdv_pci::{
    Ari, Bar, BarIndex, ConfigSpace, PciExpress, PortKind, PowerManagement, Sriov, VfRouting,
};
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use crate::machine::Machine;

#[derive(Clone, Debug)]
pub(crate) struct FunctionShape {
    bars: Vec<(BarIndex, Bar)>,
    /// Number of VFs and their BARs.
    vfs: Option<(u16, Vec<(BarIndex, Bar)>)>,
}

#[derive(Clone, Debug)]
pub(crate) struct DeviceShape {
    ari: bool,
    /// Function numbers, 0 among them.
    functions: Vec<(u8, FunctionShape)>,
}

#[derive(Clone, Debug)]
pub(crate) enum Below {
    Nothing,
    Device(DeviceShape),
    /// Device numbers, slots, and what is below.
    Switch(Vec<(u8, bool, Below)>),
}

#[derive(Clone, Debug)]
pub(crate) enum OnRoot {
    Device(DeviceShape),
    Port(bool, Below),
}

fn bar() -> impl Strategy<Value = Bar> {
    prop_oneof![
        (4_u32..18).prop_map(|log| Bar::memory32(1 << log)),
        (4_u32..18).prop_map(|log| Bar::memory32(1 << log).prefetchable()),
        (4_u32..18).prop_map(|log| Bar::memory64(1 << log)),
        (4_u32..34).prop_map(|log| Bar::memory64(1 << log).prefetchable()),
    ]
}

/// BARs at registers 0, 2 and 4, so that each may be a 64-bit one.
fn bars() -> impl Strategy<Value = Vec<(BarIndex, Bar)>> {
    [option::of(bar()), option::of(bar()), option::of(bar())].prop_map(|bars| {
        let registers = [BarIndex::BAR0, BarIndex::BAR2, BarIndex::BAR4];
        let declared = registers.into_iter().zip(bars);
        declared
            .filter_map(|(index, bar)| Some((index, bar?)))
            .collect()
    })
}

fn function() -> impl Strategy<Value = FunctionShape> {
    let vfs = option::weighted(0.3, (prop_oneof![0_u16..6, 0_u16..30], bars()));
    (bars(), vfs).prop_map(|(bars, vfs)| FunctionShape { bars, vfs })
}

fn device() -> impl Strategy<Value = DeviceShape> {
    let numbers = |ari| {
        let number = match ari {
            true => prop_oneof![4 => 1_u8..=20, 1 => 240_u8..=255].boxed(),
            false => (1_u8..=7).boxed(),
        };
        btree_set(number, 0..4).prop_map(move |numbers| (ari, numbers))
    };
    any::<bool>()
        .prop_flat_map(numbers)
        .prop_flat_map(|(ari, numbers)| {
            let functions = vec(function(), numbers.len() + 1);
            functions.prop_map(move |shapes| DeviceShape {
                ari,
                functions: std::iter::once(0)
                    .chain(numbers.clone())
                    .zip(shapes)
                    .collect(),
            })
        })
}

fn below() -> impl Strategy<Value = Below> {
    let leaf = prop_oneof![1 => Just(Below::Nothing), 4 => device().prop_map(Below::Device)];
    leaf.prop_recursive(5, 24, 4, |inner| {
        vec((any::<bool>(), inner), 0..4).prop_map(|below| {
            let place = |(at, (slot, below))| (5 * at, slot, below);
            Below::Switch((0_u8..).zip(below).map(place).collect())
        })
    })
}

/// By device number.
pub(crate) fn hierarchy() -> impl Strategy<Value = Vec<OnRoot>> {
    let on_root = prop_oneof![
        1 => device().prop_map(OnRoot::Device),
        4 => (any::<bool>(), below()).prop_map(|(slot, below)| OnRoot::Port(slot, below)),
    ];
    vec(on_root, 1..5)
}

pub(crate) fn build(root_bus: u8, shapes: &[OnRoot]) -> Machine {
    let mut machine = Machine::new(root_bus);
    for (device, shape) in (0_u8..).zip(shapes) {
        match shape {
            OnRoot::Device(shape) => {
                let mut shape = shape.clone();
                // There is no ARI on the root bus.
                shape.ari = false;
                for (at, (number, _)) in (0_u8..).zip(&mut shape.functions) {
                    *number = at;
                }
                add_device(&mut machine, Parent::Root, device, &shape);
            }
            OnRoot::Port(slot, below) => {
                add_port(
                    &mut machine,
                    Parent::Root,
                    device,
                    PortKind::Root,
                    *slot,
                    below,
                );
            }
        }
    }
    machine
}

fn add_port(
    machine: &mut Machine,
    parent: Parent,
    device: u8,
    kind: PortKind,
    slot: bool,
    below: &Below,
) {
    let config = machine.port_config(kind, slot);
    let port = machine.add_port(parent, device, 0, config).unwrap();
    add_below(machine, port, below);
    if slot && !matches!(below, Below::Nothing) {
        let _ = machine.plug(port);
    }
}

fn add_below(machine: &mut Machine, port: PortId, below: &Below) {
    match below {
        Below::Nothing => {}
        Below::Device(shape) => add_device(machine, Parent::Port(port), 0, shape),
        Below::Switch(ports) => {
            let upstream = machine.port(Parent::Port(port), 0, PortKind::Upstream);
            for (device, slot, below) in ports {
                let parent = Parent::Port(upstream);
                add_port(machine, parent, *device, PortKind::Downstream, *slot, below);
            }
        }
    }
}

fn add_device(machine: &mut Machine, parent: Parent, device: u8, shape: &DeviceShape) {
    let last = shape.functions.last().unwrap().0;
    // VFs of the functions take turns, beyond the last function.
    let turns = u16::from(last) + 1;
    let routing = |first_vf_offset| VfRouting {
        first_vf_offset,
        vf_stride: turns,
    };
    // Devices of the root bus share it, so the VFs of each are on another bus.
    let own_bus = 256 * (u16::from(device) + 1) - 8 * u16::from(device);
    let mut lowest = true;
    for (at, (number, function)) in shape.functions.iter().enumerate() {
        let mut builder = ConfigSpace::builder(machine.identity())
            .capability(PciExpress::endpoint())
            .capability(PowerManagement::new());
        for (index, bar) in &function.bars {
            builder = builder.bar(*index, *bar);
        }
        if shape.ari {
            let next = shape.functions.get(at + 1).map_or(0, |(number, _)| *number);
            builder = builder.extended_capability(Ari::new(next));
        }
        if let Some((total_vfs, bars)) = &function.vfs {
            let mut sriov = Sriov::new(*total_vfs, 0x5678, routing(turns))
                .routing_without_ari(routing(own_bus));
            if !lowest {
                sriov = sriov.not_lowest_function(shape.ari);
            }
            lowest = false;
            for (index, bar) in bars {
                sriov = sriov.bar(*index, *bar);
            }
            builder = builder.extended_capability(sriov);
        }
        let config = builder.build().unwrap();
        machine.attach(parent, device, *number, config).unwrap();
    }
}

//! Random hierarchies: switches in switches, devices with several functions, slots.

use hdv::{Bar, BarIndex};
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

pub(crate) type Bars = Vec<(BarIndex, Bar)>;

/// What is to be below a port.
#[derive(Clone, Debug)]
pub(crate) enum Below {
    Nothing,
    /// Functions by number, 0 among them.
    Device(Vec<(u8, Bars)>),
    /// For each downstream port whether it has a slot, and what is below.
    Switch(Vec<(bool, Below)>),
}

#[derive(Clone, Debug)]
pub(crate) enum OnRoot {
    Device(Vec<(u8, Bars)>),
    Port(bool, Below),
}

fn bars() -> impl Strategy<Value = Bars> {
    let bar = || {
        option::of(prop_oneof![
            (4_u32..18).prop_map(|log| Bar::memory32(1 << log)),
            (4_u32..18).prop_map(|log| Bar::memory64(1 << log)),
            (4_u32..30).prop_map(|log| Bar::memory64(1 << log).prefetchable()),
        ])
    };
    // At these, so that each may be a 64-bit one.
    let registers = [BarIndex::BAR0, BarIndex::BAR2, BarIndex::BAR4];
    [bar(), bar(), bar()].prop_map(move |bars| {
        let declared = registers.into_iter().zip(bars);
        declared
            .filter_map(|(index, bar)| Some((index, bar?)))
            .collect()
    })
}

pub(crate) fn device() -> impl Strategy<Value = Vec<(u8, Bars)>> {
    (btree_set(1_u8..8, 0..3), vec(bars(), 3)).prop_map(|(numbers, bars)| {
        let numbers = std::iter::once(0).chain(numbers);
        numbers.zip(bars).collect()
    })
}

fn below() -> impl Strategy<Value = Below> {
    let leaf = prop_oneof![1 => Just(Below::Nothing), 4 => device().prop_map(Below::Device)];
    leaf.prop_recursive(4, 16, 4, |inner| {
        vec((any::<bool>(), inner), 0..4).prop_map(Below::Switch)
    })
}

pub(crate) fn hierarchy() -> impl Strategy<Value = Vec<OnRoot>> {
    let on_root = prop_oneof![
        1 => device().prop_map(OnRoot::Device),
        5 => (any::<bool>(), below()).prop_map(|(slot, below)| OnRoot::Port(slot, below)),
    ];
    vec(on_root, 1..5)
}

//! Random hierarchies in a domain, numbered and laid out through the endpoint as software does it: no two BARs overlap, each
//! address reaches its function and no other, each config access the function that the bus numbers say; also after devices
//! were put in and pulled out.

mod machine;
mod shapes;
mod stamp;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::sync::Mutex;

use hdv::domain::{BenchBus, Domain, DomainOptions, MEMORY_BASE, PREFETCHABLE_BASE};
use hdv::pci::RoutingId;
use hdv::pci::enumerate::{Enumeration, FoundBar, HotPlugReserve, Resources, enumerate};
use hdv::pci::spec::bridge::SECONDARY_BUS;
use hdv::pci::spec::header::INTERRUPT_LINE;
use hdv::{BarIndex, TestBench};
use machine::{Machine, Node};
use proptest::prelude::*;
use proptest::sample::Index;
use shapes::{device, hierarchy};
use stamp::{VENDOR, Written, stamp};
use support::domain::{CONFIG, MEMORY, offset};
use support::lock;

const PREFETCHABLE: BarIndex = BarIndex::BAR4;
const MEMORY_SIZE: u64 = 1 << 30;
const PREFETCHABLE_SIZE: u64 = 1 << 36;

/// What is at each routing id, by the bus numbers that ports have now.
fn routes<'a>(
    bench: &TestBench,
    bus: u8,
    nodes: &'a BTreeMap<u8, Node>,
    routes: &mut BTreeMap<RoutingId, &'a Node>,
) {
    for (place, node) in nodes {
        let id = RoutingId::with_ari(bus, *place);
        assert!(routes.insert(id, node).is_none(), "two at {id}");
        if let Node::Port { below, .. } = node {
            let secondary: u8 = bench.read(CONFIG, offset(id, SECONDARY_BUS));
            assert_ne!(secondary, 0, "{id} was not numbered");
            self::routes(bench, secondary, below, routes);
        }
    }
}

/// Every config access reaches what the bus numbers say.
fn check_config(bench: &mut TestBench, routes: &BTreeMap<RoutingId, &Node>) {
    let last = routes.keys().last().map_or(0, |id| id.bus());
    let every = (0..=u16::MAX).map(RoutingId::from);
    for id in every.filter(|id| id.bus() <= last.saturating_add(1) || id.bus() == u8::MAX) {
        let ids: u32 = bench.read(CONFIG, offset(id, 0));
        let expected = match routes.get(&id) {
            None => u32::MAX,
            Some(Node::Function(number, _)) => u32::from(*number) << 16 | u32::from(VENDOR),
            Some(Node::Port { .. }) => {
                let header: u8 = bench.read(CONFIG, offset(id, 0x0e));
                assert_eq!((header & 0x7f, ids & 0xffff), (1, VENDOR.into()), "{id}");
                continue;
            }
        };
        assert_eq!(ids, expected, "at {id}");
    }
    let line = |number: usize| u8::try_from(number % 251).expect("below 251");
    for (number, id) in routes.keys().enumerate() {
        bench.write(CONFIG, offset(*id, INTERRUPT_LINE), line(number));
    }
    for (number, id) in routes.keys().enumerate() {
        let kept: u8 = bench.read(CONFIG, offset(*id, INTERRUPT_LINE));
        assert_eq!(kept, line(number), "at {id}");
    }
}

/// A BAR that answers: its addresses, the device, and which of its BARs.
type Range = (u64, u64, u16, BarIndex);

/// Where the BARs are: all of them, none over another.
fn ranges(found: &Enumeration, routes: &BTreeMap<RoutingId, &Node>) -> Vec<Range> {
    assert_eq!(found.functions.len(), routes.len());
    let mut ranges = Vec::new();
    for function in &found.functions {
        let Some(Node::Function(number, bars)) = routes.get(&function.id) else {
            continue;
        };
        assert_eq!(function.device_id, *number);
        let placed = function.bars.iter().map(|bar| (bar.index, bar.bar));
        assert!(placed.eq(bars.iter().copied()), "{function:?}");
        let range = |bar: &FoundBar| {
            (
                bar.address,
                bar.address + (bar.bar.size - 1),
                *number,
                bar.index,
            )
        };
        ranges.extend(function.bars.iter().map(range));
    }
    ranges.sort_by_key(|range| range.0);
    for pair in ranges.windows(2) {
        assert!(pair[0].1 < pair[1].0, "{pair:x?}");
    }
    ranges
}

/// Every address reaches the BAR that is there, and nothing else.
fn check_memory(bench: &mut TestBench, ranges: &[Range], written: &Mutex<Vec<Written>>) {
    for (first, last, ..) in ranges {
        let middle = (first + (last - first) / 2) & !7;
        for address in [*first, middle, last - 7, first - 8, last + 1] {
            let (bar, at) = match address.checked_sub(PREFETCHABLE_BASE) {
                Some(at) => (PREFETCHABLE, at),
                None => (MEMORY, address.wrapping_sub(MEMORY_BASE)),
            };
            let answers = ranges.iter().find(|one| (one.0..=one.1).contains(&address));
            let value = address ^ 0x5a5a;
            let (expected, reached) = match answers {
                None => (u64::MAX, None),
                Some((first, _, device, bar)) => {
                    let offset = address - first;
                    let reached = Written {
                        device: *device,
                        bar: *bar,
                        offset,
                        value,
                    };
                    (stamp(*device, *bar, offset), Some(reached))
                }
            };
            assert_eq!(bench.read::<u64>(bar, at), expected, "at {address:#x}");
            bench.write(bar, at, value);
            let written = std::mem::take(&mut *lock(written));
            assert_eq!(written, Vec::from_iter(reached), "at {address:#x}");
        }
    }
}

fn check(machine: &Machine, bench: &mut TestBench) {
    let mut bus = BenchBus::new(bench);
    let resources = Resources {
        hot_plug: HotPlugReserve {
            buses: 1,
            memory: 1 << 20,
            prefetchable: 1 << 20,
        },
        ..bus.resources()
    };
    let found = enumerate(&mut bus, &resources).expect("it fits");
    let mut expected = BTreeMap::new();
    routes(bench, 0, &machine.on_root, &mut expected);
    assert_eq!(machine.walked(), expected.len());
    check_config(bench, &expected);
    let ranges = ranges(&found, &expected);
    check_memory(bench, &ranges, &machine.written);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn everything_is_reached_where_software_puts_it_and_nowhere_else(
        shapes in hierarchy(),
        plugged in device(),
        pulled: Index,
    ) {
        let options = DomainOptions::new()
            .buses(256)
            .memory(MEMORY_SIZE)
            .prefetchable(PREFETCHABLE_SIZE);
        let (domain, endpoint) = Domain::new(options).expect("possible sizes");
        let mut machine = Machine::new(domain);
        machine.build(&shapes);
        let mut bench = TestBench::new(endpoint).expect("it starts");
        check(&machine, &mut bench);
        machine.plug_and_pull(&plugged, pulled);
        check(&machine, &mut bench);
    }
}

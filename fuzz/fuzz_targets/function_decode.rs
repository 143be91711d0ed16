//! Where a function answers, from any config space and any sizes of BARs, also from one that says something else each time:
//! no panic, a bounded number of reads, and a topology that reaches what was decoded where it was said to be, and no more.

#![no_main]

use hdv::pci::topology::{BarSizes, ConfigTarget, FunctionDecode, Parent, Topology};
use hdv::pci::{BarIndex, RoutingId};
use libfuzzer_sys::fuzz_target;

/// Most reads: both lists of capabilities, and some registers.
const READS_MAX: usize = 2 * 48 + 960 + 64;
/// VFs that are looked at one by one.
const VFS_LOOKED_AT: u16 = 64;

/// The size of a BAR, of which a byte says most: mostly one that can be.
fn size(byte: u8) -> u64 {
    match byte {
        0..=63 => 0,
        64..=191 => 1 << (byte % 64),
        _ => u64::from(byte) * 0x0101_0101_0101,
    }
}

fn decode(bytes: &[u8]) -> Option<(FunctionDecode, BarSizes)> {
    let (sizes, rest) = bytes.split_first_chunk::<12>()?;
    let (&changes, config) = rest.split_first()?;
    let (own, vfs) = sizes.split_at(6);
    let sizes = BarSizes {
        bars: std::array::from_fn(|bar| size(own[bar])),
        vf_bars: std::array::from_fn(|bar| size(vfs[bar])),
    };
    let mut reads = 0_usize;
    let decode = FunctionDecode::read(&sizes, |offset, data| {
        reads += 1;
        for (at, byte) in (usize::from(offset)..).zip(data) {
            let said = config.get(at).copied().unwrap_or(0);
            // One that changes gives another byte in each of some reads.
            let turn = u8::try_from(reads % 8).unwrap_or(0);
            *byte = said.wrapping_add(changes.wrapping_mul(turn));
        }
    });
    assert!(reads <= READS_MAX, "{reads} reads");
    Some((decode, sizes))
}

/// BARs of the function itself.
fn check_bars(topology: &mut Topology, decode: &FunctionDecode, sizes: &BarSizes) {
    for bar in BarIndex::ALL {
        let Some(range) = decode.bar(bar) else {
            continue;
        };
        let size = sizes.bars[bar.get()];
        assert_eq!(range.end() - range.start(), size - 1, "{bar:?}");
        assert!(range.start().is_multiple_of(size), "{bar:?}");
        for address in [*range.start(), *range.end()] {
            let target = topology.memory_target(address, 1);
            assert!(target.is_some() || !decode.memory_enabled(), "{address:#x}");
            // Another BAR may have been there first.
            if let Some(target) = target.filter(|target| (target.bar, target.vf) == (bar, None)) {
                assert_eq!(target.offset, address - range.start());
            }
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((decode, sizes)) = decode(bytes) else {
        return;
    };
    let mut topology = Topology::new(0);
    let pf = topology
        .attach(Parent::Root, 2, 0, decode)
        .expect("a free place");
    check_bars(&mut topology, &decode, &sizes);
    let own = RoutingId::new(0, 2, 0).expect("there is one");
    assert_eq!(
        topology.config_target(own),
        Some(ConfigTarget::Function(pf))
    );
    assert_eq!(topology.vf_routing_id(pf, decode.active_vfs()), None);
    for vf in 0..decode.active_vfs().min(VFS_LOOKED_AT) {
        let Some(id) = topology.vf_routing_id(pf, vf) else {
            continue;
        };
        // VFs of a wrong stride are all at one place, the first of them answers.
        match topology.config_target(id) {
            Some(ConfigTarget::VirtualFunction(of, found)) => {
                assert_eq!(of, pf);
                assert!(found <= vf);
            }
            Some(ConfigTarget::Function(of)) => assert_eq!((of, id), (pf, own)),
            target => panic!("VF {vf} at {id}: {target:?}"),
        }
    }
    let (addresses, _) = bytes.as_chunks::<8>();
    for address in addresses.iter().map(|chunk| u64::from_le_bytes(*chunk)) {
        for length in [1, 8, u64::MAX] {
            if let Some(target) = topology.memory_target(address, length) {
                assert_eq!(target.function, pf);
                let size = match target.vf {
                    None => sizes.bars[target.bar.get()],
                    // At least a page, which only the registers tell.
                    Some(vf) => {
                        assert!(vf < decode.active_vfs());
                        u64::MAX
                    }
                };
                assert!(target.offset <= size - length, "{target:?}");
            }
        }
    }
    // The same again, by an update.
    topology
        .update(pf, FunctionDecode::default())
        .expect("there");
    assert_eq!(topology.vf_routing_id(pf, 0), None);
    topology.update(pf, decode).expect("there");
    check_bars(&mut topology, &decode, &sizes);
    topology.detach(pf).expect("there");
    assert_eq!(topology.config_target(own), None);
});

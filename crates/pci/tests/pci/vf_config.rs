//! A VF's own config space against the complete function's, with the differences in a table.

use hdv_pci::spec::capability_id;
use hdv_pci::{
    Bar, BarIndex, BarOffset, ConfigSpace, DeviceSerialNumber, Effects, Msi, Msix, PciExpress,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::common::{IDENTITY, capabilities, difference, dump};

/// MSI and MSI-X before it, so PCI Express is here.
const EXPRESS: usize = 0x64;

/// The words that are not as in the complete function: offset, bits that are, value of the others.
const DIFFERENT: [(usize, u32, u32); 14] = [
    (0x00, 0, 0xffff_ffff),
    // Bus Master, all of the status but Interrupt Status.
    (0x04, 0xfff7_0004, 0),
    (0x0c, 0, 0),
    (0x10, 0, 0),
    (0x14, 0, 0),
    (0x18, 0, 0),
    (0x1c, 0, 0),
    (0x20, 0, 0),
    (0x24, 0, 0),
    (0x3c, 0, 0),
    // Initiate Function Level Reset, device status.
    (EXPRESS + 0x08, 0xffff_8000, 0),
    (EXPRESS + 0x10, 0, 0),
    (EXPRESS + 0x28, 0xffff_0000, 0),
    (EXPRESS + 0x30, 0xffff_0000, 0),
];

fn function() -> ConfigSpace {
    let bar = BarIndex::BAR2;
    ConfigSpace::builder(IDENTITY)
        .bar(BarIndex::BAR0, Bar::memory64(1 << 14).prefetchable())
        .bar(bar, Bar::memory32(1 << 12))
        .capability(Msi::with_64_bit_address(4).per_vector_mask())
        .capability(Msix::new(
            4,
            BarOffset::new(bar, 0),
            BarOffset::new(bar, 0x800),
        ))
        .capability(PciExpress::endpoint())
        .extended_capability(DeviceSerialNumber::new(0x0123_4567_89ab_cdef))
        .build()
        .unwrap()
}

/// For every byte of config space which bits are as in the complete function, and the others.
fn table() -> Vec<(u8, u8)> {
    let mut table = vec![(0xff, 0); 4096];
    for (offset, same, value) in DIFFERENT {
        let bytes = same.to_le_bytes().into_iter().zip(value.to_le_bytes());
        table.splice(offset..offset + 4, bytes);
    }
    table
}

fn dump_as_vf(config: &ConfigSpace) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    config.read_as_vf(0, &mut bytes);
    bytes
}

#[test]
fn a_vf_has_no_ids_and_no_bars_but_capabilities() {
    let mut config = function();
    assert_eq!(config.capability(capability_id::PCI_EXPRESS), Some(0x64));
    assert_eq!(capabilities(&config).len(), 3);
    let _ = config.write(0x10, &[0xff; 12]);
    let _ = config.write(0x04, &[0xff; 2]);
    let bytes = dump_as_vf(&config);
    assert_eq!(bytes[..8], [0xff, 0xff, 0xff, 0xff, 0x04, 0, 0x10, 0]);
    assert_eq!(bytes[8..12], [0x56, 0x07, 0x80, 0x11]);
    assert_eq!(bytes[0x0c..0x2c], [0; 32]);
    assert_eq!(bytes[0x2c..0x30], [0x9a, 0x78, 0xde, 0xbc]);
    assert_eq!(bytes[0x34], 0x40);
    assert_eq!(bytes[0x100..0x104], [0x03, 0, 1, 0]);
}

#[test]
fn a_vf_can_be_made_a_bus_master_and_reset() {
    let mut config = function();
    assert_eq!(config.write_as_vf(0x04, &[0xff, 0xff]), Effects::COMMAND);
    assert_eq!(config.command().bits(), 0x0004);
    assert_eq!(config.write_as_vf(0x10, &[0xff; 24]), Effects::empty());
    assert_eq!(config.bar_address(BarIndex::BAR0), Some(0));
    let msix = config.capability(capability_id::MSIX).unwrap();
    assert_eq!(config.write_as_vf(msix + 2, &[0, 0x80]), Effects::MSIX);
    assert!(config.msix().unwrap().enabled);
    let effects = config.write_as_vf(0x6c, &[0xff, 0xff]);
    assert_eq!(effects, Effects::FUNCTION_LEVEL_RESET);
}

#[test]
fn nothing_is_beyond_the_end() {
    let mut config = function();
    let mut bytes = [0; 4];
    config.read_as_vf(0xffe, &mut bytes);
    assert_eq!(bytes, [0, 0, 0xff, 0xff]);
    config.read_as_vf(0xffff, &mut bytes);
    assert_eq!(bytes, [0xff; 4]);
    let before = dump(&config);
    assert_eq!(config.write_as_vf(0x1000, &[0; 4]), Effects::empty());
    assert_eq!(config.write_as_vf(0xffff, &[0; 4]), Effects::empty());
    assert_eq!(dump(&config), before);
}

proptest! {
    #[test]
    fn a_vf_is_the_function_less_what_the_table_says(
        steps in vec((any::<bool>(), 0_u16..0xa0, vec(any::<u8>(), 0..24)), 0..30),
        offset in 0_u16..0x110,
        length in 0_usize..32,
    ) {
        let (mut one, mut other) = (function(), function());
        let table = table();
        for (as_vf, offset, data) in steps {
            if !as_vf {
                prop_assert_eq!(one.write(offset, &data), other.write(offset, &data));
                continue;
            }
            // What the VF does not have is written as it is.
            let at = usize::from(offset);
            let mut merged = dump(&other)[at..at + data.len()].to_vec();
            for ((byte, written), (same, _)) in merged.iter_mut().zip(&data).zip(&table[at..]) {
                *byte = *byte & !same | written & same;
            }
            prop_assert_eq!(one.write_as_vf(offset, &data), other.write(offset, &merged));
            prop_assert_eq!(difference(&dump(&one), &dump(&other)), None);
        }
        let expected: Vec<u8> = dump(&one)
            .iter()
            .zip(&table)
            .map(|(byte, (same, value))| byte & same | value)
            .collect();
        prop_assert_eq!(difference(&dump_as_vf(&one), &expected), None);
        let mut part = vec![0x5a; length];
        one.read_as_vf(offset, &mut part);
        prop_assert_eq!(&part[..], &expected[usize::from(offset)..][..length]);
    }
}

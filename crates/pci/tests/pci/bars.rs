//! BARs: the sizing protocol for every kind and size, addresses, and resizing.

use hdv_pci::{Bar, BarIndex, BarKind, ConfigSpace, Effects, ResizableBar};
use proptest::prelude::*;

use crate::common::{IDENTITY, dump, read_u32};

const MIB: u64 = 1 << 20;

/// Sizes a BAR as Linux does and returns its address, size and type bits.
fn size_bar(config: &mut ConfigSpace, index: BarIndex) -> (u64, u64, u32) {
    let at = index.offset();
    let original = read_u32(config, at);
    let _ = config.write(at, &u32::MAX.to_le_bytes());
    let mut mask = u64::from(read_u32(config, at) & !0xf) | 0xffff_ffff_0000_0000;
    let mut address = u64::from(original & !0xf);
    let _ = config.write(at, &original.to_le_bytes());
    if original & 0b110 == 0b100 {
        let upper = read_u32(config, at + 4);
        let _ = config.write(at + 4, &u32::MAX.to_le_bytes());
        mask = mask & 0xffff_ffff | u64::from(read_u32(config, at + 4)) << 32;
        let _ = config.write(at + 4, &upper.to_le_bytes());
        address |= u64::from(upper) << 32;
    }
    (address, (!mask).wrapping_add(1), original & 0xf)
}

#[test]
fn every_kind_and_size_is_found_by_sizing() {
    for (kind, sizes) in [(BarKind::Memory32, 4..=31), (BarKind::Memory64, 4..=63)] {
        for log in sizes {
            for prefetchable in [false, true] {
                for index in BarIndex::ALL {
                    if kind == BarKind::Memory64 && index == BarIndex::BAR5 {
                        continue;
                    }
                    let bar = Bar {
                        kind,
                        prefetchable,
                        size: 1 << log,
                    };
                    let mut config = ConfigSpace::builder(IDENTITY)
                        .bar(index, bar)
                        .build()
                        .unwrap();
                    let before = dump(&config);
                    let (address, size, bits) = size_bar(&mut config, index);
                    assert_eq!((address, size), (0, bar.size), "{bar:?}");
                    let wide = if kind == BarKind::Memory64 { 0b100 } else { 0 };
                    assert_eq!(
                        bits,
                        wide | if prefetchable { 0b1000 } else { 0 },
                        "{bar:?}"
                    );
                    assert_eq!(dump(&config), before, "sizing leaves no trace of {bar:?}");
                    assert_eq!(config.bar(index), Some(bar));
                }
            }
        }
    }
}

#[test]
fn probed_bars_are_what_all_ones_leave() {
    let mut config = ConfigSpace::builder(IDENTITY)
        .bar(BarIndex::BAR0, Bar::memory64(1 << 36).prefetchable())
        .bar(BarIndex::BAR2, Bar::memory32(1 << 12))
        .bar(BarIndex::BAR4, Bar::memory64(1 << 14))
        .build()
        .unwrap();
    let expected = [
        0x0000_000c,
        0xffff_fff0,
        0xffff_f000,
        0,
        0xffff_c004,
        0xffff_ffff,
    ];
    assert_eq!(config.probed_bars(), expected);
    let _ = config.write(0x10, &[0x5a; 24]);
    assert_eq!(config.probed_bars(), expected, "whatever the address");
    let _ = config.write(0x10, &[0xff; 24]);
    for (index, probed) in BarIndex::ALL.into_iter().zip(expected) {
        assert_eq!(read_u32(&config, index.offset()), probed);
    }
    assert_eq!(config.bar(BarIndex::BAR1), None);
    assert_eq!(config.bar_address(BarIndex::BAR1), None);
    assert_eq!(
        config.bar_address(BarIndex::BAR4),
        Some(0xffff_ffff_ffff_c000)
    );
}

proptest! {
    #[test]
    fn an_address_is_kept_down_to_its_size(
        log in 4_u32..64,
        address: u64,
        wide: bool,
        index in 0_u8..5,
    ) {
        let log = if wide { log } else { log.min(31) };
        let bar = if wide { Bar::memory64(1 << log) } else { Bar::memory32(1 << log) };
        let index = BarIndex::try_from(index).unwrap();
        let mut config = ConfigSpace::builder(IDENTITY).bar(index, bar).build().unwrap();
        let width = if wide { 8 } else { 4 };
        let effects = config.write(index.offset(), &address.to_le_bytes()[..width]);
        let range = if wide { u64::MAX } else { 0xffff_ffff };
        let kept = address & range & !(bar.size - 1);
        prop_assert_eq!(config.bar_address(index), Some(kept));
        let expected = if kept == 0 { Effects::empty() } else { Effects::BAR };
        prop_assert_eq!(effects, expected);
        prop_assert_eq!(size_bar(&mut config, index).0, kept);
        config.reset();
        prop_assert_eq!(config.bar_address(index), Some(0));
    }
}

fn resizable() -> ConfigSpace {
    ConfigSpace::builder(IDENTITY)
        .bar(BarIndex::BAR0, Bar::memory64(2 * MIB).prefetchable())
        .bar(BarIndex::BAR2, Bar::memory32(4 * MIB))
        .bar(BarIndex::BAR4, Bar::memory64(1 << 49))
        .extended_capability(
            ResizableBar::new()
                .bar(BarIndex::BAR0, &[MIB, 2 * MIB, 1 << 33])
                .bar(BarIndex::BAR2, &[4 * MIB, 1 << 31])
                .bar(BarIndex::BAR4, &[1 << 47, 1 << 48, 1 << 49, 1 << 63]),
        )
        .build()
        .unwrap()
}

#[test]
fn resizable_bars_show_their_sizes() {
    let config = resizable();
    assert_eq!(read_u32(&config, 0x104), 1 << 4 | 1 << 5 | 1 << 17);
    assert_eq!(read_u32(&config, 0x108), 3 << 5 | 1 << 8);
    assert_eq!(read_u32(&config, 0x10c), 1 << 6 | 1 << 15);
    assert_eq!(read_u32(&config, 0x110), 2 | 2 << 8);
    assert_eq!(read_u32(&config, 0x114), 1 << 31);
    assert_eq!(
        read_u32(&config, 0x118),
        4 | 29 << 8 | (1 << 16 | 1 << 17 | 1 << 31)
    );
}

#[test]
fn a_supported_size_takes_effect_and_clears_the_address() {
    let mut config = resizable();
    let _ = config.write(0x10, &0x12_3460_0000_u64.to_le_bytes());
    // 8 GiB in the second byte of the control register.
    assert_eq!(config.write(0x109, &[13]), Effects::BAR);
    assert_eq!(
        config.bar(BarIndex::BAR0),
        Some(Bar::memory64(1 << 33).prefetchable())
    );
    assert_eq!(config.bar_address(BarIndex::BAR0), Some(0));
    assert_eq!(size_bar(&mut config, BarIndex::BAR0), (0, 1 << 33, 0xc));
    assert_eq!(read_u32(&config, 0x108), 3 << 5 | 13 << 8);

    let _ = config.write(0x18, &0x4000_0000_u32.to_le_bytes());
    assert_eq!(
        config.write(0x110, &u32::MAX.to_le_bytes()),
        Effects::empty()
    );
    assert_eq!(
        config.write(0x110, &(11_u32 << 8).to_le_bytes()),
        Effects::BAR
    );
    assert_eq!(size_bar(&mut config, BarIndex::BAR2), (0, 1 << 31, 0));

    assert_eq!(
        config.write(0x118, &(43_u32 << 8).to_le_bytes()),
        Effects::BAR
    );
    assert_eq!(size_bar(&mut config, BarIndex::BAR4), (0, 1 << 63, 4));
}

#[test]
fn other_sizes_and_the_same_size_change_nothing() {
    let mut config = resizable();
    let _ = config.write(0x10, &0x12_3460_0000_u64.to_le_bytes());
    let before = dump(&config);
    for code in (0..64_u32).filter(|code| ![0, 13].contains(code)) {
        let written = (code << 8 | 0xffff_00ff).to_le_bytes();
        assert_eq!(
            config.write(0x108, &written),
            Effects::empty(),
            "size {code}"
        );
        assert_eq!(dump(&config), before, "size {code}");
    }
}

#[test]
fn reset_brings_back_sizes() {
    let mut config = resizable();
    let before = dump(&config);
    let probed = config.probed_bars();
    for reset in [ConfigSpace::reset, ConfigSpace::function_level_reset] {
        assert_eq!(config.write(0x108, &[0, 0, 0, 0]), Effects::BAR);
        assert_ne!(config.probed_bars(), probed);
        let _ = config.write(0x10, &[0xff; 24]);
        reset(&mut config);
        assert_eq!(config.probed_bars(), probed);
        assert_eq!(dump(&config), before);
        assert_eq!(config.bar(BarIndex::BAR0).unwrap().size, 2 * MIB);
    }
}

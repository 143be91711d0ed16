//! The type 1 header: what software may write, what the bridge says then, and random writes against
//! a table written by hand.

use hdv_pci::spec::bridge::SecondaryStatus;
use hdv_pci::{Bar, BarIndex, BridgeView, ConfigError, ConfigSpace, Effects, PowerManagement};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::common::{IDENTITY, capabilities, difference, dump, read_u8, read_u16, read_u32};

fn bridge() -> ConfigSpace {
    ConfigSpace::bridge_builder(IDENTITY).build().unwrap()
}

fn view(config: &ConfigSpace) -> BridgeView {
    config.bridge().expect("it is a bridge")
}

#[test]
fn a_bridge_has_a_type_1_header_and_nothing_below_it() {
    let config = bridge();
    assert_eq!(read_u8(&config, 0x0e), 1);
    let nothing = BridgeView {
        primary: 0,
        secondary: 0,
        subordinate: 0,
        memory: None,
        prefetchable: None,
        secondary_bus_reset: false,
    };
    assert_eq!(view(&config), nothing);
    assert_eq!(
        ConfigSpace::builder(IDENTITY).build().unwrap().bridge(),
        None
    );
}

#[test]
fn subsystem_ids_are_in_a_capability() {
    let config = ConfigSpace::bridge_builder(IDENTITY)
        .capability(PowerManagement::new())
        .build()
        .unwrap();
    assert_eq!(capabilities(&config), [(0x40, 0x01), (0x48, 0x0d)]);
    assert_eq!(read_u32(&config, 0x4c), 0xbcde_789a);
    assert_eq!(config.identity(), IDENTITY);
    let mut identity = IDENTITY;
    identity.subsystem_vendor_id = 0;
    let config = ConfigSpace::bridge_builder(identity).build().unwrap();
    assert_eq!(capabilities(&config), []);
}

#[test]
fn all_ones_change_only_what_an_operating_system_may_write() {
    let mut config = bridge();
    let mut expected = dump(&config);
    let effects = config.write(0, &[0xff; 4096]);
    assert_eq!(
        effects,
        Effects::COMMAND | Effects::BUS_NUMBERS | Effects::WINDOWS | Effects::SECONDARY_BUS_RESET
    );
    for (offset, bytes) in [
        (0x04, &[0x46_u8, 0x05][..]),
        (0x0c, &[0xff]),
        (0x18, &[0xff, 0xff, 0xff, 0, 0, 0]),
        (0x20, &[0xf0, 0xff, 0xf0, 0xff, 0xf1, 0xff, 0xf1, 0xff]),
        (0x28, &[0xff; 8]),
        (0x3c, &[0xff, 0, 0x43, 0]),
    ] {
        expected[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
    assert_eq!(difference(&dump(&config), &expected), None);
}

#[test]
fn bus_numbers_are_those_written() {
    let mut config = bridge();
    assert_eq!(config.write(0x18, &[1, 2, 5]), Effects::BUS_NUMBERS);
    let set = view(&config);
    assert_eq!((set.primary, set.secondary, set.subordinate), (1, 2, 5));
    assert_eq!(config.write(0x18, &[1, 2, 5, 0xff]), Effects::empty());
    assert_eq!(config.write(0x1a, &[0xff]), Effects::BUS_NUMBERS);
    assert_eq!(view(&config).subordinate, 0xff);
    config.reset();
    assert_eq!(view(&config), view(&bridge()));
}

#[test]
fn windows_are_whole_mebibytes_from_base_to_limit() {
    let mut config = bridge();
    let both = |config: &ConfigSpace| (view(config).memory, view(config).prefetchable);
    assert_eq!(
        config.write(0x20, &0xe010_e000_u32.to_le_bytes()),
        Effects::WINDOWS
    );
    assert_eq!(both(&config), (Some(0xe000_0000..=0xe01f_ffff), None));
    assert_eq!(config.write(0x22, &[0x00, 0xe0]), Effects::WINDOWS);
    assert_eq!(both(&config).0, Some(0xe000_0000..=0xe00f_ffff));
    assert_eq!(
        config.write(0x24, &0x0010_fff0_u32.to_le_bytes()),
        Effects::WINDOWS
    );
    assert_eq!(both(&config).1, None);
    assert_eq!(config.write(0x2c, &3_u32.to_le_bytes()), Effects::WINDOWS);
    assert_eq!(both(&config).1, Some(0xfff0_0000..=0x3_001f_ffff));
    assert_eq!(config.write(0x28, &3_u32.to_le_bytes()), Effects::WINDOWS);
    assert_eq!(both(&config).1, None);
    // Everything there is.
    let _ = config.write(
        0x24,
        &[0, 0, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
    );
    assert_eq!(both(&config).1, Some(0..=u64::MAX));
    // As Linux closes one: base above limit.
    assert_eq!(
        config.write(0x20, &0x0000_fff0_u32.to_le_bytes()),
        Effects::WINDOWS
    );
    assert_eq!(both(&config).0, None);
    assert_eq!(config.write(0x30, &[0xff; 4]), Effects::empty(), "no I/O");
    assert_eq!(config.write(0x1c, &[0xff; 4]), Effects::empty(), "no I/O");
    assert_eq!(read_u16(&config, 0x1c), 0);
}

#[test]
fn a_secondary_bus_reset_begins_once() {
    let mut config = bridge();
    assert_eq!(config.write(0x3e, &[0x43, 0]), Effects::SECONDARY_BUS_RESET);
    assert!(view(&config).secondary_bus_reset);
    assert_eq!(config.write(0x3e, &[0x40, 0]), Effects::empty());
    assert_eq!(config.write(0x3c, &[0x0b]), Effects::empty());
    assert_eq!(read_u16(&config, 0x3e), 0x0040);
    assert_eq!(config.write(0x3e, &[0, 0]), Effects::empty());
    assert!(!view(&config).secondary_bus_reset);
    assert_eq!(config.write(0x3e, &[0x40, 0]), Effects::SECONDARY_BUS_RESET);
}

#[test]
fn secondary_status_is_cleared_by_ones() {
    let mut config = bridge();
    config.raise_secondary_status(SecondaryStatus::all());
    assert_eq!(read_u16(&config, 0x1e), 0xf900);
    assert_eq!(config.write(0x1c, &[0, 0, 0, 0x40]), Effects::empty());
    assert_eq!(read_u16(&config, 0x1e), 0xb900);
    config.reset();
    assert_eq!(read_u16(&config, 0x1e), 0);
    let mut function = ConfigSpace::builder(IDENTITY).build().unwrap();
    function.raise_secondary_status(SecondaryStatus::all());
    assert_eq!(read_u16(&function, 0x1e), 0);
}

#[test]
fn a_bridge_has_two_bars() {
    let mut config = ConfigSpace::bridge_builder(IDENTITY)
        .bar(BarIndex::BAR0, Bar::memory64(1 << 33))
        .build()
        .unwrap();
    assert_eq!(config.probed_bars(), [4, 0xffff_fffe, 0, 0, 0, 0]);
    assert_eq!(config.write(0x14, &[6]), Effects::BAR);
    assert_eq!(config.bar_address(BarIndex::BAR0), Some(6 << 32));
    assert_eq!(config.write(0x18, &[6]), Effects::BUS_NUMBERS);

    let refused = |index, bar| {
        ConfigSpace::bridge_builder(IDENTITY)
            .bar(index, bar)
            .build()
            .unwrap_err()
    };
    let index = BarIndex::BAR2;
    let error = refused(index, Bar::memory32(4096));
    assert_eq!(error, ConfigError::BarOfBridge { index });
    let index = BarIndex::BAR1;
    let error = refused(index, Bar::memory64(4096));
    assert_eq!(error, ConfigError::BarLast { index });
}

#[test]
fn several_functions_are_said_in_the_header_type() {
    for (mut config, header) in [
        (ConfigSpace::builder(IDENTITY).build().unwrap(), 0),
        (bridge(), 1),
    ] {
        config.set_multi_function(true);
        assert_eq!(read_u8(&config, 0x0e), header | 0x80);
        let _ = config.write(0x0c, &[0; 4]);
        config.reset();
        assert_eq!(read_u8(&config, 0x0e), header | 0x80);
        config.set_multi_function(false);
        assert_eq!(read_u8(&config, 0x0e), header);
    }
}

/// Offset, value after reset, writable bits, effects of a change: the words that can be written.
const WORDS: [(usize, u32, u32, Effects); 8] = [
    (0x04, 0, 0x0546, Effects::COMMAND),
    (0x0c, 0x1_0000, 0xff, Effects::empty()),
    (0x18, 0, 0x00ff_ffff, Effects::BUS_NUMBERS),
    (0x20, 0xfff0, 0xfff0_fff0, Effects::WINDOWS),
    (0x24, 0x0001_fff1, 0xfff0_fff0, Effects::WINDOWS),
    (0x28, 0, 0xffff_ffff, Effects::WINDOWS),
    (0x2c, 0, 0xffff_ffff, Effects::WINDOWS),
    (0x3c, 0, 0x0043_00ff, Effects::empty()),
];

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

proptest! {
    #[test]
    fn random_writes_do_what_the_table_says(
        steps in vec((0_u16..0x48, vec(any::<u8>(), 0..24)), 0..40),
    ) {
        let mut identity = IDENTITY;
        identity.subsystem_vendor_id = 0;
        let mut config = ConfigSpace::bridge_builder(identity).build().unwrap();
        let mut model = dump(&config);
        for (at, reset, ..) in WORDS {
            prop_assert_eq!(word(&model, at), reset, "word {:#x} after reset", at);
        }
        let fresh = model.clone();
        for (offset, data) in steps {
            let before = model.clone();
            for (at, byte) in (usize::from(offset)..).zip(&data) {
                let rule = WORDS.iter().find(|(word, ..)| *word == at & !3);
                let mask = rule.map_or(0, |rule| rule.2.to_le_bytes()[at % 4]);
                model[at] = model[at] & !mask | byte & mask;
            }
            let mut expected = Effects::empty();
            for (at, .., effects) in WORDS {
                if word(&before, at) != word(&model, at) {
                    expected |= effects;
                }
            }
            if !before[0x3e] & model[0x3e] & 0x40 != 0 {
                expected |= Effects::SECONDARY_BUS_RESET;
            }
            prop_assert_eq!(config.write(offset, &data), expected);
            prop_assert_eq!(difference(&dump(&config), &model), None);

            let set = view(&config);
            prop_assert_eq!(&[set.primary, set.secondary, set.subordinate], &model[0x18..0x1b]);
            let base = u64::from(word(&model, 0x24) & 0xfff0) << 16 | u64::from(word(&model, 0x28)) << 32;
            let end = u64::from(word(&model, 0x24) >> 16 & 0xfff0) << 16
                | u64::from(word(&model, 0x2c)) << 32
                | 0xf_ffff;
            prop_assert_eq!(set.prefetchable, (base <= end).then_some(base..=end));
            prop_assert_eq!(set.secondary_bus_reset, model[0x3e] & 0x40 != 0);
        }
        config.reset();
        prop_assert_eq!(difference(&dump(&config), &fresh), None);
    }
}

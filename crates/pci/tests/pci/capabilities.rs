//! Each capability: its registers where the standard has them, and what writing them does.

use hdv_pci::spec::power::PowerCapabilities;
use hdv_pci::{
    Bar, BarIndex, BarOffset, Capability, ConfigSpace, DeviceSerialNumber, Effects, Msi, Msix,
    PciExpress, PowerManagement, PowerState, VendorSpecific,
};

use crate::common::{IDENTITY, dump, read_u8, read_u16, read_u32};

/// The only capability, so at 0x40.
fn with(capability: impl Capability + 'static) -> ConfigSpace {
    ConfigSpace::builder(IDENTITY)
        .bar(BarIndex::BAR0, Bar::memory32(0x1_0000))
        .capability(capability)
        .build()
        .unwrap()
}

fn write_u16(config: &mut ConfigSpace, offset: u16, value: u16) -> Effects {
    config.write(offset, &value.to_le_bytes())
}

fn write_u32(config: &mut ConfigSpace, offset: u16, value: u32) -> Effects {
    config.write(offset, &value.to_le_bytes())
}

#[test]
fn power_states_that_are_not_there_are_ignored() {
    let mut config = with(PowerManagement::new());
    assert_eq!(read_u16(&config, 0x42), 0x0003);
    assert_eq!(read_u16(&config, 0x44), 0x0008, "no soft reset");
    for state in [1, 2, 0] {
        assert_eq!(write_u16(&mut config, 0x44, state), Effects::empty());
        assert_eq!(config.power_state(), PowerState::D0);
    }
    assert_eq!(write_u16(&mut config, 0x44, 0xffff), Effects::POWER_STATE);
    assert_eq!(read_u16(&config, 0x44), 0x000b);
    assert_eq!(config.power_state(), PowerState::D3Hot);
    assert_eq!(write_u16(&mut config, 0x44, 1), Effects::empty());
    assert_eq!(config.power_state(), PowerState::D3Hot);
    assert_eq!(write_u16(&mut config, 0x44, 0), Effects::POWER_STATE);
    assert_eq!(config.power_state(), PowerState::D0);
}

#[test]
fn optional_power_states_are_there_when_declared() {
    let mut config = with(PowerManagement::new().with(PowerCapabilities::D1));
    assert_eq!(read_u16(&config, 0x42), 0x0203);
    assert_eq!(write_u16(&mut config, 0x44, 1), Effects::POWER_STATE);
    assert_eq!(config.power_state(), PowerState::D1);
    assert_eq!(write_u16(&mut config, 0x44, 2), Effects::empty());
    assert_eq!(config.power_state(), PowerState::D1);
    config.reset();
    assert_eq!(config.power_state(), PowerState::D0);
}

#[test]
fn leaving_d3hot_resets_without_no_soft_reset() {
    let mut config = with(PowerManagement::new().with_soft_reset());
    assert_eq!(read_u16(&config, 0x44), 0);
    assert_eq!(write_u16(&mut config, 0x44, 3), Effects::POWER_STATE);
    let both = Effects::POWER_STATE | Effects::FUNCTION_LEVEL_RESET;
    assert_eq!(write_u16(&mut config, 0x44, 0), both);
}

#[test]
fn pme_enable_survives_resets_only_with_power_in_d3cold() {
    for (states, survives) in [
        (PowerCapabilities::PME_D0, false),
        (
            PowerCapabilities::PME_D0 | PowerCapabilities::PME_D3_COLD,
            true,
        ),
    ] {
        let mut config = with(PowerManagement::new().with(states));
        let _ = write_u16(&mut config, 0x44, 0x0103);
        for reset in [ConfigSpace::reset, ConfigSpace::function_level_reset] {
            reset(&mut config);
            assert_eq!(
                read_u16(&config, 0x44),
                if survives { 0x0108 } else { 0x0008 }
            );
        }
    }
}

#[test]
fn msi_registers_move_with_the_width_of_the_address() {
    // Data is at 8 or 0xc, mask and pending bits follow it.
    for (msi, data, mask) in [
        (Msi::with_32_bit_address(4), 0x48, None),
        (Msi::with_64_bit_address(4), 0x4c, None),
        (
            Msi::with_32_bit_address(4).per_vector_mask(),
            0x48,
            Some(0x4c),
        ),
        (
            Msi::with_64_bit_address(4).per_vector_mask(),
            0x4c,
            Some(0x50),
        ),
    ] {
        let wide = data == 0x4c;
        let mut config = with(msi);
        let control = 0x0004 | if wide { 0x80 } else { 0 } | if mask.is_some() { 0x100 } else { 0 };
        assert_eq!(read_u16(&config, 0x42), control);
        let before = config.msi().unwrap();
        assert!(!before.enabled);
        assert_eq!((before.vectors_capable, before.vectors_enabled), (4, 1));
        assert_eq!(before.maskable, mask.is_some());

        assert_eq!(write_u32(&mut config, 0x44, 0xfee0_1237), Effects::MSI);
        if wide {
            assert_eq!(write_u32(&mut config, 0x48, 0x1122_3344), Effects::MSI);
        }
        assert_eq!(write_u32(&mut config, data, 0xaaaa_4bcd), Effects::MSI);
        assert_eq!(read_u32(&config, data), 0x4bcd);
        if let Some(mask) = mask {
            assert_eq!(write_u32(&mut config, mask, 0xffff_fff6), Effects::MSI);
            assert_eq!(
                write_u32(&mut config, mask + 4, 0xffff_ffff),
                Effects::empty()
            );
        }
        config.set_msi_pending(0xffff_fff9);
        assert_eq!(write_u16(&mut config, 0x42, 0x0021), Effects::MSI);

        let view = config.msi().unwrap();
        assert!(view.enabled);
        assert_eq!(view.vectors_enabled, 4);
        assert_eq!(
            view.address,
            if wide {
                0x1122_3344_fee0_1234
            } else {
                0xfee0_1234
            }
        );
        assert_eq!(view.data, 0x4bcd);
        assert_eq!(view.mask, if mask.is_some() { 0x6 } else { 0 });
        assert_eq!(view.pending, if mask.is_some() { 0x9 } else { 0 });
        assert_eq!(view.message(2), Some((view.address, 0x4bce)));
        assert_eq!(view.message(4), None);
        if let Some(mask) = mask {
            assert_eq!(read_u32(&config, mask + 4), 0x9);
        }
        config.reset();
        assert_eq!(config.msi(), Some(before));
    }
}

#[test]
fn msi_gives_no_more_vectors_than_declared() {
    for (log, vectors) in [1, 2, 4, 8, 16, 32].into_iter().enumerate() {
        let mut config = with(Msi::with_64_bit_address(vectors).per_vector_mask());
        assert_eq!(usize::from(read_u16(&config, 0x42)) >> 1 & 7, log);
        for enable in 0..8_u8 {
            let _ = config.write(0x42, &[enable << 4]);
            assert_eq!(
                read_u8(&config, 0x42) >> 4 & 7,
                enable,
                "behaves as written"
            );
            let view = config.msi().unwrap();
            assert_eq!(view.vectors_capable, vectors);
            let asked = 1_u32 << enable;
            assert_eq!(u32::from(view.vectors_enabled), asked.min(vectors.into()));
        }
        let _ = write_u32(&mut config, 0x50, u32::MAX);
        assert_eq!(config.msi().unwrap().mask.count_ones(), vectors.into());
    }
}

#[test]
fn msix_says_where_its_table_is() {
    let table = BarOffset::new(BarIndex::BAR0, 0x8000);
    let pba = BarOffset::new(BarIndex::BAR0, 0x1008);
    for vectors in [1, 3, 2047] {
        let mut config = with(Msix::new(vectors, table, pba));
        assert_eq!(read_u16(&config, 0x42), vectors - 1);
        assert_eq!(read_u32(&config, 0x44), 0x8000);
        assert_eq!(read_u32(&config, 0x48), 0x1008);
        let before = config.msix().unwrap();
        assert_eq!(
            (before.vectors, before.table, before.pba),
            (vectors, table, pba)
        );
        assert!(!before.enabled && !before.function_masked);

        assert_eq!(write_u16(&mut config, 0x42, 0xffff), Effects::MSIX);
        assert_eq!(read_u16(&config, 0x42), 0xc000 | (vectors - 1));
        assert_eq!(config.write(0x44, &[0xff; 8]), Effects::empty());
        let view = config.msix().unwrap();
        assert!(view.enabled && view.function_masked);
        assert_eq!((view.vectors, view.table, view.pba), (vectors, table, pba));
        assert_eq!(config.write(0x43, &[0x80]), Effects::MSIX);
        assert!(!config.msix().unwrap().function_masked);
        config.reset();
        assert_eq!(config.msix(), Some(before));
    }
}

#[test]
fn function_level_reset_is_asked_for_and_reads_zero() {
    let mut config = with(PciExpress::endpoint());
    assert_eq!(read_u16(&config, 0x42), 0x0002);
    assert_eq!(read_u32(&config, 0x44) >> 28 & 1, 1);
    let control = read_u16(&config, 0x48);
    assert_eq!(control, 0x2810);
    assert_eq!(
        write_u16(&mut config, 0x48, control | 0x8000),
        Effects::FUNCTION_LEVEL_RESET
    );
    assert_eq!(read_u16(&config, 0x48), control);
    assert_eq!(config.write(0x49, &[0x80]), Effects::FUNCTION_LEVEL_RESET);
    assert_eq!(write_u16(&mut config, 0x48, control), Effects::empty());

    let mut config = with(PciExpress::endpoint().without_function_level_reset());
    assert_eq!(read_u32(&config, 0x44) >> 28 & 1, 0);
    assert_eq!(
        write_u16(&mut config, 0x48, control | 0x8000),
        Effects::empty()
    );
    assert_eq!(read_u16(&config, 0x48), control);
}

#[test]
fn function_level_reset_leaves_what_the_link_needs() {
    let mut config = with(PciExpress::endpoint().max_payload(4096));
    assert_eq!(read_u32(&config, 0x44) & 7, 5);
    let before = dump(&config);
    let _ = write_u16(&mut config, 0x48, 0x51af);
    let _ = write_u16(&mut config, 0x50, 0xffff);
    let _ = write_u16(&mut config, 0x68, 0xffff);
    assert_eq!(read_u16(&config, 0x48), 0x51af);
    assert_eq!(read_u16(&config, 0x50), 0x02cb);
    assert_eq!(read_u16(&config, 0x68), 0x0010);
    config.function_level_reset();
    assert_eq!(
        read_u16(&config, 0x48),
        0x28b0,
        "only Max Payload Size is kept"
    );
    assert_eq!(read_u16(&config, 0x50), 0x02cb, "link control is kept");
    assert_eq!(read_u16(&config, 0x68), 0);
    config.reset();
    assert_eq!(dump(&config), before);
}

#[test]
fn vendor_bytes_stand_after_their_length() {
    let mut config = ConfigSpace::builder(IDENTITY)
        .capability(VendorSpecific::new([1, 2, 3]).writable([0x00, 0xf0]))
        .capability(VendorSpecific::new([]))
        .build()
        .unwrap();
    let mut bytes = [0; 11];
    config.read(0x40, &mut bytes);
    assert_eq!(bytes, [0x09, 0x48, 6, 1, 2, 3, 0, 0, 0x09, 0, 3]);
    assert_eq!(config.write(0x40, &[0xff; 16]), Effects::REGISTERS);
    config.read(0x40, &mut bytes);
    assert_eq!(bytes, [0x09, 0x48, 6, 1, 0xf2, 3, 0, 0, 0x09, 0, 3]);
    assert_eq!(config.write(0x40, &[0xff; 16]), Effects::empty());
}

#[test]
fn serial_number_is_read_as_an_eui_64() {
    let config = ConfigSpace::builder(IDENTITY)
        .extended_capability(DeviceSerialNumber::new(0x0011_22ff_fe33_4455))
        .build()
        .unwrap();
    assert_eq!(read_u32(&config, 0x100), 0x0001_0003);
    assert_eq!(read_u32(&config, 0x104), 0xfe33_4455);
    assert_eq!(read_u32(&config, 0x108), 0x0011_22ff);
    assert_eq!(config.extended_capability(3), Some(0x100));
}

//! The SR-IOV and ARI capabilities: their registers where the standard has them, what is locked
//! while VFs are enabled, where the VFs' BARs are, and what is refused.

use hdv_pci::spec::extended::extended_capability_id;
use hdv_pci::{
    Ari, Bar, BarIndex, ConfigError, ConfigSpace, Effects, PciExpress, Sriov, SriovError, VfBar,
    VfRouting,
};

use crate::common::{IDENTITY, extended_capabilities, read_u16, read_u32};

const ROUTING: VfRouting = VfRouting {
    first_vf_offset: 1,
    vf_stride: 1,
};
const BAR0: BarIndex = BarIndex::BAR0;
const BAR3: BarIndex = BarIndex::BAR3;

/// The only extended capability, so at 0x100.
fn with(sriov: Sriov) -> ConfigSpace {
    ConfigSpace::builder(IDENTITY)
        .capability(PciExpress::endpoint())
        .extended_capability(sriov)
        .build()
        .unwrap()
}

fn write_u16(config: &mut ConfigSpace, offset: u16, value: u16) -> Effects {
    config.write(offset, &value.to_le_bytes())
}

fn write_u32(config: &mut ConfigSpace, offset: u16, value: u32) -> Effects {
    config.write(offset, &value.to_le_bytes())
}

fn refused(sriov: Sriov) -> ConfigError {
    let builder = ConfigSpace::builder(IDENTITY).extended_capability(sriov);
    builder.build().expect_err("this description is wrong")
}

#[test]
fn capabilities_are_found_by_their_ids() {
    let config = ConfigSpace::builder(IDENTITY)
        .capability(PciExpress::endpoint())
        .extended_capability(Ari::new(3))
        .extended_capability(Sriov::new(8, 0x5678, ROUTING))
        .build()
        .unwrap();
    let list = extended_capabilities(&config);
    assert_eq!(list, [(0x100, 0x000e, 1), (0x108, 0x0010, 1)]);
    assert_eq!(read_u32(&config, 0x104), 0x0000_0300, "next function");
    let found = config.extended_capability(extended_capability_id::SRIOV);
    assert_eq!(found, Some(0x108));
    assert_eq!(read_u16(&config, 0x108 + 0x1a), 0x5678);
}

#[test]
fn nothing_of_ari_can_be_written() {
    let mut config = ConfigSpace::builder(IDENTITY)
        .extended_capability(Ari::new(0))
        .build()
        .unwrap();
    assert_eq!(config.write(0x100, &[0xff; 8]), Effects::empty());
    assert_eq!(read_u32(&config, 0x104), 0);
}

#[test]
fn vf_enable_locks_what_vfs_are_made_of() {
    let mut config = with(Sriov::new(4, 1, ROUTING));
    assert_eq!(write_u16(&mut config, 0x110, 3), Effects::SRIOV);
    assert_eq!(write_u32(&mut config, 0x120, 1 << 4), Effects::VF_BAR);
    let both = Effects::SRIOV | Effects::VF_BAR;
    assert_eq!(write_u16(&mut config, 0x108, 0x09), both);
    assert_eq!(write_u16(&mut config, 0x110, 4), Effects::empty());
    assert_eq!(write_u32(&mut config, 0x120, 1), Effects::empty());
    assert_eq!(write_u16(&mut config, 0x108, 0x19), Effects::empty());
    let view = config.sriov().unwrap();
    assert_eq!((view.active_vfs(), view.system_page_size), (3, 0x1_0000));
    assert!(view.memory_enabled() && !view.ari_capable_hierarchy);
    // The write that disables is too late for ARI; the next one is not.
    assert_eq!(write_u16(&mut config, 0x108, 0x18), Effects::SRIOV);
    assert_eq!(read_u16(&config, 0x108), 0x08);
    assert_eq!(write_u16(&mut config, 0x108, 0x18), Effects::SRIOV);
    assert_eq!(read_u16(&config, 0x108), 0x18);
    assert_eq!(write_u16(&mut config, 0x110, 4), Effects::SRIOV);
}

#[test]
fn numbers_of_vfs_that_cannot_be_are_not_enabled() {
    let mut config = with(Sriov::new(4, 1, ROUTING));
    for wrong in [0, 5, 0xffff] {
        let _ = write_u16(&mut config, 0x110, wrong);
        assert_eq!(write_u16(&mut config, 0x108, 1), Effects::empty());
        assert_eq!(read_u32(&config, 0x108), 0);
    }
    let _ = write_u16(&mut config, 0x110, 4);
    assert_eq!(write_u16(&mut config, 0x108, 1), Effects::SRIOV);
    assert_eq!(config.sriov().unwrap().active_vfs(), 4);
}

#[test]
fn vf_migration_and_ten_bit_tags_are_not_there() {
    let mut config = with(Sriov::new(4, 1, ROUTING));
    let _ = write_u32(&mut config, 0x104, u32::MAX);
    assert_eq!(read_u32(&config, 0x104), 0b10, "ARI hierarchy preserved");
    let _ = write_u32(&mut config, 0x108, !1);
    assert_eq!(read_u32(&config, 0x108), 0x18);
    let _ = write_u32(&mut config, 0x13c, u32::MAX);
    assert_eq!(read_u32(&config, 0x13c), 0);
}

#[test]
fn only_the_lowest_pf_has_ari_capable_hierarchy() {
    let other = VfRouting {
        first_vf_offset: 256,
        vf_stride: 2,
    };
    for (ari, expected) in [(false, other), (true, ROUTING)] {
        let sriov = Sriov::new(4, 1, ROUTING)
            .not_lowest_function(ari)
            .routing_without_ari(other);
        let mut config = with(sriov);
        assert_eq!(config.sriov().unwrap().routing, expected);
        assert_eq!(read_u32(&config, 0x104), 0);
        assert_eq!(write_u16(&mut config, 0x108, 0x10), Effects::empty());
        assert_eq!(read_u16(&config, 0x108), 0);
        assert_eq!(config.sriov().unwrap().routing, expected);
    }
}

#[test]
fn resets_disable_and_keep_ari_as_the_standard_says() {
    let mut config = with(Sriov::new(4, 1, ROUTING));
    let _ = write_u16(&mut config, 0x108, 0x10);
    let _ = config.enable_vfs(2).unwrap();
    config.function_level_reset();
    let view = config.sriov().unwrap();
    assert_eq!((view.vf_enable, view.num_vfs), (false, 0));
    assert!(view.ari_capable_hierarchy);
    config.reset();
    assert!(!config.sriov().unwrap().ari_capable_hierarchy);
}

#[test]
fn the_interface_checks_parameters_before_state() {
    let mut config = with(Sriov::new(4, 1, ROUTING));
    assert_eq!(config.disable_vfs(), Err(SriovError::AlreadyDisabled));
    assert_eq!(config.enable_vfs(4), Ok(Effects::SRIOV));
    assert_eq!(read_u16(&config, 0x108), 1, "VF MSE is left alone");
    assert_eq!(read_u16(&config, 0x110), 4);
    let again = SriovError::AlreadyEnabled { num_vfs: 4 };
    assert_eq!(config.enable_vfs(1), Err(again));
    for num_vfs in [0, 5] {
        let error = config.enable_vfs(num_vfs).unwrap_err();
        let total_vfs = 4;
        assert_eq!(error, SriovError::NumVfs { num_vfs, total_vfs });
    }
    assert_eq!(config.disable_vfs(), Ok(Effects::SRIOV));
    assert_eq!(read_u16(&config, 0x110), 0);

    let mut none = with(Sriov::new(0, 1, ROUTING));
    assert!(none.enable_vfs(1).is_err());
    let mut plain = ConfigSpace::builder(IDENTITY).build().unwrap();
    assert_eq!(plain.sriov(), None);
    assert_eq!(plain.enable_vfs(0), Err(SriovError::NotCapable));
    assert_eq!(plain.disable_vfs(), Err(SriovError::NotCapable));
}

#[test]
fn writes_can_be_kept_from_sriov_alone() {
    let describe = || {
        ConfigSpace::builder(IDENTITY)
            .bar(BAR0, Bar::memory32(4096))
            .registers(0x144, [0; 4], [0xff; 4])
            .extended_capability(Sriov::new(4, 1, ROUTING).bar(BAR0, Bar::memory32(4096)))
            .build()
            .unwrap()
    };
    let mut config = describe();
    for enabled in [false, true] {
        if enabled {
            let _ = config.enable_vfs(3).unwrap();
            let _ = write_u32(&mut config, 0x124, 0x1234_5000);
        }
        let before = config.sriov();
        for data in [0, 1, 2, 0x55, 0xff] {
            for offset in 0x100..0x140 {
                let effects = config.write_without_sriov(offset, &[data]);
                assert_eq!(effects, Effects::empty(), "{offset:#x}");
            }
            let effects = config.write_without_sriov(0xfe, &[data; 0x42]);
            assert_eq!(effects, Effects::empty());
        }
        assert_eq!(config.sriov(), before);
    }
    // Everything else is written.
    let mut other = describe();
    for (offset, length) in [(0, 0x40), (0x13e, 8)] {
        let data = vec![0xff; length];
        let effects = config.write_without_sriov(offset, &data);
        assert_eq!(effects, other.write(offset, &data));
        assert_ne!(effects, Effects::empty());
    }
}

#[test]
fn vf_bars_are_an_array_of_whole_pages() {
    let sriov = Sriov::new(4, 1, ROUTING)
        .bar(BAR0, Bar::memory64(1 << 13).prefetchable())
        .bar(BAR3, Bar::memory32(16));
    let mut config = with(sriov);
    let probed = [0xffff_e00c, u32::MAX, 0, 0xffff_f000, 0, 0];
    assert_eq!(config.sriov().unwrap().probed_bars(), probed);
    let _ = write_u32(&mut config, 0x120, 1 << 4);
    let probed = [0xffff_000c, u32::MAX, 0, 0xffff_0000, 0, 0];
    assert_eq!(config.sriov().unwrap().probed_bars(), probed);

    assert_eq!(write_u32(&mut config, 0x124, 0x1234_5678), Effects::VF_BAR);
    assert_eq!(read_u32(&config, 0x124), 0x1234_000c);
    let _ = write_u32(&mut config, 0x128, 0x9a);
    let _ = write_u32(&mut config, 0x130, 0xfffe_0000);
    let [Some(wide), None, None, Some(narrow), None, None] = config.sriov().unwrap().vf_bars else {
        panic!("two BARs");
    };
    let bar = Bar::memory64(1 << 16).prefetchable();
    let address = 0x9a_1234_0000;
    assert_eq!(wide, VfBar { bar, address });
    assert_eq!(wide.vf_address(3), Some(address + 0x3_0000));
    assert_eq!(wide.vf_at(address + 0x3_1234, 4), Some((3, 0x1234)));
    assert_eq!(wide.vf_at(address + 0x3_1234, 3), None);
    assert_eq!(wide.vf_at(address - 1, 4), None);
    assert_eq!(narrow.vf_address(1), Some(0xffff_0000));
    assert_eq!(narrow.vf_address(2), None, "beyond 32 bits");
    assert_eq!(narrow.vf_at(0x1_0000_0000, 4), None);
}

#[test]
fn addresses_survive_a_change_of_the_page_size() {
    let mut config = with(Sriov::new(4, 1, ROUTING).bar(BAR0, Bar::memory32(16)));
    let _ = write_u32(&mut config, 0x124, 0x1234_5000);
    for wrong in [0, 2 | 1, 1 << 2, u32::MAX] {
        assert_eq!(write_u32(&mut config, 0x120, wrong), Effects::empty());
        assert_eq!(read_u32(&config, 0x120), 1);
    }
    assert_eq!(write_u32(&mut config, 0x120, 1 << 1), Effects::VF_BAR);
    assert_eq!(read_u32(&config, 0x124), 0x1234_4000);
}

#[test]
fn descriptions_are_refused() {
    for (first_vf_offset, vf_stride, total_vfs) in
        [(0, 1, 1), (1, 0, 2), (1, 2, 0x8001), (0xffff, 1, 2)]
    {
        let routing = VfRouting {
            first_vf_offset,
            vf_stride,
        };
        let error = ConfigError::VfRouting {
            first_vf_offset,
            vf_stride,
            total_vfs,
        };
        assert_eq!(refused(Sriov::new(total_vfs, 1, routing)), error);
        let without = Sriov::new(total_vfs, 1, ROUTING).routing_without_ari(routing);
        assert_eq!(refused(without), error);
    }
    let fewer = Sriov::new(1, 1, ROUTING).supported_page_sizes(0x552);
    assert_eq!(refused(fewer), ConfigError::VfPageSizes(0x552));

    let last = Sriov::new(1, 1, ROUTING).bar(BarIndex::BAR5, Bar::memory64(4096));
    assert_eq!(
        refused(last).to_string(),
        "VF BAR 5 is 64-bit and needs the next register, which does not exist"
    );
    let many = Sriov::new(5, 1, ROUTING).bar(BAR0, Bar::memory32(1 << 30));
    let error = ConfigError::VfBarTotal {
        index: BAR0,
        size: 1 << 30,
        total_vfs: 5,
    };
    assert_eq!(refused(many), error);
    let pages = Sriov::new(1, 1, ROUTING)
        .supported_page_sizes(0x553 | 1 << 20)
        .bar(BAR0, Bar::memory32(4096));
    let error = ConfigError::BarTooLarge {
        index: BAR0,
        size: 1 << 32,
    };
    assert_eq!(refused(pages), ConfigError::VfBar(Box::new(error)));
    let twice = ConfigSpace::builder(IDENTITY)
        .extended_capability(Sriov::new(1, 1, ROUTING))
        .extended_capability(Sriov::new(1, 1, ROUTING));
    let error = ConfigError::CapabilityTwice { name: "SR-IOV" };
    assert_eq!(twice.build().unwrap_err(), error);
}

#[test]
fn all_65535_vfs_are_possible() {
    let sriov = Sriov::new(65535, 1, ROUTING).bar(BAR0, Bar::memory64(1 << 47));
    let mut config = with(sriov);
    assert_eq!(config.enable_vfs(65535), Ok(Effects::SRIOV));
    let view = config.sriov().unwrap();
    assert_eq!(view.active_vfs(), 65535);
    let last = view.vf_bars[0].unwrap().vf_address(65534);
    assert_eq!(last, Some(65534 << 47));
}

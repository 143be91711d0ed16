//! sysfs that says what cannot be: errors, and never a panic.

use std::fs;

use hdv_sriov::{EnableVirtualization, NtStatus, PciVirtualization, VirtualizationError};
use proptest::prelude::*;

use crate::tree::{Numbers, SRIOV, Tree, change_config, pf_config};

const PF: &str = "0000:01:00.0";

#[test]
fn attributes_that_are_no_numbers_are_named() {
    for text in ["", "x", "-1", "65536", "1 2", "0x3", "99999999999999999999"] {
        let tree = Tree::igb();
        let pf = tree.open(PF).unwrap();
        fs::write(tree.function(PF).join("sriov_numvfs"), text).unwrap();
        let error = pf
            .enable_virtualization(EnableVirtualization::enable(1))
            .unwrap_err();
        assert_eq!(error.status(), NtStatus::UNSUCCESSFUL);
        let said = error.to_string();
        assert!(
            said.contains("sriov_numvfs") && said.contains(&format!("{text:?}")),
            "{said}"
        );
    }
}

#[test]
fn attributes_that_are_no_text_are_refused() {
    let tree = Tree::igb();
    let pf = tree.open(PF).unwrap();
    fs::write(tree.function(PF).join("sriov_numvfs"), [0xff, 0xfe]).unwrap();
    assert!(pf.status().is_err());
    fs::remove_file(tree.function(PF).join("sriov_numvfs")).unwrap();
    fs::create_dir(tree.function(PF).join("sriov_numvfs")).unwrap();
    assert!(pf.status().is_err());
}

#[test]
fn links_that_lead_to_no_function_are_refused() {
    for target in ["../nonsense", "..", "/", "../0000:01:10.9", "\u{7f}"] {
        let tree = Tree::igb();
        let pf = tree.open(PF).unwrap();
        std::os::unix::fs::symlink(target, tree.function(PF).join("virtfn0")).unwrap();
        let error = pf.location(0).unwrap_err();
        assert!(
            matches!(error, VirtualizationError::Refused { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains("virtfn0"), "{error}");
    }
}

#[test]
fn a_config_space_that_is_cut_off_is_refused() {
    for length in [0, 1, 63] {
        let tree = Tree::igb();
        change_config(&tree.function(PF), |config| config.truncate(length));
        let error = tree.open(PF).unwrap_err();
        assert!(
            error.to_string().contains(&format!("{length} bytes")),
            "{error}"
        );
    }
    // A capability of which not all is there is none.
    let tree = Tree::igb();
    change_config(&tree.function(PF), |config| config.truncate(SRIOV + 0x30));
    let pf = tree.open(PF).unwrap();
    assert!(matches!(
        pf.probed_bars(),
        Err(VirtualizationError::NotCapable)
    ));
}

#[test]
fn a_capability_without_vfs_has_none() {
    let tree = Tree::new();
    let numbers = Numbers {
        total_vfs: 0,
        ..Numbers::IGB
    };
    tree.pf("pci0000:00/0000:01:00.0", numbers);
    let pf = tree.open(PF).unwrap();
    assert!(matches!(
        pf.location(0),
        Err(VirtualizationError::NoSuchVf {
            vf: 0,
            total_vfs: 0
        })
    ));
    assert!(
        pf.enable_virtualization(EnableVirtualization::enable(1))
            .is_err()
    );
    assert!(pf.probed_bars().is_err());
}

#[test]
fn resources_that_cannot_be_are_refused() {
    let tree = Tree::igb();
    fs::write(tree.function(PF).join("resource"), "what\n").unwrap();
    assert!(matches!(
        tree.open(PF),
        Err(VirtualizationError::Refused { .. })
    ));
    fs::remove_file(tree.function(PF).join("resource")).unwrap();
    let pf = tree.open(PF).unwrap();
    assert!(matches!(
        pf.probed_bars(),
        Err(VirtualizationError::Refused { .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_there_nothing_panics(
        changes in prop::collection::vec((0x40_usize..4096, any::<u8>()), 0..40),
        headers in prop::collection::vec((0x100_usize..0x180, any::<u8>()), 0..12),
        attribute in prop::collection::vec(any::<u8>(), 0..8),
        resource in prop::collection::vec(any::<u64>(), 0..45),
        request in any::<(u16, bool, bool, bool)>(),
        vf in any::<u16>(),
    ) {
        let tree = Tree::igb();
        let directory = tree.function(PF);
        let mut config = pf_config(Numbers::IGB);
        for (at, value) in changes.into_iter().chain(headers) {
            config[at] = value;
        }
        fs::write(directory.join("config"), config).unwrap();
        let mut rows = String::new();
        for row in resource.chunks_exact(3) {
            rows += &format!("{:#x} {:#x} {:#x}\n", row[0], row[1], row[2]);
        }
        fs::write(directory.join("resource"), rows).unwrap();
        fs::write(directory.join("sriov_totalvfs"), &attribute).unwrap();
        fs::write(directory.join("sriov_numvfs"), &attribute).unwrap();
        if let Ok(pf) = tree.open(PF) {
            let (num_vfs, vf_migration, migration_interrupt, enable) = request;
            let _ = pf.location(vf);
            let _ = pf.location(0);
            let _ = pf.probed_bars();
            let _ = pf.status();
            let _ = pf.virtual_function_data(vf, 0, &mut [0; 4]);
            let _ = pf.enable_virtualization(EnableVirtualization {
                num_vfs,
                vf_migration,
                migration_interrupt,
                enable,
            });
        }
    }
}

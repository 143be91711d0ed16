//! Functions that are removed, do not answer, or make room for others.

use std::fs;

use hdv_sriov::{EnableVirtualization, PciVirtualization, SysfsPf, VirtualizationError};

use crate::tree::{Numbers, Tree, change_config};

const PF: &str = "0000:01:00.0";

/// Every routine says that the device is gone, whatever it is asked.
fn assert_gone(pf: &SysfsPf) {
    let errors = [
        pf.virtual_function_data(99, 9999, &mut []).map(drop),
        pf.set_virtual_function_data(99, 9999, &[]).map(drop),
        pf.location(99).map(drop),
        pf.enable_virtualization(EnableVirtualization::enable(0)),
        pf.enable_virtualization(EnableVirtualization::enable(1)),
        pf.probed_bars().map(drop),
        pf.config_read(0, &mut [0; 4]).map(drop),
        pf.status().map(drop),
        pf.sriov_registers().map(drop),
    ];
    for error in errors {
        assert!(matches!(error, Err(VirtualizationError::Gone)), "{error:?}");
    }
    assert_eq!(pf.captured_buses(), 0);
}

#[test]
fn a_function_that_is_removed_is_gone() {
    let tree = Tree::igb();
    let pf = tree.open(PF).unwrap();
    tree.enable(PF, &["0000:01:10.0"]);
    let place = fs::canonicalize(tree.function(PF)).unwrap();
    fs::remove_dir_all(&place).unwrap();
    fs::remove_file(tree.function(PF)).unwrap();
    assert_gone(&pf);
    // Another one at its address is not taken for it.
    tree.pf("pci0000:00/0000:00:02.0/0000:01:00.0", Numbers::IGB);
    assert_gone(&pf);
    assert!(tree.open(PF).unwrap().location(0).is_ok());
}

#[test]
fn a_function_that_does_not_answer_is_gone() {
    let tree = Tree::igb();
    let pf = tree.open(PF).unwrap();
    change_config(&tree.function(PF), |config| config.fill(0xff));
    assert_gone(&pf);
    assert!(matches!(tree.open(PF), Err(VirtualizationError::Gone)));
}

#[test]
fn a_capability_that_does_not_answer_is_gone() {
    let tree = Tree::igb();
    let pf = tree.open(PF).unwrap();
    change_config(&tree.function(PF), |config| config[0x100..].fill(0xff));
    assert!(matches!(pf.location(0), Err(VirtualizationError::Gone)));
}

#[test]
fn a_function_that_never_was_is_said_not_to_be() {
    let tree = Tree::new();
    let error = tree.open("0000:05:00.0").unwrap_err();
    let text = error.to_string();
    assert!(text.contains("devices/0000:05:00.0: "), "{text}");
    assert!(
        text.contains("this machine has no such PCI function"),
        "{text}"
    );
}

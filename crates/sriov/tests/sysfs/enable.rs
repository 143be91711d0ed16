//! Enabling and disabling: what is checked, in which order, and what Linux is asked.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;

use hdv_sriov::{EnableVirtualization, NtStatus, PciVirtualization, VirtualizationError};
use rustix::fs::{MemfdFlags, SealFlags};

use crate::status;
use crate::tree::{Numbers, SRIOV, Tree, change_config};

const PF: &str = "0000:01:00.0";

fn request(
    num_vfs: u16,
    vf_migration: bool,
    migration_interrupt: bool,
    enable: bool,
) -> EnableVirtualization {
    EnableVirtualization {
        num_vfs,
        vf_migration,
        migration_interrupt,
        enable,
    }
}

#[test]
fn linux_is_asked() {
    let tree = Tree::igb();
    let pf = tree.open(PF).unwrap();
    let asked = || fs::read_to_string(tree.function(PF).join("sriov_numvfs")).unwrap();
    // The kernel of this test does what it is told without a change to the registers.
    pf.enable_virtualization(EnableVirtualization::enable(7))
        .unwrap();
    assert_eq!(asked(), "7\n");
    tree.enable(PF, &["0000:01:10.0"]);
    pf.enable_virtualization(EnableVirtualization::disable())
        .unwrap();
    assert_eq!(asked(), "0\n");
}

#[test]
fn parameters_are_checked_before_state() {
    let tree = Tree::igb();
    let pf = tree.open(PF).unwrap();
    for enabled in [false, true] {
        if enabled {
            tree.enable(PF, &["0000:01:10.0"]);
        }
        for (request, expected) in [
            (request(0, false, false, true), "NumVfs {"),
            (request(9, false, false, true), "NumVfs {"),
            (request(u16::MAX, true, true, true), "NumVfs {"),
            (request(1, false, false, false), "NumVfsNotZero"),
            (request(1, false, true, true), "MigrationInterrupt"),
            (request(0, false, true, false), "MigrationInterrupt"),
            (request(1, true, false, true), "Migration"),
            (request(1, true, true, true), "Migration"),
            (request(0, true, false, false), "Migration"),
        ] {
            let error = pf.enable_virtualization(request).unwrap_err();
            assert_eq!(error.status(), NtStatus::INVALID_PARAMETER);
            assert!(
                format!("{error:?}").starts_with(expected),
                "{request:?}: {error:?}"
            );
        }
    }
}

#[test]
fn the_state_asked_for_may_be_there() {
    let tree = Tree::igb();
    let pf = tree.open(PF).unwrap();
    let disable = EnableVirtualization::disable();
    let error = pf.enable_virtualization(disable).unwrap_err();
    assert!(matches!(error, VirtualizationError::AlreadyDisabled));
    assert_eq!(error.status(), NtStatus::INVALID_DEVICE_STATE);
    tree.enable(PF, &["0000:01:10.0", "0000:01:10.2"]);
    let error = pf
        .enable_virtualization(EnableVirtualization::enable(2))
        .unwrap_err();
    assert!(matches!(
        error,
        VirtualizationError::AlreadyEnabled { num_vfs: 2 }
    ));
    assert_eq!(error.status(), NtStatus::INVALID_DEVICE_STATE);
}

#[test]
fn migration_takes_both_capabilities() {
    let tree = Tree::igb();
    let directory = tree.function(PF);
    let migrate = request(1, true, true, true);
    change_config(&directory, |config| config[SRIOV + 4] |= 1);
    let pf = tree.open(PF).unwrap();
    assert_eq!(
        status(pf.enable_virtualization(migrate)),
        NtStatus::INVALID_PARAMETER
    );
    change_config(&directory, |config| {
        config[SRIOV + 3] = 0x20;
        config[0x200..0x204].copy_from_slice(&0x0001_0011_u32.to_le_bytes());
    });
    let pf = tree.open(PF).unwrap();
    let error = pf.enable_virtualization(migrate).unwrap_err();
    assert!(
        error.to_string().contains("Linux has no VF migration"),
        "{error}"
    );
    change_config(&directory, |config| config[SRIOV + 4] &= !1);
    assert_eq!(
        status(pf.enable_virtualization(migrate)),
        NtStatus::INVALID_PARAMETER
    );
}

/// Puts a file in the place of `sriov_numvfs`.
fn replace_attribute(tree: &Tree, target: &str) {
    let attribute = tree.function(PF).join("sriov_numvfs");
    fs::remove_file(&attribute).unwrap();
    symlink(target, &attribute).unwrap();
}

#[test]
fn what_the_kernel_says_is_passed_on() {
    let tree = Tree::igb();
    let pf = tree.open(PF).unwrap();
    // A file that can be opened for writing and refuses to be written, as attributes do.
    let sealed = rustix::fs::memfd_create("numvfs", MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::io::write(&sealed, b"0\n").unwrap();
    rustix::fs::fcntl_add_seals(&sealed, SealFlags::WRITE).unwrap();
    replace_attribute(&tree, &format!("/proc/self/fd/{}", sealed.as_raw_fd()));
    let enable = EnableVirtualization::enable(1);
    let error = pf.enable_virtualization(enable).unwrap_err();
    assert_eq!(error.status(), NtStatus::UNSUCCESSFUL);
    let text = error.to_string();
    assert!(
        text.contains("sriov_numvfs: Operation not permitted") && text.contains("driver igb"),
        "{text}"
    );
}

#[test]
fn a_driver_that_leaves_vfs_is_told_on() {
    let tree = Tree::igb();
    let pf = tree.open(PF).unwrap();
    tree.enable(PF, &["0000:01:10.0"]);
    // An attribute of the kernel that turns 0 into 50000.
    replace_attribute(&tree, "/proc/self/timerslack_ns");
    let error = pf
        .enable_virtualization(EnableVirtualization::disable())
        .unwrap_err();
    assert_eq!(error.status(), NtStatus::UNSUCCESSFUL);
    assert!(
        error
            .to_string()
            .contains("driver igb left 50000 VFs enabled"),
        "{error}"
    );
}

#[test]
fn a_driver_that_enables_fewer_is_told_to_disable_them() {
    let tree = Tree::new();
    let numbers = Numbers {
        total_vfs: 64,
        offered: 64,
        ..Numbers::IGB
    };
    tree.pf("pci0000:00/0000:01:00.0", numbers);
    let pf = tree.open(PF).unwrap();
    // An attribute of the kernel that is written decimal and read hexadecimal: 16 becomes 10.
    replace_attribute(&tree, "/proc/self/coredump_filter");
    let error = pf
        .enable_virtualization(EnableVirtualization::enable(16))
        .unwrap_err();
    assert_eq!(error.status(), NtStatus::UNSUCCESSFUL);
    assert!(
        error
            .to_string()
            .contains("driver igb enabled 10 VFs of 16"),
        "{error}"
    );
    let left = fs::read_to_string("/proc/self/coredump_filter").unwrap();
    assert_eq!(left.trim(), "00000000");
}

#[test]
fn a_kernel_without_sriov_says_so() {
    let tree = Tree::igb();
    let pf = tree.open(PF).unwrap();
    fs::remove_file(tree.function(PF).join("sriov_numvfs")).unwrap();
    let error = pf
        .enable_virtualization(EnableVirtualization::enable(1))
        .unwrap_err();
    assert_eq!(error.status(), NtStatus::UNSUCCESSFUL);
    assert!(
        error.to_string().contains("Linux offers no SR-IOV"),
        "{error}"
    );
    assert!(pf.location(0).is_ok());
}

#[test]
fn without_sriov_nothing_can_be_enabled() {
    let tree = Tree::new();
    tree.add("pci0000:00/0000:01:00.0", &[0; 4096]);
    let pf = tree.open(PF).unwrap();
    for request in [
        EnableVirtualization::enable(1),
        EnableVirtualization::enable(0),
        EnableVirtualization::disable(),
        request(3, true, true, false),
    ] {
        let error = pf.enable_virtualization(request).unwrap_err();
        assert!(matches!(error, VirtualizationError::NotCapable));
        assert_eq!(error.status(), NtStatus::INVALID_DEVICE_STATE);
    }
}

//! What can be told and done without permission.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use hdv_sriov::{EnableVirtualization, NtStatus, PciVirtualization, VirtualizationError};
use rustix::process::Uid;

use crate::status;
use crate::tree::{Tree, change_config};

const PF: &str = "0000:01:00.0";
/// A user who owns nothing.
const NOBODY: u32 = 65534;

/// As the kernel shows it to users: config spaces of 64 bytes.
fn restricted() -> Tree {
    let tree = Tree::igb();
    change_config(&tree.function(PF), |config| config.truncate(64));
    tree
}

/// Runs `test` on a thread that has no rights to the tree's files but to read them.
fn as_nobody(tree: &Tree, test: impl FnOnce() + Send) {
    fs::set_permissions(tree.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let root = rustix::process::geteuid().is_root();
    if !root {
        for name in ["sriov_numvfs", "config"] {
            let file = tree.function(PF).join(name);
            fs::set_permissions(file, fs::Permissions::from_mode(0o444)).unwrap();
        }
    }
    std::thread::scope(|scope| {
        let run = || {
            // The calling thread's alone, and it ends here.
            if root {
                rustix::thread::set_thread_groups(&[]).unwrap();
                rustix::thread::set_thread_uid(Uid::from_raw(NOBODY)).unwrap();
            }
            test();
        };
        scope.spawn(run).join().unwrap();
    });
}

#[test]
fn sysfs_says_what_it_says_to_everybody() {
    let tree = restricted();
    let pf = tree.open(PF).unwrap();
    let location = pf.location(6).unwrap();
    assert_eq!(location.routing_id.to_string(), "01:11.4");
    assert_eq!(pf.captured_buses(), 1);
    let view = pf.status().unwrap();
    assert_eq!((view.total_vfs, view.offered_vfs), (None, Some(7)));
    assert_eq!(
        (view.first_vf_offset, view.vf_stride),
        (Some(0x80), Some(2))
    );
    assert_eq!((view.vf_device_id, view.probed_bars), (Some(0x10ca), None));
    assert!(!view.vf_enable);
    let mut data = [0; 4096];
    assert_eq!(pf.config_read(0, &mut data).unwrap(), 64);
}

#[test]
fn what_cannot_be_told_is_denied() {
    let tree = restricted();
    let pf = tree.open(PF).unwrap();
    // Linux offers 7 VFs; whether the capability has more is hidden.
    assert_eq!(status(pf.location(7)), NtStatus::ACCESS_DENIED);
    assert_eq!(status(pf.probed_bars()), NtStatus::ACCESS_DENIED);
    let enable = EnableVirtualization::enable;
    assert_eq!(
        status(pf.enable_virtualization(enable(8))),
        NtStatus::ACCESS_DENIED
    );
    assert_eq!(
        status(pf.enable_virtualization(enable(0))),
        NtStatus::INVALID_PARAMETER
    );
    let migrate = EnableVirtualization {
        vf_migration: true,
        ..enable(1)
    };
    assert_eq!(
        status(pf.enable_virtualization(migrate)),
        NtStatus::ACCESS_DENIED
    );
    let error = pf.probed_bars().unwrap_err().to_string();
    assert!(
        error.contains("root") && error.contains("config"),
        "{error}"
    );
}

#[test]
fn states_are_told_by_the_attribute() {
    let tree = restricted();
    let pf = tree.open(PF).unwrap();
    let disable = EnableVirtualization::disable();
    assert!(matches!(
        pf.enable_virtualization(disable),
        Err(VirtualizationError::AlreadyDisabled)
    ));
    tree.enable(PF, &["0000:01:10.0"]);
    assert!(matches!(
        pf.enable_virtualization(EnableVirtualization::enable(1)),
        Err(VirtualizationError::AlreadyEnabled { num_vfs: 1 })
    ));
    assert!(pf.status().unwrap().vf_enable);
}

#[test]
fn a_vf_tells_what_its_bars_read() {
    let tree = restricted();
    tree.enable(PF, &["0000:01:10.0"]);
    let pf = tree.open(PF).unwrap();
    assert_eq!(
        pf.probed_bars().unwrap(),
        [0xffff_c004, u32::MAX, 0, 0, 0, 0]
    );
}

#[test]
fn the_header_of_a_vf_can_be_read() {
    let tree = restricted();
    let pf = tree.open(PF).unwrap();
    tree.enable(PF, &["0000:01:10.0"]);
    change_config(&tree.function("0000:01:10.0"), |config| config.truncate(64));
    let mut data = [0; 64];
    assert_eq!(pf.virtual_function_data(0, 0, &mut data).unwrap(), 64);
    assert_eq!(pf.virtual_function_data(0, 60, &mut data[..4]).unwrap(), 4);
    for (offset, length) in [(60, 5), (64, 1), (0x100, 4), (0, 65)] {
        let mut data = vec![0; length];
        let read = pf.virtual_function_data(0, offset, &mut data);
        assert_eq!(status(read), NtStatus::ACCESS_DENIED);
    }
}

#[test]
fn permission_given_up_after_opening_is_missed_later() {
    let tree = Tree::igb();
    let pf = tree.open(PF).unwrap();
    change_config(&tree.function(PF), |config| config.truncate(64));
    assert!(pf.location(6).is_ok());
    assert_eq!(status(pf.location(7)), NtStatus::ACCESS_DENIED);
    assert!(
        pf.probed_bars().is_ok(),
        "it was recorded when it was opened"
    );
}

#[test]
fn changes_take_permission() {
    let tree = Tree::igb();
    tree.enable(PF, &["0000:01:10.0"]);
    let vf = tree.function("0000:01:10.0").join("config");
    fs::set_permissions(&vf, fs::Permissions::from_mode(0o444)).unwrap();
    as_nobody(&tree, || {
        let pf = tree.open(PF).unwrap();
        let disable = EnableVirtualization::disable();
        let error = pf.enable_virtualization(disable).unwrap_err();
        assert_eq!(error.status(), NtStatus::ACCESS_DENIED);
        let text = error.to_string();
        assert!(
            text.contains("sriov_numvfs") && text.contains("root"),
            "{text}"
        );
        let write = pf.set_virtual_function_data(0, 4, &[0]);
        assert_eq!(status(write), NtStatus::ACCESS_DENIED);
        assert!(pf.virtual_function_data(0, 0, &mut [0; 4096]).is_ok());
    });
    let asked = fs::read_to_string(tree.function(PF).join("sriov_numvfs")).unwrap();
    assert_eq!(asked, "1\n");
}

#[test]
fn parameters_and_state_count_before_permission() {
    let tree = Tree::igb();
    as_nobody(&tree, || {
        let pf = tree.open(PF).unwrap();
        let enable = |num_vfs| pf.enable_virtualization(EnableVirtualization::enable(num_vfs));
        assert_eq!(status(enable(9)), NtStatus::INVALID_PARAMETER);
        assert_eq!(status(enable(8)), NtStatus::ACCESS_DENIED);
        let disable = EnableVirtualization::disable();
        assert_eq!(
            status(pf.enable_virtualization(disable)),
            NtStatus::INVALID_DEVICE_STATE
        );
    });
}

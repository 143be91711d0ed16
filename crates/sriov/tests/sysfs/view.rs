//! What is read: location, buses, probed BARs, config space of PF and VFs.

use std::fs;

use hdv::pci::RoutingId;
use hdv_sriov::{NtStatus, PciVirtualization, SysfsPf, VirtualizationError};

use crate::status;
use crate::tree::{NONE, Numbers, SRIOV, Tree, change_config};

const PF: &str = "0000:01:00.0";
const PROBED: [u32; 6] = [0xffff_c004, u32::MAX, 0, 0xffff_c004, u32::MAX, 0];

fn place(pf: &SysfsPf, vf: u16) -> (u32, String) {
    let location = pf.location(vf).unwrap();
    (location.segment, location.routing_id.to_string())
}

#[test]
fn the_capability_says_where_vfs_would_be() {
    let tree = Tree::igb();
    let pf = tree.open(PF).unwrap();
    assert_eq!(place(&pf, 0), (0, "01:10.0".to_owned()));
    assert_eq!(place(&pf, 7), (0, "01:11.6".to_owned()));
    assert!(matches!(
        pf.location(8),
        Err(VirtualizationError::NoSuchVf {
            vf: 8,
            total_vfs: 8
        })
    ));
    assert_eq!(status(pf.location(u16::MAX)), NtStatus::INVALID_PARAMETER);
}

#[test]
fn links_say_where_vfs_are() {
    let tree = Tree::igb();
    let pf = tree.open(PF).unwrap();
    tree.enable(PF, &["0000:01:10.0", "0000:01:10.2"]);
    assert_eq!(place(&pf, 1), (0, "01:10.2".to_owned()));
    // Elsewhere than offset and stride say, as where Linux gives VFs a domain of their own.
    tree.disable(PF);
    tree.enable(PF, &["0001:00:00.0"]);
    assert_eq!(place(&pf, 0), (1, "00:00.0".to_owned()));
    assert_eq!(place(&pf, 1), (0, "01:10.2".to_owned()));
}

#[test]
fn vfs_carry_into_the_next_bus() {
    let tree = Tree::new();
    tree.port("pci0000:00/0000:00:02.0", 1, 3);
    let numbers = Numbers {
        total_vfs: 300,
        offered: 300,
        first_vf_offset: 0x100,
        vf_stride: 1,
    };
    tree.pf("pci0000:00/0000:00:02.0/0000:01:00.0", numbers);
    let pf = tree.open(PF).unwrap();
    assert_eq!(place(&pf, 299), (0, "03:05.3".to_owned()));
    assert_eq!(
        pf.location(299).unwrap().routing_id,
        RoutingId::with_ari(3, 43)
    );
    assert_eq!(pf.captured_buses(), 2);
}

#[test]
fn a_device_that_says_no_place_yet_has_none() {
    let tree = Tree::new();
    let numbers = Numbers {
        first_vf_offset: 0,
        vf_stride: 0,
        ..Numbers::IGB
    };
    tree.pf("pci0000:00/0000:01:00.0", numbers);
    let pf = tree.open(PF).unwrap();
    assert!(matches!(
        pf.location(0),
        Err(VirtualizationError::NotEnabled { vf: 0, num_vfs: 0 })
    ));
    assert_eq!(status(pf.location(8)), NtStatus::INVALID_PARAMETER);
}

#[test]
fn domains_have_32_bits() {
    let tree = Tree::new();
    tree.port("pci10000:e0/10000:e0:01.0", 0xe1, 0xe3);
    tree.pf("pci10000:e0/10000:e0:01.0/10000:e1:00.0", Numbers::IGB);
    let pf = tree.open("10000:e1:00.0").unwrap();
    assert_eq!(place(&pf, 0), (0x1_0000, "e1:10.0".to_owned()));
    tree.enable("10000:e1:00.0", &["10000:e1:10.0"]);
    assert_eq!(place(&pf, 0), (0x1_0000, "e1:10.0".to_owned()));
    assert_eq!(pf.captured_buses(), 2);
}

#[test]
fn captured_buses_are_those_of_the_port_above() {
    let tree = Tree::igb();
    let pf = tree.open(PF).unwrap();
    assert_eq!(pf.captured_buses(), 1);
    tree.port("pci0000:00/0000:00:02.0", 1, 1);
    assert_eq!(pf.captured_buses(), 0);
    tree.port("pci0000:00/0000:00:02.0", 0, 255);
    assert_eq!(pf.captured_buses(), 255);
    // A port that says nonsense.
    tree.port("pci0000:00/0000:00:02.0", 5, 1);
    assert_eq!(pf.captured_buses(), 0);
}

#[test]
fn a_root_bus_captures_none() {
    let tree = Tree::new();
    tree.pf("pci0000:00/0000:00:05.0", Numbers::IGB);
    assert_eq!(tree.open("0000:00:05.0").unwrap().captured_buses(), 0);
}

#[test]
fn probed_bars_are_those_of_the_opening() {
    let tree = Tree::igb();
    let pf = tree.open(PF).unwrap();
    fs::write(tree.function(PF).join("resource"), NONE.repeat(13)).unwrap();
    assert_eq!(pf.probed_bars().unwrap(), PROBED);
    // Linux took the addresses away: the type bits are left.
    let later = tree.open(PF).unwrap();
    let error = later.probed_bars().unwrap_err();
    assert_eq!(error.status(), NtStatus::UNSUCCESSFUL);
    assert!(error.to_string().contains("VF BAR 0"), "{error}");
}

#[test]
fn a_vf_is_read_by_the_rules() {
    let tree = Tree::igb();
    let pf = tree.open(PF).unwrap();
    tree.enable(PF, &["0000:01:10.0", "0000:01:10.2"]);
    let mut data = [0xaa; 4096];
    assert_eq!(pf.virtual_function_data(1, 0, &mut data).unwrap(), 4096);
    assert_eq!(data[..8], [0xff, 0xff, 0xff, 0xff, 0x04, 0, 0x10, 0]);
    assert_eq!(data[0x10..0x28], [0; 24]);
    assert_eq!((data[0x34], data[0x70], data[0xfff]), (0x70, 0x11, 1));
    // Cut at the end of config space.
    let mut data = [0xaa; 8];
    assert_eq!(pf.virtual_function_data(1, 4094, &mut data).unwrap(), 2);
    assert_eq!(data, [0, 1, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa]);
}

#[test]
fn a_vf_is_written_in_place() {
    let tree = Tree::igb();
    let pf = tree.open(PF).unwrap();
    tree.enable(PF, &["0000:01:10.0"]);
    assert_eq!(pf.set_virtual_function_data(0, 0x3c, &[1, 2]).unwrap(), 2);
    assert_eq!(pf.set_virtual_function_data(0, 4095, &[7, 8]).unwrap(), 1);
    let config = fs::read(tree.function("0000:01:10.0").join("config")).unwrap();
    assert_eq!(
        (&config[0x3b..0x3f], config.len()),
        (&[0, 1, 2, 0][..], 4096)
    );
    assert_eq!(config[4095], 7);
}

#[test]
fn ranges_are_checked_before_state() {
    let tree = Tree::igb();
    let pf = tree.open(PF).unwrap();
    let mut data = [0; 4];
    for (vf, offset, length, expected) in [
        (8, 4096, 0, "NoSuchVf"),
        (0, 4096, 4, "Range"),
        (0, u32::MAX, 4, "Range"),
        (0, 0, 0, "Range"),
        (7, 0, 4, "NotEnabled"),
    ] {
        let read = pf.virtual_function_data(vf, offset, &mut data[..length]);
        let write = pf.set_virtual_function_data(vf, offset, &data[..length]);
        for result in [read, write] {
            let text = format!("{:?}", result.unwrap_err());
            assert!(text.starts_with(expected), "{text}");
        }
    }
}

#[test]
fn a_vf_that_does_not_answer_fails() {
    let tree = Tree::igb();
    let pf = tree.open(PF).unwrap();
    tree.enable(PF, &["0000:01:10.0"]);
    fs::write(tree.function("0000:01:10.0").join("config"), [0xff; 4096]).unwrap();
    let error = pf.virtual_function_data(0, 0, &mut [0; 4]).unwrap_err();
    assert_eq!(error.status(), NtStatus::UNSUCCESSFUL);
    assert!(
        error.to_string().contains("VF 0 does not answer"),
        "{error}"
    );
    assert!(pf.set_virtual_function_data(0, 0, &[0; 4]).is_err());
    // Its link may still be there when it is not.
    fs::remove_dir_all(fs::canonicalize(tree.function("0000:01:10.0")).unwrap()).unwrap();
    assert!(matches!(
        pf.virtual_function_data(0, 0, &mut [0; 4]),
        Err(VirtualizationError::NotEnabled { vf: 0, num_vfs: 1 })
    ));
}

#[test]
fn a_function_without_sriov_opens_too() {
    let tree = Tree::new();
    tree.port("pci0000:00/0000:00:02.0", 1, 9);
    let mut config = vec![0; 4096];
    config[..4].copy_from_slice(&[0x86, 0x80, 1, 0]);
    for length in [4096, 256, 64] {
        tree.add("pci0000:00/0000:00:02.0/0000:01:00.0", &config[..length]);
        let pf = tree.open(PF).unwrap();
        assert_eq!(status(pf.location(0)), NtStatus::INVALID_PARAMETER);
        assert_eq!(status(pf.probed_bars()), NtStatus::INVALID_DEVICE_STATE);
        assert!(matches!(
            pf.virtual_function_data(0, 0, &mut [0]),
            Err(VirtualizationError::NotCapable)
        ));
        assert!(matches!(pf.status(), Err(VirtualizationError::NotCapable)));
        assert_eq!(pf.captured_buses(), 0);
        assert_eq!(pf.sriov_registers().unwrap(), None);
        let mut data = [0; 4096];
        assert_eq!(pf.config_read(0, &mut data).unwrap(), length);
        assert_eq!(data[..length], config[..length]);
    }
    let vf_ids = tree.add("pci0000:00/0000:00:02.0/0000:01:00.1", &config);
    change_config(&vf_ids, |config| config[..4].fill(0xff));
    assert!(tree.open("0000:01:00.1").is_ok(), "a VF is a function, too");
}

#[test]
fn the_view_tells_all() {
    let tree = Tree::igb();
    let pf = tree.open(PF).unwrap();
    let idle = pf.status().unwrap();
    assert_eq!(
        (idle.num_vfs, idle.vf_enable, idle.vfs.len()),
        (0, false, 0)
    );
    tree.enable(PF, &["0000:01:10.0", "0000:01:10.2"]);
    let vf = fs::canonicalize(tree.function("0000:01:10.2")).unwrap();
    std::os::unix::fs::symlink("../drivers/vfio-pci", vf.join("driver")).unwrap();
    let view = pf.status().unwrap();
    assert_eq!(view.address, PF);
    assert_eq!(view.driver.as_deref(), Some("igb"));
    assert_eq!((view.total_vfs, view.offered_vfs), (Some(8), Some(7)));
    assert_eq!((view.num_vfs, view.vf_enable), (2, true));
    assert_eq!(
        (view.first_vf_offset, view.vf_stride),
        (Some(0x80), Some(2))
    );
    assert_eq!((view.vf_device_id, view.captured_buses), (Some(0x10ca), 1));
    assert_eq!(view.probed_bars, Some(PROBED));
    let vfs: Vec<_> = view
        .vfs
        .iter()
        .map(|vf| (&*vf.address, vf.driver.as_deref()))
        .collect();
    assert_eq!(
        vfs,
        [("0000:01:10.0", None), ("0000:01:10.2", Some("vfio-pci"))]
    );
    assert_eq!(
        view.vfs[1].bars,
        [Some(0xfe80_4000), None, None, None, None, None]
    );
    let registers = pf.sriov_registers().unwrap().unwrap();
    assert_eq!(
        (usize::from(registers.offset), registers.num_vfs),
        (SRIOV, 2)
    );
    let json = serde_json::to_string(&view).unwrap();
    assert_eq!(
        serde_json::from_str::<hdv_sriov::SysfsPfStatus>(&json).unwrap(),
        view
    );
}

#[test]
fn config_space_ends_at_4096() {
    let tree = Tree::igb();
    let pf = tree.open(PF).unwrap();
    let mut data = [0xaa; 4];
    assert_eq!(pf.config_read(4094, &mut data).unwrap(), 2);
    assert_eq!(pf.config_read(4096, &mut data).unwrap(), 0);
    assert_eq!(pf.config_read(u16::MAX, &mut data).unwrap(), 0);
}

#[test]
fn pfs_are_listed_in_the_order_of_their_addresses() {
    let tree = Tree::igb();
    tree.pf("pci0000:00/0000:00:02.0/0000:01:00.1", Numbers::IGB);
    tree.pf("pci10000:e0/10000:e1:00.0", Numbers::IGB);
    tree.pf("pci0001:00/0001:00:00.0", Numbers::IGB);
    fs::create_dir_all(tree.function("no address")).unwrap();
    fs::write(tree.function("no address").join("sriov_totalvfs"), "1").unwrap();
    let list = SysfsPf::list_in(tree.path()).unwrap();
    let list: Vec<_> = list.iter().map(ToString::to_string).collect();
    assert_eq!(list, [PF, "0000:01:00.1", "0001:00:00.0", "10000:e1:00.0"]);
    let nothing = tempfile::tempdir().unwrap();
    assert_eq!(SysfsPf::list_in(nothing.path()).unwrap(), []);
    fs::create_dir_all(nothing.path().join("bus/pci")).unwrap();
    fs::write(nothing.path().join("bus/pci/devices"), "").unwrap();
    assert!(SysfsPf::list_in(nothing.path()).is_err());
}

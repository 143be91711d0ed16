//! The six routines over a PF that a real host serves: what they give, and every error.

mod support;

use std::path::PathBuf;

use hdv::pci::{Port, VfRouting};
use hdv::{Bar, BarIndex, DeviceIds, DeviceState, HostError, Uuid};
use hdv_sriov::{
    EmulatedPf, EnableVirtualization, NtStatus, PciVirtualization, PfError, PfOptions,
    PlacementError, VirtualFunctionLayout, VirtualFunctionSource, VirtualizationError as Error,
};
use hdv_vfio_user::client::{Client, ClientError, ClientOptions};
use support::*;

fn request(num_vfs: u16, migration: bool, interrupt: bool, enable: bool) -> EnableVirtualization {
    EnableVirtualization {
        num_vfs,
        vf_migration: migration,
        migration_interrupt: interrupt,
        enable,
    }
}

#[test]
fn parameters_are_checked_before_state() {
    let served = served();
    let pf = &served.pf;
    let ask = |num_vfs, migration, interrupt, enable| {
        let error = pf
            .enable_virtualization(request(num_vfs, migration, interrupt, enable))
            .unwrap_err();
        (error.status(), error)
    };
    let parameter = NtStatus::INVALID_PARAMETER;
    let state = NtStatus::INVALID_DEVICE_STATE;
    // Both while it is disabled and while it is enabled.
    for enabled in [false, true] {
        if enabled {
            pf.enable_virtualization(EnableVirtualization::enable(3))
                .unwrap();
        }
        for num_vfs in [0, TOTAL + 1, u16::MAX] {
            let (status, error) = ask(num_vfs, false, false, true);
            assert_eq!(status, parameter);
            assert!(
                matches!(error, Error::NumVfs { num_vfs: n, total_vfs: TOTAL } if n == num_vfs),
                "{error}"
            );
        }
        for num_vfs in [1, TOTAL, u16::MAX] {
            let (status, error) = ask(num_vfs, false, false, false);
            assert_eq!(status, parameter);
            assert!(matches!(error, Error::NumVfsNotZero { num_vfs: n } if n == num_vfs));
        }
        for (num_vfs, enable) in [(0, false), (2, true)] {
            let (status, error) = ask(num_vfs, false, true, enable);
            assert_eq!(status, parameter);
            assert!(matches!(error, Error::MigrationInterrupt));
            for interrupt in [false, true] {
                let (status, error) = ask(num_vfs, true, interrupt, enable);
                assert_eq!(status, parameter);
                assert!(matches!(error, Error::Migration));
            }
        }
        let (status, error) = if enabled {
            ask(1, false, false, true)
        } else {
            ask(0, false, false, false)
        };
        assert_eq!(status, state);
        match error {
            Error::AlreadyEnabled { num_vfs } => assert!(enabled && num_vfs == 3),
            Error::AlreadyDisabled => assert!(!enabled),
            error => panic!("{error}"),
        }
        assert_eq!(agree(pf).active_vfs(), if enabled { 3 } else { 0 });
    }
    pf.enable_virtualization(EnableVirtualization::disable())
        .unwrap();
    assert_eq!(agree(pf).num_vfs, 0);
}

#[test]
fn enabling_changes_vf_enable_and_num_vfs_only() {
    let served = served();
    let pf = &served.pf;
    let before = dump(pf);
    let base = usize::from(sriov_at(&before));
    for num_vfs in [1, TOTAL] {
        pf.enable_virtualization(EnableVirtualization::enable(num_vfs))
            .unwrap();
        let mut expected = before.clone();
        expected[base + 8] |= 1;
        expected[base + 0x10] = num_vfs.to_le_bytes()[0];
        assert_eq!(dump(pf), expected);
        let names: Vec<_> = served.sockets();
        assert_eq!(names.len(), usize::from(num_vfs) + 1, "{names:?}");
        pf.enable_virtualization(EnableVirtualization::disable())
            .unwrap();
        assert_eq!(dump(pf), before);
        assert_eq!(served.sockets(), ["pf.sock"]);
    }
}

#[test]
fn data_is_a_vfs_own_config_space() {
    let served = served();
    let pf = &served.pf;
    let mut word = [0; 4];
    let error = pf.virtual_function_data(1, 0, &mut word).unwrap_err();
    assert!(matches!(error, Error::NotEnabled { vf: 1, num_vfs: 0 }));
    assert_eq!(error.status(), NtStatus::INVALID_DEVICE_STATE);
    assert!(
        matches!(
            pf.set_virtual_function_data(1, 0, &word),
            Err(Error::NotEnabled { .. })
        ),
        "also written"
    );
    pf.enable_virtualization(EnableVirtualization::enable(2))
        .unwrap();
    let vf = pf.virtual_functions().get(1).unwrap();
    assert_eq!(
        (vf.number(), vf.instance().state()),
        (1, DeviceState::PoweredOff)
    );

    assert_eq!(pf.virtual_function_data(1, 0, &mut word).unwrap(), 4);
    assert_eq!(word, [0xff; 4], "ids are the PF's to say");
    assert_eq!(vf.instance().state(), DeviceState::Stopped);
    assert_eq!(
        pf.virtual_functions().get(0).unwrap().instance().state(),
        DeviceState::PoweredOff
    );
    // Bus Master Enable is the VF's own, Memory Space Enable is not there.
    assert_eq!(pf.set_virtual_function_data(1, 4, &[0x06]).unwrap(), 1);
    pf.virtual_function_data(1, 4, &mut word).unwrap();
    assert_eq!(word[0], 0x04);
    pf.virtual_function_data(0, 4, &mut word).unwrap();
    assert_eq!(word[0], 0, "another VF's");
    pf.set_virtual_function_data(1, 0x10, &[0xff; 24]).unwrap();
    let mut bars = [1; 24];
    assert_eq!(pf.virtual_function_data(1, 0x10, &mut bars).unwrap(), 24);
    assert_eq!(bars, [0; 24]);
    assert_eq!(served.lab.count((Vf(1), Initialize)), 1);
    assert_eq!(served.lab.count((Vf(1), Start)), 0);

    // Transfers are cut at the end.
    let mut all = vec![0; 5000];
    assert_eq!(pf.virtual_function_data(1, 0, &mut all).unwrap(), 4096);
    assert_eq!(pf.virtual_function_data(1, 4094, &mut all).unwrap(), 2);
    assert_eq!(pf.set_virtual_function_data(1, 4095, &all).unwrap(), 1);
    for offset in [4096, 4097, u32::MAX] {
        let error = pf.virtual_function_data(1, offset, &mut all).unwrap_err();
        assert!(matches!(error, Error::Range { offset: o, length: 5000 } if o == offset));
        assert_eq!(error.status(), NtStatus::INVALID_PARAMETER);
        let error = pf.set_virtual_function_data(1, offset, &all).unwrap_err();
        assert!(matches!(error, Error::Range { .. }));
    }
    let error = pf.virtual_function_data(1, 0, &mut []).unwrap_err();
    assert!(matches!(
        error,
        Error::Range {
            offset: 0,
            length: 0
        }
    ));
    for vf in [TOTAL, u16::MAX] {
        let error = pf.virtual_function_data(vf, 0, &mut word).unwrap_err();
        assert!(matches!(
            error,
            Error::NoSuchVf {
                total_vfs: TOTAL,
                ..
            }
        ));
        assert_eq!(error.status(), NtStatus::INVALID_PARAMETER);
    }
    let error = pf.virtual_function_data(2, 0, &mut word).unwrap_err();
    assert!(matches!(error, Error::NotEnabled { vf: 2, num_vfs: 2 }));
}

#[test]
fn a_vf_that_cannot_be_used_says_why() {
    let served = served();
    served.lab.hook(|who, event| match (who, event) {
        (Vf(0), Initialize) => Err(hdv::DeviceError::new("no power here")),
        _ => Ok(()),
    });
    let pf = &served.pf;
    pf.enable_virtualization(EnableVirtualization::enable(2))
        .unwrap();
    for _ in 0..2 {
        let error = pf.virtual_function_data(0, 0, &mut [0; 4]).unwrap_err();
        assert_eq!(error.status(), NtStatus::UNSUCCESSFUL);
        let text = error.to_string();
        assert!(
            text.contains("VF 0") && text.contains("no power here"),
            "{text}"
        );
        assert!(matches!(error, Error::VirtualFunction { vf: 0, .. }));
    }
    assert_eq!(served.lab.count((Vf(0), Initialize)), 1);
    pf.virtual_function_data(1, 0, &mut [0; 4]).unwrap();
    // One that was removed alone.
    let id = pf.virtual_functions().get(1).unwrap().instance().id();
    served.host.remove(id).unwrap();
    let error = pf.virtual_function_data(1, 0, &mut [0; 4]).unwrap_err();
    assert!(
        matches!(&error, Error::VirtualFunction { vf: 1, source: HostError::NoSuchDevice(gone) } if *gone == id),
        "{error}"
    );
    pf.enable_virtualization(EnableVirtualization::disable())
        .unwrap();
    for vf in [0, 1] {
        assert_eq!(served.lab.count((Vf(vf), Teardown)), 1);
    }
}

#[test]
fn locations_follow_the_buses() {
    let served = served();
    let pf = &served.pf;
    let at = |vf| {
        let location = pf.location(vf).unwrap();
        assert_eq!(location.segment, 2);
        location.routing_id.to_string()
    };
    assert_eq!((at(0), at(7)), ("05:00.1".into(), "05:01.0".into()));
    assert_eq!(pf.captured_buses(), 1);
    pf.enable_virtualization(EnableVirtualization::enable(8))
        .unwrap();
    assert_eq!(at(7), "05:01.0", "enabled or not");
    pf.renumber(0x20, 0x25).unwrap();
    assert_eq!(at(0), "20:00.1");
    assert_eq!(pf.captured_buses(), 5);
    assert_eq!(pf.placement().routing_id().bus(), 0x20);
    let error = pf.renumber(9, 8).unwrap_err();
    assert!(matches!(error, PlacementError::BusNumbers(_)), "{error}");
    assert_eq!(at(0), "20:00.1", "nothing changed");
    for vf in [TOTAL, u16::MAX] {
        let error = pf.location(vf).unwrap_err();
        assert!(matches!(error, Error::NoSuchVf { .. }));
        assert_eq!(error.status(), NtStatus::INVALID_PARAMETER);
    }
}

#[test]
fn buses_that_hold_too_few_vfs_are_refused() {
    let served = serve(
        Author::total(&Lab::default(), 300),
        PfOptions::new(placement()),
    );
    let pf = &served.pf;
    let error = pf.renumber(5, 5).unwrap_err();
    assert!(
        matches!(
            error,
            PlacementError::Capacity {
                total_vfs: 300,
                capacity: 255,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(pf.captured_buses(), 1);
    pf.renumber(0xfe, 0xff).unwrap();
    assert_eq!(pf.location(299).unwrap().routing_id.to_string(), "ff:05.4");

    // At creation: nothing of it is left.
    let refused = |author: Author, options| {
        let lab = author.device.lab.clone();
        let directory = tempfile::tempdir().unwrap();
        let host = host();
        let socket = directory.path().join("pf.sock");
        let error = EmulatedPf::serve(&host, &socket, "pf", Box::new(author), options).unwrap_err();
        assert_eq!(lab.take(), [(Pf, Teardown), (Pf, Dropped)], "{error}");
        assert!(host.device_ids().is_empty());
        assert!(!socket.exists());
        error
    };
    let plain = PfOptions::new(place(Port::new(1, 1).unwrap()));
    let lab = Lab::default();
    assert!(matches!(
        refused(Author::total(&lab, 8), plain),
        PfError::Placement(PlacementError::Capacity { capacity: 0, .. })
    ));
    let routing = VfRouting {
        first_vf_offset: 2,
        vf_stride: 2,
    };
    let apart = PfOptions {
        routing: Some(routing),
        ..plain
    };
    assert!(matches!(
        refused(Author::total(&lab, 4), apart),
        PfError::Placement(PlacementError::Capacity { capacity: 3, .. })
    ));
    assert!(matches!(
        refused(Author::total(&lab, 0), plain),
        PfError::NoVfs
    ));
    let mut odd = Author::total(&lab, 1);
    odd.layout = odd.layout.bar(BarIndex::BAR5, Bar::memory64(4096));
    assert!(matches!(
        refused(odd, plain),
        PfError::Host(HostError::Config(_))
    ));
    let mut pages = Author::total(&lab, 1);
    pages.layout.page_sizes = 1;
    assert!(matches!(
        refused(pages, plain),
        PfError::Host(HostError::Config(_))
    ));
    let served = serve(Author::total(&lab, 3), apart);
    assert_eq!(
        served.pf.location(2).unwrap().routing_id.to_string(),
        "01:00.6"
    );
}

#[test]
fn probed_bars_are_those_of_discovery() {
    let mut author = Author::new(&Lab::default());
    author.layout = author
        .layout
        .bar(BarIndex::BAR2, Bar::memory32(16))
        .bar(BarIndex::BAR4, Bar::memory64(1 << 33).prefetchable());
    let served = serve(author, options());
    let pf = &served.pf;
    // 16 bytes take a page.
    let expected = [0xffff_c00c, u32::MAX, 0xffff_f000, 0, 0xc, 0xffff_fffe];
    assert_eq!(pf.probed_bars().unwrap(), expected);
    let base = sriov_at(&dump(pf));
    pf.config_write(base + 0x24, &[0xff; 24]).unwrap();
    let bytes = dump(pf);
    let read: Vec<u32> = (0..6)
        .map(|bar| dword(&bytes, base + 0x24 + 4 * bar))
        .collect();
    assert_eq!(read, expected, "what probing finds");
    // Whatever the page size is afterwards.
    pf.config_write(base + 0x20, &0x400_u32.to_le_bytes())
        .unwrap();
    assert_eq!(pf.registers().system_page_size, 0x40_0000);
    assert_eq!(pf.probed_bars().unwrap(), expected);
}

/// A PF as a device instance, of which one VF is not what it declares.
fn created(served: &Served, wrong: Option<u16>) -> EmulatedPf {
    struct Source(Lab, Option<u16>);
    impl VirtualFunctionSource for Source {
        fn create(&mut self, vf: u16) -> Result<Box<dyn hdv::Function>, hdv::DeviceError> {
            let mut device = Device::new(Vf(vf), &self.0);
            if self.1 == Some(vf) {
                device.identity.device_id = 0x7777;
            }
            hdv::pci_function(Box::new(device))
                .map_err(|error| hdv::DeviceError::new(error.to_string()))
        }
    }
    let ids = DeviceIds {
        class_id: Uuid::from_u128(1),
        instance_id: Uuid::from_u128(2),
    };
    EmulatedPf::create(
        &served.host,
        ids,
        hdv::pci_function(Box::new(Device::new(Pf, &served.lab))).unwrap(),
        &VirtualFunctionLayout::new(2, VF_DEVICE).bar(BarIndex::BAR0, VF_BAR),
        Box::new(Source(served.lab.clone(), wrong)),
        options(),
    )
    .unwrap()
}

#[test]
fn a_pf_is_used_once_it_is_powered_on() {
    let served = served();
    let pf = created(&served, None);
    // Parameters first.
    let error = pf
        .enable_virtualization(EnableVirtualization::enable(3))
        .unwrap_err();
    assert_eq!(error.status(), NtStatus::INVALID_PARAMETER);
    let all = [
        pf.enable_virtualization(EnableVirtualization::enable(2)),
        pf.enable_virtualization(EnableVirtualization::disable()),
        pf.config_read(0, &mut [0; 4]),
        pf.config_write(0, &[0; 4]),
        pf.reset(),
    ];
    for result in all {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::NotPoweredOn), "{error}");
        assert_eq!(error.status(), NtStatus::INVALID_DEVICE_STATE);
    }
    assert_eq!(pf.location(1).unwrap().routing_id.to_string(), "05:00.2");
    assert!(pf.probed_bars().is_ok());

    let mut client = connect(&announced(&served, &pf));
    assert_eq!(read(&mut client, CONFIG, 0), [0x48, 0x4f, 0x02, 0x70]);
}

/// Announces the PF and enables two VFs; the socket of the second.
fn announced(served: &Served, pf: &EmulatedPf) -> PathBuf {
    let system = hdv::SocketDirectory::open(served.directory.path()).unwrap();
    let socket = system.socket(Uuid::from_u128(2));
    served.host.attach(std::sync::Arc::new(system)).unwrap();
    served.host.announce(pf.instance().id()).unwrap();
    pf.enable_virtualization(EnableVirtualization::enable(2))
        .unwrap();
    let name = socket.file_stem().unwrap().to_str().unwrap();
    socket.with_file_name(format!("{name}-vf1.sock"))
}

#[test]
fn a_vf_that_is_wrong_when_it_is_powered_on_refuses_everybody() {
    let served = served();
    let pf = created(&served, Some(1));
    let socket = announced(&served, &pf);
    pf.virtual_function_data(0, 0, &mut [0; 4]).unwrap();
    for _ in 0..2 {
        let refused = Client::connect(&socket, ClientOptions::default()).unwrap_err();
        assert!(
            matches!(refused, ClientError::Refused { .. }),
            "{refused:?}"
        );
        let error = pf.virtual_function_data(1, 0, &mut [0; 4]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("VF 1") && text.contains("0x7777"), "{text}");
    }
    let vf = pf.virtual_functions().get(1).unwrap();
    assert_eq!(vf.instance().state(), DeviceState::Failed);
}

#[test]
fn once_it_is_gone_everything_says_so() {
    for close in [false, true] {
        let served = served();
        let pf = &served.pf;
        pf.enable_virtualization(EnableVirtualization::enable(3))
            .unwrap();
        served.lab.take();
        if close {
            served.host.close().unwrap();
        } else {
            served.host.remove(pf.instance().id()).unwrap();
        }
        let log = served.lab.take();
        let ends: Vec<_> = log.into_iter().filter(|one| one.1 == Teardown).collect();
        let expected = [Vf(0), Vf(1), Vf(2), Pf].map(|who| (who, Teardown));
        assert_eq!(ends, expected, "VFs first");
        assert!(served.host.device_ids().is_empty());
        assert!(served.sockets().is_empty());
        assert_eq!(pf.virtual_functions().count(), 0);

        // Before any parameter.
        let errors = [
            pf.virtual_function_data(99, 9999, &mut []).err(),
            pf.set_virtual_function_data(99, 9999, &[]).err(),
            pf.location(99).err(),
            pf.enable_virtualization(request(99, true, true, true))
                .err(),
            pf.enable_virtualization(request(99, true, true, false))
                .err(),
            pf.probed_bars().err(),
            pf.config_read(5000, &mut []).err(),
            pf.config_write(5000, &[]).err(),
            pf.reset().err(),
        ];
        for error in errors {
            let error = error.expect("an error");
            assert!(matches!(error, Error::Gone), "{error}");
            assert_eq!(error.status(), NtStatus::INVALID_DEVICE_STATE);
        }
        assert_eq!(pf.captured_buses(), 0);
    }
}

#[test]
fn the_owner_reads_and_writes_within_config_space() {
    let served = served();
    let pf = &served.pf;
    for (offset, length) in [(4096, 1), (4095, 2), (0, 4097), (u16::MAX, 1), (0, 0)] {
        let mut data = vec![0; length];
        let read = pf.config_read(offset, &mut data).unwrap_err();
        let written = pf.config_write(offset, &data).unwrap_err();
        for error in [read, written] {
            assert!(matches!(error, Error::Range { .. }), "{error}");
        }
    }
    pf.config_read(4095, &mut [0]).unwrap();
}

//! Doorbells and sections.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex};

use computecore::types::{Handle, HdvDevice, Hresult};
use computecore::{
    HdvCreateSectionBackedMmioRange, HdvDestroySectionBackedMmioRange, HdvRegisterDoorbell,
    HdvRegisterDoorbellPage, HdvTeardownDeviceHost, HdvUnregisterDoorbell,
    HdvUnregisterDoorbellPage, codes,
};

use crate::device::{Call, lock, serve};
use crate::guest::{BAR0, BAR2, event, memfd, read, taken, wait_for, write};

const ANY_VALUE: u64 = 1 << 31;
const WRITEABLE: i32 = 1;
const NEVER_OFFERED: i32 = i32::MIN;

fn handle(descriptor: &OwnedFd) -> Handle {
    let number = usize::try_from(descriptor.as_raw_fd()).expect("open");
    std::ptr::without_provenance_mut(number)
}

fn register(device: HdvDevice, offset: u64, value: u64, flags: u64, event: &OwnedFd) -> Hresult {
    HdvRegisterDoorbell(device, 0, offset, value, flags, handle(event))
}

/// A section over the first pages of BAR 2.
fn map(device: HdvDevice, pages: u64, flags: i32, file: &OwnedFd) -> Hresult {
    HdvCreateSectionBackedMmioRange(device, 2, 0, pages, flags, handle(file), 0)
}

#[test]
fn hdv_register_doorbell_success() {
    let served = serve();
    let mut client = served.guest();
    // Offset, value, flags, and which writes ring it.
    let (any, exact, word, sized) = (event(), event(), event(), event());
    let device = served.device();
    assert_eq!(register(device, 0x10, 0, ANY_VALUE, &any), codes::S_OK);
    assert_eq!(register(device, 0x20, 7, 0, &exact), codes::S_OK);
    assert_eq!(register(device, 0x30, 0, 2 | ANY_VALUE, &word), codes::S_OK);
    assert_eq!(
        register(device, 0x40, 0x1_0000_0001, 4, &sized),
        codes::S_OK
    );
    for data in [&[1][..], &[1; 2], &[1; 4], &[1; 8]] {
        write(&mut client, BAR0, 0x10, data);
    }
    assert_eq!(taken(&any), 4);
    write(&mut client, BAR0, 0x20, &7u32.to_le_bytes());
    write(&mut client, BAR0, 0x20, &[7]);
    assert_eq!(taken(&exact), 2);
    write(&mut client, BAR0, 0x30, &[1, 2]);
    assert_eq!(taken(&word), 1);
    write(&mut client, BAR0, 0x40, &0x1_0000_0001_u64.to_le_bytes());
    assert_eq!(taken(&sized), 1);
    // Nothing of it reached the device.
    assert_eq!(served.state.calls(), []);
    // What does not match does, and rings nothing.
    write(&mut client, BAR0, 0x20, &8u32.to_le_bytes());
    write(&mut client, BAR0, 0x30, &[1; 4]);
    write(&mut client, BAR0, 0x40, &1u64.to_le_bytes());
    let calls = [
        Call::Write(0, 0x20, 4),
        Call::Write(0, 0x30, 4),
        Call::Write(0, 0x40, 8),
    ];
    assert_eq!(served.state.calls(), calls);
    assert_eq!((taken(&exact), taken(&word), taken(&sized)), (0, 0, 0));
}

#[test]
fn hdv_register_doorbell_several_values_at_one_offset() {
    let served = serve();
    let mut client = served.guest();
    let queues: Vec<OwnedFd> = (0..4).map(|_| event()).collect();
    for (value, queue) in (0..).zip(&queues) {
        assert_eq!(register(served.device(), 0, value, 0, queue), codes::S_OK);
    }
    for value in [2u32, 0, 2, 3] {
        write(&mut client, BAR0, 0, &value.to_le_bytes());
    }
    assert_eq!(queues.iter().map(taken).collect::<Vec<_>>(), [1, 0, 2, 1]);
}

#[test]
fn hdv_register_doorbell_duplicates_the_event() {
    let served = serve();
    let mut client = served.guest();
    let given = event();
    let kept = given.try_clone().expect("a duplicate");
    assert_eq!(
        register(served.device(), 0, 0, ANY_VALUE, &given),
        codes::S_OK
    );
    drop(given);
    write(&mut client, BAR0, 0, &[1]);
    assert_eq!(taken(&kept), 1);
}

#[test]
fn hdv_unregister_doorbell_success() {
    let served = serve();
    let mut client = served.guest();
    let bell = event();
    assert_eq!(register(served.device(), 0, 7, 3, &bell), codes::S_OK);
    assert_eq!(
        HdvUnregisterDoorbell(served.device(), 0, 0, 7, 3),
        codes::S_OK
    );
    write(&mut client, BAR0, 0, &7u32.to_le_bytes());
    assert_eq!(taken(&bell), 0);
    assert_eq!(served.state.calls(), [Call::Write(0, 0, 4)]);
}

#[test]
fn hdv_register_doorbell_page_success() {
    let served = serve();
    let mut client = served.guest();
    let page = event();
    let device = served.device();
    assert_eq!(
        HdvRegisterDoorbellPage(device, 0, 1, handle(&page)),
        codes::S_OK
    );
    for (offset, data) in [(0x1000, &[1][..]), (0x1ff8, &[1; 8]), (0x1804, &[1; 4])] {
        write(&mut client, BAR0, offset, data);
    }
    assert_eq!(taken(&page), 3);
    assert_eq!(served.state.calls(), []);
    write(&mut client, BAR0, 0x2000, &[1]);
    write(&mut client, BAR0, 0xfff, &[1]);
    assert_eq!(taken(&page), 0);
    assert_eq!(served.state.calls().len(), 2);
}

#[test]
fn hdv_unregister_doorbell_page_success() {
    let served = serve();
    let mut client = served.guest();
    let page = event();
    let device = served.device();
    assert_eq!(
        HdvRegisterDoorbellPage(device, 0, 1, handle(&page)),
        codes::S_OK
    );
    assert_eq!(HdvUnregisterDoorbellPage(device, 0, 1), codes::S_OK);
    write(&mut client, BAR0, 0x1000, &[1]);
    assert_eq!(taken(&page), 0);
    assert_eq!(served.state.calls(), [Call::Write(0, 0x1000, 1)]);
}

#[test]
fn hdv_create_section_backed_mmio_range_success() {
    let served = serve();
    let file = memfd(0x4000);
    // Page 1 of the BAR is page 2 of the section.
    let device = served.device();
    let result = HdvCreateSectionBackedMmioRange(device, 2, 1, 2, WRITEABLE, handle(&file), 2);
    assert_eq!(result, codes::S_OK);
    let mut client = served.guest();
    assert_eq!(rustix::io::pwrite(&file, b"host", 0x2004), Ok(4));
    assert_eq!(&read::<4>(&mut client, BAR2, 0x1004), b"host");
    write(&mut client, BAR2, 0x2ff8, b"theguest");
    let mut seen = [0; 8];
    assert_eq!(rustix::io::pread(&file, &mut seen, 0x3ff8), Ok(8));
    assert_eq!(&seen, b"theguest");
    assert_eq!(served.state.calls(), []);
    // Beside it is the device.
    read::<4>(&mut client, BAR2, 0x3000);
    assert_eq!(served.state.calls(), [Call::Read(2, 0x3000, 4)]);
}

#[test]
fn hdv_create_section_backed_mmio_range_read_only() {
    let served = serve();
    let file = memfd(0x1000);
    assert_eq!(map(served.device(), 1, 0, &file), codes::S_OK);
    let mut client = served.guest();
    write(&mut client, BAR2, 0, b"none");
    assert_eq!(read::<4>(&mut client, BAR2, 0), [0; 4]);
    assert_eq!(served.state.calls(), []);
}

#[test]
fn hdv_create_section_backed_mmio_range_is_offered() {
    let served = serve();
    let file = memfd(0x2000);
    assert_eq!(map(served.device(), 2, WRITEABLE, &file), codes::S_OK);
    let mut client = served.guest();
    let region = client.region_info(BAR2).expect("told");
    assert!(region.mappable && region.file.is_some());
    let areas: Vec<_> = region
        .areas
        .iter()
        .map(|area| (area.offset, area.size))
        .collect();
    assert_eq!(areas, [(0, 0x2000)]);
}

#[test]
fn hdv_create_section_backed_mmio_range_inside_callback() {
    let served = serve();
    let file = Arc::new(memfd(0x1000));
    let result = Arc::new(Mutex::new(None));
    let (noted, given) = (Arc::clone(&result), Arc::clone(&file));
    served.state.hook(Call::Start, move |device| {
        *lock(&noted) = Some(map(device, 1, WRITEABLE, &given));
    });
    let mut client = served.guest();
    assert_eq!(*lock(&result), Some(codes::S_OK));
    // Made before the client asked, so it can be mapped.
    assert!(client.region_info(BAR2).expect("told").mappable);
}

#[test]
fn hdv_destroy_section_backed_mmio_range_success() {
    let served = serve();
    let file = memfd(0x1000);
    assert_eq!(map(served.device(), 1, WRITEABLE, &file), codes::S_OK);
    let mut client = served.guest();
    assert_eq!(
        HdvDestroySectionBackedMmioRange(served.device(), 2, 0),
        codes::S_OK
    );
    read::<4>(&mut client, BAR2, 0);
    assert_eq!(served.state.calls(), [Call::Read(2, 0, 4)]);
}

#[test]
fn hdv_destroy_section_backed_mmio_range_busy() {
    let served = serve();
    let file = memfd(0x1000);
    let device = served.device();
    assert_eq!(map(device, 1, WRITEABLE, &file), codes::S_OK);
    let mut client = served.guest();
    client.region_info(BAR2).expect("told");
    assert_eq!(HdvDestroySectionBackedMmioRange(device, 2, 0), codes::BUSY);
    // The same again changes nothing.
    assert_eq!(map(device, 1, WRITEABLE, &file), codes::S_OK);
    // Free when the client has left.
    drop(client);
    wait_for("end of the client", || {
        HdvDestroySectionBackedMmioRange(device, 2, 0) == codes::S_OK
    });
}

#[test]
fn hdv_register_doorbell_busy() {
    let served = serve();
    let file = memfd(0x1000);
    let device = served.device();
    assert_eq!(map(device, 1, WRITEABLE, &file), codes::S_OK);
    let mut client = served.guest();
    client.region_info(BAR2).expect("told");
    let bell = event();
    let result = HdvRegisterDoorbell(device, 2, 8, 0, ANY_VALUE, handle(&bell));
    assert_eq!(result, codes::BUSY);
    let result = HdvRegisterDoorbellPage(device, 2, 0, handle(&bell));
    assert_eq!(result, codes::BUSY);
}

#[test]
fn openhdv_mmio_mapping_flag_never_offered() {
    let served = serve();
    let file = memfd(0x1000);
    let device = served.device();
    let flags = WRITEABLE | NEVER_OFFERED;
    assert_eq!(map(device, 1, flags, &file), codes::S_OK);
    let mut client = served.guest();
    let region = client.region_info(BAR2).expect("told");
    assert!(!region.mappable && region.file.is_none());
    write(&mut client, BAR2, 0, b"data");
    assert_eq!(&read::<4>(&mut client, BAR2, 0), b"data");
    assert_eq!(HdvDestroySectionBackedMmioRange(device, 2, 0), codes::S_OK);
}

#[test]
fn hdv_create_section_backed_mmio_range_not_mappable() {
    let served = serve();
    let event = event();
    assert_eq!(map(served.device(), 1, 0, &event), codes::E_OUTOFMEMORY);
}

#[test]
fn hdv_teardown_device_host_releases_doorbells_and_sections() {
    let served = serve();
    let (file, bell) = (memfd(0x1000), event());
    let device = served.device();
    assert_eq!(map(device, 1, WRITEABLE, &file), codes::S_OK);
    assert_eq!(register(device, 0, 0, ANY_VALUE, &bell), codes::S_OK);
    let mut client = served.guest();
    assert_eq!(HdvTeardownDeviceHost(served.host), codes::S_OK);
    // The stub.
    write(&mut client, BAR0, 0, &[1]);
    assert_eq!(taken(&bell), 0);
    assert_eq!(read::<4>(&mut client, BAR2, 0), [0xff; 4]);
}

//! What a restricted host may have.

use std::os::fd::AsFd;

use hdv::{
    AccessSize, BarIndex, DeviceHost, Doorbell, HostError, HostOptions, MmioError, pci_function,
};

use crate::support::*;
use crate::system::{create, ids};

fn restricted(devices: usize, doorbells: usize) -> DeviceHost {
    let options = HostOptions::restricted()
        .devices(Some(devices))
        .doorbells(Some(doorbells));
    DeviceHost::new(options).unwrap()
}

fn doorbell(value: u64) -> Doorbell {
    Doorbell {
        bar: BarIndex::BAR0,
        offset: 0x20,
        size: Some(AccessSize::Dword),
        value: Some(value),
    }
}

#[test]
fn so_many_devices() {
    let host = restricted(2, 0);
    let first = create(&host, 1, Recorder::default());
    create(&host, 2, Recorder::default());
    let device = Recorder::default();
    let record = device.record.clone();
    let function = pci_function(Box::new(device)).unwrap();
    assert!(matches!(
        host.create_device(ids(3), function),
        Err(HostError::TooManyDevices { limit: 2 })
    ));
    assert_eq!(record.count(Call::Teardown), 1);
    host.remove(first.id()).unwrap();
    create(&host, 3, Recorder::default());
}

#[test]
fn so_many_doorbells_over_all_devices() {
    let host = restricted(3, 3);
    let [one, two, three] = [1, 2, 3].map(|id| create(&host, id, Recorder::default()));
    for instance in [&one, &two, &three] {
        let mut sizes = [0; 6];
        sizes[0] = 0x1000;
        instance.mmio().set_layout(sizes, Vec::new());
    }
    let event = event();
    one.mmio()
        .register_doorbell(doorbell(1), event.as_fd())
        .unwrap();
    two.mmio()
        .register_doorbell(doorbell(1), event.as_fd())
        .unwrap();
    let page = two
        .mmio()
        .register_doorbell_page(BarIndex::BAR0, 0, event.as_fd());
    page.unwrap();
    let limit = Err(MmioError::Limit { limit: 3 });
    let more = |instance: &hdv::DeviceInstance| {
        let page = instance
            .mmio()
            .register_doorbell_page(BarIndex::BAR0, 0, event.as_fd());
        assert_eq!(page, limit);
        instance
            .mmio()
            .register_doorbell(doorbell(2), event.as_fd())
    };
    assert_eq!(more(&three), limit);
    two.mmio().unregister_doorbell(&doorbell(1)).unwrap();
    three
        .mmio()
        .register_doorbell(doorbell(2), event.as_fd())
        .unwrap();
    assert_eq!(more(&one), limit);
    // A device that goes gives its own back.
    host.remove(three.id()).unwrap();
    // What cannot be registered costs nothing.
    for _ in 0..5 {
        let taken = one.mmio().register_doorbell(doorbell(1), event.as_fd());
        assert!(matches!(taken, Err(MmioError::Taken { .. })), "{taken:?}");
    }
    one.mmio()
        .register_doorbell(doorbell(2), event.as_fd())
        .unwrap();
    assert_eq!(more(&one), limit);
}

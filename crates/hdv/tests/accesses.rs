//! Accesses of every length and alignment: what of them reaches the device.

mod support;

use hdv_vfio_user::{Errno, vfio};
use support::*;

#[test]
fn long_and_unaligned_accesses_arrive_in_order_in_natural_parts() {
    let served = serve(Recorder::default());
    let mut client = served.connect();
    client.device_info().unwrap();
    served.record.forget();
    let data: [u8; 16] = std::array::from_fn(|index| u8::try_from(index).unwrap() + 1);
    client.region_write(BAR0, 3, &data).unwrap();
    assert_eq!(
        served.record.calls(),
        [
            write_of(3, 1, 0x01),
            write_of(4, 4, 0x0504_0302),
            write_of(8, 8, 0x0d0c_0b0a_0908_0706),
            write_of(16, 2, 0x0f0e),
            write_of(18, 1, 0x10),
        ]
    );
    served.record.forget();
    assert_eq!(read::<16>(&mut client, BAR0, 3), data);
    assert_eq!(
        served.record.calls(),
        [
            read_of(3, 1),
            read_of(4, 4),
            read_of(8, 8),
            read_of(16, 2),
            read_of(18, 1)
        ]
    );
    served.record.forget();
    for size in [1u8, 2, 4, 8] {
        let size = usize::from(size);
        let mut part = vec![0; size];
        client.region_read(BAR0, 8, &mut part).unwrap();
        assert_eq!(part, data[5..5 + size]);
    }
    assert_eq!(
        served.record.calls(),
        [read_of(8, 1), read_of(8, 2), read_of(8, 4), read_of(8, 8)]
    );
}

#[test]
fn the_msix_structures_are_not_the_devices() {
    let served = serve(Recorder::default());
    let mut client = served.connect();
    client.device_info().unwrap();
    served.record.forget();
    // From the register before the table to the middle of its first entry, odd.
    client
        .region_write(BAR0, MSIX_TABLE - 2, &[0xee; 9])
        .unwrap();
    assert_eq!(served.record.calls(), [write_of(MSIX_TABLE - 2, 2, 0xeeee)]);
    served.record.forget();
    assert_eq!(
        read::<12>(&mut client, BAR0, MSIX_TABLE),
        [0xec, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0, 0, 0, 0, 0]
    );
    client.region_write(BAR0, MSIX_PENDING, &[0xff; 8]).unwrap();
    assert_eq!(read::<8>(&mut client, BAR0, MSIX_PENDING), [0; 8]);
    assert_eq!(served.record.calls(), []);
    // The whole BAR at once, across everything.
    let mut whole = vec![0; 4096];
    client.region_read(BAR0, 0, &mut whole).unwrap();
    assert_eq!(
        whole[0x800..0x807],
        [0xec, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee]
    );
}

#[test]
fn config_space_ends_where_it_ends() {
    let served = serve(Recorder::default());
    let mut client = served.connect();
    let mut whole = vec![0; 4096];
    client.region_read(CONFIG, 0, &mut whole).unwrap();
    assert_eq!(whole[..4], [0x48, 0x4f, 0xfe, 0x7f]);
    client.region_write(CONFIG, 0, &whole).unwrap();
    for (region, offset, length) in [
        (CONFIG, 4093, 4),
        (CONFIG, 4096, 1),
        (CONFIG, u64::MAX, 1),
        (BAR0, 4095, 2),
        (BAR0, u64::MAX - 3, 8),
        (vfio::region::BAR1, 0, 4),
        (vfio::region::ROM, 0, 4),
        (vfio::region::VGA, 0, 4),
        (vfio::region::COUNT, 0, 4),
    ] {
        let error = client
            .region_read(region, offset, &mut vec![0; length])
            .unwrap_err();
        assert_eq!(error.errno(), Some(Errno::INVAL), "{region} {offset:#x}");
        assert!(
            client
                .region_write(region, offset, &vec![0; length])
                .is_err()
        );
    }
    client.device_info().unwrap();
}

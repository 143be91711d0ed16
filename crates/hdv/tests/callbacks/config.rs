//! Config space: what the host owns, what the device is told, and lists that lead nowhere.

use hdv::BarIndex;
use hdv_vfio_user::client::Client;

use crate::device::{Called, Script, Served, Step, serve};
use crate::support::{BAR0, CONFIG, function_level_reset, read, read32, write32};

/// A served device and its client, past the walk.
fn started(script: &Script) -> (Served, Client) {
    let served = serve(script);
    let mut client = served.connect();
    client.device_info().unwrap();
    script.taken();
    (served, client)
}

fn write(client: &mut Client, offset: u64, data: &[u8]) {
    client.region_write(CONFIG, offset, data).unwrap();
}

fn assert_declared_header(client: &mut Client) {
    assert_eq!(read32(client, CONFIG, 0x00), 0x1234_4f48);
    assert_eq!(read32(client, CONFIG, 0x08), 0x1180_0207);
    assert_eq!(read32(client, CONFIG, 0x0c), 0);
    assert_eq!(read32(client, CONFIG, 0x2c), 0xef01_abcd);
    assert_eq!(read32(client, CONFIG, 0x30), 0, "no ROM");
    assert_eq!(read::<2>(client, CONFIG, 0x3c), [0, 0], "no pin");
    write32(client, CONFIG, 0x10, u32::MAX);
    assert_eq!(read32(client, CONFIG, 0x10), 0xffff_f000);
    write32(client, CONFIG, 0x10, 0xfebf_0123);
    assert_eq!(read32(client, CONFIG, 0x10), 0xfebf_0000);
    for absent in (0x14..=0x24).step_by(4) {
        write32(client, CONFIG, absent, u32::MAX);
        assert_eq!(read32(client, CONFIG, absent), 0);
    }
    write(client, 0x04, &[0x07, 0x04]);
    assert_eq!(read::<2>(client, CONFIG, 0x04), [0x06, 0x04]);
    write(client, 0x3c, &[11, 1]);
    assert_eq!(read::<2>(client, CONFIG, 0x3c), [11, 0]);
}

#[test]
fn devices_that_say_nothing_enumerate_as_they_declared() {
    let zeros = Script::new();
    let ones = Script::new();
    let failing = Script::new().failing(Step::Config);
    ones.inside(|inside| inside.config.fill(u32::MAX));
    for script in [&zeros, &ones, &failing] {
        script.inside(|inside| inside.read_only = true);
        let (_served, mut client) = started(script);
        assert_declared_header(&mut client);
        assert_eq!(read32(&mut client, CONFIG, 0x34), 0);
        let [status, _] = read(&mut client, CONFIG, 0x06);
        assert_eq!(status & 0x10, 0, "no list");
        assert_eq!(read32(&mut client, CONFIG, 0x100), 0);
        let msix = hdv_vfio_user::vfio::irq::MSIX;
        assert_eq!(client.irq_info(msix).unwrap().count, 0);
    }
}

#[test]
fn bars_are_sized_as_declared() {
    let script = Script::new();
    script.inside(|inside| {
        inside.probed_bars = [0xffff_f000, 0xffff_c00c, 0xffff_ffff, 0, 4, 0xffff_fffc];
    });
    let (_served, mut client) = started(&script);
    for at in (0x10..0x28).step_by(4) {
        write32(&mut client, CONFIG, at, u32::MAX);
    }
    let bars = read::<24>(&mut client, CONFIG, 0x10);
    let bars: Vec<_> = bars
        .chunks(4)
        .map(|bar| u32::from_le_bytes(bar.try_into().unwrap()))
        .collect();
    assert_eq!(bars, script.inside(|inside| inside.probed_bars));
    let sizes = [0x1000, 0x4000, 0, 0, 0x4_0000_0000, 0];
    for (index, size) in (0..).zip(sizes) {
        assert_eq!(client.region_info(index).unwrap().size, size);
    }
    // Half of a 64-bit address at a time.
    write32(&mut client, CONFIG, 0x14, 0xfe00_0000);
    write(&mut client, 0x1a, &[0x12, 0x34]);
    assert_eq!(read32(&mut client, CONFIG, 0x14), 0xfe00_000c);
    assert_eq!(read32(&mut client, CONFIG, 0x18), 0x3412_ffff);
    assert_eq!(
        script.taken_writes().last(),
        Some(&Called::ConfigWrite(0x18, 0x3412_ffff)),
        "merged with what the host shows"
    );
}

#[test]
fn the_device_sees_writes_below_40_and_owns_the_status() {
    let script = Script::capable();
    script.set_config(&[(0x04, 0xf910_0007), (0x10, 0xdead_beef)]);
    let (_served, mut client) = started(&script);
    assert_eq!(read32(&mut client, CONFIG, 0x04), 0xf910_0000);
    assert_eq!(read32(&mut client, CONFIG, 0x10), 0);
    assert_eq!(script.taken(), [Called::ConfigRead(0x04)]);
    write(&mut client, 0x04, &[0x06]);
    assert_eq!(
        script.taken(),
        [
            Called::ConfigRead(0x04),
            // What is not written of the status clears nothing.
            Called::ConfigWrite(0x04, 0x0010_0006)
        ]
    );
    script.set_config(&[(0x04, 0xf910_0007)]);
    write(&mut client, 0x07, &[0x80]);
    assert_eq!(
        script.taken_writes(),
        [Called::ConfigWrite(0x04, 0x8010_0006)]
    );
    write32(&mut client, CONFIG, 0x04, 0xffff_ffff);
    assert_eq!(script.taken(), [Called::ConfigWrite(0x04, u32::MAX)]);
    assert_eq!(read32(&mut client, CONFIG, 0x04) & 0xffff, 0x0546);
    // Across three dwords.
    script.taken();
    write(&mut client, 0x0e, &[1, 2, 3, 4, 5, 6, 7]);
    let writes = script.taken_writes();
    assert_eq!(
        writes,
        [
            Called::ConfigWrite(0x0c, 0x0201_0000),
            Called::ConfigWrite(0x10, 0x0605_0403),
            Called::ConfigWrite(0x14, 0x0000_0007),
        ]
    );
}

#[test]
fn narrow_writes_merge_and_clear_nothing_by_accident() {
    let script = Script::capable();
    // Every bit that a written one clears is set.
    script.set_config(&[
        (0x44, 0x0000_8100),
        (0x68, 0x004f_2010),
        (0x70, 0xc000_0040),
        (0x78, 0x011f_0000),
        (0x80, 0x0001_0000),
        (0x144, u32::MAX),
        (0x4c, 0x1122_3344),
    ]);
    let (_served, mut client) = started(&script);
    let mut told = |offset: u64, data: &[u8]| {
        write(&mut client, offset, data);
        let writes = script.taken_writes();
        let [Called::ConfigWrite(_, value)] = writes[..] else {
            panic!("{writes:?}");
        };
        value
    };
    assert_eq!(told(0x4d, &[0xee]), 0x1122_ee44);
    assert_eq!(told(0x4e, &[0xcc, 0xdd]), 0xddcc_ee44);
    assert_eq!(told(0x44, &[0x03]), 0x0000_0103, "PME status");
    assert_eq!(told(0x69, &[0x20]), 0x0000_2010, "device status");
    assert_eq!(told(0x70, &[0x41, 0]), 0x0000_0041, "link status");
    assert_eq!(told(0x78, &[1]), 0x0000_0001, "slot status");
    assert_eq!(told(0x80, &[1]), 0x0000_0001, "root status");
    assert_eq!(told(0x144, &[0x10]), 0x0000_0010, "uncorrectable errors");
    script.set_config(&[(0x68, 0x004f_2010)]);
    assert_eq!(told(0x6a, &[0x01]), 0x0001_2010, "the bit that is written");
    script.set_config(&[(0x44, 0x0000_8100)]);
    assert_eq!(told(0x45, &[0x81]), 0x0000_8100);
}

#[test]
fn a_narrow_write_that_cannot_be_merged_is_dropped() {
    let script = Script::new().failing(Step::Config);
    let (_served, mut client) = started(&script);
    assert_eq!(read32(&mut client, CONFIG, 0x40), u32::MAX);
    script.taken();
    write(&mut client, 0x41, &[1]);
    assert_eq!(script.taken(), [Called::ConfigRead(0x40)]);
    write32(&mut client, CONFIG, 0x40, 1);
    assert_eq!(script.taken(), [Called::ConfigWrite(0x40, 1)]);
}

fn standard(client: &mut Client) -> Vec<(u8, u8)> {
    let [mut at] = read::<1>(client, CONFIG, 0x34);
    let mut list = Vec::new();
    while at != 0 {
        let [id, next] = read(client, CONFIG, at.into());
        list.push((at, id));
        assert!(list.len() <= 48, "{list:?}");
        at = next;
    }
    list
}

fn extended(client: &mut Client) -> Vec<(u32, u32)> {
    let mut at = 0x100;
    let mut list = Vec::new();
    while at != 0 {
        let head = read32(client, CONFIG, at.into());
        if head & 0xffff != 0 {
            list.push((at, head & 0xffff));
        }
        assert!(list.len() <= 960, "{list:?}");
        at = head >> 20;
    }
    list
}

#[test]
fn well_formed_lists_are_presented_whole() {
    let script = Script::capable();
    let (_served, mut client) = started(&script);
    assert_eq!(
        standard(&mut client),
        [(0x40, 0x01), (0x50, 0x11), (0x60, 0x10), (0xa0, 0x05)]
    );
    assert_eq!(extended(&mut client), [(0x100, 3), (0x140, 1)]);
    assert_eq!(read32(&mut client, CONFIG, 0x50), 0x0003_6011);
    // The links hold, whatever the device says later.
    script.set_config(&[(0x50, 0x8003_50ff), (0x140, 0x1402_0001)]);
    assert_eq!(read32(&mut client, CONFIG, 0x50), 0x8003_6011);
    assert_eq!(read32(&mut client, CONFIG, 0x140), 0x0002_0001);
}

#[test]
fn malformed_lists_hang_nobody() {
    /// What a device says, and what is left of it.
    type Case = (&'static [(u32, u32)], &'static [u8], &'static [u32]);
    let cases: &[Case] = &[
        // Loops.
        (&[(0x34, 0x40), (0x40, 0x4009)], &[0x40], &[]),
        (
            &[
                (0x34, 0x40),
                (0x40, 0x5009),
                (0x50, 0x4009),
                (0x100, 0x1001_0002),
            ],
            &[0x40, 0x50],
            &[0x100],
        ),
        (
            &[(0x34, 0x40), (0x40, 0x4000), (0x100, 0x1000_0000)],
            &[],
            &[],
        ),
        // Overlaps.
        (
            &[
                (0x34, 0x40),
                (0x40, 0x0002_7010),
                (0x70, 0x9009),
                (0x90, 0x09),
            ],
            &[0x40, 0x90],
            &[],
        ),
        // Out of range, misaligned, absent.
        (&[(0x34, 0x20), (0x20, 0x09)], &[], &[]),
        (&[(0x34, 0x41), (0x40, 0x09)], &[], &[]),
        (&[(0x34, 0x40), (0x40, 0x50ff), (0x50, 0x09)], &[], &[]),
        (
            &[(0x34, 0xfc), (0xfc, 0x0002_4010), (0x40, 0x09)],
            &[0x40],
            &[],
        ),
        (&[(0x100, 0xffc1_0002), (0xffc, 0x0001_0003)], &[], &[0x100]),
        // Nothing at the start of the extended list, something behind it.
        (&[(0x100, 0x2000_0000), (0x200, 0x0001_0002)], &[], &[0x200]),
        // MSI-X outside its BAR.
        (
            &[(0x34, 0x40), (0x40, 0x07ff_0011), (0x48, 0x800)],
            &[],
            &[],
        ),
    ];
    for (dwords, offsets, extended_offsets) in cases {
        let script = Script::new();
        script.set_config(dwords);
        let (_served, mut client) = started(&script);
        let list = standard(&mut client);
        let found: Vec<_> = list.iter().map(|(at, _)| *at).collect();
        assert_eq!(found, *offsets, "{dwords:x?}");
        let found: Vec<_> = extended(&mut client).iter().map(|(at, _)| *at).collect();
        assert_eq!(found, *extended_offsets, "{dwords:x?}");
        let [status, _] = read(&mut client, CONFIG, 0x06);
        assert_eq!(status & 0x10 != 0, !offsets.is_empty());
        let msix = hdv_vfio_user::vfio::irq::MSIX;
        assert_eq!(client.irq_info(msix).unwrap().count, 0);
    }
}

#[test]
fn accesses_of_bars_are_split_and_failures_are_all_ones() {
    let script = Script::new();
    let (_served, mut client) = started(&script);
    let mut data = [0; 9];
    client.region_read(BAR0, 3, &mut data).unwrap();
    let bar = BarIndex::BAR0;
    assert_eq!(
        script.taken(),
        [
            Called::Read(bar, 3, 1),
            Called::Read(bar, 4, 4),
            Called::Read(bar, 8, 4)
        ]
    );
    client
        .region_write(BAR0, 6, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
        .unwrap();
    assert_eq!(
        script.taken(),
        [
            Called::Write(bar, 6, vec![1, 2]),
            Called::Write(bar, 8, vec![3, 4, 5, 6, 7, 8, 9, 10])
        ]
    );
    assert_eq!(read::<2>(&mut client, BAR0, 7), [2, 3]);
    script.inside(|inside| inside.fails.push(Step::Memory));
    assert_eq!(read::<8>(&mut client, BAR0, 0), [0xff; 8]);
    client.region_write(BAR0, 6, &[9]).unwrap();
    script.inside(|inside| inside.fails.clear());
    assert_eq!(read::<1>(&mut client, BAR0, 6), [1], "dropped");
}

#[test]
fn function_level_reset_is_passed_on_first() {
    let script = Script::capable();
    let (_served, mut client) = started(&script);
    write32(&mut client, CONFIG, 0x10, 0xfebf_0000);
    script.taken();
    function_level_reset(&mut client);
    let mut calls = script.taken_writes();
    assert_eq!(calls.remove(0), Called::ConfigWrite(0x68, 0x8000));
    assert_eq!(calls.remove(0), Called::ConfigWrite(0x04, 0));
    assert_eq!(read32(&mut client, CONFIG, 0x10), 0);
    // A device that does not have it is told, and that is all.
    let script = Script::capable();
    script.set_config(&[(0x64, 0x8000)]);
    let (_served, mut client) = started(&script);
    function_level_reset(&mut client);
    assert_eq!(script.taken_writes(), [Called::ConfigWrite(0x68, 0x8000)]);
}

#[test]
fn going_from_d3hot_to_d0_is_a_reset_unless_the_device_keeps_its_state() {
    for (control, resets) in [(0, true), (8, false)] {
        let script = Script::capable();
        script.set_config(&[(0x44, control)]);
        let (_served, mut client) = started(&script);
        let [low, _] = read::<2>(&mut client, CONFIG, 0x44);
        write(&mut client, 0x44, &[low | 3, 0]);
        script.taken();
        write(&mut client, 0x44, &[low, 0]);
        assert_eq!(script.life().contains(&Called::Stop), resets);
    }
}

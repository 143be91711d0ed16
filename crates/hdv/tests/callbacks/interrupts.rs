//! Interrupts by message: what the host programs into the device's MSI-X table, what it follows of
//! MSI, and delivery.

use std::os::fd::AsFd;

use hdv::{BarIndex, Delivery, Section, SectionFlags};
use hdv_vfio_user::{IrqAction, vfio};

use crate::device::{Called, MSIX_PENDING, MSIX_TABLE, Script, serve};
use crate::support::{
    BAR0, CONFIG, connect_vectors, enable, function_level_reset, memfd, read, read32, taken,
    wait_for, write32,
};

const MSI: u32 = vfio::irq::MSI;
const MSIX: u32 = vfio::irq::MSIX;
const ADDRESS: u64 = 0xfee0_0000;

/// The table entry of a vector in the device.
fn entry(script: &Script, vector: u64) -> [u32; 4] {
    [0, 4, 8, 12].map(|part| script.dword(MSIX_TABLE + 16 * vector + part))
}

/// What a device does that reads the message from its own table.
fn message(script: &Script, vector: u64) -> (u64, u32) {
    let [low, high, data, control] = entry(script, vector);
    assert_eq!(control, 0, "masked");
    (u64::from(high) << 32 | u64::from(low), data)
}

fn programmed(vector: u32) -> [u32; 4] {
    [0xfee0_0000, 0, vector, 0]
}

#[test]
fn vectors_are_known_from_the_capabilities() {
    let script = Script::capable();
    let served = serve(&script);
    let mut client = served.connect();
    assert_eq!(client.irq_info(MSIX).unwrap().count, 4);
    assert_eq!(client.irq_info(MSI).unwrap().count, 4);
    assert_eq!(served.interrupts.deliver(ADDRESS, 0), None);
}

#[test]
fn connected_vectors_get_a_message_that_delivers() {
    let script = Script::capable();
    let served = serve(&script);
    let mut client = served.connect();
    let events = connect_vectors(&mut client, MSIX, 0, 2);
    assert_eq!(entry(&script, 0), programmed(0));
    assert_eq!(entry(&script, 1), programmed(1));
    assert_eq!(entry(&script, 2), [0; 4]);
    script.taken();
    let more = connect_vectors(&mut client, MSIX, 3, 1);
    assert_eq!(script.taken().len(), 4, "only the new one");
    std::thread::scope(|scope| {
        for (vector, event) in [(0, &events[0]), (1, &events[1]), (3, &more[0])] {
            let (address, data) = message(&script, vector);
            let interrupts = served.interrupts.clone();
            scope.spawn(move || {
                for _ in 0..100 {
                    let delivery = interrupts.deliver(address, data);
                    assert_eq!(delivery, Some(Delivery::Signalled));
                }
                assert_eq!(taken(event), 100);
            });
        }
    });
    for (address, data) in [(ADDRESS, 2), (ADDRESS, 4), (ADDRESS, u32::MAX), (0, 0)] {
        assert_eq!(served.interrupts.deliver(address, data), None);
    }
    client.clear_irq_event_fds(MSIX, 1, 1).unwrap();
    assert_eq!(
        script.taken(),
        [Called::Write(BarIndex::BAR0, 0x81c, vec![1, 0, 0, 0])]
    );
    assert_eq!(served.interrupts.deliver(ADDRESS, 1), None);
    client.disable_irqs(MSIX).unwrap();
    assert_eq!([entry(&script, 0)[3], entry(&script, 3)[3]], [1, 1]);
    assert_eq!(served.interrupts.deliver(ADDRESS, 0), None);
}

#[test]
fn a_masked_vector_is_pending_and_fires_when_unmasked() {
    let script = Script::capable();
    let served = serve(&script);
    let mut client = served.connect();
    let events = connect_vectors(&mut client, MSIX, 0, 4);
    let event = &events[2];
    script.inside(|inside| inside.memory[0xc00] = 0b1000);
    for _ in 0..2 {
        client.act_on_irqs(MSIX, 2, 1, IrqAction::Mask).unwrap();
        for _ in 0..2 {
            let delivery = served.interrupts.deliver(ADDRESS, 2);
            assert_eq!(delivery, Some(Delivery::Pending));
        }
        assert_eq!(taken(event), 0);
        let pending = read::<8>(&mut client, BAR0, MSIX_PENDING);
        assert_eq!(pending[0], 0b1100, "the device's and the host's");
        assert_eq!(read::<1>(&mut client, BAR0, MSIX_PENDING + 1), [0]);
        client.act_on_irqs(MSIX, 2, 1, IrqAction::Unmask).unwrap();
        assert_eq!(taken(event), 1);
        assert_eq!(read32(&mut client, BAR0, MSIX_PENDING), 0b1000);
    }
    // Function Mask, which the device is told of too.
    script.taken();
    client.region_write(CONFIG, 0x52, &[3, 0xc0]).unwrap();
    assert_eq!(
        script.taken_writes(),
        [Called::ConfigWrite(0x50, 0xc003_6011)]
    );
    let delivery = served.interrupts.deliver(ADDRESS, 2);
    assert_eq!(delivery, Some(Delivery::Pending));
    client.region_write(CONFIG, 0x53, &[0x80]).unwrap();
    assert_eq!(taken(event), 1);
}

#[test]
fn messages_are_programmed_again_after_resets() {
    let script = Script::capable();
    let served = serve(&script);
    let mut client = served.connect();
    enable(&mut client);
    let events = connect_vectors(&mut client, MSIX, 0, 2);
    // One that clears its table at a function level reset; no SET_IRQS follows.
    function_level_reset(&mut client);
    for vector in 0..2 {
        let (address, data) = message(&script, vector);
        let delivery = served.interrupts.deliver(address, data);
        assert_eq!(delivery, Some(Delivery::Signalled));
    }
    assert!(events.iter().all(|event| taken(event) == 1));

    script.inside(|inside| inside.memory.fill(0));
    client.reset().unwrap();
    assert_eq!(entry(&script, 0), programmed(0));
    assert_eq!(entry(&script, 1), programmed(1));
    assert_eq!(entry(&script, 2), [0; 4]);
    // The client leaves, and its vectors with it.
    drop(client);
    wait_for("masked entries", || entry(&script, 1)[3] == 1);
    assert_eq!(served.interrupts.deliver(ADDRESS, 0), None);
    let mut client = served.connect();
    let events = connect_vectors(&mut client, MSIX, 0, 1);
    let (address, data) = message(&script, 0);
    assert!(served.interrupts.deliver(address, data).is_some());
    assert_eq!(taken(&events[0]), 1);
}

#[test]
fn a_guest_that_writes_the_table_leaves_the_message() {
    let script = Script::capable();
    let served = serve(&script);
    let mut client = served.connect();
    let _events = connect_vectors(&mut client, MSIX, 0, 1);
    for at in (0..32).step_by(4) {
        write32(&mut client, BAR0, MSIX_TABLE + at, 0x1001);
    }
    assert_eq!(entry(&script, 0), [0xfee0_0000, 0, 0, 0x1001]);
    assert_eq!(entry(&script, 1), [0x1001; 4], "not in use");
    assert_eq!(read32(&mut client, BAR0, MSIX_TABLE + 16), 0x1001);
}

#[test]
fn a_table_in_a_section_is_programmed_there() {
    let script = Script::capable();
    let served = serve(&script);
    let file = memfd(0x1000);
    let section = Section {
        bar: BarIndex::BAR0,
        offset: 0,
        length: 0x1000,
        flags: SectionFlags::empty(),
        file_offset: 0,
    };
    served.mmio.create_section(section, file.as_fd()).unwrap();
    let mut client = served.connect();
    client.device_info().unwrap();
    script.taken();
    let _events = connect_vectors(&mut client, MSIX, 1, 1);
    assert_eq!(script.taken(), [], "not by a callback");
    let mut bytes = [0; 16];
    rustix::io::pread(&file, &mut bytes, MSIX_TABLE + 16).unwrap();
    let mut expected = [0; 16];
    expected[..4].copy_from_slice(&0xfee0_0000_u32.to_le_bytes());
    expected[8] = 1;
    assert_eq!(bytes, expected);
    assert_eq!(read::<16>(&mut client, BAR0, MSIX_TABLE + 16), expected);
}

#[test]
fn msi_delivers_the_message_that_the_guest_wrote() {
    let script = Script::capable();
    let served = serve(&script);
    let mut client = served.connect();
    let deliver = |data| served.interrupts.deliver(0x1_fee0_1000, data);
    write32(&mut client, CONFIG, 0xa4, 0xfee0_1000);
    write32(&mut client, CONFIG, 0xa8, 1);
    client.region_write(CONFIG, 0xac, &[0x20, 0x41]).unwrap();
    // Vector 1 masked, four vectors, enabled.
    write32(&mut client, CONFIG, 0xb0, 0b10);
    client.region_write(CONFIG, 0xa2, &[0xa5, 0x01]).unwrap();
    assert_eq!(deliver(0x4120), None, "no receivers yet");
    let events = connect_vectors(&mut client, MSI, 0, 4);
    for vector in [0, 2, 3u32] {
        assert_eq!(deliver(0x4120 | vector), Some(Delivery::Signalled));
        assert_eq!(taken(&events[usize::try_from(vector).unwrap()]), 1);
    }
    assert_eq!(deliver(0x4121), Some(Delivery::Pending));
    assert_eq!(read32(&mut client, CONFIG, 0xb4), 0b10);
    write32(&mut client, CONFIG, 0xb0, 0);
    assert_eq!(taken(&events[1]), 1);
    assert_eq!(read32(&mut client, CONFIG, 0xb4), 0);
    for data in [0x4124, 0x4020, 0x1_4120] {
        assert_eq!(deliver(data), None);
    }
    assert_eq!(served.interrupts.deliver(0xfee0_1000, 0x4120), None);
    // Moved, disabled, reset.
    write32(&mut client, CONFIG, 0xa8, 0);
    assert_eq!(deliver(0x4120), None);
    let moved = |data| served.interrupts.deliver(0xfee0_1000, data);
    assert!(moved(0x4120).is_some());
    client.region_write(CONFIG, 0xa2, &[0xa4]).unwrap();
    assert_eq!(moved(0x4120), None);
    client.region_write(CONFIG, 0xa2, &[0xa5]).unwrap();
    assert!(moved(0x4120).is_some());
    enable(&mut client);
    client.reset().unwrap();
    assert_eq!(moved(0x4120), None);
    assert_eq!(read32(&mut client, CONFIG, 0xa0), 0x0184_0005);
}

//! The header: identity, command, status, what reads 0, and accesses at its edges.

use hdv_pci::spec::express::DeviceStatus;
use hdv_pci::{Command, ConfigSpace, Effects, PciExpress, Status};

use crate::common::{IDENTITY, dump, read_u8, read_u16, read_u32};

#[test]
fn identity_stands_where_drivers_look_for_it() {
    let config = ConfigSpace::builder(IDENTITY).build().unwrap();
    assert_eq!(read_u32(&config, 0x00), 0x1234_4f48);
    assert_eq!(read_u32(&config, 0x08), 0x1180_0756);
    assert_eq!(read_u32(&config, 0x2c), 0xbcde_789a);
    assert_eq!(config.identity(), IDENTITY);
    assert_eq!(config.class().to_u24(), 0x11_8007);
}

#[test]
fn an_empty_function_has_nothing_else() {
    let config = ConfigSpace::builder(IDENTITY).build().unwrap();
    let bytes = dump(&config);
    let known = [0x00..0x04, 0x08..0x0c, 0x2c..0x30];
    for (at, byte) in bytes.iter().enumerate() {
        if !known.iter().any(|range| range.contains(&at)) {
            assert_eq!(*byte, 0, "at {at:#x}");
        }
    }
}

#[test]
fn all_ones_change_only_what_a_driver_may_write() {
    let mut config = ConfigSpace::builder(IDENTITY).build().unwrap();
    let before = dump(&config);
    let effects = config.write(0, &[0xff; 4096]);
    assert_eq!(effects, Effects::COMMAND);
    let mut expected = before;
    expected[0x04] = 0x46;
    expected[0x05] = 0x05;
    expected[0x0c] = 0xff;
    expected[0x3c] = 0xff;
    assert_eq!(dump(&config), expected);
}

#[test]
fn command_tells_what_was_written() {
    let mut config = ConfigSpace::builder(IDENTITY).build().unwrap();
    assert_eq!(config.write(0x04, &[0x06]), Effects::COMMAND);
    assert_eq!(
        config.command(),
        Command::MEMORY_SPACE | Command::BUS_MASTER
    );
    assert_eq!(config.write(0x04, &[0x06, 0x00]), Effects::empty());
    assert_eq!(config.write(0x05, &[0x04]), Effects::COMMAND);
    assert!(config.command().contains(Command::INTERRUPT_DISABLE));
    config.reset();
    assert_eq!(config.command(), Command::empty());
}

#[test]
fn status_bits_are_cleared_by_ones_only() {
    let mut config = ConfigSpace::builder(IDENTITY)
        .capability(PciExpress::endpoint())
        .build()
        .unwrap();
    config.raise_status(Status::all());
    assert_eq!(read_u16(&config, 0x06), 0xf910);
    // A write of the command register with zeros beside it leaves the status alone.
    assert_eq!(config.write(0x04, &[0x02, 0, 0, 0]), Effects::COMMAND);
    assert_eq!(read_u16(&config, 0x06), 0xf910);
    assert_eq!(config.write(0x06, &[0, 0x20]), Effects::empty());
    assert_eq!(
        config.status(),
        Status::from_bits_retain(0xd910),
        "only Received Master Abort was cleared"
    );
    config.reset();
    assert_eq!(config.status(), Status::CAPABILITIES_LIST);
}

#[test]
fn device_status_bits_are_cleared_by_ones_only() {
    let mut config = ConfigSpace::builder(IDENTITY)
        .capability(PciExpress::endpoint())
        .build()
        .unwrap();
    let at = config.capability(0x10).unwrap() + 0x0a;
    config.raise_device_status(DeviceStatus::all());
    assert_eq!(read_u16(&config, at), 0x000f);
    let _ = config.write(at, &[0x05, 0]);
    assert_eq!(read_u16(&config, at), 0x000a);
    let _ = config.write(at - 2, &[0, 0]);
    assert_eq!(read_u16(&config, at), 0x000a);
}

#[test]
fn beyond_the_end_reads_all_ones_and_drops_writes() {
    let mut config = ConfigSpace::builder(IDENTITY)
        .registers(0xffc, [1, 2, 3, 4], [0xff; 4])
        .build()
        .unwrap();
    let mut bytes = [0; 6];
    config.read(0xffe, &mut bytes);
    assert_eq!(bytes, [3, 4, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(
        config.write(0xffe, &[7, 8, 9, 10, 11, 12]),
        Effects::REGISTERS
    );
    config.read(0xffe, &mut bytes);
    assert_eq!(bytes, [7, 8, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(read_u32(&config, 0x1000), u32::MAX);
    assert_eq!(read_u32(&config, 0xffff), u32::MAX);
    let before = dump(&config);
    assert_eq!(config.write(0x1000, &[0xff; 64]), Effects::empty());
    assert_eq!(config.write(0xffff, &[0xff; 64]), Effects::empty());
    assert_eq!(dump(&config), before);
}

#[test]
fn the_device_changes_its_own_registers_only() {
    let mut config = ConfigSpace::builder(IDENTITY)
        .registers(0x41, [1, 2], [0, 0xf0])
        .registers(0x43, [3], [0])
        .capability(PciExpress::endpoint())
        .build()
        .unwrap();
    assert!(config.set_registers(0x41, &[0xaa, 0xbb, 0xcc]));
    assert_eq!(read_u32(&config, 0x40), 0xccbb_aa00);
    assert!(!config.set_registers(0x40, &[0]));
    assert!(!config.set_registers(0x43, &[0x11, 0x22]));
    assert!(!config.set_registers(0x00, &[0x11]));
    assert!(!config.set_registers(0xffff, &[0x11, 0x22]));
    assert_eq!(read_u32(&config, 0x40), 0xccbb_aa00);
    assert_eq!(config.write(0x40, &[0; 4]), Effects::REGISTERS);
    assert_eq!(read_u32(&config, 0x40), 0xcc0b_aa00);
    config.reset();
    assert_eq!(read_u32(&config, 0x40), 0x0302_0100);
    assert_eq!(
        read_u8(&config, 0x44),
        0x10,
        "the capability came after the registers"
    );
}

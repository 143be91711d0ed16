//! The config space of a device behind callbacks as that of a VF: what the SR-IOV rules show of it, what
//! they let through to the device, and that nothing else is disturbed.

use hdv::{ConfigWrite, Function};

use crate::device::{Called, Script};

fn powered_on(script: &Script) -> Box<dyn Function> {
    let mut function = script.function();
    function.power_on(&[]).unwrap();
    script.taken();
    function
}

fn read(function: &mut dyn Function, offset: u16) -> u32 {
    let mut data = [0x5a; 4];
    function.config_read_as_vf(offset, &mut data);
    u32::from_le_bytes(data)
}

fn read_whole(function: &mut dyn Function, offset: u16) -> u32 {
    let mut data = [0x5a; 4];
    function.config_read(offset, &mut data);
    u32::from_le_bytes(data)
}

#[test]
fn a_vf_shows_what_the_rules_leave_before_it_was_ever_started() {
    let script = Script::capable();
    // Memory Space, Bus Master, device control and link control of what it answers.
    script.set_config(&[
        (0x04, 0xf910_0006),
        (0x68, 0x0001_0007),
        (0x70, 0x1234_5678),
    ]);
    let mut function = powered_on(&script);
    function.config_write(0x04, &[0x06]);
    for (offset, value) in [
        (0x00, u32::MAX),
        (0x04, 0xf910_0004),
        (0x08, 0x1180_0207),
        (0x0c, 0),
        (0x10, 0),
        (0x2c, 0xef01_abcd),
        (0x34, 0x40),
        (0x3c, 0),
        (0x40, 0x0003_5001),
        (0x50, 0x0003_6011),
        (0x60, 0x0002_a010),
        (0x68, 0x0001_0000),
        (0x70, 0),
        (0x100, 0x1401_0003),
        (0xffc, 0),
    ] {
        assert_eq!(read(&mut *function, offset), value, "{offset:#x}");
    }
    let life = |call: &Called| !matches!(call, Called::ConfigRead(_));
    assert!(!script.taken().iter().any(life));
    // Any length and alignment, to the end and beyond.
    let mut data = [0x5a; 5];
    function.config_read_as_vf(1, &mut data);
    assert_eq!(data, [0xff, 0xff, 0xff, 0x04, 0x00]);
    function.config_read_as_vf(0xffe, &mut data);
    assert_eq!(data, [0, 0, 0xff, 0xff, 0xff]);
}

#[test]
fn a_write_reaches_the_device_without_what_a_vf_does_not_have() {
    let script = Script::capable();
    script.set_config(&[(0x04, 0xf910_0000), (0x68, 0x000f_2810), (0xa8, 0)]);
    let mut function = powered_on(&script);
    function.start().unwrap();
    function.config_write(0x04, &[0x03, 0x04]);
    script.set_config(&[(0x04, 0xf910_0403)]);
    script.taken();
    let mut write = |offset, data: &[u8]| {
        let done = function.config_write_as_vf(offset, data);
        (done, script.taken_writes())
    };
    let registers = |offset, value| {
        let call = Called::ConfigWrite(offset, value);
        (ConfigWrite::Registers, vec![call])
    };
    let nothing = (ConfigWrite::Registers, vec![]);
    // Bus Master alone, and neither the other enables nor the errors that the status shows.
    assert_eq!(write(0x04, &[0x04]), registers(0x04, 0x0010_0406));
    assert_eq!(write(0x04, &[0x00, 0xff]), registers(0x04, 0x0010_0402));
    // An error is cleared without a look at the command.
    script.set_config(&[(0x04, 0xf910_0403)]);
    assert_eq!(write(0x06, &[0, 0x40]), registers(0x04, 0x4000_0402));
    // What is the PF's.
    assert_eq!(write(0x00, &[0; 4]), nothing);
    assert_eq!(write(0x10, &[0xff; 24]), nothing);
    assert_eq!(write(0x3c, &[7]), nothing);
    assert_eq!(write(0x70, &[0xff; 4]), nothing);
    // Device control but for function level reset; a status bit that is written goes through.
    assert_eq!(
        write(0x68, &[0xef, 0x7f, 0x02, 0]),
        registers(0x68, 0x0002_2810)
    );
    // Capabilities are the VF's own; a part of a dword is merged.
    assert_eq!(write(0xa4, &[1, 2, 3, 4]), registers(0xa4, 0x0403_0201));
    assert_eq!(write(0xa9, &[9]), registers(0xa8, 0x0900));
    // To the end and beyond.
    assert_eq!(
        write(0xffc, &[1, 2, 3, 4, 5]),
        registers(0xffc, 0x0403_0201)
    );
    // The VM's view has not lost anything.
    assert_eq!(read_whole(&mut *function, 0x04) & 0xffff, 0x0402);
    assert_eq!(read_whole(&mut *function, 0x00), 0x1234_4f48);
}

#[test]
fn resets_are_told_from_other_writes() {
    let script = Script::capable();
    let mut function = powered_on(&script);
    function.start().unwrap();
    let level: [u8; 2] = [0, 0x80];
    assert_eq!(function.config_write(0x68, &[0, 0]), ConfigWrite::Registers);
    assert_eq!(function.config_write(0x68, &level), ConfigWrite::Reset);
    assert_eq!(
        function.config_write_as_vf(0x68, &level),
        ConfigWrite::Reset
    );
    // From D3hot to D0, also as a part of a longer write.
    assert_eq!(
        function.config_write_as_vf(0x44, &[3]),
        ConfigWrite::Registers
    );
    let dwords = [0; 12];
    assert_eq!(function.config_write(0x3c, &dwords), ConfigWrite::Reset);
    // With No Soft Reset nothing is reset.
    script.set_config(&[(0x44, 8)]);
    assert_eq!(function.config_write(0x44, &[0xb]), ConfigWrite::Registers);
    assert_eq!(function.config_write(0x44, &[0x8]), ConfigWrite::Registers);
    let resets = script
        .life()
        .iter()
        .filter(|call| **call == Called::Stop)
        .count();
    assert_eq!(resets, 3);
}

#[test]
fn a_vf_without_capabilities_has_its_header() {
    let script = Script::new();
    let mut function = powered_on(&script);
    assert_eq!(read(&mut *function, 0x00), u32::MAX);
    assert_eq!(read(&mut *function, 0x34), 0);
    function.config_write_as_vf(0x04, &[0xff, 0xff]);
    assert_eq!(
        script.taken_writes(),
        [Called::ConfigWrite(0x04, 0x0000_0004)]
    );
    assert_eq!(read(&mut *function, 0x04), 0x0000_0004);
}

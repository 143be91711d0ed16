//! Any device behind callbacks, whatever its config space says and whichever callbacks fail, under any
//! sequence of accesses: no panic, no hang, and lists that lead to their end.

#![no_main]

use hdv::{BarIndex, Details, DeviceCallbacks, DeviceError, PnpId, TestBench, callback_function};
use libfuzzer_sys::fuzz_target;

const DWORDS: usize = 1024;

/// Where something happens in config space, but for what the device says itself.
const PLACES: [u16; 12] = [
    0x04, 0x06, 0x10, 0x14, 0x34, 0x3c, 0x40, 0x44, 0x48, 0x4c, 0x50, 0x100,
];

/// The rest of the input.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn word(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes([self.byte()?, self.byte()?]))
    }

    fn dword(&mut self) -> Option<u32> {
        Some(u32::from(self.word()?) | u32::from(self.word()?) << 16)
    }

    fn offset(&mut self) -> Option<u16> {
        let kind = self.byte()?;
        Some(if kind & 0x80 == 0 {
            PLACES[usize::from(kind & 0xf) % PLACES.len()] + u16::from(kind >> 4 & 3)
        } else {
            self.word()? % 4096
        })
    }
}

/// A device that says what the input has.
struct Device {
    config: Vec<u32>,
    probed_bars: [u32; 6],
    /// Bit 0: config reads fail, 1: config writes, 2: register reads, 3: register writes; 4: config
    /// space changes with every read.
    faults: u8,
}

impl Device {
    fn check(&self, fault: u8) -> Result<(), DeviceError> {
        if self.faults >> fault & 1 == 0 {
            Ok(())
        } else {
            Err(DeviceError::new("as the input has it"))
        }
    }
}

fn checked(offset: u32) -> usize {
    assert!(offset.is_multiple_of(4), "{offset:#x}");
    usize::try_from(offset / 4).expect("small")
}

fn natural(offset: u64, length: usize) {
    assert!(matches!(length, 1 | 2 | 4 | 8), "{length}");
    assert!(offset.is_multiple_of(length as u64), "{offset:#x}");
}

impl DeviceCallbacks for Device {
    fn initialize(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn set_configuration(&mut self, _values: &[String]) -> Result<(), DeviceError> {
        Ok(())
    }

    fn get_details(&mut self) -> Result<Details, DeviceError> {
        Ok(Details {
            pnp_id: PnpId::default(),
            probed_bars: self.probed_bars,
        })
    }

    fn start(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn stop(&mut self) {}

    fn teardown(&mut self) {}

    fn read_config_space(&mut self, offset: u32) -> Result<u32, DeviceError> {
        self.check(0)?;
        let dword = &mut self.config[checked(offset)];
        let value = *dword;
        if self.faults >> 4 & 1 != 0 {
            *dword = value.rotate_left(5) ^ offset;
        }
        Ok(value)
    }

    fn write_config_space(&mut self, offset: u32, value: u32) -> Result<(), DeviceError> {
        self.check(1)?;
        self.config[checked(offset)] = value;
        Ok(())
    }

    fn read_intercepted_memory(
        &mut self,
        _bar: BarIndex,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), DeviceError> {
        natural(offset, data.len());
        self.check(2)
    }

    fn write_intercepted_memory(
        &mut self,
        _bar: BarIndex,
        offset: u64,
        data: &[u8],
    ) -> Result<(), DeviceError> {
        natural(offset, data.len());
        self.check(3)
    }
}

/// What a device says: up to 32 dwords that are not 0.
fn device(input: &mut Input<'_>) -> Option<Device> {
    let faults = input.byte()?;
    // Any, or three BARs that hold MSI-X tables.
    let mut probed_bars = [0xffff_f000, 0, 0xffff_0004, 0xffff_ffff, 0xffff_fff0, 0];
    if faults & 0x80 != 0 {
        for bar in &mut probed_bars {
            *bar = input.dword()?;
        }
    }
    let mut config = vec![0; DWORDS];
    if faults & 0x40 != 0 {
        config.fill(u32::MAX);
    }
    for _ in 0..input.byte()? % 33 {
        let offset = usize::from(input.offset()?) / 4;
        config[offset] = input.dword()?;
    }
    Some(Device {
        config,
        probed_bars,
        faults: faults & 0x1f,
    })
}

/// Follows both lists; their links are the host's, so they do not change.
fn check_lists(bench: &TestBench) {
    let mut seen = Vec::new();
    let mut at = u16::from(bench.config_read::<u8>(0x34));
    let listed = bench.config_read::<u8>(0x06) & 0x10 != 0;
    assert_eq!(at != 0, listed);
    while at != 0 {
        assert!(at >= 0x40 && at < 0x100 && at.is_multiple_of(4), "{at:#x}");
        assert!(!seen.contains(&at), "a loop");
        seen.push(at);
        at = u16::from(bench.config_read::<u8>(at + 1));
    }
    let mut at = 0x100_u16;
    while at != 0 {
        assert!((0x100..0x1000).contains(&at) && at.is_multiple_of(4));
        assert!(!seen.contains(&at), "a loop");
        seen.push(at);
        let next = bench.config_read::<u32>(at) >> 20;
        at = u16::try_from(next).expect("12 bits");
    }
}

/// Carries out one step; `None` at the end of the input.
fn step(bench: &mut TestBench, input: &mut Input<'_>) -> Option<()> {
    let kind = input.byte()?;
    match kind % 10 {
        0 => {
            let _: u8 = bench.config_read(input.offset()?);
        }
        1 => {
            let _: u64 = bench.config_read(input.offset()?);
        }
        2 => bench.config_write(input.offset()?, input.byte()?),
        3 => bench.config_write(input.offset()?, input.word()?),
        4 => bench.config_write(input.offset()?, input.dword()?),
        5 => {
            let bar = BarIndex::ALL[usize::from(kind / 10) % 6];
            let _: u64 = bench.read(bar, input.word()?.into());
        }
        6 => {
            let bar = BarIndex::ALL[usize::from(kind / 10) % 6];
            let offset = input.word()?.into();
            bench.write(bar, offset, input.dword()?);
        }
        7 => bench.enable_interrupts().expect("eventfds"),
        8 => bench.reset(),
        _ => bench.stop_and_start().expect("it starts"),
    }
    Some(())
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let Some(device) = device(&mut input) else {
        return;
    };
    // BARs that cannot be are refused.
    let Ok(mut bench) = TestBench::with_function(callback_function(Box::new(device))) else {
        return;
    };
    check_lists(&bench);
    while step(&mut bench, &mut input).is_some() {}
    check_lists(&bench);
});

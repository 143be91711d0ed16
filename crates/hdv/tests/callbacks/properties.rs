//! Config space against a simple model, and whatever a device may say of itself.

use std::sync::{Arc, Mutex};

use hdv::{BarIndex, Details, DeviceCallbacks, DeviceError, Function, PnpId, callback_function};
use proptest::prelude::*;

use crate::support::lock;

/// A register file that behaves as hardware does: bits that a written one clears, others plain.
#[derive(Clone)]
struct Hardware {
    config: Arc<Mutex<Vec<u32>>>,
    probed_bars: [u32; 6],
}

/// Bits that a written one clears, by the offset of their dword; as the standard has them for the
/// capabilities of [`LIST`].
const ONES: [(u16, u32); 10] = [
    (0x04, 0xf900_0000),
    (0x44, 0x0000_8000),
    (0x68, 0x004f_0000),
    (0x70, 0xc000_0000),
    (0x78, 0x011f_0000),
    (0x80, 0x0001_0000),
    (0x90, 0x8020_0000),
    (0x144, u32::MAX),
    (0x150, u32::MAX),
    (0x170, 0x7f),
];

/// Headers and what describes the capabilities: power management, MSI-X, PCI Express, MSI; serial number, error
/// reporting.
const LIST: [(u16, u32); 11] = [
    (0x34, 0x40),
    (0x40, 0x0003_5001),
    (0x50, 0x0003_6011),
    (0x54, 0x800),
    (0x58, 0xc00),
    (0x60, 0x0002_a010),
    (0x64, 0x1000_8000),
    (0xa0, 0x0184_0005),
    (0x100, 0x1401_0003),
    (0x140, 0x0002_0001),
    (0xb4, 0),
];

fn ones(offset: u16) -> u32 {
    ONES.iter()
        .find(|(at, _)| *at == offset)
        .map_or(0, |(_, ones)| *ones)
}

impl Hardware {
    fn new(config: Vec<u32>, probed_bars: [u32; 6]) -> Self {
        Self {
            config: Arc::new(Mutex::new(config)),
            probed_bars,
        }
    }

    fn started(&self) -> Box<dyn Function> {
        let mut function = callback_function(Box::new(self.clone()));
        function.power_on(&[]).expect("powered on");
        function.start().expect("started");
        function
    }
}

impl DeviceCallbacks for Hardware {
    fn initialize(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn set_configuration(&mut self, _values: &[String]) -> Result<(), DeviceError> {
        Ok(())
    }

    fn get_details(&mut self) -> Result<Details, DeviceError> {
        Ok(Details {
            pnp_id: PnpId {
                vendor_id: 0x4f48,
                device_id: 0x1234,
                ..PnpId::default()
            },
            probed_bars: self.probed_bars,
        })
    }

    fn start(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn stop(&mut self) {}

    fn teardown(&mut self) {}

    fn read_config_space(&mut self, offset: u32) -> Result<u32, DeviceError> {
        assert!(offset.is_multiple_of(4) && offset < 4096);
        Ok(lock(&self.config)[usize::try_from(offset / 4).expect("small")])
    }

    fn write_config_space(&mut self, offset: u32, value: u32) -> Result<(), DeviceError> {
        assert!(offset.is_multiple_of(4) && offset < 4096);
        let ones = ones(u16::try_from(offset).expect("small"));
        let dword = &mut lock(&self.config)[usize::try_from(offset / 4).expect("small")];
        let mut new = *dword & ones & !value | value & !ones;
        if offset == 4 {
            // The rest of the status is read-only.
            new = new & !0x06ff_0000 | *dword & 0x06ff_0000;
        }
        *dword = new;
        Ok(())
    }

    fn read_intercepted_memory(
        &mut self,
        _bar: BarIndex,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), DeviceError> {
        assert!(matches!(data.len(), 1 | 2 | 4 | 8));
        assert!(offset.is_multiple_of(data.len() as u64));
        data.fill(0);
        Ok(())
    }

    fn write_intercepted_memory(
        &mut self,
        _bar: BarIndex,
        offset: u64,
        data: &[u8],
    ) -> Result<(), DeviceError> {
        assert!(matches!(data.len(), 1 | 2 | 4 | 8));
        assert!(offset.is_multiple_of(data.len() as u64));
        Ok(())
    }
}

/// Config space as a guest must see it, byte by byte.
struct Model {
    bytes: Vec<u8>,
}

impl Model {
    fn new(config: &[u32]) -> Self {
        let mut bytes: Vec<_> = config
            .iter()
            .flat_map(|dword| dword.to_le_bytes())
            .collect();
        let status = [bytes[6] | 0x10, bytes[7]];
        bytes[..0x40].fill(0);
        bytes[..4].copy_from_slice(&[0x48, 0x4f, 0x34, 0x12]);
        bytes[6..8].copy_from_slice(&status);
        bytes[0x34] = 0x40;
        Self { bytes }
    }

    fn write(&mut self, offset: usize, value: u8) {
        // Bits that are written, and bits that a one clears.
        let (plain, ones) = match offset {
            0x04 => (0x46, 0),
            0x05 => (0x05, 0),
            0x07 => (0, 0xf9),
            0x0c | 0x3c => (0xff, 0),
            0x11 => (0xf0, 0),
            0x12 | 0x13 => (0xff, 0),
            0x00..0x40 => (0, 0),
            // What leads from entry to entry.
            0x40 | 0x41 | 0x50 | 0x51 | 0x60 | 0x61 | 0xa0 | 0xa1 => (0, 0),
            0x100..0x104 | 0x140..0x144 => (0, 0),
            _ => {
                let dword = u16::try_from(offset & !3).expect("small");
                let ones = ones(dword).to_le_bytes()[offset % 4];
                (!ones, ones)
            }
        };
        let byte = &mut self.bytes[offset];
        *byte = *byte & !plain & !(ones & value) | value & plain;
    }
}

#[derive(Clone, Debug)]
enum Access {
    Read(usize, usize),
    Write(usize, Vec<u8>),
}

/// Where registers are that matter, more often than elsewhere.
fn offsets() -> impl Strategy<Value = usize> {
    prop_oneof![
        0..0x40_usize,
        0x40..0xc0_usize,
        0x100..0x180_usize,
        0..4096_usize
    ]
}

fn accesses() -> impl Strategy<Value = Access> {
    prop_oneof![
        (offsets(), 1..32_usize).prop_map(|(offset, length)| Access::Read(offset, length)),
        (offsets(), prop::collection::vec(any::<u8>(), 1..12))
            .prop_map(|(offset, data)| Access::Write(offset, data)),
        offsets().prop_map(|offset| Access::Write(offset & !3, vec![0xff; 4])),
    ]
}

/// A config space with some dwords that are not 0.
fn config(dword: impl Strategy<Value = u32>) -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec((offsets(), dword), 0..100).prop_map(|dwords| {
        let mut config = vec![0; 1024];
        for (offset, dword) in dwords {
            config[offset / 4] = dword;
        }
        config
    })
}

/// Any dword, or a plausible header, so that walks get far.
fn headers() -> impl Strategy<Value = u32> {
    let ids = prop::sample::select(vec![0_u32, 1, 5, 9, 0x10, 0x11]);
    prop_oneof![
        any::<u32>(),
        (0..64_u32, ids, any::<u16>())
            .prop_map(|(next, id, rest)| u32::from(rest) << 16 | (4 * next) << 8 | id),
        (64..1024_u32, 0..64_u32).prop_map(|(next, id)| (4 * next) << 20 | 1 << 16 | id),
    ]
}

/// Without what resets the device: function level reset and waking up.
fn harmless(offset: usize, data: &mut [u8]) {
    for (at, byte) in (offset..).zip(data) {
        match at {
            0x44 => *byte &= !3,
            0x69 => *byte &= 0x7f,
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn config_space_is_the_models(
        mut config in config(any::<u32>()),
        accesses in prop::collection::vec(accesses(), 1..60),
    ) {
        for (offset, dword) in LIST {
            config[usize::from(offset) / 4] = dword;
        }
        let mut model = Model::new(&config);
        let mut function = Hardware::new(config, [0xffff_f000, 0, 0, 0, 0, 0]).started();
        for access in accesses {
            match access {
                Access::Read(offset, length) => {
                    let length = length.min(4096 - offset);
                    let mut data = vec![0x5a; length];
                    function.config_read(u16::try_from(offset).expect("small"), &mut data);
                    prop_assert_eq!(&data, &model.bytes[offset..offset + length], "{:#x}", offset);
                }
                Access::Write(offset, mut data) => {
                    data.truncate(4096 - offset);
                    harmless(offset, &mut data);
                    function.config_write(u16::try_from(offset).expect("small"), &data);
                    for (at, value) in (offset..).zip(data) {
                        model.write(at, value);
                    }
                }
            }
        }
        let mut all = vec![0; 4096];
        function.config_read(0, &mut all);
        prop_assert_eq!(all, model.bytes);
    }

    #[test]
    fn lists_end_whatever_the_device_says(
        config in config(headers()),
        writes in prop::collection::vec((0..4096_u16, any::<u32>()), 0..40),
    ) {
        let bars = [0xffff_f000, 0xffff_0004, 0xffff_ffff, 0, 0, 0];
        let mut function = Hardware::new(config, bars).started();
        for (offset, value) in writes {
            function.config_write(offset, &value.to_le_bytes());
        }
        let mut read = |offset: u16| {
            let mut dword = [0; 4];
            function.config_read(offset, &mut dword);
            u32::from_le_bytes(dword)
        };
        let mut at = read(0x34) & 0xff;
        let listed = read(0x04) & 0x0010_0000 != 0;
        prop_assert_eq!(at != 0, listed);
        let mut seen = Vec::new();
        while at != 0 {
            prop_assert!(at >= 0x40 && at % 4 == 0 && !seen.contains(&at), "{:#x}", at);
            seen.push(at);
            at = read(u16::try_from(at).expect("8 bits")) >> 8 & 0xff;
        }
        let mut at = 0x100;
        seen.clear();
        while at != 0 {
            prop_assert!(at >= 0x100 && at % 4 == 0 && !seen.contains(&at), "{:#x}", at);
            seen.push(at);
            at = read(u16::try_from(at).expect("12 bits")) >> 20;
        }
    }
}

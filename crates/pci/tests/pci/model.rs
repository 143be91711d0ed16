//! A config space with every capability against a model that knows one bit at a time.
//!
//! The model's table is written by hand from the standard, with offsets counted by hand; it
//! shares nothing with the crate but the order of the capabilities.

use std::ops::Range;

use hdv_pci::spec::power::PowerCapabilities;
use hdv_pci::{
    Bar, BarIndex, BarOffset, ConfigSpace, DeviceSerialNumber, Effects, Msi, Msix, PciExpress,
    PowerManagement, ResizableBar, Status, VendorSpecific,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::common::{IDENTITY, difference, dump};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Access {
    Fixed,
    Write,
    Clear,
}

#[derive(Clone, Copy, Debug)]
struct Bit {
    value: bool,
    reset: bool,
    access: Access,
    /// Survives every reset.
    sticky: bool,
    /// Survives a function level reset.
    preserved: bool,
}

const ZERO: Bit = Bit {
    value: false,
    reset: false,
    access: Access::Fixed,
    sticky: false,
    preserved: false,
};

struct Model {
    bits: Vec<Bit>,
}

/// Offset and size of the registers: value after reset, writable bits, write-one-to-clear bits.
const TABLE: &[(usize, usize, u64, u64, u64)] = &[
    (0x00, 4, 0x1234_4f48, 0, 0),
    (0x04, 2, 0, 0x0546, 0),
    (0x06, 2, 0x0010, 0, 0xf900),
    (0x08, 4, 0x1180_0756, 0, 0),
    (0x0c, 1, 0, 0xff, 0),
    // BAR0: 64-bit, prefetchable, 2 MiB; BAR2: 32-bit, 4 KiB; BAR4: 64-bit, 64 GiB.
    (0x10, 8, 0xc, 0xffff_ffff_ffe0_0000, 0),
    (0x18, 4, 0, 0xffff_f000, 0),
    (0x20, 8, 0x4, 0xffff_fff0_0000_0000, 0),
    (0x2c, 4, 0xbcde_789a, 0, 0),
    (0x34, 1, 0x40, 0, 0),
    (0x3c, 1, 0, 0xff, 0),
    // Power management with D1 and PME from D0 and D3cold.
    (0x40, 4, 0x8a03_4801, 0, 0),
    (0x44, 4, 0x0008, 0x0103, 0x8000),
    // MSI, 8 vectors, 64-bit, maskable, up to the device's own registers.
    (0x48, 4, 0x0186_6405, 0x0071_0000, 0),
    (0x4c, 4, 0, 0xffff_fffc, 0),
    (0x50, 4, 0, 0xffff_ffff, 0),
    (0x54, 4, 0, 0xffff, 0),
    (0x58, 4, 0, 0xff, 0),
    (0x61, 3, 0x03_0201, 0x0f_f0ff, 0),
    // MSI-X, 64 vectors.
    (0x64, 4, 0x003f_7011, 0xc000_0000, 0),
    (0x68, 4, 0x0000_0002, 0, 0),
    (0x6c, 4, 0x0000_0c02, 0, 0),
    // PCI Express.
    (0x70, 4, 0x0002_ac10, 0, 0),
    (0x74, 4, 0x1000_8021, 0, 0),
    (0x78, 2, 0x2810, 0xf9ff, 0),
    (0x7a, 2, 0, 0, 0x000f),
    (0x7c, 4, 0x0040_0011, 0, 0),
    (0x80, 2, 0, 0x02cb, 0),
    (0x82, 2, 0x1011, 0, 0),
    (0x94, 4, 0x0000_0010, 0, 0),
    (0x98, 4, 0, 0x0010, 0),
    (0x9c, 4, 0x0000_0002, 0, 0),
    (0xa0, 4, 0x0000_0001, 0, 0),
    // Vendor-specific.
    (0xac, 4, 0xaa05_0009, 0x0f00_0000, 0),
    (0xb0, 1, 0xbb, 0, 0),
    // Device serial number.
    (0x100, 4, 0x10c1_0003, 0, 0),
    (0x104, 8, 0x0123_4567_89ab_cdef, 0, 0),
    // Resizable BAR: BAR0 with 1, 2 and 16 MiB.
    (0x10c, 4, 0x0001_0015, 0, 0),
    (0x110, 4, 0x0000_0130, 0, 0),
    (0x114, 4, 0x0000_0120, 0x3f00, 0),
    (0xff0, 4, 0x4433_2211, 0xffff_ffff, 0),
];

/// Bits that survive every reset: PME Enable and PME Status.
const STICKY: &[(usize, u64)] = &[(0x44, 0x8100)];
/// Bits that survive a function level reset: Max Payload Size, link control.
const PRESERVED: &[(usize, u64)] = &[(0x78, 0x00e0), (0x80, 0x02cb)];

/// What a change from the first offset up to the second asks for.
const EFFECTS: [(Effects, usize, usize); 7] = [
    (Effects::COMMAND, 0x04, 0x06),
    (Effects::BAR, 0x10, 0x28),
    (Effects::MSI, 0x48, 0x60),
    (Effects::REGISTERS, 0x60, 0x64),
    (Effects::MSIX, 0x64, 0x70),
    (Effects::REGISTERS, 0xac, 0xb4),
    (Effects::REGISTERS, 0xff0, 0xff4),
];

const FUNCTION_LEVEL_RESET: usize = 8 * 0x78 + 15;
const POWER_STATE: usize = 8 * 0x44;
const BAR0_SIZE: usize = 8 * 0x115;

impl Model {
    fn new() -> Self {
        let mut bits = vec![ZERO; 8 * 4096];
        for (offset, size, reset, write, clear) in TABLE {
            for at in 0..8 * size {
                let bit = &mut bits[8 * offset + at];
                bit.reset = reset >> at & 1 != 0;
                bit.value = bit.reset;
                bit.access = match (write >> at & 1, clear >> at & 1) {
                    (0, 0) => Access::Fixed,
                    (1, 0) => Access::Write,
                    _ => Access::Clear,
                };
            }
        }
        for at in 0..64 {
            for (offset, mask) in STICKY {
                bits[8 * offset + at].sticky |= mask >> at & 1 != 0;
            }
            for (offset, mask) in PRESERVED {
                bits[8 * offset + at].preserved |= mask >> at & 1 != 0;
            }
        }
        Self { bits }
    }

    fn dump(&self) -> Vec<u8> {
        self.bytes(0..4096)
    }

    fn bytes(&self, range: Range<usize>) -> Vec<u8> {
        self.bits[8 * range.start..8 * range.end]
            .chunks(8)
            .map(|bits| (0..8).fold(0, |byte, at| byte | u8::from(bits[at].value) << at))
            .collect()
    }

    fn number(&self, at: usize, bits: usize) -> u32 {
        (0..bits).fold(0, |number, n| {
            number | u32::from(self.bits[at + n].value) << n
        })
    }

    fn set_number(&mut self, at: usize, bits: usize, number: u32) {
        for n in 0..bits {
            self.bits[at + n].value = number >> n & 1 != 0;
        }
    }

    fn size_bar0(&mut self, code: u32) {
        for at in 0..64 {
            let address = at >= 20 + code as usize;
            let bit = &mut self.bits[8 * 0x10 + at];
            bit.access = if address {
                Access::Write
            } else {
                Access::Fixed
            };
            bit.value = bit.reset;
        }
    }

    fn write(&mut self, offset: usize, data: &[u8]) -> Effects {
        let before = EFFECTS.map(|(_, start, end)| self.bytes(start..end));
        let state = self.number(POWER_STATE, 2);
        let size = self.number(BAR0_SIZE, 6);
        for (at, byte) in (offset..4096).zip(data) {
            for n in 0..8 {
                let written = byte >> n & 1 != 0;
                let bit = &mut self.bits[8 * at + n];
                match bit.access {
                    Access::Write => bit.value = written,
                    Access::Clear if written => bit.value = false,
                    Access::Clear | Access::Fixed => {}
                }
            }
        }
        let mut effects = Effects::empty();
        if self.number(POWER_STATE, 2) == 2 {
            self.set_number(POWER_STATE, 2, state);
        }
        if self.number(POWER_STATE, 2) != state {
            effects |= Effects::POWER_STATE;
        }
        if std::mem::take(&mut self.bits[FUNCTION_LEVEL_RESET].value) {
            effects |= Effects::FUNCTION_LEVEL_RESET;
        }
        let code = self.number(BAR0_SIZE, 6);
        if ![0, 1, 4].contains(&code) {
            self.set_number(BAR0_SIZE, 6, size);
        } else if code != size {
            self.size_bar0(code);
            effects |= Effects::BAR;
        }
        for ((effect, start, end), before) in EFFECTS.into_iter().zip(before) {
            if self.bytes(start..end) != before {
                effects |= effect;
            }
        }
        effects
    }

    fn raise_status(&mut self, status: u16) {
        for n in 0..16 {
            let bit = &mut self.bits[8 * 0x06 + n];
            bit.value |= bit.access == Access::Clear && status >> n & 1 != 0;
        }
    }

    fn reset(&mut self, function_level: bool) {
        self.size_bar0(1);
        for bit in &mut self.bits {
            let kept = bit.sticky || function_level && bit.preserved;
            if !kept {
                bit.value = bit.reset;
            }
        }
    }
}

fn real() -> ConfigSpace {
    let bar2 = BarIndex::BAR2;
    let power = PowerCapabilities::D1 | PowerCapabilities::PME_D0 | PowerCapabilities::PME_D3_COLD;
    ConfigSpace::builder(IDENTITY)
        .bar(BarIndex::BAR0, Bar::memory64(1 << 21).prefetchable())
        .bar(bar2, Bar::memory32(1 << 12))
        .bar(BarIndex::BAR4, Bar::memory64(1 << 36))
        .registers(0x61, [1, 2, 3], [0xff, 0xf0, 0x0f])
        .registers(0xff0, [0x11, 0x22, 0x33, 0x44], [0xff; 4])
        .capability(PowerManagement::new().with(power))
        .capability(Msi::with_64_bit_address(8).per_vector_mask())
        .capability(Msix::new(
            64,
            BarOffset::new(bar2, 0),
            BarOffset::new(bar2, 0xc00),
        ))
        .capability(PciExpress::endpoint())
        .capability(VendorSpecific::new([0xaa, 0xbb]).writable([0x0f]))
        .extended_capability(DeviceSerialNumber::new(0x0123_4567_89ab_cdef))
        .extended_capability(ResizableBar::new().bar(BarIndex::BAR0, &[1 << 20, 1 << 21, 1 << 24]))
        .build()
        .unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Write(u16, Vec<u8>),
    Raise(u16),
    Reset,
    FunctionLevelReset,
}

fn step() -> impl Strategy<Value = Step> {
    // Mostly where there is something.
    let offset = prop_oneof![
        6 => 0_u16..0x120,
        1 => 0xfe8_u16..0x1008,
        1 => any::<u16>(),
    ];
    let byte = prop_oneof![
        Just(0xff_u8),
        Just(0),
        any::<u8>(),
        (0_u32..8).prop_map(|n| 1 << n)
    ];
    let data = prop_oneof![vec(byte.clone(), 0..=4), vec(byte, 0..=24)];
    prop_oneof![
        20 => (offset, data).prop_map(|(offset, data)| Step::Write(offset, data)),
        // The registers with rules of their own.
        2 => (0_u8..4, any::<u8>()).prop_map(|(low, high)| Step::Write(0x44, vec![low, high])),
        2 => (0_u8..6).prop_map(|size| Step::Write(0x115, vec![size])),
        2 => any::<u16>().prop_map(Step::Raise),
        1 => Just(Step::Reset),
        1 => Just(Step::FunctionLevelReset),
    ]
}

proptest! {
    #[test]
    fn behaves_as_bits_do(steps in vec(step(), 0..60), offset: u16, length in 0_usize..64) {
        let (mut config, mut model) = (real(), Model::new());
        prop_assert_eq!(difference(&dump(&config), &model.dump()), None);
        for step in &steps {
            match step {
                Step::Write(offset, data) => {
                    let effects = config.write(*offset, data);
                    let expected = model.write(usize::from(*offset), data);
                    prop_assert_eq!(effects, expected, "{:x?}", step);
                }
                Step::Raise(status) => {
                    config.raise_status(Status::from_bits_retain(*status));
                    model.raise_status(*status);
                }
                Step::Reset => {
                    config.reset();
                    model.reset(false);
                }
                Step::FunctionLevelReset => {
                    config.function_level_reset();
                    model.reset(true);
                }
            }
            for range in [0..0x130, 0xfe0..0x1000] {
                let mut bytes = vec![0; range.len()];
                config.read(u16::try_from(range.start).unwrap(), &mut bytes);
                let found = difference(&bytes, &model.bytes(range));
                prop_assert_eq!(found, None, "{:x?}", step);
            }
        }
        prop_assert_eq!(difference(&dump(&config), &model.dump()), None);
        let mut bytes = model.dump();
        bytes.resize(0x1_0000 + 64, 0xff);
        let mut part = vec![0x5a; length];
        config.read(offset, &mut part);
        prop_assert_eq!(&part[..], &bytes[usize::from(offset)..][..length]);
    }

    #[test]
    fn a_conventional_reset_undoes_every_write(steps in vec(step(), 0..60)) {
        let mut config = real();
        let before = (dump(&config), config.probed_bars());
        for step in steps {
            match step {
                // Not PME Enable, which is sticky here.
                Step::Write(offset, data)
                    if !(usize::from(offset)..usize::from(offset) + data.len()).contains(&0x45) =>
                {
                    let _ = config.write(offset, &data);
                }
                Step::Write(..) | Step::Raise(_) => config.raise_status(Status::all()),
                Step::Reset | Step::FunctionLevelReset => config.function_level_reset(),
            }
        }
        config.reset();
        prop_assert_eq!(difference(&dump(&config), &before.0), None);
        prop_assert_eq!(config.probed_bars(), before.1);
    }

    #[test]
    fn one_write_does_what_its_bytes_do(offset in 0_u16..0x120, data in vec(any::<u8>(), 0..64)) {
        let (mut whole, mut parts) = (real(), real());
        let effects = whole.write(offset, &data);
        let mut sum = Effects::empty();
        for (at, byte) in (offset..).zip(&data) {
            sum |= parts.write(at, &[*byte]);
        }
        prop_assert_eq!(difference(&dump(&whole), &dump(&parts)), None);
        prop_assert_eq!(effects, sum);
    }
}

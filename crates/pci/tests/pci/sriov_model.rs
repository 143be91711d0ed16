//! Random register writes, interface calls and resets against a model of what SR-IOV means: a few
//! plain values, and the 64 bytes they make.

use hdv_pci::{Bar, BarIndex, ConfigSpace, Effects, PciExpress, Sriov, SriovError, VfRouting};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::common::{IDENTITY, dump};

const TOTAL: u16 = 16;
const BASE: u16 = 0x100;
const PAGES: u32 = 0x553 | 1 << 31;
/// First register, logarithm of the declared size, registers, type bits.
const BARS: [(usize, u32, usize, u64); 3] = [(0, 14, 2, 0xc), (2, 33, 2, 0x4), (4, 12, 2, 0x4)];

#[derive(Clone, Copy, Debug, PartialEq)]
struct Model {
    enable: bool,
    mse: bool,
    ari: bool,
    num: u16,
    page: u32,
    bars: [u64; 3],
}

impl Model {
    const NEW: Self = Self {
        enable: false,
        mse: false,
        ari: false,
        num: 0,
        page: 1,
        bars: [0; 3],
    };

    fn size(&self, bar: usize) -> u64 {
        (1 << BARS[bar].1).max(u64::from(self.page) << 12)
    }

    fn words(&self) -> [u32; 16] {
        let mut words = [0; 16];
        words[0] = 0x0001_0010;
        words[1] = 0b10;
        words[2] = u32::from(self.enable) | u32::from(self.mse) << 3 | u32::from(self.ari) << 4;
        words[3] = u32::from(TOTAL) << 16 | u32::from(TOTAL);
        words[4] = u32::from(self.num) | 7 << 16;
        words[5] = if self.ari { 2 << 16 | 1 } else { 1 << 16 | 256 };
        words[6] = 0xabcd << 16;
        words[7] = PAGES;
        words[8] = self.page;
        for (address, (first, _, count, types)) in self.bars.iter().zip(BARS) {
            let value = address | types;
            words[9 + first] = (value & 0xffff_ffff) as u32;
            if count == 2 {
                words[10 + first] = (value >> 32) as u32;
            }
        }
        words
    }

    fn mask_bars(&mut self) {
        for bar in 0..BARS.len() {
            self.bars[bar] &= !(self.size(bar) - 1);
        }
    }

    /// The whole word as it would be if every bit could be written.
    fn write_word(&mut self, word: usize, value: u32) -> Effects {
        let before = *self;
        match word {
            2 => {
                if !self.enable {
                    self.ari = value & 0x10 != 0;
                    self.enable = value & 1 != 0 && (1..=TOTAL).contains(&self.num);
                } else {
                    self.enable = value & 1 != 0;
                }
                self.mse = value & 8 != 0;
            }
            4 if !self.enable => self.num = (value & 0xffff) as u16,
            8 if !self.enable && value.count_ones() == 1 && value & PAGES != 0 => {
                self.page = value;
            }
            9..15 => {
                for (address, (first, _, count, _)) in self.bars.iter_mut().zip(BARS) {
                    if word == 9 + first {
                        *address = *address >> 32 << 32 | u64::from(value);
                    } else if count == 2 && word == 10 + first {
                        *address = *address & 0xffff_ffff | u64::from(value) << 32;
                    }
                }
            }
            _ => {}
        }
        self.mask_bars();
        let mut effects = Effects::empty();
        let set = |model: &Self| (model.enable, model.ari, model.num);
        let memory = |model: &Self| (model.mse, model.page, model.bars);
        effects.set(Effects::SRIOV, set(self) != set(&before));
        effects.set(Effects::VF_BAR, memory(self) != memory(&before));
        effects
    }

    fn write(&mut self, offset: usize, data: &[u8]) -> Effects {
        let mut effects = Effects::empty();
        let mut at = 0;
        while at < data.len() {
            let word = (offset + at) / 4;
            let mut bytes = self.words()[word.min(15)].to_le_bytes();
            while at < data.len() && (offset + at) / 4 == word {
                bytes[(offset + at) % 4] = data[at];
                at += 1;
            }
            if word < 16 {
                effects |= self.write_word(word, u32::from_le_bytes(bytes));
            }
        }
        effects
    }

    fn enable(&mut self, num: u16) -> Result<Effects, SriovError> {
        if !(1..=TOTAL).contains(&num) {
            return Err(SriovError::NumVfs {
                num_vfs: num,
                total_vfs: TOTAL,
            });
        }
        if self.enable {
            return Err(SriovError::AlreadyEnabled { num_vfs: self.num });
        }
        (self.enable, self.num) = (true, num);
        Ok(Effects::SRIOV)
    }

    fn disable(&mut self) -> Result<Effects, SriovError> {
        if !self.enable {
            return Err(SriovError::AlreadyDisabled);
        }
        (self.enable, self.num) = (false, 0);
        Ok(Effects::SRIOV)
    }
}

fn real() -> ConfigSpace {
    let routing = |first_vf_offset, vf_stride| VfRouting {
        first_vf_offset,
        vf_stride,
    };
    let sriov = Sriov::new(TOTAL, 0xabcd, routing(1, 2))
        .routing_without_ari(routing(256, 1))
        .supported_page_sizes(PAGES)
        .function_dependency_link(7)
        .bar(BarIndex::BAR0, Bar::memory64(1 << 14).prefetchable())
        .bar(BarIndex::BAR2, Bar::memory64(1 << 33))
        .bar(BarIndex::BAR4, Bar::memory64(16));
    ConfigSpace::builder(IDENTITY)
        .capability(PciExpress::endpoint())
        .extended_capability(sriov)
        .build()
        .unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Write(u16, Vec<u8>),
    Enable(u16),
    Disable,
    Reset,
    FunctionLevelReset,
}

fn step() -> impl Strategy<Value = Step> {
    let write = |offset: u16, value: u32| Step::Write(offset, value.to_le_bytes().to_vec());
    let count = prop_oneof![4 => 0..=TOTAL + 1, 1 => any::<u16>()];
    let byte = prop_oneof![Just(0xff_u8), Just(0), any::<u8>()];
    prop_oneof![
        4 => (0_u16..0x44, vec(byte, 0..=24)).prop_map(|(offset, data)| Step::Write(offset, data)),
        6 => (0_u32..64).prop_map(move |value| write(8, value)),
        3 => count.clone().prop_map(move |count| write(0x10, count.into())),
        3 => (0_u32..32).prop_map(move |bit| write(0x20, 1 << bit)),
        3 => (0_u16..6, any::<u32>()).prop_map(move |(bar, value)| write(0x24 + 4 * bar, value)),
        3 => count.prop_map(Step::Enable),
        2 => Just(Step::Disable),
        1 => Just(Step::Reset),
        1 => Just(Step::FunctionLevelReset),
    ]
}

/// The view says the same as the model.
fn agree(config: &ConfigSpace, model: &Model) -> Result<(), TestCaseError> {
    let mut bytes = [0; 64];
    config.read(BASE, &mut bytes);
    let expected: Vec<u8> = model
        .words()
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    prop_assert_eq!(&bytes[..], &expected[..]);

    let view = config.sriov().unwrap();
    prop_assert_eq!(view.active_vfs(), if model.enable { model.num } else { 0 });
    prop_assert_eq!(view.memory_enabled(), model.enable && model.mse);
    prop_assert_eq!((view.num_vfs, view.vf_enable), (model.num, model.enable));
    prop_assert_eq!(view.ari_capable_hierarchy, model.ari);
    prop_assert_eq!(
        view.routing.first_vf_offset,
        if model.ari { 1 } else { 256 }
    );
    prop_assert_eq!(view.system_page_size, u64::from(model.page) << 12);
    prop_assert!(!view.vf_enable || (1..=TOTAL).contains(&view.num_vfs));
    for (at, (first, ..)) in BARS.into_iter().enumerate() {
        let bar = view.vf_bars[first].unwrap();
        prop_assert_eq!(
            (bar.address, bar.bar.size),
            (model.bars[at], model.size(at))
        );
        prop_assert_eq!(view.vf_bars[first + 1], None);
    }
    // What the view says of probing is what probing finds, in a copy of the state.
    let mut probed = *model;
    let _ = probed.write(0x24, &[0xff; 24]);
    prop_assert_eq!(&view.probed_bars()[..], &probed.words()[9..15]);
    Ok(())
}

proptest! {
    #[test]
    fn registers_and_interface_are_one_state(steps in vec(step(), 0..60)) {
        let (mut config, mut model) = (real(), Model::NEW);
        agree(&config, &model)?;
        let rest = dump(&config);
        for step in &steps {
            match step {
                Step::Write(offset, data) => {
                    let effects = config.write(BASE + offset, data);
                    let expected = model.write(usize::from(*offset), data);
                    prop_assert_eq!(effects, expected, "{:x?}", step);
                }
                Step::Enable(num) => {
                    let result = config.enable_vfs(*num);
                    prop_assert_eq!(result, model.enable(*num), "{:x?}", step);
                }
                Step::Disable => prop_assert_eq!(config.disable_vfs(), model.disable()),
                Step::Reset => {
                    config.reset();
                    model = Model::NEW;
                }
                Step::FunctionLevelReset => {
                    config.function_level_reset();
                    model = Model { ari: model.ari, ..Model::NEW };
                }
            }
            agree(&config, &model)?;
        }
        let after = dump(&config);
        prop_assert_eq!(&after[..0x100], &rest[..0x100]);
        prop_assert_eq!(&after[0x140..], &rest[0x140..]);
    }
}

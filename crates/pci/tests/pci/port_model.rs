//! A hot-plug root port with all its capabilities against a model that knows one bit at a time, and
//! a few rules.
//!
//! The table is written by hand from the standard, with offsets counted by hand.

use hdv_pci::spec::aer::{CorrectableError, UncorrectableError};
use hdv_pci::spec::port::SlotCapabilities;
use hdv_pci::{
    AccessControlServices, Aer, ConfigSpace, DetectedError, Effects, ErrorMessage, Msi, PciExpress,
    RoutingId, Slot,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::common::{IDENTITY, difference, dump};

/// Offset of aligned words: value after reset, writable, write-one-to-clear and sticky bits.
const TABLE: &[(usize, u32, u32, u32, u32)] = &[
    (0x00, 0x1234_4f48, 0, 0, 0),
    (0x04, 0x0010_0000, 0x0546, 0xf900_0000, 0),
    (0x08, 0x1180_0756, 0, 0, 0),
    (0x0c, 0x0001_0000, 0xff, 0, 0),
    (0x18, 0, 0x00ff_ffff, 0, 0),
    (0x1c, 0, 0, 0xf900_0000, 0),
    (0x20, 0x0000_fff0, 0xfff0_fff0, 0, 0),
    (0x24, 0x0001_fff1, 0xfff0_fff0, 0, 0),
    (0x28, 0, 0xffff_ffff, 0, 0),
    (0x2c, 0, 0xffff_ffff, 0, 0),
    (0x34, 0x40, 0, 0, 0),
    (0x3c, 0, 0x0043_00ff, 0, 0),
    // PCI Express: root port with a slot.
    (EXPRESS, 0x0142_7c10, 0, 0, 0),
    (0x44, 0x0000_8001, 0, 0, 0),
    (0x48, 0, 0x00ef, 0x000f_0000, 0),
    // Port 7; active reporting.
    (0x4c, 0x0750_0011, 0, 0, 0),
    // Link control without retraining, which reads 0.
    (LINK, 0x1011_0000, 0x02d3, 0, 0),
    // Slot 300: button, power, indicators, surprise, hot plug.
    (0x54, 300 << 19 | 0x7b, 0, 0, 0),
    (SLOT, 0x0000_03c0, 0x17fb, 0x011f_0000, 0),
    (0x5c, 0x0001_0000, 0x1f, 0, 0),
    (0x60, 0, 0, 0x0001_0000, 0),
    (0x64, 0x30, 0, 0, 0),
    (CONTROL_2, 0, 0x30, 0, 0),
    (0x6c, 2, 0, 0, 0),
    (0x70, 1, 0, 0, 0),
    // MSI, one vector, 64-bit.
    (0x7c, 0x0080_8c05, 0x0071_0000, 0, 0),
    (0x80, 0, 0xffff_fffc, 0, 0),
    (0x84, 0, 0xffff_ffff, 0, 0),
    (0x88, 0, 0xffff, 0, 0),
    // Subsystem ids.
    (0x8c, 0x0000_000d, 0, 0, 0),
    (0x90, 0xbcde_789a, 0, 0, 0),
    // Advanced error reporting.
    (AER, 0x1381_0001, 0, 0, 0),
    (0x104, 0, 0, 0x07ff_f030, 0x07ff_f030),
    (0x108, 0x0040_0000, 0x07ff_f030, 0, 0x07ff_f030),
    (0x10c, 0x0046_2030, 0x07ff_f030, 0, 0x07ff_f030),
    (0x110, 0, 0, 0xf1c1, 0xf1c1),
    (0x114, 0xe000, 0xf1c1, 0, 0xf1c1),
    (0x118, 0, 0, 0, 0x1f),
    (0x11c, 0, 0, 0, 0xffff_ffff),
    (0x120, 0, 0, 0, 0xffff_ffff),
    (0x124, 0, 0, 0, 0xffff_ffff),
    (0x128, 0, 0, 0, 0xffff_ffff),
    (0x12c, 0, 7, 0, 0),
    (0x130, 0, 0, 0x7f, 0x7f),
    (0x134, 0, 0, 0, 0xffff_ffff),
    // Access control services.
    (0x138, 0x0001_000d, 0, 0, 0),
    (0x13c, 0x0000_001f, 0x001f_0000, 0, 0),
];
const EXPRESS: usize = 0x40;
const LINK: usize = 0x50;
const SLOT: usize = 0x58;
const CONTROL_2: usize = 0x68;
const AER: usize = 0x100;

const PRESENT: u32 = 1 << 22;
const ACTIVE: u32 = 1 << 29;
const LINK_CHANGED: u32 = 1 << 24;

#[derive(Clone)]
struct Model {
    words: Vec<u32>,
    present: bool,
    held: bool,
}

fn rule(at: usize) -> (u32, u32, u32, u32) {
    let found = TABLE.iter().find(|row| row.0 == at);
    found.map_or((0, 0, 0, 0), |row| (row.1, row.2, row.3, row.4))
}

impl Model {
    fn new() -> Self {
        let mut model = Self {
            words: vec![0; 1024],
            present: false,
            held: false,
        };
        model.reset(0);
        model
    }

    /// Bits of `survive` that are sticky survive.
    fn reset(&mut self, survive: u32) {
        for (at, word) in self.words.iter_mut().enumerate() {
            let (reset, .., sticky) = rule(4 * at);
            *word = *word & sticky & survive | reset & !(sticky & survive);
        }
        if self.present {
            // The power indicator is on.
            *self.at(SLOT) = *self.at(SLOT) & !0x300 | 0x100 | PRESENT;
        }
        if self.wanted() {
            *self.at(LINK) |= ACTIVE;
        }
    }

    fn at(&mut self, offset: usize) -> &mut u32 {
        &mut self.words[offset / 4]
    }

    fn bytes(&self, end: usize) -> Vec<u8> {
        let words = self.words[..end / 4].iter();
        words.flat_map(|word| word.to_le_bytes()).collect()
    }

    fn wanted(&mut self) -> bool {
        let in_reset = *self.at(0x3c) & 1 << 22 != 0;
        let disabled = *self.at(LINK) & 1 << 4 != 0;
        let off = *self.at(SLOT) & 1 << 10 != 0;
        self.present && !self.held && !in_reset && !disabled && !off
    }

    /// The condition that an interrupt is sent for when it becomes true.
    fn slot_pending(&mut self) -> bool {
        let word = *self.at(SLOT);
        let (control, status) = (word & 0xffff, word >> 16);
        let events = control & 0x1b & status != 0 || control & 1 << 12 != 0 && status & 1 << 8 != 0;
        control & 1 << 5 != 0 && events
    }

    fn error_pending(&mut self) -> bool {
        let (command, status) = (*self.at(0x12c), *self.at(0x130));
        [(1, 1), (2, 1 << 5), (4, 1 << 6)]
            .iter()
            .any(|(enable, event)| command & enable != 0 && status & event != 0)
    }

    fn event(&mut self, bits: u32) -> Effects {
        let before = self.slot_pending();
        *self.at(SLOT) |= bits;
        interrupt(!before && self.slot_pending())
    }

    fn settle(&mut self) -> Effects {
        let wanted = self.wanted();
        if wanted == (*self.at(LINK) & ACTIVE != 0) {
            return Effects::empty();
        }
        *self.at(LINK) ^= ACTIVE;
        Effects::LINK | self.event(LINK_CHANGED)
    }

    fn write(&mut self, offset: usize, data: &[u8]) -> Effects {
        let mut effects = Effects::empty();
        let mut at = 0;
        while at < data.len() {
            let word = (offset + at) & !3;
            let (mut value, mut enable) = (0, 0);
            while at < data.len() && (offset + at) & !3 == word {
                value |= u32::from(data[at]) << (8 * ((offset + at) % 4));
                enable |= 0xff << (8 * ((offset + at) % 4));
                at += 1;
            }
            effects |= self.write_word(word, enable, value);
            effects |= self.settle();
        }
        effects
    }

    fn write_word(&mut self, word: usize, enable: u32, value: u32) -> Effects {
        let (_, write, clear, _) = rule(word);
        let (slot, error) = (self.slot_pending(), self.error_pending());
        let before = *self.at(word);
        let mut after = before & !(write & enable) | value & write & enable;
        after &= !(clear & enable & value);
        if word == SLOT {
            for indicator in [0xc0, 0x300] {
                if after & indicator == 0 {
                    after |= before & indicator;
                }
            }
        }
        *self.at(word) = after;
        let changed = before ^ after;
        let mut effects = interrupt(!slot && self.slot_pending() || !error && self.error_pending());
        if word == SLOT && enable & 0xffff != 0 {
            effects |= self.event(1 << 20);
        }
        for (at, bits, effect) in [
            (0x04, 0xffff, Effects::COMMAND),
            (0x18, u32::MAX, Effects::BUS_NUMBERS),
            (0x20, u32::MAX, Effects::WINDOWS),
            (0x24, u32::MAX, Effects::WINDOWS),
            (0x28, u32::MAX, Effects::WINDOWS),
            (0x2c, u32::MAX, Effects::WINDOWS),
            (0x3c, after & 1 << 22, Effects::SECONDARY_BUS_RESET),
            (SLOT, 0x07c0, Effects::SLOT),
            (CONTROL_2, 0x20, Effects::ARI_FORWARDING),
            (0x7c, u32::MAX, Effects::MSI),
            (0x80, u32::MAX, Effects::MSI),
            (0x84, u32::MAX, Effects::MSI),
            (0x88, u32::MAX, Effects::MSI),
        ] {
            if word == at && changed & bits != 0 {
                effects |= effect;
            }
        }
        effects
    }

    fn receive(&mut self, message: ErrorMessage, source: u16) -> Effects {
        let pending = self.error_pending();
        let status = *self.at(0x130);
        let source = u32::from(source);
        let (first, kind, shift) = match message {
            ErrorMessage::Correctable => (1, 0, 0),
            ErrorMessage::NonFatal => (1 << 2, 1 << 5, 16),
            ErrorMessage::Fatal => (1 << 2, 1 << 6, 16),
        };
        *self.at(0x130) |= kind;
        if status & first != 0 {
            *self.at(0x130) |= first << 1;
        } else {
            *self.at(0x130) |= first;
            if message == ErrorMessage::Fatal {
                *self.at(0x130) |= 1 << 4;
            }
            *self.at(0x134) = *self.at(0x134) & !(0xffff << shift) | source << shift;
        }
        interrupt(!pending && self.error_pending())
    }

    /// A single error of the port's own.
    fn record(
        &mut self,
        bit: u32,
        correctable: bool,
        header: Option<[u32; 4]>,
    ) -> Option<ErrorMessage> {
        let error = 1 << bit;
        let (status, mask) = if correctable {
            (0x110, 0x114)
        } else {
            (0x104, 0x108)
        };
        let masked = *self.at(mask) & error != 0;
        let fatal = *self.at(0x10c) & error != 0;
        let pointer = *self.at(0x118);
        if !correctable && !masked && *self.at(0x104) >> pointer & 1 == 0 {
            *self.at(0x118) = bit;
            for (n, word) in header.unwrap_or([0; 4]).into_iter().enumerate() {
                *self.at(0x11c + 4 * n) = word;
            }
        }
        *self.at(status) |= error;
        let (message, level) = match (correctable, fatal) {
            (true, _) => (ErrorMessage::Correctable, 0),
            (_, false) => (ErrorMessage::NonFatal, 1),
            (_, true) => (ErrorMessage::Fatal, 2),
        };
        let unsupported = !correctable && bit == 20;
        *self.at(0x48) |= 1 << (16 + level);
        if unsupported {
            *self.at(0x48) |= 1 << 19;
        }
        let control = *self.at(0x48);
        let serr = !correctable && *self.at(0x04) & 1 << 8 != 0;
        let enabled = control >> level & 1 != 0 && (!unsupported || control & 8 != 0);
        if masked || !serr && !enabled {
            return None;
        }
        if serr {
            *self.at(0x04) |= 1 << 30;
        }
        Some(message)
    }

    fn forward(&mut self, message: ErrorMessage) -> bool {
        let level = match message {
            ErrorMessage::Correctable => 0,
            ErrorMessage::NonFatal => 1,
            ErrorMessage::Fatal => 2,
        };
        if level > 0 {
            *self.at(0x1c) |= 1 << 30;
        }
        if *self.at(0x3c) & 1 << 17 == 0 {
            return false;
        }
        let serr = *self.at(0x04) & 1 << 8 != 0;
        if serr && level > 0 {
            *self.at(0x04) |= 1 << 30;
        }
        level == 0 || serr || *self.at(0x48) >> level & 1 != 0
    }
}

fn interrupt(sent: bool) -> Effects {
    if sent {
        Effects::PORT_INTERRUPT
    } else {
        Effects::empty()
    }
}

fn real() -> ConfigSpace {
    let slot = Slot::hot_plug(300).attention_button();
    let slot = slot.capabilities(
        SlotCapabilities::ATTENTION_BUTTON
            | SlotCapabilities::POWER_CONTROLLER
            | SlotCapabilities::ATTENTION_INDICATOR
            | SlotCapabilities::POWER_INDICATOR
            | SlotCapabilities::HOT_PLUG_SURPRISE
            | SlotCapabilities::HOT_PLUG_CAPABLE,
    );
    ConfigSpace::bridge_builder(IDENTITY)
        .capability(PciExpress::root_port(7).slot(slot))
        .capability(Msi::with_64_bit_address(1))
        .extended_capability(Aer::root_port())
        .extended_capability(AccessControlServices::port())
        .build()
        .unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Write(u16, Vec<u8>),
    Presence(bool),
    LinkActive(bool),
    Button,
    PowerFault,
    Record(u32, bool, Option<[u32; 4]>),
    Forward(ErrorMessage),
    Receive(ErrorMessage, u16),
    Reset,
    PowerOnReset,
}

fn step() -> impl Strategy<Value = Step> {
    let byte = prop_oneof![
        Just(0xff_u8),
        Just(0),
        any::<u8>(),
        (0_u32..8).prop_map(|n| 1 << n)
    ];
    let message = prop_oneof![
        Just(ErrorMessage::Correctable),
        Just(ErrorMessage::NonFatal),
        Just(ErrorMessage::Fatal),
    ];
    let half = |offset: u16| {
        any::<u16>().prop_map(move |value| Step::Write(offset, value.to_le_bytes().to_vec()))
    };
    let uncorrectable = prop_oneof![4_u32..=5, 12_u32..=26];
    let correctable = prop_oneof![Just(0_u32), 6_u32..=8, 12_u32..=15];
    prop_oneof![
        8 => (0_u16..0x148, vec(byte, 0..24)).prop_map(|(offset, data)| Step::Write(offset, data)),
        4 => half(0x58),
        3 => half(0x5a),
        2 => half(0x3e),
        2 => half(0x50),
        2 => half(0x04),
        2 => half(0x48),
        2 => (0_u8..8).prop_map(|bits| Step::Write(0x12c, vec![bits])),
        2 => (0_u8..128).prop_map(|bits| Step::Write(0x130, vec![bits])),
        4 => any::<bool>().prop_map(Step::Presence),
        2 => any::<bool>().prop_map(Step::LinkActive),
        2 => Just(Step::Button),
        1 => Just(Step::PowerFault),
        3 => (uncorrectable, any::<Option<[u32; 4]>>())
            .prop_map(|(bit, header)| Step::Record(bit, false, header)),
        2 => correctable.prop_map(|bit| Step::Record(bit, true, None)),
        2 => message.clone().prop_map(Step::Forward),
        3 => (message, any::<u16>()).prop_map(|(message, id)| Step::Receive(message, id)),
        1 => Just(Step::Reset),
        1 => Just(Step::PowerOnReset),
    ]
}

/// Does it to both and says what each answered.
fn both(config: &mut ConfigSpace, model: &mut Model, step: &Step) -> (String, String) {
    let text = |real: &dyn std::fmt::Debug, model: &dyn std::fmt::Debug| {
        (format!("{real:?}"), format!("{model:?}"))
    };
    match step {
        Step::Write(offset, data) => {
            let expected = model.write(usize::from(*offset), data);
            text(&config.write(*offset, data), &expected)
        }
        Step::Presence(present) => {
            let expected = if model.present == *present {
                Effects::empty()
            } else {
                model.present = *present;
                model.held &= *present;
                *model.at(SLOT) ^= PRESENT;
                model.event(1 << 19) | model.settle()
            };
            text(&config.set_presence(*present), &expected)
        }
        Step::LinkActive(active) => {
            model.held = model.present && !active;
            let expected = model.settle();
            text(&config.set_link_active(*active), &expected)
        }
        Step::Button => text(&config.press_attention_button(), &model.event(1 << 16)),
        Step::PowerFault => text(&config.fail_power(), &model.event(1 << 17)),
        Step::Record(bit, correctable, header) => {
            let expected = model.record(*bit, *correctable, *header);
            let error = if *correctable {
                DetectedError::Correctable(CorrectableError::from_bits_retain(1 << bit))
            } else {
                DetectedError::Uncorrectable(UncorrectableError::from_bits_retain(1 << bit))
            };
            text(&config.record_error(error, *header), &expected)
        }
        Step::Forward(message) => {
            let expected = model.forward(*message);
            text(&config.forward_error(*message), &expected)
        }
        Step::Receive(message, source) => {
            let expected = model.receive(*message, *source);
            text(
                &config.receive_error(*message, RoutingId::from(*source)),
                &expected,
            )
        }
        Step::Reset => {
            model.reset(u32::MAX);
            text(&config.reset(), &())
        }
        Step::PowerOnReset => {
            model.reset(0);
            text(&config.power_on_reset(), &())
        }
    }
}

#[test]
fn the_table_is_what_is_there() {
    assert_eq!(difference(&dump(&real()), &Model::new().bytes(4096)), None);
}

proptest! {
    #[test]
    fn a_port_behaves_as_its_bits_do(steps in vec(step(), 0..80)) {
        let (mut config, mut model) = (real(), Model::new());
        for step in &steps {
            let (found, expected) = both(&mut config, &mut model, step);
            prop_assert_eq!(found, expected, "{:x?}", step);
            let mut bytes = [0; 0x150];
            config.read(0, &mut bytes);
            let found = difference(&bytes, &model.bytes(0x150));
            prop_assert_eq!(found, None, "{:x?}", step);
            let port = config.port().unwrap();
            let slot = port.slot.unwrap();
            prop_assert_eq!(port.link_active, *model.at(LINK) & ACTIVE != 0);
            prop_assert_eq!(port.ari_forwarding, *model.at(CONTROL_2) & 0x20 != 0);
            prop_assert_eq!(slot.powered, *model.at(SLOT) & 1 << 10 == 0);
            prop_assert_eq!(slot.present, model.present);
        }
        prop_assert_eq!(difference(&dump(&config), &model.bytes(4096)), None);
    }
}

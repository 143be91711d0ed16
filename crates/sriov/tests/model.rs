//! Random sequences of register writes, by owner and VM, of interface calls, resets and renumbering against a simple
//! model of what SR-IOV means: a few plain values, and the VFs that are there.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hdv::pci::{Port, VfRouting};
use hdv::{Bar, BarIndex, DeviceError, DeviceId, DeviceState, TestBench};
use hdv_sriov::{
    EmulatedPf, EnableVirtualization, NtStatus, PciVirtualization, PfOptions, Placement,
};
use proptest::collection::vec;
use proptest::prelude::*;
use support::*;

const BASE: u16 = 0x100;
const PAGES: u32 = 0x553 | 1 << 31;
/// First register, logarithm of the declared size, registers, type bits.
const BARS: [(usize, u32, usize, u64); 3] = [(0, 14, 2, 0xc), (2, 33, 2, 0x4), (4, 12, 2, 0x4)];
const OFFSET: u16 = 3;
/// The last VFs are on the next bus.
const STRIDE: u16 = 40;
/// No VF fails.
const NONE: u32 = u32::MAX;

#[derive(Clone, Debug, PartialEq)]
struct Model {
    controls: bool,
    enable: bool,
    mse: bool,
    ari: bool,
    num: u16,
    page: u32,
    bars: [u64; 3],
    buses: (u8, u8),
    /// The VF that cannot be made.
    failing: u32,
    /// What happened to VFs and PF.
    events: Vec<(Who, Event)>,
}

impl Model {
    fn new(controls: bool) -> Self {
        Self {
            controls,
            enable: false,
            mse: false,
            ari: true,
            num: 0,
            page: 1,
            bars: [0; 3],
            buses: (5, 6),
            failing: NONE,
            events: Vec::new(),
        }
    }

    fn active(&self) -> u16 {
        if self.enable { self.num } else { 0 }
    }

    /// The VFs come; false, and nothing, if one cannot.
    fn come(&mut self) -> bool {
        for vf in 0..self.num {
            self.events.push((Vf(vf), Create));
            if u32::from(vf) == self.failing {
                self.events.extend((0..vf).map(|vf| (Vf(vf), Teardown)));
                return false;
            }
        }
        self.enable = true;
        true
    }

    fn go(&mut self) {
        self.events
            .extend((0..self.active()).map(|vf| (Vf(vf), Teardown)));
        self.enable = false;
    }

    fn words(&self) -> [u32; 18] {
        let mut words = [0; 18];
        words[0] = 0x1401_0010;
        words[1] = 0b10;
        words[2] = u32::from(self.enable) | u32::from(self.mse) << 3 | u32::from(self.ari) << 4;
        words[3] = u32::from(TOTAL) << 16 | u32::from(TOTAL);
        words[4] = u32::from(self.num);
        words[5] = u32::from(STRIDE) << 16 | u32::from(OFFSET);
        words[6] = u32::from(VF_DEVICE) << 16;
        words[7] = PAGES;
        words[8] = self.page;
        for (address, (first, _, count, types)) in self.bars.iter().zip(BARS) {
            let value = (address | types).to_le_bytes();
            words[9 + first] = u32::from_le_bytes([value[0], value[1], value[2], value[3]]);
            if count == 2 {
                words[10 + first] = u32::from_le_bytes([value[4], value[5], value[6], value[7]]);
            }
        }
        words[16] = 0x0001_000e;
        words
    }

    /// The whole word as it would be if every bit could be written; false if VFs could not come.
    fn write_word(&mut self, word: usize, value: u32) -> bool {
        let mut done = true;
        match word {
            2 => {
                self.mse = value & 8 != 0;
                let enable = value & 1 != 0;
                if self.enable {
                    if !enable {
                        self.go();
                    }
                } else {
                    self.ari = value & 0x10 != 0;
                    if enable && (1..=TOTAL).contains(&self.num) {
                        done = self.come();
                    }
                }
            }
            4 if !self.enable => self.num = u16::try_from(value & 0xffff).unwrap(),
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
        for (address, (_, log, ..)) in self.bars.iter_mut().zip(BARS) {
            *address &= !((1 << log).max(u64::from(self.page) << 12) - 1);
        }
        done
    }

    /// A write of bytes; false if VFs could not come.
    fn write(&mut self, offset: u16, data: &[u8]) -> bool {
        let mut done = true;
        let mut at = 0;
        while at < data.len() {
            let place = usize::from(offset) + at;
            let word = (place / 4).checked_sub(usize::from(BASE) / 4);
            let word = word.filter(|word| *word < 16);
            let mut bytes = word.map_or(0, |word| self.words()[word]).to_le_bytes();
            let mut lane = place % 4;
            while at < data.len() && lane < 4 {
                bytes[lane] = data[at];
                (at, lane) = (at + 1, lane + 1);
            }
            if let Some(word) = word {
                done &= self.write_word(word, u32::from_le_bytes(bytes));
            }
        }
        done
    }

    fn interface(&mut self, request: EnableVirtualization) -> NtStatus {
        let wrong_number = if request.enable {
            !(1..=TOTAL).contains(&request.num_vfs)
        } else {
            request.num_vfs != 0
        };
        if wrong_number || request.vf_migration || request.migration_interrupt {
            return NtStatus::INVALID_PARAMETER;
        }
        if request.enable == self.enable {
            return NtStatus::INVALID_DEVICE_STATE;
        }
        if !request.enable {
            self.go();
            self.num = 0;
        } else {
            let before = std::mem::replace(&mut self.num, request.num_vfs);
            if !self.come() {
                self.num = before;
                return NtStatus::UNSUCCESSFUL;
            }
        }
        NtStatus::SUCCESS
    }

    /// A reset of the PF, which is `first` told or VFs are.
    fn reset(&mut self, counts: bool, function_level: bool) {
        if function_level {
            self.events.push((Pf, Reset));
        }
        if counts {
            self.go();
            self.mse = false;
            self.num = 0;
            self.page = 1;
            self.bars = [0; 3];
            self.ari |= !function_level;
        }
        if !function_level {
            self.events.push((Pf, Reset));
        }
    }

    fn place(&self, vf: u16) -> u64 {
        (u64::from(self.buses.0) << 8) + u64::from(OFFSET) + u64::from(vf) * u64::from(STRIDE)
    }

    fn renumber(&mut self, secondary: u8, subordinate: u8) -> bool {
        let function = u64::from(OFFSET) + u64::from(TOTAL - 1) * u64::from(STRIDE);
        let last = (u64::from(secondary) << 8) + function;
        let fits = secondary <= subordinate && last >> 8 <= u64::from(subordinate);
        if fits {
            self.buses = (secondary, subordinate);
        }
        fits
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Actor {
    Owner,
    Vm,
}

#[derive(Clone, Debug)]
enum Step {
    Write(Actor, u16, Vec<u8>),
    Interface(EnableVirtualization),
    Reset(Actor),
    FunctionLevelReset(Actor),
    Renumber(u8, u8),
    Fail(u32),
    Use(u16),
}

fn actor() -> impl Strategy<Value = Actor> {
    prop_oneof![Just(Actor::Owner), Just(Actor::Vm)]
}

fn step() -> impl Strategy<Value = Step> {
    let write = |(actor, offset, value): (Actor, u16, u32)| {
        Step::Write(actor, BASE + offset, value.to_le_bytes().to_vec())
    };
    let count = prop_oneof![6 => 0..=TOTAL + 1, 1 => any::<u16>()];
    let byte = prop_oneof![Just(0xff_u8), Just(0), any::<u8>()];
    let bytes = prop_oneof![
        vec(byte.clone(), 1..=2),
        vec(byte.clone(), 4..=4),
        vec(byte, 0..=40)
    ];
    prop_oneof![
        6 => (actor(), BASE - 6..BASE + 0x4e, bytes)
            .prop_map(|(actor, offset, data)| Step::Write(actor, offset, data)),
        8 => (actor(), Just(8), 0_u32..32).prop_map(write),
        // The control register alone, in its two widths.
        3 => (actor(), 0_u8..32).prop_map(|(actor, value)| {
            Step::Write(actor, BASE + 8, vec![value])
        }),
        5 => (actor(), Just(0x10), count.clone().prop_map(u32::from)).prop_map(write),
        2 => (actor(), Just(0x20), (0_u32..32).prop_map(|bit| 1 << bit)).prop_map(write),
        2 => (actor(), (0_u16..6).prop_map(|bar| 0x24 + 4 * bar), any::<u32>()).prop_map(write),
        6 => (count, 0_u8..16, any::<bool>()).prop_map(|(num_vfs, rare, enable)| {
            Step::Interface(EnableVirtualization {
                num_vfs: if enable || rare > 11 { num_vfs } else { 0 },
                vf_migration: rare == 1 || rare == 2,
                migration_interrupt: rare == 2 || rare == 3,
                enable,
            })
        }),
        1 => actor().prop_map(Step::Reset),
        1 => actor().prop_map(Step::FunctionLevelReset),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(a, b)| Step::Renumber(a, b)),
        1 => prop_oneof![Just(NONE), 0_u32..5].prop_map(Step::Fail),
        2 => (0..TOTAL + 2).prop_map(Step::Use),
    ]
}

struct Real {
    bench: TestBench,
    pf: EmulatedPf,
    lab: Lab,
    failing: Arc<AtomicU32>,
    /// The register by which a function level reset is asked for.
    reset: u16,
    /// The VFs of the last look.
    ids: Vec<DeviceId>,
}

impl Real {
    fn new(controls: bool) -> Self {
        let lab = Lab::default();
        let failing = Arc::new(AtomicU32::new(NONE));
        let which = Arc::clone(&failing);
        lab.hook(move |who, event| match (who, event) {
            (Vf(vf), Create) if u32::from(vf) == which.load(Ordering::SeqCst) => {
                Err(DeviceError::new("not this one"))
            }
            _ => Ok(()),
        });
        let mut author = Author::new(&lab);
        author.layout = author
            .layout
            .bar(BarIndex::BAR2, Bar::memory64(1 << 33))
            .bar(BarIndex::BAR4, Bar::memory64(16))
            .page_sizes(PAGES);
        author.change = Some(Box::new(|_, vf| {
            vf.more_bars = vec![
                (BarIndex::BAR2, Bar::memory64(1 << 33)),
                (BarIndex::BAR4, Bar::memory64(16)),
            ];
        }));
        let port = Port::new(5, 6).unwrap().ari_forwarding(true);
        let options = PfOptions {
            routing: Some(VfRouting {
                first_vf_offset: OFFSET,
                vf_stride: STRIDE,
            }),
            guest_controls_sriov: controls,
            ..PfOptions::new(Placement::new(0, port, 0, 0).unwrap())
        };
        let (bench, pf) = EmulatedPf::on_bench(Box::new(author), options).unwrap();
        let bytes = dump(&pf);
        lab.take();
        Self {
            reset: u16::from(bytes[0x34]) + 9,
            bench,
            pf,
            lab,
            failing,
            ids: Vec::new(),
        }
    }

    fn write(&mut self, actor: Actor, offset: u16, data: &[u8]) -> Option<bool> {
        match actor {
            Actor::Owner if data.is_empty() => None,
            Actor::Owner => Some(self.pf.config_write(offset, data).is_ok()),
            Actor::Vm => {
                // The bench writes whole values; a client's writes are any bytes.
                let mut at = offset;
                for chunk in split(offset, data) {
                    match *chunk {
                        [a] => self.bench.config_write(at, a),
                        [a, b] => self.bench.config_write(at, u16::from_le_bytes([a, b])),
                        [a, b, c] => self.bench.config_write(at, [a, b, c]),
                        [a, b, c, d] => {
                            self.bench
                                .config_write(at, u32::from_le_bytes([a, b, c, d]));
                        }
                        _ => unreachable!("at most a dword"),
                    }
                    at += u16::try_from(chunk.len()).unwrap();
                }
                None
            }
        }
    }
}

/// Dword by dword.
fn split(offset: u16, data: &[u8]) -> Vec<&[u8]> {
    let first = usize::from(4 - offset % 4).min(data.len());
    let (head, rest) = data.split_at(first);
    let mut parts: Vec<_> = [head].into_iter().filter(|head| !head.is_empty()).collect();
    parts.extend(rest.chunks(4));
    parts
}

fn agree_all(real: &mut Real, model: &mut Model) -> Result<(), TestCaseError> {
    let pf = &real.pf;
    // What happened to VFs and PF, in order.
    let log = real.lab.take();
    let known = |one: &(Who, Event)| matches!(one.1, Create | Teardown | Reset);
    let log: Vec<_> = log.into_iter().filter(known).collect();
    prop_assert_eq!(log, std::mem::take(&mut model.events));
    // Registers.
    let bytes = dump(pf);
    let words: Vec<u32> = (0..18).map(|word| dword(&bytes, BASE + 4 * word)).collect();
    prop_assert_eq!(words, model.words());
    let view = pf.registers();
    prop_assert_eq!((view.vf_enable, view.vf_mse), (model.enable, model.mse));
    prop_assert_eq!(view.num_vfs, model.num);
    prop_assert_eq!(view.ari_capable_hierarchy, model.ari);
    prop_assert_eq!(view.system_page_size, u64::from(model.page) << 12);
    for (address, (first, ..)) in model.bars.iter().zip(BARS) {
        let bar = view.vf_bars[first].unwrap();
        prop_assert_eq!(bar.address, *address);
    }
    // VFs.
    let active = model.active();
    let all = pf.virtual_functions().all();
    prop_assert_eq!(all.len(), usize::from(active));
    let ids: Vec<_> = all.iter().map(|vf| vf.instance().id()).collect();
    let distinct: std::collections::BTreeSet<_> = ids.iter().copied().collect();
    prop_assert_eq!(distinct.len(), ids.len());
    real.ids = ids;
    for vf in &all {
        prop_assert!(vf.instance().state() != DeviceState::Gone);
    }
    // Interface.
    for vf in 0..TOTAL + 2 {
        let data = pf.location(vf);
        if vf < TOTAL {
            let id = u64::from(data.unwrap().routing_id.get());
            prop_assert_eq!(id, model.place(vf));
        } else {
            prop_assert_eq!(data.unwrap_err().status(), NtStatus::INVALID_PARAMETER);
        }
        prop_assert_eq!(real.bench.brought(TOTAL).unwrap().is_some(), false);
    }
    prop_assert_eq!(pf.captured_buses(), model.buses.1 - model.buses.0);
    let probed = [0xffff_c00c, u32::MAX, 4, 0xffff_fffe, 0xffff_f004, u32::MAX];
    prop_assert_eq!(pf.probed_bars().unwrap(), probed);
    Ok(())
}

fn take(real: &mut Real, model: &mut Model, step: &Step) -> Result<(), TestCaseError> {
    let counts = |actor, model: &Model| actor == Actor::Owner || model.controls;
    match step {
        Step::Write(actor, offset, data) => {
            let done = real.write(*actor, *offset, data);
            let expected = !counts(*actor, model) || model.write(*offset, data);
            prop_assert_eq!(done.unwrap_or(expected), expected);
        }
        Step::Interface(request) => {
            let result = real.pf.enable_virtualization(*request);
            let status = result.map_or_else(|error| error.status(), |()| NtStatus::SUCCESS);
            prop_assert_eq!(status, model.interface(*request));
        }
        Step::Reset(actor) => {
            match actor {
                Actor::Owner => real.pf.reset().unwrap(),
                Actor::Vm => real.bench.reset(),
            }
            model.reset(counts(*actor, model), false);
        }
        Step::FunctionLevelReset(actor) => {
            real.write(*actor, real.reset, &[0x80]);
            model.reset(counts(*actor, model), true);
        }
        Step::Renumber(secondary, subordinate) => {
            let done = real.pf.renumber(*secondary, *subordinate).is_ok();
            prop_assert_eq!(done, model.renumber(*secondary, *subordinate));
        }
        Step::Fail(vf) => {
            real.failing.store(*vf, Ordering::SeqCst);
            model.failing = *vf;
        }
        Step::Use(vf) => {
            let mut ids = [0; 4];
            let result = real.pf.virtual_function_data(*vf, 0, &mut ids);
            if *vf < model.active() {
                prop_assert_eq!(result.unwrap(), 4);
                prop_assert_eq!(ids, [0xff; 4]);
                let bench = real.bench.brought(*vf).unwrap().expect("there");
                let found: u32 = bench.config_read(0);
                prop_assert_eq!(found >> 16, u32::from(VF_DEVICE));
            } else {
                let status = result.unwrap_err().status();
                let expected = if *vf < TOTAL {
                    NtStatus::INVALID_DEVICE_STATE
                } else {
                    NtStatus::INVALID_PARAMETER
                };
                prop_assert_eq!(status, expected);
                prop_assert!(real.bench.brought(*vf).unwrap().is_none());
            }
            // Its bench is a VM that left: VFs are reset then.
            let vf_resets = |one: &(Who, Event)| one.0 != Pf && one.1 == Reset;
            let log = real.lab.log();
            let resets: Vec<_> = log.into_iter().filter(vf_resets).collect();
            model.events.extend(resets);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn registers_interface_and_vfs_agree(controls: bool, steps in vec(step(), 0..50)) {
        let (mut real, mut model) = (Real::new(controls), Model::new(controls));
        agree_all(&mut real, &mut model)?;
        for step in &steps {
            take(&mut real, &mut model, step)?;
            agree_all(&mut real, &mut model)
                .map_err(|error| TestCaseError::fail(format!("after {step:x?}: {error}")))?;
        }
        // Whatever is left ends, once.
        let active = model.active();
        let Real { bench, pf, lab, .. } = real;
        drop(bench);
        prop_assert_eq!(pf.virtual_functions().count(), 0);
        let log = lab.take();
        let ends: Vec<_> = log.into_iter().filter(|one| one.1 == Teardown).collect();
        prop_assert_eq!(ends.len(), usize::from(active) + 1);
    }
}

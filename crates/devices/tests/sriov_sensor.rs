//! The SR-IOV sensor on the test bench: what its VFs share and what they do not, and every promise of the PF's
//! register map.

use std::time::{Duration, Instant};

use hdv::{BarIndex, GuestAddress, TestBench};
use hdv_devices::sensor::SourceName;
use hdv_devices::sensor::registers::*;
use hdv_devices::sriov_sensor::SriovSensor;
use hdv_devices::sriov_sensor::registers as pf_registers;
use hdv_devices::sriov_sensor::registers::{
    DELIVERED, NUM_VFS, STATE_CLIENT, STATE_ENABLED, STATE_SAMPLING, TOTAL_VFS, VF_DELIVERED,
    VF_DEVICE_ID, VF_LOST, VF_PERIOD, VF_PERIOD_IN_FORCE, VF_QUOTA, VF_STATE, entry,
};
use hdv_sriov::{EmulatedPf, EnableVirtualization, PciVirtualization, PfOptions, Placement};

/// Far more than anything here takes; only a fault waits this long.
const LIMIT: Duration = Duration::from_secs(60);
const RAM: GuestAddress = GuestAddress(0x1_0000_0000);
const RAM_SIZE: u64 = 1 << 20;
const RING_SAMPLES: u32 = 1 << 12;

/// A PF on the bench, with as many VFs enabled.
struct Pf {
    bench: TestBench,
    pf: EmulatedPf,
}

impl Pf {
    fn new(source: &SourceName, num_vfs: u16, quota: u32) -> Self {
        let port = hdv::pci::Port::new(1, 1).unwrap().ari_forwarding(true);
        let options = PfOptions::new(Placement::new(0, port, 0, 0).unwrap());
        let sensor = SriovSensor::new(source, 64, quota).unwrap();
        let (bench, pf) = EmulatedPf::on_bench(Box::new(sensor), options).unwrap();
        let pf = Self { bench, pf };
        pf.enable(num_vfs);
        pf
    }

    fn enable(&self, num_vfs: u16) {
        let request = EnableVirtualization::enable(num_vfs);
        self.pf.enable_virtualization(request).unwrap();
    }

    fn disable(&self) {
        let request = EnableVirtualization::disable();
        self.pf.enable_virtualization(request).unwrap();
    }

    /// VF `vf` in a VM of its own.
    fn vf(&self, vf: u16) -> TestBench {
        let mut bench = self.bench.brought(vf).unwrap().expect("it is enabled");
        bench.add_memory(RAM, RAM_SIZE).unwrap();
        bench.enable_interrupts().unwrap();
        bench
    }

    fn get(&self, vf: u16, register: u64) -> u32 {
        get(&self.bench, entry(vf) + register)
    }

    fn count(&self, vf: u16, register: u64) -> u64 {
        self.bench.read(BarIndex::BAR0, entry(vf) + register)
    }

    fn set_quota(&mut self, vf: u16, quota: u32) {
        set(&mut self.bench, entry(vf) + VF_QUOTA, quota);
    }
}

fn get(bench: &TestBench, register: u64) -> u32 {
    bench.read(BarIndex::BAR0, register)
}

fn set(bench: &mut TestBench, register: u64, value: u32) {
    bench.write(BarIndex::BAR0, register, value);
}

/// Samples into a ring, as fast as it can.
fn begin(vf: &mut TestBench, period: u32) {
    vf.write(BarIndex::BAR0, RING_ADDRESS, RAM.0);
    set(vf, RING_SIZE, RING_SAMPLES);
    set(vf, PERIOD, period);
    set(vf, CONTROL, CONTROL_ENABLE | CONTROL_RING);
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    time: Duration,
    value: i32,
    sequence: u32,
}

/// The first `count` samples of a ring that begins.
fn samples(vf: &mut TestBench, count: u32) -> Vec<Sample> {
    assert!(count <= RING_SAMPLES);
    let head = GuestAddress(RAM.0 + RING_HEADER_HEAD);
    while vf.memory().load::<u32>(head).unwrap() < count {
        assert!(vf.wait_interrupt(VECTOR_SAMPLES, LIMIT) > 0);
    }
    let sample = |index| {
        let slot = RAM.0 + RING_HEADER_BYTES + SAMPLE_BYTES * u64::from(index);
        let mut bytes = [0; 16];
        vf.memory().read(GuestAddress(slot), &mut bytes).unwrap();
        Sample {
            time: Duration::from_nanos(u64::from_le_bytes(bytes[..8].try_into().unwrap())),
            value: i32::from_le_bytes(bytes[8..12].try_into().unwrap()),
            sequence: u32::from_le_bytes(bytes[12..].try_into().unwrap()),
        }
    };
    (0..count).map(sample).collect()
}

/// None of `samples` comes earlier than `interval` after the one before, none is missing or torn, and most come
/// when they may: all, unless this machine stood still for a second.
fn keep_to(samples: &[Sample], interval: Duration) {
    let mut punctual = 0;
    for pair in samples.windows(2) {
        let apart = pair[1].time - pair[0].time;
        assert!(apart >= interval, "{pair:?}");
        punctual += usize::from(apart == interval);
        assert_eq!(pair[1].sequence, pair[0].sequence + 1);
        assert_eq!(pair[1].value, sine_value(pair[1].sequence));
    }
    assert!(2 * punctual > samples.len(), "{punctual} of {samples:?}");
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LIMIT, "{what} did not happen");
        std::thread::yield_now();
    }
}

#[test]
fn pf_and_vfs_are_what_their_registers_say() {
    let pf = Pf::new(&SourceName::Sine, 3, 0);
    for (register, value) in [
        (
            pf_registers::IDENTIFICATION,
            pf_registers::IDENTIFICATION_VALUE,
        ),
        (pf_registers::VERSION, pf_registers::VERSION_VALUE),
        (TOTAL_VFS, 64),
        (NUM_VFS, 3),
        (entry(2) + VF_STATE, STATE_ENABLED),
        (entry(2) + VF_PERIOD, PERIOD_RESET),
        (entry(2) + VF_PERIOD_IN_FORCE, PERIOD_RESET),
        (entry(3) + VF_STATE, 0),
        (entry(3) + VF_PERIOD, 0),
        (entry(3) + VF_PERIOD_IN_FORCE, 0),
    ] {
        assert_eq!(get(&pf.bench, register), value, "register {register:#x}");
    }
    assert_eq!(pf.bench.config_read::<u32>(0), 0x0002_4f48);

    let vf = pf.vf(2);
    assert_eq!(vf.config_read::<u16>(0), VENDOR_ID);
    assert_eq!(vf.config_read::<u16>(2), VF_DEVICE_ID);
    assert_eq!(vf.config_read::<u32>(8) >> 8, CLASS_CODE);
    assert_eq!(get(&vf, IDENTIFICATION), IDENTIFICATION_VALUE);
    assert_eq!(get(&vf, VERSION), VERSION_VALUE);
    assert_eq!(get(&vf, PERIOD), PERIOD_RESET);
}

#[test]
fn only_quotas_can_be_written_and_with_every_width() {
    let mut pf = Pf::new(&SourceName::Sine, 1, 7);
    let end = pf_registers::bar0_size(64);
    for offset in (0..end).step_by(4) {
        let before = get(&pf.bench, offset);
        set(&mut pf.bench, offset, !before);
        let is_quota = offset >= entry(0) && (offset - entry(0)) % 64 == VF_QUOTA;
        let after = if is_quota { !before } else { before };
        assert_eq!(get(&pf.bench, offset), after, "{offset:#x}");
    }
    let quota = entry(63) + VF_QUOTA;
    pf.bench.write(BarIndex::BAR0, quota, 0x1122_3344_u32);
    pf.bench.write(BarIndex::BAR0, quota + 1, 0xaa_u8);
    pf.bench.write(BarIndex::BAR0, quota + 2, 0xbbbb_u16);
    assert_eq!(get(&pf.bench, quota), 0xbbbb_aa44);
    assert_eq!(pf.bench.read::<u8>(BarIndex::BAR0, quota + 1), 0xaa);
    pf.bench
        .write(BarIndex::BAR0, quota - 4, 9_u64 << 32 | 0xffff);
    assert_eq!(pf.bench.read::<u64>(BarIndex::BAR0, quota - 4), 9 << 32);
}

#[test]
fn a_vf_gets_its_quota_whatever_period_it_asks_for() {
    let mut pf = Pf::new(&SourceName::Sine, 3, 500);
    pf.set_quota(1, 1000);
    let mut vfs = [pf.vf(0), pf.vf(1), pf.vf(2)];
    // The third has a period of its own, above its quota's.
    for (vf, period) in vfs.iter_mut().zip([1, 1, 5000]) {
        begin(vf, period);
    }
    for (vf, (number, milliseconds)) in vfs.iter_mut().zip([(0, 2), (1, 1), (2, 5)]) {
        assert_eq!(pf.get(number, VF_PERIOD_IN_FORCE), milliseconds * 1000);
        let samples = samples(vf, 100);
        keep_to(&samples, Duration::from_millis(milliseconds.into()));
    }
    assert_eq!(
        get(&vfs[0], PERIOD),
        1,
        "the register keeps what was written"
    );
    assert_eq!(pf.get(0, VF_PERIOD), 1);
}

#[test]
fn ending_beginning_and_resets_give_no_sample_before_its_time() {
    const QUOTA: u32 = 200;
    let interval = Duration::from_secs(1) / QUOTA;
    let pf = Pf::new(&SourceName::Sine, 1, QUOTA);
    let mut vf = pf.vf(0);
    let mut times = Vec::new();
    let begun = Instant::now();
    for turn in 0_u32.. {
        set(&mut vf, PERIOD, 1 + turn % 3);
        set(&mut vf, CONTROL, CONTROL_ENABLE);
        std::thread::yield_now();
        set(&mut vf, CONTROL, 0);
        times.push(vf.read::<u64>(BarIndex::BAR0, TIMESTAMP));
        if turn % 5 == 0 {
            vf.reset();
        }
        times.retain(|&time| time != 0);
        times.dedup();
        if times.len() == 20 {
            break;
        }
        assert!(begun.elapsed() < LIMIT, "{times:?}");
    }
    for pair in times.windows(2) {
        let apart = Duration::from_nanos(pair[1] - pair[0]);
        assert!(apart >= interval, "{times:?}");
    }
    // All of them, counted through the resets.
    let most = begun.elapsed().as_nanos() / interval.as_nanos() + 1;
    let delivered = pf.count(0, VF_DELIVERED);
    assert!((20..=most).contains(&delivered.into()), "{delivered}");
}

#[test]
fn a_quota_that_is_lifted_counts_no_more() {
    let mut pf = Pf::new(&SourceName::Sine, 1, 0);
    // A second is the longest a quota makes a VF wait. A machine that stands still may take as
    // long, but not always.
    for _ in 0..20 {
        pf.set_quota(0, 1);
        let mut vf = pf.vf(0);
        begin(&mut vf, 10);
        let first = samples(&mut vf, 1)[0];
        pf.set_quota(0, 0);
        let all = samples(&mut vf, 100);
        if all[1].time - first.time < Duration::from_millis(900) {
            keep_to(&all[1..], Duration::from_micros(10));
            return;
        }
    }
    panic!("a quota that was lifted still counted, 20 times");
}

#[test]
fn a_lower_quota_counts_while_the_vf_samples() {
    let (period, limit) = (Duration::from_millis(1), Duration::from_millis(20));
    let mut pf = Pf::new(&SourceName::Sine, 1, 0);
    let mut vf = pf.vf(0);
    begin(&mut vf, 1000);
    let before = samples(&mut vf, 5);
    keep_to(&before, period);
    pf.set_quota(0, 50);
    // Those that were due already, then only some that are further apart.
    let limited = |all: &[Sample]| {
        all.windows(2)
            .position(|pair| pair[1].time - pair[0].time >= limit)
    };
    let begun = Instant::now();
    let mut count = 5;
    let (first, all) = loop {
        let all = samples(&mut vf, count);
        if let Some(first) = limited(&all)
            && all.len() > first + 10
        {
            break (first, all);
        }
        assert!(begun.elapsed() < LIMIT, "{all:?}");
        count += 1;
    };
    keep_to(&all[first..], limit);
}

#[test]
fn a_shorter_period_counts_at_once() {
    let pf = Pf::new(&SourceName::Sine, 1, 0);
    let mut vf = pf.vf(0);
    // More than an hour.
    begin(&mut vf, u32::MAX);
    assert_eq!(samples(&mut vf, 1).len(), 1);
    set(&mut vf, PERIOD, 10);
    keep_to(&samples(&mut vf, 100)[1..], Duration::from_micros(10));
}

#[test]
fn rings_thresholds_and_rates_are_each_ones_own() {
    let pf = Pf::new(&SourceName::Sine, 3, 0);
    let mut vfs = [pf.vf(0), pf.vf(1), pf.vf(2)];
    set(&mut vfs[1], THRESHOLD_HIGH, 50_000);
    begin(&mut vfs[0], 50);
    begin(&mut vfs[1], 100);
    for (vf, microseconds) in vfs.iter_mut().zip([50, 100]) {
        let samples = samples(vf, 1000);
        keep_to(&samples, Duration::from_micros(microseconds));
    }
    assert!(vfs[1].wait_interrupt(VECTOR_THRESHOLD, LIMIT) > 0);
    assert_eq!(vfs[0].take_interrupts(VECTOR_THRESHOLD), 0);
    assert_eq!(get(&vfs[0], STATUS) & (STATUS_HIGH | STATUS_LOW), 0);
    // The third was never told to do anything.
    assert_eq!(get(&vfs[2], SEQUENCE), 0);
    assert_eq!(vfs[2].take_interrupts(VECTOR_SAMPLES), 0);
    let sampling = STATE_ENABLED | STATE_CLIENT | STATE_SAMPLING;
    assert_eq!([0, 1].map(|vf| pf.get(vf, VF_STATE)), [sampling; 2]);
    assert_eq!(pf.get(2, VF_STATE), STATE_ENABLED | STATE_CLIENT);

    // One resets, the others go on.
    vfs[0].reset();
    assert_eq!(pf.get(0, VF_STATE), STATE_ENABLED | STATE_CLIENT);
    let sequence = get(&vfs[1], SEQUENCE);
    wait_for("a sample", || get(&vfs[1], SEQUENCE) > sequence);
}

#[test]
fn counters_are_those_of_the_vfs() {
    let mut pf = Pf::new(&SourceName::Sine, 2, 0);
    let mut vfs = [pf.vf(0), pf.vf(1)];
    for vf in &mut vfs {
        begin(vf, 1);
        assert!(vf.wait_interrupt(VECTOR_OVERFLOW, LIMIT) > 0);
        set(vf, CONTROL, 0);
    }
    let mut sum = 0;
    for (vf, number) in vfs.iter().zip(0..) {
        let (delivered, lost) = (pf.count(number, VF_DELIVERED), pf.count(number, VF_LOST));
        assert_eq!(delivered, u64::from(RING_SAMPLES));
        assert_eq!(lost, u64::from(get(vf, OVERFLOWS)));
        assert_eq!(delivered + lost, u64::from(get(vf, SEQUENCE)) + 1);
        sum += delivered;
    }
    let all: u64 = pf.bench.read(BarIndex::BAR0, DELIVERED);
    assert_eq!(all, sum);
    let low = get(&pf.bench, DELIVERED);
    assert_eq!(u64::from(low), sum);

    // Through a reset of the VF and a change of its VM.
    vfs[0].reset();
    assert_eq!(pf.count(0, VF_DELIVERED), u64::from(RING_SAMPLES));
    let [first, _second] = vfs;
    drop(first);
    assert_eq!(pf.get(0, VF_STATE), STATE_ENABLED);
    let mut next = pf.vf(0);
    begin(&mut next, 1);
    assert!(next.wait_interrupt(VECTOR_OVERFLOW, LIMIT) > 0);
    set(&mut next, CONTROL, 0);
    assert_eq!(pf.count(0, VF_DELIVERED), 2 * u64::from(RING_SAMPLES));

    // VFs that come again are others; quotas stay, through the PF's reset too.
    pf.set_quota(0, 5);
    pf.bench.reset();
    pf.disable();
    for register in [VF_DELIVERED, VF_LOST] {
        assert_eq!(pf.count(0, register), 0);
    }
    assert_eq!((pf.get(0, VF_STATE), get(&pf.bench, NUM_VFS)), (0, 0));
    assert_eq!(pf.get(0, VF_QUOTA), 5);
    pf.enable(1);
    assert_eq!(pf.count(0, VF_DELIVERED), 0);
    assert_eq!(pf.get(0, VF_PERIOD), PERIOD_RESET);
    assert_eq!(pf.get(0, VF_QUOTA), 5);
    let mut vf = pf.vf(0);
    begin(&mut vf, 1);
    keep_to(&samples(&mut vf, 3), Duration::from_millis(200));
}

#[test]
fn recorded_values_are_the_same_for_every_vf() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "1\n2\n3\n").unwrap();
    let pf = Pf::new(&SourceName::Csv(file.path().into()), 2, 0);
    for vf in 0..2 {
        let mut vf = pf.vf(vf);
        for _again in 0..2 {
            begin(&mut vf, 100);
            let values: Vec<i32> = samples(&mut vf, 4).iter().map(|one| one.value).collect();
            assert_eq!(values, [1000, 2000, 3000, 1000]);
            set(&mut vf, CONTROL, 0);
        }
    }
}

#[test]
fn numbers_of_vfs_that_cannot_be_are_refused() {
    for vfs in [0, pf_registers::VFS_MAX + 1, u16::MAX] {
        let error = SriovSensor::new(&SourceName::Sine, vfs, 0).unwrap_err();
        assert!(error.to_string().contains(&format!("{vfs} VFs")), "{error}");
    }
    assert!(SriovSensor::new(&SourceName::Sine, pf_registers::VFS_MAX, 0).is_ok());
}

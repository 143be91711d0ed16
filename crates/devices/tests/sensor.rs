//! The sensor on the test bench: every register and every promise of its register map.

use std::time::{Duration, Instant};

use hdv::{BarIndex, GuestAddress, TestBench};
use hdv_devices::sensor::registers::*;
use hdv_devices::sensor::{Sensor, SourceName};

/// Far more than anything here takes; only a fault waits this long.
const LIMIT: Duration = Duration::from_secs(60);
const RAM: GuestAddress = GuestAddress(0x1_0000_0000);
const RAM_SIZE: u64 = 1 << 20;

fn bench() -> TestBench {
    let mut bench = TestBench::new(Sensor::new(&SourceName::Sine).unwrap()).unwrap();
    bench.add_memory(RAM, RAM_SIZE).unwrap();
    bench.enable_interrupts().unwrap();
    bench
}

fn get(bench: &TestBench, register: u64) -> u32 {
    bench.read(BarIndex::BAR0, register)
}

fn set(bench: &mut TestBench, register: u64, value: u32) {
    bench.write(BarIndex::BAR0, register, value);
}

fn set_ring(bench: &mut TestBench, address: u64, size: u32) {
    bench.write(BarIndex::BAR0, RING_ADDRESS, address);
    set(bench, RING_SIZE, size);
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LIMIT, "{what} did not happen");
        std::thread::yield_now();
    }
}

fn ring_word(bench: &TestBench, offset: u64) -> u32 {
    let address = GuestAddress(RAM.0 + offset);
    bench.memory().load(address).unwrap()
}

fn set_tail(bench: &TestBench, tail: u32) {
    let address = GuestAddress(RAM.0 + RING_HEADER_TAIL);
    bench.memory().store(address, tail).unwrap();
}

/// (time, value, sequence number) of the sample at a free-running index.
fn sample(bench: &TestBench, index: u32, size: u32) -> (u64, i32, u32) {
    let slot = RAM.0 + RING_HEADER_BYTES + SAMPLE_BYTES * u64::from(index % size);
    let mut bytes = [0; 16];
    bench.memory().read(GuestAddress(slot), &mut bytes).unwrap();
    (
        u64::from_le_bytes(bytes[..8].try_into().unwrap()),
        i32::from_le_bytes(bytes[8..12].try_into().unwrap()),
        u32::from_le_bytes(bytes[12..].try_into().unwrap()),
    )
}

#[test]
fn reset_values_are_as_documented() {
    let bench = bench();
    for (register, value) in [
        (IDENTIFICATION, IDENTIFICATION_VALUE),
        (VERSION, VERSION_VALUE),
        (CONTROL, 0),
        (STATUS, 0),
        (ERROR, ERROR_NONE),
        (PERIOD, PERIOD_RESET),
        (COALESCE, COALESCE_RESET),
        (OVERFLOWS, 0),
        (RING_SIZE, RING_SIZE_RESET),
        (RING_HEAD, 0),
        (THRESHOLD_LOW, i32::MIN.cast_unsigned()),
        (THRESHOLD_HIGH, i32::MAX.cast_unsigned()),
    ] {
        assert_eq!(get(&bench, register), value, "register {register:#x}");
    }
    assert_eq!(bench.config_read::<u32>(0), 0x0001_4f48);
    assert_eq!(bench.config_read::<u32>(8) >> 8, CLASS_CODE);
}

#[test]
fn registers_take_every_width_and_read_only_ones_none() {
    let mut bench = bench();
    bench.write(BarIndex::BAR0, SCRATCH, 0x1122_3344_5566_7788u64);
    bench.write(BarIndex::BAR0, SCRATCH + 1, 0xaau8);
    bench.write(BarIndex::BAR0, SCRATCH + 2, 0xbbbbu16);
    bench.write(BarIndex::BAR0, SCRATCH + 4, 0xcccc_ccccu32);
    assert_eq!(
        bench.read::<u64>(BarIndex::BAR0, SCRATCH),
        0xcccc_cccc_bbbb_aa88
    );
    assert_eq!(bench.read::<u8>(BarIndex::BAR0, SCRATCH + 1), 0xaa);
    assert_eq!(bench.read::<u16>(BarIndex::BAR0, SCRATCH + 2), 0xbbbb);
    for register in [
        IDENTIFICATION,
        VERSION,
        ERROR,
        OVERFLOWS,
        VALUE,
        TIMESTAMP,
        RING_HEAD,
    ] {
        let before = get(&bench, register);
        set(&mut bench, register, !before);
        assert_eq!(get(&bench, register), before, "register {register:#x}");
    }
    set(&mut bench, 0x700, 1);
    assert_eq!(get(&bench, 0x700), 0);
}

#[test]
fn what_is_outside_the_bar_does_not_reach_the_device() {
    let mut bench = bench();
    assert_eq!(bench.read::<u32>(BarIndex::BAR0, BAR0_SIZE), u32::MAX);
    assert_eq!(bench.read::<u64>(BarIndex::BAR0, BAR0_SIZE - 4), u64::MAX);
    assert_eq!(bench.read::<u8>(BarIndex::BAR5, 0), u8::MAX);
    bench.write(BarIndex::BAR0, u64::MAX - 3, 0u32);
    bench.write(BarIndex::BAR3, PERIOD, 0u32);
    assert_eq!(get(&bench, STATUS), 0);
}

#[test]
fn refused_settings_change_nothing_and_say_why() {
    let mut bench = bench();
    let far = RAM.0 + RAM_SIZE;
    let cases: [(u64, u32, u32); 5] = [
        (PERIOD, 0, ERROR_PERIOD),
        (COALESCE, 0, ERROR_COALESCE),
        (RING_SIZE, 3, ERROR_RING_SIZE),
        (RING_SIZE, 2 * RING_SIZE_MAX, ERROR_RING_SIZE),
        (RING_ADDRESS, 8, ERROR_RING_ALIGNMENT),
    ];
    for (register, value, reason) in cases {
        let before = get(&bench, register);
        set(&mut bench, STATUS, STATUS_ERROR);
        set(&mut bench, register, value);
        assert_eq!(get(&bench, register), before);
        assert_eq!(get(&bench, STATUS), STATUS_ERROR);
        assert_eq!(get(&bench, ERROR), reason);
    }
    // Outside, straddling the end, and where the end would pass 2^64.
    for address in [far, far - 64, 0, u64::MAX - 63] {
        set(&mut bench, STATUS, STATUS_ERROR);
        set_ring(&mut bench, address, 16);
        set(&mut bench, CONTROL, CONTROL_ENABLE | CONTROL_RING);
        assert_eq!(get(&bench, CONTROL), 0, "ring at {address:#x}");
        assert_eq!(get(&bench, STATUS), STATUS_ERROR);
        assert_eq!(get(&bench, ERROR), ERROR_RING_MEMORY);
    }
    set_ring(&mut bench, RAM.0, 16);
    set(&mut bench, CONTROL, CONTROL_RING);
    assert_eq!(get(&bench, CONTROL), CONTROL_RING);
    for (register, value) in [(RING_SIZE, 32), (RING_ADDRESS, 64)] {
        let before = get(&bench, register);
        set(&mut bench, register, value);
        assert_eq!(get(&bench, register), before);
        assert_eq!(get(&bench, ERROR), ERROR_RING_BUSY);
    }
}

#[test]
fn samples_arrive_whole_and_in_order() {
    const SIZE: u32 = 1024;
    const SAMPLES: u32 = 200_000;
    let mut bench = bench();
    set_ring(&mut bench, RAM.0, SIZE);
    set(&mut bench, PERIOD, 10);
    set(&mut bench, COALESCE, 64);
    set(&mut bench, CONTROL, CONTROL_ENABLE | CONTROL_RING);
    let (mut tail, mut expected, mut last_time) = (0u32, 0u32, 0);
    while expected < SAMPLES {
        let head = ring_word(&bench, RING_HEADER_HEAD);
        if head == tail {
            assert!(bench.wait_interrupt(VECTOR_SAMPLES, LIMIT) > 0);
            continue;
        }
        while tail != head {
            let (time, value, sequence) = sample(&bench, tail, SIZE);
            assert!(sequence >= expected, "{sequence} after {expected}");
            // A slow machine may lose some to a full ring; then it must have been said.
            if sequence > expected {
                assert_ne!(get(&bench, OVERFLOWS), 0);
            }
            assert_eq!(value, sine_value(sequence));
            assert!(time > last_time || sequence == 0);
            (expected, last_time) = (sequence + 1, time);
            tail = tail.wrapping_add(1);
        }
        set_tail(&bench, tail);
    }
    assert_eq!(get(&bench, STATUS) & STATUS_SAMPLES, STATUS_SAMPLES);
    set(&mut bench, CONTROL, 0);
    let head = get(&bench, RING_HEAD);
    assert_eq!(ring_word(&bench, RING_HEADER_HEAD), head);
}

#[test]
fn a_full_ring_loses_samples_and_says_so_once() {
    const SIZE: u32 = 4;
    let mut bench = bench();
    set_ring(&mut bench, RAM.0, SIZE);
    set(&mut bench, PERIOD, 100);
    set(&mut bench, CONTROL, CONTROL_ENABLE | CONTROL_RING);
    assert_eq!(bench.wait_interrupt(VECTOR_OVERFLOW, LIMIT), 1);
    assert_eq!(get(&bench, STATUS) & STATUS_OVERFLOW, STATUS_OVERFLOW);
    wait_for("more lost samples", || get(&bench, OVERFLOWS) > 10);
    assert_eq!(bench.take_interrupts(VECTOR_OVERFLOW), 0);
    assert_eq!(ring_word(&bench, RING_HEADER_HEAD), SIZE);
    let sequences: Vec<u32> = (0..SIZE)
        .map(|index| sample(&bench, index, SIZE).2)
        .collect();
    assert_eq!(sequences, [0, 1, 2, 3]);
    // Room again: the next sample shows the gap.
    set_tail(&bench, SIZE);
    wait_for("a sample", || ring_word(&bench, RING_HEADER_HEAD) > SIZE);
    let (_, value, sequence) = sample(&bench, SIZE, SIZE);
    assert!(sequence > 13);
    assert_eq!(value, sine_value(sequence));
    set(&mut bench, STATUS, STATUS_OVERFLOW);
    assert_eq!(bench.wait_interrupt(VECTOR_OVERFLOW, LIMIT), 1);
}

#[test]
fn thresholds_interrupt_when_they_are_crossed() {
    let mut bench = bench();
    set(&mut bench, THRESHOLD_HIGH, 50_000);
    set(&mut bench, THRESHOLD_LOW, (-50_000i32).cast_unsigned());
    set(&mut bench, PERIOD, 100);
    set(&mut bench, CONTROL, CONTROL_ENABLE);
    assert!(bench.wait_interrupt(VECTOR_THRESHOLD, LIMIT) > 0);
    wait_for("both thresholds", || {
        get(&bench, STATUS) & (STATUS_HIGH | STATUS_LOW) == STATUS_HIGH | STATUS_LOW
    });
    set(&mut bench, STATUS, STATUS_HIGH);
    assert_eq!(get(&bench, STATUS) & STATUS_LOW, STATUS_LOW);
    wait_for("another crossing", || {
        get(&bench, STATUS) & STATUS_HIGH != 0
    });
}

#[test]
fn value_and_sequence_number_belong_together() {
    let mut bench = bench();
    set(&mut bench, PERIOD, 1);
    set(&mut bench, CONTROL, CONTROL_ENABLE);
    wait_for("a sample", || get(&bench, TIMESTAMP) != 0);
    for _ in 0..10_000 {
        let both: u64 = bench.read(BarIndex::BAR0, VALUE);
        let [value, sequence] =
            [both & 0xffff_ffff, both >> 32].map(|half| u32::try_from(half).unwrap());
        assert_eq!(value.cast_signed(), sine_value(sequence));
    }
}

#[test]
fn reset_stops_everything_and_interrupts_work_afterwards() {
    let mut bench = bench();
    set_ring(&mut bench, RAM.0, 256);
    set(&mut bench, PERIOD, 50);
    set(&mut bench, CONTROL, CONTROL_ENABLE | CONTROL_RING);
    assert!(bench.wait_interrupt(VECTOR_SAMPLES, LIMIT) > 0);
    bench.reset();
    for vector in 0..VECTORS {
        let _ = bench.take_interrupts(vector);
    }
    let head = ring_word(&bench, RING_HEADER_HEAD);
    assert_eq!((get(&bench, CONTROL), get(&bench, RING_HEAD)), (0, 0));
    assert_eq!(get(&bench, PERIOD), PERIOD_RESET);
    set(&mut bench, PERIOD, 50);
    set(&mut bench, CONTROL, CONTROL_ENABLE);
    assert!(bench.wait_interrupt(VECTOR_SAMPLES, LIMIT) > 0);
    assert_eq!(
        ring_word(&bench, RING_HEADER_HEAD),
        head,
        "no ring, yet written"
    );
}

#[test]
fn a_ring_whose_memory_goes_away_is_reported() {
    let mut bench = bench();
    set_ring(&mut bench, RAM.0, 256);
    set(&mut bench, PERIOD, 50);
    set(&mut bench, CONTROL, CONTROL_ENABLE | CONTROL_RING);
    assert!(bench.wait_interrupt(VECTOR_SAMPLES, LIMIT) > 0);
    bench.remove_memory(RAM, RAM_SIZE).unwrap();
    wait_for("the report", || get(&bench, STATUS) & STATUS_ERROR != 0);
    assert_eq!(get(&bench, ERROR), ERROR_RING_MEMORY);
    assert_eq!(get(&bench, CONTROL), CONTROL_ENABLE);
}

#[test]
fn a_paused_sensor_takes_no_samples_and_goes_on_afterwards() {
    let mut bench = bench();
    set(&mut bench, PERIOD, 50);
    set(&mut bench, CONTROL, CONTROL_ENABLE);
    wait_for("samples", || get(&bench, SEQUENCE) > 10);
    bench.stop_and_start().unwrap();
    let sequence = get(&bench, SEQUENCE);
    assert!(sequence > 10, "the state stays");
    wait_for("samples", || get(&bench, SEQUENCE) > sequence);
}

#[test]
fn the_ring_gets_every_sample_until_sampling_ends() {
    let mut bench = bench();
    set_ring(&mut bench, RAM.0, 1 << 14);
    set(&mut bench, PERIOD, 1);
    for _ in 0..300 {
        set(&mut bench, CONTROL, CONTROL_ENABLE | CONTROL_RING);
        assert!(bench.wait_interrupt(VECTOR_SAMPLES, LIMIT) > 0);
        set(&mut bench, CONTROL, 0);
        let in_ring = get(&bench, RING_HEAD) + get(&bench, OVERFLOWS);
        assert_eq!(get(&bench, SEQUENCE) + 1, in_ring);
        let _ = bench.take_interrupts(VECTOR_SAMPLES);
    }
}

//! The SR-IOV sensor at work: how many samples a second of processor time takes from the source to drivers, through
//! one VF and spread over 64. Drivers are threads of this process: no message is sent for a sample, so what spreading
//! costs is the device's own, as far as this framework and the sensor have a part in it.

use std::time::Duration;

use hdv::pci::Port;
use hdv::{BarIndex, GuestAddress, TestBench};
use hdv_devices::sensor::SourceName;
use hdv_devices::sensor::registers::{
    COALESCE, CONTROL, CONTROL_ENABLE, CONTROL_RING, PERIOD, RING_ADDRESS, RING_HEADER_HEAD,
    RING_HEADER_TAIL, RING_SIZE, VECTOR_SAMPLES,
};
use hdv_devices::sriov_sensor::SriovSensor;
use hdv_sriov::{EmulatedPf, EnableVirtualization, PciVirtualization, PfOptions, Placement};
use rustix::time::{ClockId, clock_gettime};

use super::workers::{Work, Workers};
use crate::bench::contest::{Contest, Effort};
use crate::bench::error::{BenchError, During};
use crate::bench::report::{Section, Unit};

/// VFs that sample at once.
const MANY: u16 = 64;
/// Samples of one batch, over all VFs.
const BATCH: u32 = 64 * 10_000;
/// Samples that a ring holds, and those that an interrupt tells of.
const RING: u32 = 4096;
const PER_INTERRUPT: u32 = 256;
/// As fast as a VF can be asked to.
const PERIOD_MICROSECONDS: u32 = 1;
const RAM: GuestAddress = GuestAddress(0x10_0000);
const RAM_BYTES: u64 = 1 << 17;
/// Far longer than a VF is ever silent.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the processor time may grow by so that 64 VFs do at least 80 % as much.
const TARGET: f64 = 1.0 / 0.8;

const ONE: &str = "1 VF";
const ONE_AGAIN: &str = "1 VF, again";
const ALL: &str = "64 VFs";

/// A VF and its driver.
struct Driver(TestBench);

impl Driver {
    fn new(mut bench: TestBench) -> Result<Self, BenchError> {
        const DOING: &str = "setting a VF up";
        bench.add_memory(RAM, RAM_BYTES).during(DOING)?;
        bench.enable_interrupts().during(DOING)?;
        let bar = BarIndex::BAR0;
        bench.write(bar, RING_ADDRESS, RAM.0);
        bench.write(bar, RING_SIZE, RING);
        bench.write(bar, COALESCE, PER_INTERRUPT);
        bench.write(bar, PERIOD, PERIOD_MICROSECONDS);
        Ok(Self(bench))
    }
}

impl Work for Driver {
    /// Has the VF sample until that many samples were read.
    fn work(&mut self, samples: u32) -> Result<(), BenchError> {
        const DOING: &str = "taking samples of a VF";
        let bench = &mut self.0;
        bench.write(BarIndex::BAR0, CONTROL, CONTROL_ENABLE | CONTROL_RING);
        let head = GuestAddress(RAM.0 + RING_HEADER_HEAD);
        let tail = GuestAddress(RAM.0 + RING_HEADER_TAIL);
        let mut read = 0;
        while read < samples {
            if bench.wait_interrupt(VECTOR_SAMPLES, PATIENCE) == 0 {
                return Err(BenchError::new(DOING, "it is silent"));
            }
            read = bench.memory().load(head).during(DOING)?;
            bench.memory().store(tail, read).during(DOING)?;
        }
        bench.write(BarIndex::BAR0, CONTROL, 0u32);
        Ok(())
    }
}

/// Processor time of this process, threads that have ended included.
fn processor_time() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    #[expect(clippy::cast_precision_loss, reason = "seconds in nanoseconds")]
    let nanoseconds = time.tv_sec as f64 * 1e9 + time.tv_nsec as f64;
    nanoseconds
}

/// Measures with all CPUs, whose time is what counts.
pub(in crate::bench) fn measure(effort: Effort) -> Result<Section, BenchError> {
    const DOING: &str = "setting a PF up";
    let port = Port::new(1, 1).during(DOING)?.ari_forwarding(true);
    let options = PfOptions::new(Placement::new(0, port, 0, 0).during(DOING)?);
    let sensor = SriovSensor::new(&SourceName::Sine, MANY, 0).during(DOING)?;
    let (bench, pf) = EmulatedPf::on_bench(Box::new(sensor), options).during(DOING)?;
    pf.enable_virtualization(EnableVirtualization::enable(MANY))
        .during(DOING)?;
    let drivers = (0..MANY).map(|vf| {
        let vf = bench.brought(vf).during(DOING)?;
        Driver::new(vf.ok_or_else(|| BenchError::new(DOING, "it lacks a VF"))?)
    });
    let drivers = &Workers::start(drivers)?;
    let samples = effort.batch(BATCH);
    let mut contest = Contest::new();
    for (name, count) in [(ONE, 1), (ONE_AGAIN, 1), (ALL, MANY)] {
        contest.add(name, move || {
            let before = processor_time();
            let done = drivers.work(count, samples)?;
            Ok((processor_time() - before) / f64::from(done))
        });
    }
    let results = contest.run(effort)?;
    let mut section = Section::new(
        "samples that VFs deliver for a second of processor time",
        Unit::PerSecond,
    );
    section
        .row(&results, ONE)
        .compare(&results, ONE_AGAIN, &[(ONE, None)])
        .compare(&results, ALL, &[(ONE, Some(TARGET))]);
    Ok(section)
}

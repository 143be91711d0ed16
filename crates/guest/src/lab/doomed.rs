//! Device 7: its host is torn down under the guest. From then on there is a stub: reads are all ones, writes
//! are dropped, memory comes and goes, and nothing hangs.

use std::time::Instant;

use super::registers::{
    DOOMED, DOOMED_DOOM, DOOMED_DOOM_VALUE, DOOMED_DOORBELL, DOOMED_INSIDE, MAGIC, SCRATCH,
};
use super::{Lab, POSSIBLE_DEADLOCK, REGISTERS};
use crate::checks::{Failure, Settings, Verdict, ensure};
use crate::family::Context;
use crate::platform::{Platform, Width, pci};

/// Bytes of the buffers that are mapped for the device, before and after.
const BUFFER: u64 = 3 * 4096;
/// How often everything is tried when it is gone.
const TRIES: u32 = 20;

pub(super) fn check(device: &dyn Platform, context: &mut Context<'_>) -> Verdict {
    let lab = Lab::open(device, DOOMED)?;
    lab.command(
        "tearing the host down from inside a callback",
        DOOMED_INSIDE,
        1,
        POSSIBLE_DEADLOCK,
    )?;
    lab.well()?;
    let buffer = device.dma_buffer(BUFFER)?;
    lab.set(DOOMED_DOORBELL, 1)?;
    lab.set(DOOMED_DOOM, DOOMED_DOOM_VALUE)?;
    let reads = wait_until_gone(&lab, context.settings)?;

    let mut longest = std::time::Duration::ZERO;
    for _ in 0..TRIES {
        let begin = Instant::now();
        for width in Width::ALL {
            for offset in [MAGIC, SCRATCH, DOOMED_DOORBELL] {
                device.write(REGISTERS, offset, width, 0)?;
                let read = device.read(REGISTERS, offset, width)?;
                ensure(read == width.mask(), || {
                    format!(
                        "a device that is gone reads {read:#x} at {offset:#x}, by {} bytes",
                        width.bytes()
                    )
                })?;
            }
        }
        longest = longest.max(begin.elapsed());
    }
    let vendor = pci::read_word(device, pci::VENDOR)?;
    // The kernel of a guest remembers who the function was; elsewhere it is the stub that answers.
    ensure(
        vendor == u16::MAX || device.transport() != "vfio-user",
        || format!("a device that is gone has the vendor id {vendor:#x}"),
    )?;
    drop(buffer);
    for _ in 0..TRIES {
        drop(device.dma_buffer(BUFFER)?);
    }
    Ok(format!(
        "from inside a callback refused; torn down, seen by the guest after {reads} reads; then all ones, \
         writes dropped, memory mapped and unmapped; the slowest {} accesses took {} us",
        Width::ALL.len() * 6,
        longest.as_micros()
    ))
}

/// Reads until the device is gone; returns how often.
fn wait_until_gone(lab: &Lab<'_>, settings: &Settings) -> Result<u32, Failure> {
    let deadline = Instant::now() + settings.patience;
    let mut reads = 1;
    while lab.get(MAGIC)? != u64::from(u32::MAX) {
        ensure(Instant::now() < deadline, || {
            format!(
                "the device is still there {} s after its host's end was asked for",
                settings.patience.as_secs()
            )
        })?;
        reads += 1;
    }
    Ok(reads)
}

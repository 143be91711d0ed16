//! Sensors inside, plain ones and VFs, driven whole: registers, DMA, interrupts, resets. And what the PF tells of its VFs then.
//!
//! They are driven by this process ([`Direct::behind_endpoint`]): what is inside shares the endpoint's requester id, and so its IOMMU
//! group, which the endpoint's own driver holds, so vfio-pci cannot be had with an IOMMU; without one it cannot with the kernels of
//! distributions, which leave out its mode for that.

use std::time::Duration;

use hdv_devices::sensor::registers::{
    BAR0_SIZE, CLASS_CODE, COALESCE, CONTROL, CONTROL_ENABLE, DEVICE_ID as SENSOR, PERIOD,
    VECTOR_SAMPLES, VECTORS, VENDOR_ID,
};
use hdv_devices::sriov_sensor::registers::{
    DELIVERED, IDENTIFICATION, IDENTIFICATION_VALUE, NUM_VFS, STATE_ENABLED, TOTAL_VFS,
    VF_DELIVERED, VF_DEVICE_ID, VF_STATE, entry,
};

use super::inside;
use super::vfs::pf;
use crate::checks::{self, Check, Failure, Settings, Verdict, ensure};
use crate::family::Context;
use crate::init::system;
use crate::platform::direct::Direct;
use crate::platform::memory::HUGE_PAGE_BYTES;
use crate::platform::sysfs::{self, Sysfs};
use crate::platform::{BarAccess, Identity, Platform, Width};
use crate::report::Line;
use crate::sensor::{Sensor, ring};

/// What memory around a ring that is within reach leaves out.
const OUT_OF_REACH: Check = Check::BadSettings;
/// Microseconds between the samples of a VF of many.
const VF_PERIOD: u32 = 100;
/// How long a VF of many may take for an interrupt.
const PATIENCE: Duration = Duration::from_secs(30);

/// A function whose driver this process is; the vectors that others use are left to them.
fn open(address: &str, others: u16) -> Result<Direct, Failure> {
    system::unbind(address)?;
    Ok(Direct::behind_endpoint(address, VECTORS * others)?)
}

fn settings(of: &Settings, device_id: u16) -> Settings {
    let mut settings = Settings {
        device_id,
        ..of.clone()
    };
    while ring::bytes(settings.ring) > HUGE_PAGE_BYTES {
        settings.ring /= 2;
    }
    settings
}

/// Makes the checks of `selection` on the first of `devices`, and says how many there were.
fn run(
    selection: &[Check],
    devices: Vec<Direct>,
    settings: &Settings,
    sink: &mut dyn FnMut(Line),
) -> Result<usize, Failure> {
    let (mut made, mut failed) = (0, 0);
    checks::run(selection, devices, settings, &mut |outcome| {
        made += 1;
        failed += usize::from(!outcome.ok);
        sink(Line::Check(outcome));
    });
    ensure(failed == 0, || format!("{failed} of {made} checks failed"))?;
    Ok(made)
}

/// Checks of one plain sensor.
pub(super) fn whole(
    address: &str,
    selection: &[Check],
    context: &mut Context<'_>,
) -> Result<usize, Failure> {
    let settings = settings(context.settings, SENSOR);
    let devices = vec![open(address, 0)?];
    run(selection, devices, &settings, context.sink)
}

/// Every plain sensor, each with the next one beside it.
pub(super) fn plain(context: &mut Context<'_>) -> Verdict {
    let found = inside(SENSOR)?;
    let settings = settings(context.settings, SENSOR);
    let mut selection = Check::ALL.to_vec();
    selection.retain(|&check| check != OUT_OF_REACH);
    let mut made = 0;
    for (index, address) in found.iter().enumerate() {
        let beside = &found[(index + 1) % found.len()];
        let devices = vec![open(address, 0)?, open(beside, 1)?];
        made += run(&selection, devices, &settings, context.sink)?;
    }
    ensure(made > 0, || "there is no sensor".to_owned())?;
    Ok(format!("{made} checks of {} sensors", found.len()))
}

/// All VFs at once: each tells who it is and interrupts; the first, one in the middle and the last have every check.
pub(super) fn vfs(context: &mut Context<'_>) -> Verdict {
    let pf = pf()?;
    let total = pf.total_vfs()?;
    pf.set_num_vfs(total)?;
    let verdict = all_vfs(&pf, total, context);
    pf.set_num_vfs(0)?;
    verdict
}

fn all_vfs(pf: &crate::sriov::linux::Pf, total: u16, context: &mut Context<'_>) -> Verdict {
    let address = |vf| {
        pf.vf(vf)
            .ok_or_else(|| Failure::new(format!("VF {vf} has no link")))
    };
    for vf in 0..total {
        one_vf(&address(vf)?)?;
    }
    let settings = settings(context.settings, VF_DEVICE_ID);
    // Config space of a VF has no ids, and only a driver for PCI makes some up.
    let mut selection = Check::ALL.to_vec();
    selection.retain(|check| !matches!(check, Check::Identity | Check::TwoSensors));
    selection.retain(|&check| check != OUT_OF_REACH);
    let mut made = 0;
    for vf in [0, total / 2, total - 1] {
        let devices = vec![open(&address(vf)?, 0)?];
        made += run(&selection, devices, &settings, context.sink)?;
    }
    let delivered = seen_by_pf(pf.address(), total)?;
    Ok(format!(
        "{total} VFs tell who they are and interrupt, {made} checks of three; the PF counts {delivered} samples"
    ))
}

/// Who a VF is, as the kernel tells it, and that it interrupts.
fn one_vf(address: &str) -> Result<(), Failure> {
    let expected = Identity {
        vendor: VENDOR_ID,
        device: VF_DEVICE_ID,
        class: CLASS_CODE,
    };
    let identity = sysfs::identity(address)?;
    let device = open(address, 0)?;
    let size = device.bar_size(0)?;
    ensure(identity == expected && size == BAR0_SIZE, || {
        format!("{address}: {identity:?}, BAR 0 of {size} bytes")
    })?;
    device.enable_vectors(VECTORS)?;
    let sensor = Sensor::new(device)?;
    sensor.set_register(PERIOD, VF_PERIOD)?;
    sensor.set_register(COALESCE, 1)?;
    sensor.set_register(CONTROL, CONTROL_ENABLE)?;
    let fired = sensor.platform().wait(VECTOR_SAMPLES, PATIENCE)?;
    ensure(fired > 0, || {
        format!("{address}: no interrupt: {}", sensor.describe())
    })?;
    Ok(sensor.stop()?)
}

/// What the PF's registers say of its VFs: all are enabled and have delivered. How much.
fn seen_by_pf(address: &str, total: u16) -> Result<u64, Failure> {
    let pf = Sysfs::open(address)?;
    let dword = |offset| pf.read(0, offset, Width::Dword);
    for (name, offset, expected) in [
        ("identification", IDENTIFICATION, IDENTIFICATION_VALUE),
        ("total VFs", TOTAL_VFS, total.into()),
        ("VFs", NUM_VFS, total.into()),
    ] {
        let value = dword(offset)?;
        ensure(value == u64::from(expected), || {
            format!("{address}: {name}: {value:#x}, expected {expected:#x}")
        })?;
    }
    let mut sum = 0;
    for vf in 0..total {
        let state = dword(entry(vf) + VF_STATE)?;
        let delivered = pf.read(0, entry(vf) + VF_DELIVERED, Width::Qword)?;
        let enabled = state & u64::from(STATE_ENABLED) != 0;
        ensure(enabled && delivered > 0, || {
            format!("{address}: VF {vf} has state {state:#x} and delivered {delivered}")
        })?;
        sum += delivered;
    }
    let delivered = pf.read(0, DELIVERED, Width::Qword)?;
    ensure(delivered == sum, || {
        format!("{address}: {delivered} samples in all, {sum} of the VFs")
    })?;
    Ok(delivered)
}

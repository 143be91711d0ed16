//! Checks the counters of `examples/c/pf.c`: a physical function, and virtual ones that share its sum.

use crate::checks::{Failure, Verdict, ensure};
use crate::family::{Context, Family, FamilyCheck, Run};
use crate::platform::{BarAccess, Width};

const VENDOR_ID: u16 = 0x4f48;
const PF_DEVICE_ID: u16 = 0x0105;
const VF_DEVICE_ID: u16 = 0x0106;

const BAR: u8 = 0;
const BAR_BYTES: u64 = 4096;
const SIGNATURE: u64 = 0x00;
const PF_SIGNATURE: u32 = u32::from_le_bytes(*b"CNPF");
const VF_SIGNATURE: u32 = u32::from_le_bytes(*b"CNVF");

const TOTAL_VFS: u32 = 64;
const PF_ENABLED: u64 = 0x04;
const PF_SUM: u64 = 0x08;
/// What each VF counted, one dword after the other.
const PF_COUNTS: u64 = 0x100;
const VF_NUMBER: u64 = 0x04;
const VF_COUNT: u64 = 0x08;
const VF_SUM: u64 = 0x0c;

/// What is added, one after the other; the last one wraps around.
const ADDED: [u32; 4] = [1, 0, 0x1234_5678, u32::MAX];

/// The physical function among the kinds of devices.
pub static PF: Family = Family {
    name: "counting-pf",
    vendor: VENDOR_ID,
    device: PF_DEVICE_ID,
    checks: &[FamilyCheck {
        name: "counting-pf-registers",
        run: Run::Bars(check_pf),
    }],
};

/// Its virtual functions.
pub static VF: Family = Family {
    name: "counting-vf",
    vendor: VENDOR_ID,
    device: VF_DEVICE_ID,
    checks: &[FamilyCheck {
        name: "counting-vf-counts",
        run: Run::Bars(check_vf),
    }],
};

fn register(device: &dyn BarAccess, offset: u64) -> Result<u32, Failure> {
    let value = device.read(BAR, offset, Width::Dword)?;
    Ok(u32::try_from(value).unwrap_or(u32::MAX))
}

fn check_signature(device: &dyn BarAccess, expected: u32) -> Result<(), Failure> {
    let size = device.bar_size(BAR)?;
    let signature = register(device, SIGNATURE)?;
    ensure(size == BAR_BYTES && signature == expected, || {
        format!("BAR 0 has {size} bytes and the signature {signature:#010x}")
    })
}

fn check_pf(device: &dyn BarAccess, _: &mut Context<'_>) -> Verdict {
    check_signature(device, PF_SIGNATURE)?;
    let enabled = register(device, PF_ENABLED)?;
    ensure(enabled <= TOTAL_VFS, || {
        format!("{enabled} VFs are enabled")
    })?;
    // Others may count meanwhile; only VFs that are enabled do.
    let sum = register(device, PF_SUM)?;
    for vf in u64::from(enabled)..u64::from(TOTAL_VFS) {
        let count = register(device, PF_COUNTS + 4 * vf)?;
        ensure(count == 0, || {
            format!("VF {vf} counted {count}, but {enabled} VFs are enabled")
        })?;
    }
    device.write(BAR, PF_ENABLED, Width::Dword, 0)?;
    let again = register(device, PF_ENABLED)?;
    ensure(again == enabled, || format!("now {again} VFs are enabled"))?;
    Ok(format!("{enabled} VFs are enabled; the sum is {sum}"))
}

fn check_vf(device: &dyn BarAccess, _: &mut Context<'_>) -> Verdict {
    check_signature(device, VF_SIGNATURE)?;
    let number = register(device, VF_NUMBER)?;
    ensure(number < TOTAL_VFS, || {
        format!("it says that it is VF {number}")
    })?;
    let mut expected = register(device, VF_COUNT)?;
    for added in ADDED {
        device.write(BAR, VF_COUNT, Width::Dword, added.into())?;
        expected = expected.wrapping_add(added);
        let count = register(device, VF_COUNT)?;
        ensure(count == expected, || {
            format!("it counted {count:#x} after {added:#x} more, not {expected:#x}")
        })?;
    }
    // What is no dword adds nothing.
    device.write(BAR, VF_COUNT, Width::Byte, 1)?;
    let count = register(device, VF_COUNT)?;
    ensure(count == expected, || {
        format!("a byte was added: {count:#x}")
    })?;
    let sum = register(device, VF_SUM)?;
    Ok(format!(
        "VF {number} counted {count:#x}; the sum is {sum:#x}"
    ))
}

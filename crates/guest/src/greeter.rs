//! Checks the greeter, `examples/c/vendor_style.c`: a greeting is copied into a buffer of the guest's.

use crate::checks::{Verdict, ensure};
use crate::family::{Context, Family, FamilyCheck, Run};
use crate::platform::{Identity, Platform, Width, pci};

const VENDOR_ID: u16 = 0x4f48;
const DEVICE_ID: u16 = 0x0104;
/// Fits no class.
const CLASS_CODE: u32 = 0x00ff_0000;

const BAR: u8 = 0;
const BAR_BYTES: u64 = 4096;
const SIGNATURE: u64 = 0x00;
const SIGNATURE_VALUE: u32 = u32::from_le_bytes(*b"GREE");
const LENGTH: u64 = 0x04;
const BUFFER: u64 = 0x08;
const RESULT: u64 = 0x10;

/// What it says when nothing is configured.
const GREETING: &str = "Hello from the host";
/// `HRESULT_FROM_WIN32(ERROR_INVALID_ADDRESS)`.
const INVALID_ADDRESS: u32 = 0x8007_01e7;

/// The greeter among the kinds of devices.
pub static FAMILY: Family = Family {
    name: "greeter",
    vendor: VENDOR_ID,
    device: DEVICE_ID,
    checks: &[FamilyCheck {
        name: "greeter-greeting",
        run: Run::Platform(check),
    }],
};

fn check(device: &dyn Platform, _: &mut Context<'_>) -> Verdict {
    let expected = Identity {
        vendor: VENDOR_ID,
        device: DEVICE_ID,
        class: CLASS_CODE,
    };
    let identity = pci::identity(device)?;
    let size = device.bar_size(BAR)?;
    ensure(identity == expected && size == BAR_BYTES, || {
        format!("config space says {identity:04x?}, BAR 0 has {size} bytes")
    })?;
    let register = |offset| {
        device
            .read(BAR, offset, Width::Dword)
            .map(|value| u32::try_from(value).unwrap_or(u32::MAX))
    };
    let signature = register(SIGNATURE)?;
    ensure(signature == SIGNATURE_VALUE, || {
        format!("the signature is {signature:#010x}")
    })?;

    let expected: Vec<u64> = GREETING.encode_utf16().map(u64::from).collect();
    let length = register(LENGTH)?;
    ensure(u64::from(length) == 2 * expected.len() as u64, || {
        format!("the greeting has {length} bytes")
    })?;
    let buffer = device.dma_buffer(u64::from(length))?;
    device.write(BAR, BUFFER, Width::Qword, buffer.address())?;
    let result = register(RESULT)?;
    ensure(result == 0, || format!("the copy gave {result:#010x}"))?;
    let copied = (0..)
        .take(expected.len())
        .map(|index| buffer.read(2 * index, Width::Word))
        .collect::<Result<Vec<_>, _>>()?;
    let behind = buffer.read(u64::from(length), Width::Word)?;
    ensure(copied == expected && behind == 0, || {
        format!("{copied:x?} were copied, and {behind:#x} behind them")
    })?;

    let nowhere = buffer.address() + (1 << 40);
    device.write(BAR, BUFFER, Width::Qword, nowhere)?;
    let result = register(RESULT)?;
    ensure(result == INVALID_ADDRESS, || {
        format!(
            "a copy to where no memory is gave {result:#010x}, expected {INVALID_ADDRESS:#010x}"
        )
    })?;
    Ok(format!(
        "{GREETING:?} was copied, and to nowhere it was not"
    ))
}

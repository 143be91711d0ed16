//! Do guest and host see the same pixels of a framebuffer, and without the device being called?

use super::{
    CHECKSUM, CLASS_CODE, DEVICE_ID, Framebuffer, MEMORY_BYTES, NOT_WRITTEN, PATTERN, PIXELS,
    PRESENT, READS, REGISTER_BYTES, SHOWN, VENDOR_ID, WRITES, pattern,
};
use crate::checks::{Failure, Verdict, ensure};
use crate::checksum::Checksum;
use crate::family::{Context, Family, FamilyCheck, Run};
use crate::platform::{BarAccess, Identity, Width, pci};

/// The framebuffer among the kinds of devices.
pub static FAMILY: Family = Family {
    name: "framebuffer",
    vendor: VENDOR_ID,
    device: DEVICE_ID,
    checks: &[
        FamilyCheck {
            name: "framebuffer-identity",
            run: Run::Bars(identity),
        },
        FamilyCheck {
            name: "framebuffer-memory",
            run: Run::Bars(memory),
        },
        FamilyCheck {
            name: "framebuffer-pattern",
            run: Run::Bars(from_the_host),
        },
        FamilyCheck {
            name: "framebuffer-drawing",
            run: Run::Bars(from_the_guest),
        },
    ],
};

/// The resolution drawn with where pixels are fast.
pub const LARGE: (u32, u32) = (640, 480);
/// The resolution drawn with where each pixel may cost an exit.
pub const SMALL: (u32, u32) = (64, 48);
/// The number of the picture that is presented last.
pub const LAST: u32 = 0x0bad_cafe;
/// Bytes from one place that is tried to the next.
const STEP: u64 = 1 << 20;

fn identity(device: &dyn BarAccess, _: &mut Context<'_>) -> Verdict {
    let expected = Identity {
        vendor: VENDOR_ID,
        device: DEVICE_ID,
        class: CLASS_CODE,
    };
    for (source, identity) in [
        ("the system", device.identity()?),
        ("config space", pci::identity(device)?),
    ] {
        ensure(identity == expected, || {
            format!("{source} says {identity:04x?}, expected {expected:04x?}")
        })?;
    }
    let sizes = (0..6)
        .map(|bar| device.bar_size(bar))
        .collect::<Result<Vec<_>, _>>()?;
    ensure(sizes == [MEMORY_BYTES, 0, REGISTER_BYTES, 0, 0, 0], || {
        format!("the BARs have {sizes:?} bytes")
    })?;
    Framebuffer::new(device)?;
    Ok(format!(
        "{VENDOR_ID:04x}:{DEVICE_ID:04x}, {} MiB of pixels",
        MEMORY_BYTES >> 20
    ))
}

/// The memory keeps what is written, with every width, from its first byte to its last.
fn memory(device: &dyn BarAccess, _: &mut Context<'_>) -> Verdict {
    let framebuffer = Framebuffer::new(device)?;
    let last = MEMORY_BYTES - 8;
    let places = || {
        (0..MEMORY_BYTES / STEP)
            .map(|step| step * STEP)
            .chain([last])
    };
    let value = |at: u64| (at | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for at in places() {
        device.write(PIXELS, at, Width::Qword, value(at))?;
    }
    for at in places() {
        for width in Width::ALL {
            for step in 0..8 / width.bytes() {
                let offset = step * width.bytes();
                let read = device.read(PIXELS, at + offset, width)?;
                let expected = value(at) >> (8 * offset) & width.mask();
                ensure(read == expected, || {
                    format!(
                        "{} bytes at {:#x} read {read:#x}, expected {expected:#x}",
                        width.bytes(),
                        at + offset
                    )
                })?;
            }
        }
    }
    for width in Width::ALL {
        device.write(PIXELS, last, Width::Qword, u64::MAX)?;
        device.write(PIXELS, last, width, 0)?;
        let read = device.read(PIXELS, last, Width::Qword)?;
        ensure(read == !width.mask(), || {
            format!("a write of {} bytes left {read:#x}", width.bytes())
        })?;
    }
    not_called(&framebuffer)?;
    Ok("kept from the first byte to the last with every width; the device saw none of it".into())
}

/// The host draws, the guest sees it.
fn from_the_host(device: &dyn BarAccess, _: &mut Context<'_>) -> Verdict {
    let framebuffer = open(device)?;
    for number in [1, 0xdead_beef] {
        framebuffer.set_register(PATTERN, number)?;
        for y in 0..framebuffer.height() {
            for x in 0..framebuffer.width() {
                let pixel = framebuffer.pixel(x, y)?;
                let expected = pattern(x, y, number);
                ensure(pixel == expected, || {
                    format!(
                        "the host drew pattern {number:#x} and the pixel at ({x}, {y}) is \
                         {pixel:#010x}, expected {expected:#010x}"
                    )
                })?;
            }
        }
    }
    not_called(&framebuffer)?;
    Ok(format!(
        "{} x {} pixels as the host drew them; the device saw no access",
        framebuffer.width(),
        framebuffer.height()
    ))
}

/// The guest draws, the host sees it and shows it.
fn from_the_guest(device: &dyn BarAccess, _: &mut Context<'_>) -> Verdict {
    let framebuffer = open(device)?;
    let (width, height) = (framebuffer.width(), framebuffer.height());
    for number in [2, LAST] {
        let mut checksum = Checksum::default();
        for y in 0..height {
            for x in 0..width {
                let pixel = picture(x, y, number, width, height);
                framebuffer.set_pixel(x, y, pixel)?;
                checksum.add(pixel);
            }
        }
        sees(&framebuffer, checksum)?;
        let before = framebuffer.register(SHOWN)?;
        framebuffer.set_register(PRESENT, number)?;
        let (present, shown, not_written) = (
            framebuffer.register(PRESENT)?,
            framebuffer.register(SHOWN)?,
            framebuffer.register(NOT_WRITTEN)?,
        );
        ensure(
            present == number && shown == before.wrapping_add(1) && not_written == 0,
            || {
                format!(
                    "picture {number:#x} was presented: present {present:#x}, {shown} shown, \
                     {before} before, {not_written} not written"
                )
            },
        )?;
    }
    not_called(&framebuffer)?;
    Ok(format!(
        "{width} x {height} pixels drawn, the host computes the same checksum and shows them; the \
         device saw no access"
    ))
}

/// A framebuffer with a resolution that does not take long.
fn open(device: &dyn BarAccess) -> Result<Framebuffer<'_>, Failure> {
    let mut framebuffer = Framebuffer::new(device)?;
    let (width, height) = if framebuffer.is_early()? {
        LARGE
    } else {
        SMALL
    };
    framebuffer.set_resolution(width, height)?;
    Ok(framebuffer)
}

/// The pixel at (`x`, `y`) of the picture `number`, of `width` times `height` pixels, as the guest draws it.
///
/// What people see is a gradient with a frame and a diagonal, which tell where lines begin.
#[must_use]
pub fn picture(x: u32, y: u32, number: u32, width: u32, height: u32) -> u32 {
    let edge = x == 0 || y == 0 || x + 1 == width || y + 1 == height;
    if edge || x * height / width == y {
        return 0x00ff_ffff;
    }
    let red = x * 255 / width;
    let green = y * 255 / height;
    red << 16 | green << 8 | number & 0xff
}

fn sees(framebuffer: &Framebuffer<'_>, checksum: Checksum) -> Result<(), Failure> {
    let host = framebuffer.register(CHECKSUM)?;
    ensure(host == checksum.value(), || {
        format!(
            "the host sees checksum {host:#010x}, the guest drew {:#010x}",
            checksum.value()
        )
    })
}

/// No access to the pixels has reached the device since its reset.
fn not_called(framebuffer: &Framebuffer<'_>) -> Result<(), Failure> {
    let (reads, writes) = (framebuffer.register(READS)?, framebuffer.register(WRITES)?);
    ensure((reads, writes) == (0, 0), || {
        format!("{reads} reads and {writes} writes of pixels reached the device")
    })
}

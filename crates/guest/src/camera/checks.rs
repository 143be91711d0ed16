//! Does a camera deliver its frames whole, in order and with an interrupt each?

use std::time::Duration;

use super::picture::{self, HEIGHT, WIDTH};
use super::registers::{
    BAR0_SIZE, CLASS_CODE, COMPLETED, CONTROL, DEVICE_ID, DROPPED, ERROR, ERROR_BUFFER_MEMORY,
    ERROR_PERIOD, ERROR_RING_ADDRESS, ERROR_RING_IN_USE, ERROR_RING_MEMORY, ERROR_RING_SIZE,
    PERIOD, PERIOD_MIN, RING_ADDRESS, RING_SIZE, SEQUENCE, STATUS, STATUS_DROPPED, STATUS_ERROR,
    VECTOR_FRAME, VECTORS, VENDOR_ID,
};
use super::{BAR, Camera, Frame, Stream};
use crate::checks::{Failure, Verdict, ensure};
use crate::checksum::Checksum;
use crate::family::{Context, Family, FamilyCheck, Run};
use crate::image;
use crate::platform::{Identity, Platform, Width, pci};

/// The camera among the kinds of devices.
pub static FAMILY: Family = Family {
    name: "camera",
    vendor: VENDOR_ID,
    device: DEVICE_ID,
    checks: &[
        FamilyCheck {
            name: "camera-identity",
            run: Run::Platform(identity),
        },
        FamilyCheck {
            name: "camera-interrupts",
            run: Run::Platform(interrupts),
        },
        FamilyCheck {
            name: "camera-frames",
            run: Run::Platform(frames),
        },
        FamilyCheck {
            name: "camera-refusals",
            run: Run::Platform(refusals),
        },
        FamilyCheck {
            name: "camera-reset",
            run: Run::Platform(reset),
        },
    ],
};

/// Microseconds between frames: long enough for a slow guest to look at each.
const FRAME_PERIOD: u32 = 20_000;
/// Frames delivered one by one.
const SINGLE_FRAMES: u32 = 8;
/// Frames that find no buffer.
const DROPPED_FRAMES: u32 = 3;
/// Descriptors of the ring.
const RING: u32 = 4;
/// Frames of a stream, more than the ring holds.
const STREAM_FRAMES: u32 = 3 * RING;

fn identity(device: &dyn Platform, _: &mut Context<'_>) -> Verdict {
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
    ensure(sizes == [BAR0_SIZE, 0, 0, 0, 0, 0], || {
        format!("the BARs have {sizes:?} bytes")
    })?;
    Camera::new(device)?;
    Ok(format!(
        "{VENDOR_ID:04x}:{DEVICE_ID:04x}, {WIDTH} x {HEIGHT}"
    ))
}

/// With one buffer at a time there is one interrupt for each, and none without.
fn interrupts(device: &dyn Platform, context: &mut Context<'_>) -> Verdict {
    let camera = Camera::new(device)?;
    device.enable_vectors(VECTORS)?;
    let mut stream = Stream::new(&camera, RING)?;
    stream.start(FRAME_PERIOD)?;
    let patience = context.settings.patience;

    stream.wait_for(DROPPED, DROPPED_FRAMES, patience)?;
    let fired = device.wait(VECTOR_FRAME, Duration::ZERO)?;
    ensure(fired == 0, || {
        format!("{fired} interrupts for frames without a buffer")
    })?;
    let status = camera.register(STATUS)?;
    ensure(status == STATUS_DROPPED, || {
        format!("frames were dropped and the status is {status:#x}")
    })?;

    let mut last = None;
    for count in 1..=SINGLE_FRAMES {
        stream.post(1)?;
        let fired = device.wait(VECTOR_FRAME, patience)?;
        ensure(fired == 1, || {
            format!(
                "{fired} interrupts for frame {count}: {}",
                camera.describe()
            )
        })?;
        let frame = next(&mut stream)?;
        follows(frame, &mut last)?;
        whole(frame)?;
        let more = stream.take()?;
        ensure(more.is_none(), || format!("{more:?} came without a buffer"))?;
    }
    camera.set_register(CONTROL, 0)?;
    counted(&camera)?;
    let fired = device.wait(VECTOR_FRAME, Duration::ZERO)?;
    ensure(fired == 0, || {
        format!("{fired} interrupts after the last frame")
    })?;
    Ok(format!(
        "{SINGLE_FRAMES} frames, one interrupt each; {} dropped without a buffer and without one",
        camera.register(DROPPED)?
    ))
}

/// A stream through the ring: every frame whole, and what is missing is counted.
fn frames(device: &dyn Platform, context: &mut Context<'_>) -> Verdict {
    let camera = Camera::new(device)?;
    device.enable_vectors(VECTORS)?;
    let mut stream = Stream::new(&camera, RING)?;
    stream.start(FRAME_PERIOD)?;
    stream.post(RING)?;
    let patience = context.settings.patience;
    let (mut last, mut interrupts, mut received) = (None, 0, 0);
    let mut picture = Vec::new();
    while received < STREAM_FRAMES {
        let fired = device.wait(VECTOR_FRAME, patience)?;
        ensure(fired != 0, || {
            format!("no interrupt came: {}", camera.describe())
        })?;
        interrupts += fired;
        // A slow driver finds another frame each time it looks.
        while received < STREAM_FRAMES
            && let Some(frame) = stream.take()?
        {
            follows(frame, &mut last)?;
            whole(frame)?;
            received += 1;
            if received == STREAM_FRAMES {
                picture = copy(frame)?;
            }
            stream.post(1)?;
        }
    }
    camera.set_register(CONTROL, 0)?;
    while let Some(frame) = stream.take()? {
        follows(frame, &mut last)?;
        whole(frame)?;
        received += 1;
    }
    interrupts += device.wait(VECTOR_FRAME, Duration::ZERO)?;
    // Two that come close together may be seen as one; there can be no more than frames.
    ensure(interrupts <= u64::from(received), || {
        format!("{interrupts} interrupts for {received} frames")
    })?;
    counted(&camera)?;
    let completed = camera.register(COMPLETED)?;
    ensure(completed == received, || {
        format!("{completed} frames were delivered, {received} received")
    })?;
    let line = image::line(device.name(), "camera.png", WIDTH, HEIGHT, &picture)?;
    (context.sink)(line);
    Ok(format!(
        "{received} frames of {WIDTH} x {HEIGHT}, every pixel as expected, by {interrupts} \
         interrupts; {} dropped",
        camera.register(DROPPED)?
    ))
}

/// Bad settings and bad addresses are refused with a reason and change nothing.
fn refusals(device: &dyn Platform, context: &mut Context<'_>) -> Verdict {
    let camera = Camera::new(device)?;
    device.enable_vectors(VECTORS)?;
    let mut stream = Stream::new(&camera, RING)?;
    let refuse = |what: &str, register, width: Width, value: u64, error| -> Result<(), Failure> {
        camera.set_register(STATUS, u32::MAX)?;
        let before = device.read(BAR, register, width)?;
        device.write(BAR, register, width, value)?;
        let (status, reason) = (camera.register(STATUS)?, camera.register(ERROR)?);
        let after = device.read(BAR, register, width)?;
        ensure(
            status & STATUS_ERROR != 0 && reason == error && after == before,
            || {
                format!(
                    "{what}: status {status:#x}, error {reason}, the register went from \
                     {before:#x} to {after:#x}; error {error} and no change were expected"
                )
            },
        )
    };
    for period in [0, PERIOD_MIN - 1, u32::MAX] {
        let what = format!("a period of {period}");
        refuse(&what, PERIOD, Width::Dword, period.into(), ERROR_PERIOD)?;
    }
    for size in [0, 1, 3, 512, u32::MAX] {
        let what = format!("a ring of {size}");
        refuse(&what, RING_SIZE, Width::Dword, size.into(), ERROR_RING_SIZE)?;
    }
    let ring = device.read(BAR, RING_ADDRESS, Width::Qword)?;
    refuse(
        "a ring at an odd address",
        RING_ADDRESS,
        Width::Qword,
        ring + 8,
        ERROR_RING_ADDRESS,
    )?;

    let nowhere = ring + (1 << 40);
    device.write(BAR, RING_ADDRESS, Width::Qword, nowhere)?;
    refuse(
        "a ring where no memory is",
        CONTROL,
        Width::Dword,
        1,
        ERROR_RING_MEMORY,
    )?;
    device.write(BAR, RING_ADDRESS, Width::Qword, ring)?;

    stream.start(FRAME_PERIOD)?;
    refuse(
        "another ring while frames are taken",
        RING_ADDRESS,
        Width::Qword,
        ring + 64,
        ERROR_RING_IN_USE,
    )?;
    // The camera stops by itself at a buffer that is nowhere, and delivers nothing.
    camera.stop()?;
    let good = stream.ring.read(0, Width::Qword)?;
    stream.ring.write(0, Width::Qword, nowhere)?;
    stream.start(FRAME_PERIOD)?;
    stream.post(1)?;
    // Its bit is the highest.
    stream.wait_for(STATUS, STATUS_ERROR, context.settings.patience)?;
    let found = [
        camera.register(ERROR)?,
        camera.register(CONTROL)?,
        camera.register(COMPLETED)?,
    ];
    ensure(found == [ERROR_BUFFER_MEMORY, 0, 0], || {
        format!("a buffer where no memory is: {}", camera.describe())
    })?;
    stream.ring.write(0, Width::Qword, good)?;
    let fired = device.wait(VECTOR_FRAME, Duration::ZERO)?;
    ensure(fired == 0, || {
        format!("{fired} interrupts for nothing delivered")
    })?;

    stream.start(FRAME_PERIOD)?;
    stream.post(1)?;
    one_frame(device, &mut stream, context)?;
    Ok("bad settings and addresses refused, nothing changed; a frame was delivered after".into())
}

/// Function level reset: stopped, forgotten, and it works again.
fn reset(device: &dyn Platform, context: &mut Context<'_>) -> Verdict {
    let camera = Camera::new(device)?;
    device.enable_vectors(VECTORS)?;
    let mut stream = Stream::new(&camera, RING)?;
    stream.start(FRAME_PERIOD)?;
    stream.post(1)?;
    one_frame(device, &mut stream, context)?;
    device.reset()?;
    for (name, register) in [
        ("control", CONTROL),
        ("status", STATUS),
        ("error", ERROR),
        ("ring address", RING_ADDRESS),
        ("completed", COMPLETED),
        ("sequence", SEQUENCE),
        ("dropped", DROPPED),
    ] {
        let value = camera.register(register)?;
        ensure(value == 0, || {
            format!("after a reset {name} reads {value:#x}")
        })?;
    }
    while device.wait(VECTOR_FRAME, Duration::ZERO)? != 0 {}
    let mut stream = Stream::new(&camera, RING)?;
    stream.start(FRAME_PERIOD)?;
    stream.post(1)?;
    one_frame(device, &mut stream, context)?;
    Ok("registers as after power on; a frame came with an interrupt after".to_owned())
}

fn one_frame(
    device: &dyn Platform,
    stream: &mut Stream<'_>,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let fired = device.wait(VECTOR_FRAME, context.settings.patience)?;
    ensure(fired == 1, || {
        format!(
            "{fired} interrupts for a frame: {}",
            stream.camera.describe()
        )
    })?;
    whole(next(stream)?)
}

fn next<'a>(stream: &'a mut Stream<'_>) -> Result<Frame<'a>, Failure> {
    stream
        .take()?
        .ok_or_else(|| Failure::new("an interrupt came and no frame was delivered"))
}

/// In order, with a time that goes on.
fn follows(frame: Frame<'_>, last: &mut Option<(u32, u64)>) -> Result<(), Failure> {
    let now = (frame.number, frame.time);
    if let Some(last) = *last {
        ensure(last.0 < now.0 && last.1 < now.1, || {
            format!("frame (number, time) {now:?} came after {last:?}")
        })?;
    }
    *last = Some(now);
    Ok(())
}

/// Every pixel is that of the picture of its number, and the checksum theirs.
fn whole(frame: Frame<'_>) -> Result<(), Failure> {
    let number = frame.number;
    ensure(frame.bytes == WIDTH * HEIGHT * 4, || {
        format!("frame {number} has {} bytes", frame.bytes)
    })?;
    let mut checksum = Checksum::default();
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            let pixel = frame.pixel(x, y)?;
            let expected = picture::pixel(x, y, number);
            ensure(pixel == expected, || {
                format!(
                    "frame {number} is not whole: the pixel at ({x}, {y}) is {pixel:#010x}, \
                     expected {expected:#010x}"
                )
            })?;
            checksum.add(pixel);
        }
    }
    ensure(frame.checksum == checksum.value(), || {
        format!(
            "frame {number} has checksum {:#010x}, the camera says {:#010x}",
            checksum.value(),
            frame.checksum
        )
    })
}

fn copy(frame: Frame<'_>) -> Result<Vec<u32>, Failure> {
    let mut pixels = Vec::with_capacity((WIDTH * HEIGHT) as usize);
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            pixels.push(frame.pixel(x, y)?);
        }
    }
    Ok(pixels)
}

/// Every frame taken was delivered or dropped.
fn counted(camera: &Camera<'_>) -> Result<(), Failure> {
    let (taken, delivered, dropped) = (
        camera.register(SEQUENCE)?,
        camera.register(COMPLETED)?,
        camera.register(DROPPED)?,
    );
    ensure(taken == delivered.wrapping_add(dropped), || {
        format!("{taken} frames were taken, {delivered} delivered and {dropped} dropped")
    })
}

//! Device 3: doorbells of each size and value rule, and a doorbell page. A write that matches signals its event
//! once and reaches nobody else; a write that does not reaches the device.

use super::registers::{
    DOORBELLS, DOORBELLS_COUNT, DOORBELLS_INTERCEPTS, DOORBELLS_LAST_LENGTH, DOORBELLS_LAST_OFFSET,
    DOORBELLS_LAST_VALUE, DOORBELLS_PAGE, DOORBELLS_READS, DOORBELLS_REGISTER, DOORBELLS_SETUP,
    DOORBELLS_SIGNALS, DOORBELLS_UNREGISTER, PAGE,
};
use super::{ALREADY_EXISTS, Failure, Lab, MATTER, NOT_FOUND, S_OK};
use crate::checks::{Verdict, ensure};
use crate::family::Context;
use crate::platform::{BarAccess, Width};
use Width::{Byte, Dword, Qword, Word};

/// What the device answers to reads of BAR 2.
const ANSWER: u64 = 0x0d00_be11_0d00_be11;
/// The doorbell page's number; the others are below.
const OF_PAGE: u64 = DOORBELLS_COUNT - 1;
/// The doorbell for any size and the value 7.
const SEVEN: u64 = 4;
/// The doorbell for any value beside two for a certain one.
const ANY_BESIDE: u64 = 9;
const EVERYTHING: u64 = u64::MAX;

/// Writes (offset, width, value) and the doorbell that each rings. The doorbells are those of
/// `lab_doorbells.c`.
const RINGING: [(u64, Width, u64, u64); 27] = [
    (0x00, Byte, 0x5a, 0),
    (0x08, Word, 0x1234, 1),
    (0x10, Dword, 0xcafe_f00d, 2),
    (0x18, Qword, 0x1122_3344_5566_7788, 3),
    (0x20, Byte, 7, SEVEN),
    (0x20, Word, 7, SEVEN),
    (0x20, Dword, 7, SEVEN),
    (0x20, Qword, 7, SEVEN),
    (0x28, Dword, 0, 5),
    (0x28, Dword, EVERYTHING, 5),
    (0x30, Byte, 0, 6),
    (0x30, Word, 0xffff, 6),
    (0x30, Dword, 1, 6),
    (0x30, Qword, EVERYTHING, 6),
    (0x38, Dword, 1, 7),
    (0x38, Dword, 2, 8),
    (0x38, Dword, 0, ANY_BESIDE),
    (0x38, Dword, 3, ANY_BESIDE),
    (0x40, Byte, 0, 10),
    (0x40, Byte, 0xff, 10),
    (0x48, Word, 0xabcd, 11),
    (0x50, Qword, 0, 12),
    (0x50, Qword, EVERYTHING, 12),
    (DOORBELLS_PAGE * PAGE, Byte, 0, OF_PAGE),
    (DOORBELLS_PAGE * PAGE + 0x102, Word, 0xffff, OF_PAGE),
    (DOORBELLS_PAGE * PAGE + 0x204, Dword, 7, OF_PAGE),
    (DOORBELLS_PAGE * PAGE + PAGE - 8, Qword, EVERYTHING, OF_PAGE),
];

/// Writes that differ from a doorbell in value, size or offset.
const MISSING: [(u64, Width, u64); 18] = [
    (0x00, Byte, 0x5b),
    (0x00, Word, 0x5a),
    (0x01, Byte, 0x5a),
    (0x08, Word, 0x1235),
    (0x08, Dword, 0x1234),
    (0x10, Dword, 0xcafe_f00c),
    (0x10, Word, 0xf00d),
    (0x10, Qword, 0xcafe_f00d),
    (0x18, Qword, 0x1122_3344_5566_7789),
    (0x18, Dword, 0x5566_7788),
    (0x20, Dword, 8),
    (0x20, Qword, 0x1_0000_0007),
    (0x28, Word, 0),
    (0x38, Byte, 1),
    (0x40, Word, 0),
    (0x4c, Word, 0xabcd),
    (0x50, Dword, 0),
    ((DOORBELLS_PAGE + 1) * PAGE, Dword, 7),
];

pub(super) fn check(device: &dyn BarAccess, _: &mut Context<'_>) -> Verdict {
    let lab = Lab::open(device, DOORBELLS)?;
    lab.expect("registering the doorbells", DOORBELLS_SETUP, S_OK.into())?;
    for (offset, width, value, doorbell) in RINGING {
        rings(&lab, offset, width, value, doorbell)?;
    }
    for (offset, width, value) in MISSING {
        misses(&lab, offset, width, value)?;
    }
    reads(&lab)?;

    for (what, doorbell, offset, value) in [
        ("a doorbell", SEVEN, 0x20, 7),
        ("the doorbell page", OF_PAGE, DOORBELLS_PAGE * PAGE, 7),
        ("the doorbell for any other value", ANY_BESIDE, 0x38, 3),
    ] {
        let command = |action: &str, register, expected| {
            lab.command(&format!("{action} {what}"), register, doorbell, expected)
        };
        command("registering again", DOORBELLS_REGISTER, ALREADY_EXISTS)?;
        command("unregistering", DOORBELLS_UNREGISTER, S_OK)?;
        misses(&lab, offset, Dword, value)?;
        // Its neighbours stay.
        rings(&lab, 0x38, Dword, 1, 7)?;
        command("unregistering again", DOORBELLS_UNREGISTER, NOT_FOUND)?;
        command("registering", DOORBELLS_REGISTER, S_OK)?;
        rings(&lab, offset, Dword, value, doorbell)?;
    }
    lab.well()?;
    Ok(format!(
        "{} writes rang {DOORBELLS_COUNT} doorbells, each its own and unseen by the device, which saw the \
         {} that match none",
        RINGING.len(),
        MISSING.len()
    ))
}

/// How often each doorbell rang, and how many writes the device saw.
fn counts(lab: &Lab<'_>) -> Result<(Vec<u64>, u64), Failure> {
    let signals = (0..DOORBELLS_COUNT)
        .map(|doorbell| lab.get(DOORBELLS_SIGNALS + 4 * doorbell))
        .collect::<Result<_, _>>()?;
    Ok((signals, lab.get(DOORBELLS_INTERCEPTS)?))
}

fn rings(
    lab: &Lab<'_>,
    offset: u64,
    width: Width,
    value: u64,
    doorbell: u64,
) -> Result<(), Failure> {
    let (mut expected, intercepts) = counts(lab)?;
    lab.device
        .write(MATTER, offset, width, value & width.mask())?;
    let found = counts(lab)?;
    for (number, count) in (0..).zip(&mut expected) {
        *count += u64::from(number == doorbell);
    }
    let expected = (expected, intercepts);
    ensure(found == expected, || {
        format!(
            "{} bytes {:#x} at {offset:#x} must ring doorbell {doorbell}: signals and intercepts are \
             {found:?}, expected {expected:?}",
            width.bytes(),
            value & width.mask()
        )
    })
}

fn misses(lab: &Lab<'_>, offset: u64, width: Width, value: u64) -> Result<(), Failure> {
    let (signals, intercepts) = counts(lab)?;
    lab.device.write(MATTER, offset, width, value)?;
    let found = counts(lab)?;
    let expected = (signals, intercepts + 1);
    let place = || format!("{} bytes {value:#x} at {offset:#x}", width.bytes());
    ensure(found == expected, || {
        format!(
            "{} must ring nothing: signals and intercepts are {found:?}, expected {expected:?}",
            place()
        )
    })?;
    let seen = (
        lab.get(DOORBELLS_LAST_OFFSET)?,
        lab.get(DOORBELLS_LAST_LENGTH)?,
        lab.get_wide(DOORBELLS_LAST_VALUE)?,
    );
    ensure(seen == (offset, width.bytes(), value), || {
        format!(
            "{}: the device saw (offset, length, value) {seen:x?}",
            place()
        )
    })
}

/// Doorbells are about writes: reads reach the device.
fn reads(lab: &Lab<'_>) -> Result<(), Failure> {
    for (offset, width) in [
        (0x00, Byte),
        (0x08, Word),
        (0x30, Dword),
        (DOORBELLS_PAGE * PAGE, Qword),
    ] {
        let before = lab.get(DOORBELLS_READS)?;
        let read = lab.device.read(MATTER, offset, width)?;
        ensure(read == ANSWER & width.mask(), || {
            format!("a doorbell at {offset:#x} reads {read:#x}, the device says {ANSWER:#x}")
        })?;
        lab.expect("reads that the device saw", DOORBELLS_READS, before + 1)?;
    }
    Ok(())
}

//! Device 4: interrupts delivered by the message in the device's own MSI-X table, masked and not, before and
//! after function level resets that clear the table.

use std::time::Duration;

use super::registers::{
    RESET, RESET_RESETS, RESET_TABLE, RESET_TRIGGER, RESET_UNKNOWN, RESET_VECTORS,
};
use super::{Failure, Lab, NOT_FOUND, S_OK};
use crate::checks::{Settings, Verdict, ensure};
use crate::family::Context;
use crate::platform::Platform;
use crate::platform::pci::MSIX_ENTRY_BYTES;

/// How many vectors are used.
#[expect(clippy::cast_possible_truncation, reason = "there are 8")]
const VECTORS: u16 = RESET_VECTORS as u16;
/// The vectors that are masked for a while.
const TO_MASK: [u16; 2] = [3, 7];
/// How often the function is reset.
const RESETS: u64 = 3;

pub(super) fn check(device: &dyn Platform, context: &mut Context<'_>) -> Verdict {
    let lab = Lab::open(device, RESET)?;
    device.enable_vectors(VECTORS)?;
    all_fire(&lab, device, context.settings)?;
    masked(&lab, device, context.settings)?;
    lab.command("a message of no vector", RESET_UNKNOWN, 1, NOT_FOUND)?;
    for _ in 0..RESETS {
        let before = lab.get(RESET_RESETS)?;
        device.reset()?;
        let after = lab.get(RESET_RESETS)?;
        ensure(after > before, || {
            "the device has not seen the reset".to_owned()
        })?;
        all_fire(&lab, device, context.settings)?;
        masked(&lab, device, context.settings)?;
    }
    lab.command("a message of no vector", RESET_UNKNOWN, 1, NOT_FOUND)?;
    lab.well()?;
    Ok(format!(
        "{VECTORS} vectors fire by the messages in the device's table, masked ones when they are \
         unmasked; also after each of {RESETS} resets that cleared the table"
    ))
}

/// Every vector has a message of its own, and fires once for each delivery.
fn all_fire(lab: &Lab<'_>, device: &dyn Platform, settings: &Settings) -> Result<(), Failure> {
    let mut messages = Vec::new();
    for vector in 0..u64::from(VECTORS) {
        let entry = RESET_TABLE + MSIX_ENTRY_BYTES * vector;
        let message = (lab.get_wide(entry)?, lab.get(entry + 8)?);
        ensure(message.0 != 0 && !messages.contains(&message), || {
            format!("vector {vector} has the message {message:x?}, those before have {messages:x?}")
        })?;
        messages.push(message);
    }
    for vector in 0..VECTORS {
        while device.wait(vector, Duration::ZERO)? != 0 {}
    }
    for vector in 0..VECTORS {
        trigger(lab, vector)?;
        fires_once(device, vector, settings)?;
    }
    for vector in 0..VECTORS {
        let count = device.wait(vector, Duration::ZERO)?;
        ensure(count == 0, || {
            format!("vector {vector} fired {count} times more than it was triggered")
        })?;
    }
    Ok(())
}

fn trigger(lab: &Lab<'_>, vector: u16) -> Result<(), Failure> {
    lab.command(
        &format!("delivering the message of vector {vector}"),
        RESET_TRIGGER,
        vector.into(),
        S_OK,
    )
}

fn fires_once(device: &dyn Platform, vector: u16, settings: &Settings) -> Result<(), Failure> {
    let count = device.wait(vector, settings.patience)?;
    ensure(count == 1, || {
        format!("vector {vector} was triggered once and fired {count} times")
    })
}

/// A masked vector fires when it is unmasked, and no other is held back by it.
fn masked(lab: &Lab<'_>, device: &dyn Platform, settings: &Settings) -> Result<(), Failure> {
    for vector in TO_MASK {
        device.mask(vector, true)?;
    }
    for vector in TO_MASK {
        trigger(lab, vector)?;
        // Also when it is pending already: it stays one interrupt.
        trigger(lab, vector)?;
    }
    // Whatever was delivered for a masked vector came before this.
    trigger(lab, 0)?;
    fires_once(device, 0, settings)?;
    for vector in TO_MASK {
        let count = device.wait(vector, Duration::ZERO)?;
        ensure(count == 0, || {
            format!("vector {vector} is masked and fired {count} times")
        })?;
    }
    for vector in TO_MASK {
        device.mask(vector, false)?;
        fires_once(device, vector, settings)?;
    }
    Ok(())
}

//! Device 2: a section that is there only while the guest has Memory Space enabled, so made after a VMM asked
//! what it may map.

use super::memory::{Range, patterns, sum};
use super::registers::{
    LATE, LATE_COMMAND, LATE_COMMAND_CREATE, LATE_COMMAND_DESTROY, LATE_COMMAND_FLAGS,
    LATE_COMMAND_OVERLAP, LATE_CREATE_RESULT, LATE_CREATED, LATE_DESTROY_RESULT, LATE_DESTROYED,
    LATE_FILL, LATE_INTERCEPTS, LATE_PAGE, LATE_PAGES, LATE_SUM, PAGE,
};
use super::{ALREADY_EXISTS, Failure, Lab, MATTER, NOT_FOUND, S_OK};
use crate::checks::{Verdict, ensure};
use crate::family::Context;
use crate::platform::pci::{self, COMMAND, COMMAND_MEMORY};
use crate::platform::{BarAccess, Width};

pub(super) fn check(device: &dyn BarAccess, _: &mut Context<'_>) -> Verdict {
    let lab = Lab::open(device, LATE)?;
    let range = Range {
        offset: LATE_PAGE * PAGE,
        words: u32::try_from(LATE_PAGES * PAGE / 4).unwrap_or(u32::MAX),
    };
    let created = lab.get(LATE_CREATED)?;
    ensure(created > 0, || {
        "Memory Space is enabled, and the device has not seen it".to_owned()
    })?;
    lab.expect("creating the section", LATE_CREATE_RESULT, S_OK.into())?;
    let intercepts = lab.get(LATE_INTERCEPTS)?;
    shared(&lab, &range, 0x100)?;
    range.widths(&lab, "the section")?;

    for (what, command, expected) in [
        ("exactly the same section", LATE_COMMAND_CREATE, S_OK),
        ("a part of it", LATE_COMMAND_OVERLAP, ALREADY_EXISTS),
        ("it with other flags", LATE_COMMAND_FLAGS, ALREADY_EXISTS),
    ] {
        lab.command(what, LATE_COMMAND, command, expected)?;
    }
    shared(&lab, &range, 0x200)?;
    lab.expect("intercepts in the section", LATE_INTERCEPTS, intercepts)?;

    lab.command("destroying it", LATE_COMMAND, LATE_COMMAND_DESTROY, S_OK)?;
    lab.command(
        "destroying it once more",
        LATE_COMMAND,
        LATE_COMMAND_DESTROY,
        NOT_FOUND,
    )?;
    let read = device.read(MATTER, range.offset, Width::Dword)?;
    ensure(read == 0, || {
        format!("without the section the device answers with {read:#x}, expected 0")
    })?;
    device.write(MATTER, range.offset, Width::Dword, 1)?;
    lab.expect(
        "intercepts without the section",
        LATE_INTERCEPTS,
        intercepts + 2,
    )?;
    lab.command("creating it again", LATE_COMMAND, LATE_COMMAND_CREATE, S_OK)?;
    host_sees(&lab, &range, 0x201)?;
    shared(&lab, &range, 0x300)?;

    let destroyed = lab.get(LATE_DESTROYED)?;
    let command = u32::from(pci::read_word(device, COMMAND)?);
    device.config_write(COMMAND, Width::Word, command & !u32::from(COMMAND_MEMORY))?;
    device.config_write(COMMAND, Width::Word, command)?;
    lab.expect(
        "sections destroyed as Memory Space is disabled",
        LATE_DESTROYED,
        destroyed + 1,
    )?;
    lab.expect("the last destruction", LATE_DESTROY_RESULT, S_OK.into())?;
    lab.expect(
        "sections created as Memory Space is enabled",
        LATE_CREATED,
        created + 1,
    )?;
    lab.expect("the last creation", LATE_CREATE_RESULT, S_OK.into())?;
    host_sees(&lab, &range, 0x301)?;
    shared(&lab, &range, 0x400)?;
    lab.expect("intercepts in the section", LATE_INTERCEPTS, intercepts + 2)?;
    lab.well()?;
    Ok(format!(
        "created {} times, as Memory Space was enabled; seen by both sides without an intercept; the \
         same again succeeds, others are refused",
        created + 1
    ))
}

/// Each side sees what the other writes; leaves the pattern of `seed` + 1.
fn shared(lab: &Lab<'_>, range: &Range, seed: u32) -> Result<(), Failure> {
    lab.set(LATE_FILL, seed.into())?;
    range.expect(lab, "what the host wrote", seed)?;
    range.fill(lab, seed + 1)?;
    host_sees(lab, range, seed + 1)
}

fn host_sees(lab: &Lab<'_>, range: &Range, seed: u32) -> Result<(), Failure> {
    lab.expect(
        "the host's checksum",
        LATE_SUM,
        sum(patterns(seed, range.words)),
    )
}

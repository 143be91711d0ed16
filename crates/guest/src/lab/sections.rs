//! Device 1: sections of three files in one BAR, one of them not writeable, and a page without.

use super::memory::{Range, answer, patterns, sum};
use super::registers::{
    PAGE, SECTIONS, SECTIONS_A_PAGE, SECTIONS_A_PAGES, SECTIONS_B_PAGE, SECTIONS_B_PAGES,
    SECTIONS_BAR2_BYTES, SECTIONS_C_PAGE, SECTIONS_C_PAGES, SECTIONS_FILL, SECTIONS_HOLE_PAGE,
    SECTIONS_HOLE_READS, SECTIONS_HOLE_VALUE, SECTIONS_HOLE_WRITES, SECTIONS_INTERCEPTS,
    SECTIONS_REFUSE, SECTIONS_REFUSE_EMPTY, SECTIONS_REFUSE_IDENTICAL, SECTIONS_REFUSE_MISSING,
    SECTIONS_REFUSE_OUTSIDE, SECTIONS_REFUSE_OVERLAP, SECTIONS_SETUP, SECTIONS_SUM_A,
    SECTIONS_SUM_B, SECTIONS_SUM_C,
};
use super::{ALREADY_EXISTS, E_INVALIDARG, Failure, Lab, MATTER, NOT_FOUND, S_OK};
use crate::checks::{Verdict, ensure};
use crate::family::Context;
use crate::platform::{BarAccess, Width};

/// A section: its name, its number for [`SECTIONS_FILL`], its register and its place.
struct Section {
    name: &'static str,
    number: u32,
    sum: u64,
    range: Range,
}

pub(super) fn check(device: &dyn BarAccess, _: &mut Context<'_>) -> Verdict {
    let lab = Lab::open(device, SECTIONS)?;
    let size = device.bar_size(MATTER)?;
    ensure(size == SECTIONS_BAR2_BYTES, || {
        format!("BAR 2 has {size} bytes, expected {SECTIONS_BAR2_BYTES}")
    })?;
    lab.expect("creating the sections", SECTIONS_SETUP, S_OK.into())?;

    let section = |name, number, sum, page, pages| Section {
        name,
        number,
        sum,
        range: Range {
            offset: page * PAGE,
            words: u32::try_from(pages * PAGE / 4).unwrap_or(u32::MAX),
        },
    };
    let a = section("A", 0, SECTIONS_SUM_A, SECTIONS_A_PAGE, SECTIONS_A_PAGES);
    let b = section("B", 1, SECTIONS_SUM_B, SECTIONS_B_PAGE, SECTIONS_B_PAGES);
    let c = section("C", 2, SECTIONS_SUM_C, SECTIONS_C_PAGE, SECTIONS_C_PAGES);

    for (section, seed) in [(&a, 0x11), (&b, 0x22), (&c, 0x33)] {
        host_fills(&lab, section, seed)?;
    }
    // Each still has its own: no two of them are the same memory.
    for (section, seed) in [(&a, 0x11), (&b, 0x22), (&c, 0x33)] {
        section.range.expect(&lab, section.name, seed)?;
    }
    for (section, seed) in [(&a, 0x44), (&b, 0x55)] {
        section.range.fill(&lab, seed)?;
        host_sees(&lab, section, seed)?;
        section.range.widths(&lab, section.name)?;
        host_sees(&lab, section, seed)?;
    }
    c.range.fill(&lab, 0x66)?;
    host_sees(&lab, &c, 0x33)?;
    c.range
        .expect(&lab, "C, which is not writeable, after writes", 0x33)?;
    host_fills(&lab, &c, 0x77)?;
    c.range
        .expect(&lab, "C, after the host wrote once more", 0x77)?;

    hole(&lab)?;
    refusals(&lab)?;
    host_sees(&lab, &a, 0x44)?;
    lab.expect(
        "intercepts in pages that are backed",
        SECTIONS_INTERCEPTS,
        0,
    )?;
    lab.well()?;
    Ok(
        "three files in one BAR; what guest and host write each sees, one is for reading only; no \
         intercept but in the page that is not backed"
            .to_owned(),
    )
}

fn host_fills(lab: &Lab<'_>, section: &Section, seed: u32) -> Result<(), Failure> {
    lab.set(SECTIONS_FILL, u64::from(section.number | seed << 8))?;
    host_sees(lab, section, seed)?;
    section.range.expect(lab, section.name, seed)
}

fn host_sees(lab: &Lab<'_>, section: &Section, seed: u32) -> Result<(), Failure> {
    lab.expect(
        &format!("the host's checksum of section {}", section.name),
        section.sum,
        sum(patterns(seed, section.range.words)),
    )
}

fn hole(lab: &Lab<'_>) -> Result<(), Failure> {
    let reads = lab.get(SECTIONS_HOLE_READS)?;
    let writes = lab.get(SECTIONS_HOLE_WRITES)?;
    let mut count = 0;
    for width in Width::ALL {
        for offset in [0, PAGE - width.bytes()] {
            let at = SECTIONS_HOLE_PAGE * PAGE + offset;
            let read = lab.device.read(MATTER, at, width)?;
            let expected = answer(MATTER, at, width);
            ensure(read == expected, || {
                format!("at {at:#x}, not backed, BAR 2 reads {read:#x}, expected {expected:#x}")
            })?;
            let value = 0x1020_3040_5060_7080 & width.mask();
            lab.device.write(MATTER, at, width, value)?;
            let seen = lab.get_wide(SECTIONS_HOLE_VALUE)?;
            ensure(seen == value, || {
                format!("at {at:#x}, not backed, the device saw {seen:#x}, written was {value:#x}")
            })?;
            count += 1;
        }
    }
    lab.expect(
        "reads that the device saw",
        SECTIONS_HOLE_READS,
        reads + count,
    )?;
    lab.expect(
        "writes that the device saw",
        SECTIONS_HOLE_WRITES,
        writes + count,
    )
}

fn refusals(lab: &Lab<'_>) -> Result<(), Failure> {
    for (what, which, expected) in [
        (
            "a section past the BAR",
            SECTIONS_REFUSE_OUTSIDE,
            E_INVALIDARG,
        ),
        ("a section of no pages", SECTIONS_REFUSE_EMPTY, E_INVALIDARG),
        (
            "a section over another",
            SECTIONS_REFUSE_OVERLAP,
            ALREADY_EXISTS,
        ),
        ("exactly the same section", SECTIONS_REFUSE_IDENTICAL, S_OK),
        ("destroying no section", SECTIONS_REFUSE_MISSING, NOT_FOUND),
    ] {
        lab.command(what, SECTIONS_REFUSE, which, expected)?;
    }
    Ok(())
}

//! Device 5: guest memory read and written by copies and through apertures; addresses that are none; memory
//! that goes away under an aperture and comes back.

use super::memory::{pattern, patterns, sum};
use super::registers::{
    DMA, DMA_ADDRESS, DMA_COMMAND, DMA_COMMAND_APERTURE, DMA_COMMAND_DESTROY, DMA_COMMAND_FILL,
    DMA_COMMAND_LOOK, DMA_COMMAND_NULL, DMA_COMMAND_PROTECTED, DMA_COMMAND_READ, DMA_COMMAND_WRITE,
    DMA_COMMAND_WRITEABLE, DMA_LENGTH, DMA_SEED, DMA_SLOT, DMA_SUM,
};
use super::{
    E_ACCESSDENIED, E_INVALIDARG, E_POINTER, Failure, INVALID_ADDRESS, Lab, NOT_FOUND, S_OK,
};
use crate::checks::{Verdict, ensure};
use crate::family::Context;
use crate::platform::{DmaBuffer, Platform, Width};

/// Bytes of the buffer: several pages, which in a guest are seldom neighbours.
const BUFFER: u64 = 5 * 4096;
/// Where in the buffer copies and apertures begin, and their length: neither on a page.
const OFFSET: u64 = 0x5f4;
const LENGTH: u64 = 3 * 4096 + 0x128;
/// An address that no buffer has.
const NOWHERE: u64 = 0x00ff_ffff_f000;
/// Slots of the apertures.
const PLAIN: u64 = 0;
const PROTECTED: u64 = 1;
const LEFT: u64 = 2;

/// The buffer as words.
struct Words<'a>(&'a DmaBuffer);

impl Words<'_> {
    fn fill(&self, seed: u32) -> Result<(), Failure> {
        for (word, at) in patterns(seed, u32::MAX).zip((0..BUFFER).step_by(4)) {
            self.0.write(at, Width::Dword, word.into())?;
        }
        Ok(())
    }

    /// The checksum of what the device is told to look at.
    fn sum(&self) -> Result<u64, Failure> {
        let mut words = Vec::new();
        for at in (OFFSET..OFFSET + LENGTH).step_by(4) {
            #[expect(clippy::cast_possible_truncation, reason = "4 bytes were read")]
            words.push(self.0.read(at, Width::Dword)? as u32);
        }
        Ok(sum(words))
    }

    /// Fails unless the buffer has the pattern of `seed`, but from [`OFFSET`] on for [`LENGTH`] bytes that of
    /// `inside`.
    fn expect(&self, what: &str, seed: u32, inside: Option<u32>) -> Result<(), Failure> {
        for (index, at) in (0..).zip((0..BUFFER).step_by(4)) {
            let expected = match inside {
                Some(inside) if (OFFSET..OFFSET + LENGTH).contains(&at) => {
                    let first = u32::try_from(OFFSET / 4).unwrap_or(u32::MAX);
                    pattern(inside, index - first)
                }
                _ => pattern(seed, index),
            };
            let read = self.0.read(at, Width::Dword)?;
            ensure(read == u64::from(expected), || {
                format!("{what}: memory has {read:#x} at {at:#x}, expected {expected:#x}")
            })?;
        }
        Ok(())
    }
}

pub(super) fn check(device: &dyn Platform, _: &mut Context<'_>) -> Verdict {
    let lab = Lab::open(device, DMA)?;
    // There is memory throughout, so that an address without any is a bad one and not one too early.
    let _other = device.dma_buffer(BUFFER)?;
    let buffer = device.dma_buffer(BUFFER)?;
    let words = Words(&buffer);
    let aim = |address: u64, length: u64| {
        lab.set_wide(DMA_ADDRESS, address)?;
        lab.set(DMA_LENGTH, length)
    };
    let order = |what: &str, command, expected| lab.command(what, DMA_COMMAND, command, expected);

    words.fill(1)?;
    aim(buffer.address() + OFFSET, LENGTH)?;
    order("a read", DMA_COMMAND_READ, S_OK)?;
    lab.expect("the device's checksum", DMA_SUM, words.sum()?)?;
    lab.set(DMA_SEED, 2)?;
    order("a write", DMA_COMMAND_WRITE, S_OK)?;
    words.expect("after a write", 1, Some(2))?;
    order("a read into nothing", DMA_COMMAND_NULL, E_POINTER)?;

    words.fill(3)?;
    bad_addresses(&lab, &buffer)?;
    words.expect("after writes that were refused", 3, None)?;

    aim(buffer.address() + OFFSET, LENGTH)?;
    lab.set(DMA_SLOT, PLAIN)?;
    order("an aperture", DMA_COMMAND_APERTURE, S_OK)?;
    order("it can be written", DMA_COMMAND_WRITEABLE, S_OK)?;
    lab.set(DMA_SLOT, PROTECTED)?;
    order("a write-protected aperture", DMA_COMMAND_PROTECTED, S_OK)?;
    order(
        "it cannot be written",
        DMA_COMMAND_WRITEABLE,
        E_ACCESSDENIED,
    )?;
    lab.set(DMA_SLOT, LEFT)?;
    order("a third aperture", DMA_COMMAND_APERTURE, S_OK)?;
    // The probe of the first wrote a zero through it.
    words.fill(4)?;
    both_see(&lab, &words)?;
    lab.set(DMA_SLOT, PLAIN)?;
    lab.set(DMA_SEED, 5)?;
    order("writing through an aperture", DMA_COMMAND_FILL, S_OK)?;
    words.expect("written through an aperture", 4, Some(5))?;
    both_see(&lab, &words)?;

    let away = unmapped(&lab, &buffer, &words)?;

    lab.set(DMA_SLOT, PLAIN)?;
    order("destroying an aperture", DMA_COMMAND_DESTROY, S_OK)?;
    order("destroying it again", DMA_COMMAND_DESTROY, NOT_FOUND)?;
    lab.set(DMA_SLOT, PROTECTED)?;
    words.fill(9)?;
    order("looking at the other", DMA_COMMAND_LOOK, S_OK)?;
    lab.expect("its checksum", DMA_SUM, words.sum()?)?;
    order("destroying the other", DMA_COMMAND_DESTROY, S_OK)?;
    // The third is left behind, as some devices do, over memory that goes away.
    drop(buffer);
    lab.set(DMA_SLOT, LEFT)?;
    order("looking at what is left", DMA_COMMAND_LOOK, S_OK)?;
    lab.expect("the checksum of what is left", DMA_SUM, zeros())?;
    lab.well()?;
    Ok(format!(
        "{LENGTH} bytes read, written and seen through apertures; addresses that are none are refused; {away}"
    ))
}

fn bad_addresses(lab: &Lab<'_>, buffer: &DmaBuffer) -> Result<(), Failure> {
    lab.set(DMA_SLOT, 3)?;
    lab.set(DMA_SEED, 6)?;
    for (what, address, length) in [
        ("beyond the buffer", buffer.address() + BUFFER, 4),
        ("before the buffer", buffer.address() - 4, 4),
        (
            "out of the buffer",
            buffer.address() + BUFFER - LENGTH + 4,
            LENGTH,
        ),
        ("into the buffer", buffer.address() - 4, LENGTH),
        ("nowhere", NOWHERE, 0x1000),
    ] {
        lab.set_wide(DMA_ADDRESS, address)?;
        lab.set(DMA_LENGTH, length)?;
        for (action, command) in [
            ("a read", DMA_COMMAND_READ),
            ("a write", DMA_COMMAND_WRITE),
            ("an aperture", DMA_COMMAND_APERTURE),
            ("a write-protected aperture", DMA_COMMAND_PROTECTED),
        ] {
            let what = format!("{action} {what}");
            lab.command(&what, DMA_COMMAND, command, INVALID_ADDRESS)?;
        }
    }
    // Past the end of all addresses, or of nothing: a bad range or a bad address, but no memory.
    for (address, length) in [(u64::MAX - 3, 0x1000), (buffer.address(), 0)] {
        lab.set_wide(DMA_ADDRESS, address)?;
        lab.set(DMA_LENGTH, length)?;
        let result = lab.result(DMA_COMMAND, DMA_COMMAND_APERTURE)?;
        let refusals = [E_INVALIDARG, INVALID_ADDRESS].map(u64::from);
        ensure(refusals.contains(&result), || {
            format!("an aperture of {length} bytes at {address:#x}: {result:#010x}")
        })?;
    }
    Ok(())
}

/// Both apertures show what is in memory.
fn both_see(lab: &Lab<'_>, words: &Words<'_>) -> Result<(), Failure> {
    let expected = words.sum()?;
    for slot in [PLAIN, PROTECTED] {
        lab.set(DMA_SLOT, slot)?;
        lab.command(
            "looking through an aperture",
            DMA_COMMAND,
            DMA_COMMAND_LOOK,
            S_OK,
        )?;
        lab.expect(
            &format!("the checksum through aperture {slot}"),
            DMA_SUM,
            expected,
        )?;
    }
    Ok(())
}

/// The checksum of zeros.
fn zeros() -> u64 {
    let count = usize::try_from(LENGTH / 4).unwrap_or(usize::MAX);
    sum(std::iter::repeat_n(0, count))
}

/// Takes the memory away under the apertures and gives it back.
fn unmapped(lab: &Lab<'_>, buffer: &DmaBuffer, words: &Words<'_>) -> Result<&'static str, Failure> {
    words.fill(7)?;
    buffer.withdraw()?;
    lab.set_wide(DMA_ADDRESS, buffer.address() + OFFSET)?;
    lab.set(DMA_LENGTH, LENGTH)?;
    lab.command(
        "a read of memory that is away",
        DMA_COMMAND,
        DMA_COMMAND_READ,
        INVALID_ADDRESS,
    )?;
    for slot in [PLAIN, PROTECTED] {
        lab.set(DMA_SLOT, slot)?;
        lab.command(
            "looking through an aperture at memory that is away",
            DMA_COMMAND,
            DMA_COMMAND_LOOK,
            S_OK,
        )?;
        lab.expect(
            &format!("the checksum through aperture {slot}, its memory away"),
            DMA_SUM,
            zeros(),
        )?;
    }
    lab.set(DMA_SLOT, PLAIN)?;
    lab.set(DMA_SEED, 8)?;
    lab.command(
        "writing through an aperture while its memory is away",
        DMA_COMMAND,
        DMA_COMMAND_FILL,
        S_OK,
    )?;
    words.expect("while it is away", 7, None)?;
    buffer.restore()?;
    words.expect("when it is back", 7, None)?;
    both_see(lab, words)?;
    words.fill(8)?;
    both_see(lab, words)?;
    Ok("what went away under apertures was zeros, and when it came back they showed it")
}

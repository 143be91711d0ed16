//! Copies from and to guest memory, against `copy_from_slice` between plain buffers and
//! against the same on another mapping of the same file.

use std::cell::RefCell;
use std::hint::black_box;
use std::os::fd::AsFd;

use hdv::{GuestAddress, GuestMemory};
use hdv_vfio_user::{DmaFlags, DmaMap};
use rustix::fs::MemfdFlags;

use super::contest::{Contest, Effort, time};
use super::cpus::{Pinned, Placement};
use super::error::{BenchError, During};
use super::mapped::Mapped;
use super::report::{Section, Unit};

/// What is copied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copies {
    pub(super) name: &'static str,
    /// Bytes of one copy.
    size: usize,
    /// Bytes of guest memory that successive copies walk through, a multiple of `size`.
    span: usize,
    /// Copies in one batch.
    batch: u32,
}

/// All of them. Memory that is copied again and again is in the processor's nearest cache, where
/// whatever is done beside the copy weighs most; a device that goes through a guest's buffers
/// finds them further away.
pub(super) const COPIES: [Copies; 4] = [
    Copies {
        name: "64 B, always the same",
        size: 64,
        span: 64,
        batch: 50_000,
    },
    Copies {
        name: "4 KiB, always the same",
        size: 4096,
        span: 4096,
        batch: 20_000,
    },
    Copies {
        name: "4 KiB, through 32 MiB",
        size: 4096,
        span: 32 << 20,
        batch: 8192,
    },
    Copies {
        name: "1 MiB, always the same",
        size: 1 << 20,
        span: 1 << 20,
        batch: 60,
    },
];

/// From this size on the target applies.
const TARGET_FROM: usize = 4096;

/// What a copy may cost, against `copy_from_slice`.
const TARGET: f64 = 1.10;

/// Where guest memory begins.
const BASE: GuestAddress = GuestAddress(0x1_0000_0000);

const PLAIN: &str = "memcpy, plain buffers";
const SAME: &str = "memcpy, the same memory";
const SAME_AGAIN: &str = "memcpy, the same memory, again";
const OURS: &str = "GuestMemory";
const OURS_AGAIN: &str = "GuestMemory, again";

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write,
}

/// Measures copies of one size in one direction.
pub(super) fn measure(
    direction: Direction,
    Copies {
        name,
        size,
        span,
        batch,
    }: Copies,
    placement: Placement,
    effort: Effort,
) -> Result<Section, BenchError> {
    let _pinned = Pinned::to(placement.near)?;
    let batch = effort.batch(batch);
    let file = rustix::fs::memfd_create("openhdv-bench", MemfdFlags::CLOEXEC)
        .during("making guest memory")?;
    rustix::fs::ftruncate(&file, span.max(4096) as u64).during("making guest memory")?;
    let memory = GuestMemory::new();
    let mut same = Mapped::of_file(file.as_fd(), span).during("mapping guest memory")?;
    memory
        .map(&DmaMap {
            address: BASE.0,
            size: span.max(4096) as u64,
            flags: DmaFlags::READ | DmaFlags::WRITE,
            offset: 0,
            file: Some(file),
        })
        .during("mapping guest memory")?;
    let mut plain = Mapped::anonymous(span).during("making a buffer")?;
    let local = RefCell::new(Mapped::anonymous(size).during("making a buffer")?);
    // Pages that were never written are all one zero page, which copies faster than any memory.
    local.borrow_mut().bytes().fill(1);
    plain.bytes().fill(2);
    same.bytes().fill(3);
    check(&memory, &mut same, span)?;
    let same = RefCell::new(same);

    let next = |at: usize| if at + size == span { 0 } else { at + size };
    let memcpy = |other: &mut [u8]| {
        let mut local = local.borrow_mut();
        let local = local.bytes();
        let mut at = 0;
        time(batch, || {
            at = next(at);
            let other = &mut other[at..at + size];
            let (to, from) = match direction {
                Direction::Read => (&mut *local, other),
                Direction::Write => (other, &mut *local),
            };
            black_box(to).copy_from_slice(black_box(&*from));
            Ok(())
        })
    };
    let ours = || {
        let mut local = local.borrow_mut();
        let local = local.bytes();
        let mut at = 0;
        time(batch, || {
            at = next(at);
            let address = GuestAddress(BASE.0 + at as u64);
            match direction {
                Direction::Read => memory.read(address, black_box(&mut *local)),
                Direction::Write => memory.write(address, black_box(&*local)),
            }
            .during("accessing guest memory")
        })
    };
    let mut contest = Contest::new();
    contest.add(PLAIN, || memcpy(plain.bytes()));
    contest.add(SAME, || memcpy(same.borrow_mut().bytes()));
    contest.add(OURS, ours);
    contest.add(SAME_AGAIN, || memcpy(same.borrow_mut().bytes()));
    contest.add(OURS_AGAIN, ours);
    let results = contest.run(effort)?;

    let what = match direction {
        Direction::Read => "guest memory read",
        Direction::Write => "guest memory write",
    };
    let mut section = Section::new(format!("{what}, {name}"), Unit::Nanoseconds);
    let target = (size >= TARGET_FROM).then_some(TARGET);
    section
        .row(&results, PLAIN)
        .compare(&results, SAME, &[(PLAIN, None)])
        .compare(&results, SAME_AGAIN, &[(SAME, None)])
        .compare(&results, OURS, &[(SAME, target), (PLAIN, target)])
        .compare(&results, OURS_AGAIN, &[(OURS, None)]);
    Ok(section)
}

/// Both mappings are of the same memory.
fn check(memory: &GuestMemory, same: &mut Mapped, size: usize) -> Result<(), BenchError> {
    let mut read = vec![0; size];
    memory
        .read(BASE, &mut read)
        .during("reading guest memory")?;
    if read != same.bytes() {
        return Err(BenchError::new(
            "reading guest memory",
            "it is not what was written to its file",
        ));
    }
    Ok(())
}

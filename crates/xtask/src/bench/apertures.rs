//! Creating an aperture into guest memory and destroying it, beside a bare mapping of the same file.

use std::os::fd::AsFd;

use hdv::{GuestAddress, GuestMemory};
use hdv_vfio_user::{DmaFlags, DmaMap};
use rustix::fs::MemfdFlags;

use super::contest::{Contest, Effort, time};
use super::cpus::{Pinned, Placement};
use super::error::{BenchError, During};
use super::mapped::Mapped;
use super::report::{Section, Unit};

/// What is mapped: its name and its bytes.
pub(super) const SIZES: [(&str, usize); 3] =
    [("4 KiB", 4096), ("2 MiB", 2 << 20), ("64 MiB", 64 << 20)];

/// Apertures in one batch.
const BATCH: u32 = 500;
/// Where guest memory begins.
const BASE: GuestAddress = GuestAddress(0x1_0000_0000);

const BARE: &str = "mmap and munmap";
const BARE_AGAIN: &str = "mmap and munmap, again";
const OURS: &str = "GuestMemory::aperture";
const OURS_AGAIN: &str = "GuestMemory::aperture, again";

/// Measures apertures of one size.
pub(super) fn measure(
    name: &str,
    size: usize,
    placement: Placement,
    effort: Effort,
) -> Result<Section, BenchError> {
    let _pinned = Pinned::to(placement.near)?;
    let batch = effort.batch(BATCH);
    let file = rustix::fs::memfd_create("openhdv-bench", MemfdFlags::CLOEXEC)
        .during("making guest memory")?;
    rustix::fs::ftruncate(&file, size as u64).during("making guest memory")?;
    let same = file
        .as_fd()
        .try_clone_to_owned()
        .during("duplicating guest memory")?;
    let memory = GuestMemory::new();
    memory
        .map(&DmaMap {
            address: BASE.0,
            size: size as u64,
            flags: DmaFlags::READ | DmaFlags::WRITE,
            offset: 0,
            file: Some(file),
        })
        .during("mapping guest memory")?;
    let bare = || {
        time(batch, || {
            Mapped::of_file(same.as_fd(), size)
                .map(drop)
                .during("mapping a file")
        })
    };
    let ours = || {
        time(batch, || {
            memory
                .aperture(BASE, size, false)
                .map(drop)
                .during("creating an aperture")
        })
    };
    let mut contest = Contest::new();
    contest.add(BARE, bare);
    contest.add(OURS, ours);
    contest.add(BARE_AGAIN, bare);
    contest.add(OURS_AGAIN, ours);
    let results = contest.run(effort)?;

    let mut section = Section::new(
        format!("an aperture of {name}, created and destroyed"),
        Unit::Nanoseconds,
    );
    section
        .row(&results, BARE)
        .compare(&results, BARE_AGAIN, &[(BARE, None)])
        .compare(&results, OURS, &[(BARE, None)])
        .compare(&results, OURS_AGAIN, &[(OURS, None)]);
    Ok(section)
}

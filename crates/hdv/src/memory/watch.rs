//! What apertures show, and how that follows guest memory when it goes and comes. How they are made is
//! in `aperture`.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Arc;

use hdv_vfio_user::backend::DmaFlags;
use rustix::io::Errno;

use super::files::Source;
use super::pages::Pages;

/// A part of an aperture that is of one file.
#[derive(Debug)]
pub(super) struct Part {
    /// DMA addresses, of whole pages.
    pub(super) start: u64,
    pub(super) last: u64,
    /// The file, kept so that no other takes its id, and where `start` is in it.
    pub(super) source: Source,
    /// Some of it may be guest memory now.
    pub(super) shown: bool,
}

/// An aperture that lives.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) pages: Arc<Pages>,
    /// The DMA address of the first page.
    pub(super) start: u64,
    pub(super) last: u64,
    pub(super) parts: Vec<Part>,
}

/// All apertures of one guest's memory.
#[derive(Debug, Default)]
pub(super) struct Watched {
    apertures: BTreeMap<u64, Shown>,
    next: u64,
}

impl Watched {
    /// Returns the name to [`Watched::remove`] it by.
    pub(super) fn add(&mut self, aperture: Shown) -> u64 {
        let id = self.next;
        self.next += 1;
        self.apertures.insert(id, aperture);
        id
    }

    pub(super) fn remove(&mut self, id: u64) {
        self.apertures.remove(&id);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.apertures.is_empty()
    }

    /// Whether there is an aperture of some of `start..=last`.
    pub(super) fn meets(&self, start: u64, last: u64) -> bool {
        let mut all = self.apertures.values();
        all.any(|aperture| aperture.start <= last && aperture.last >= start)
    }

    /// Nothing that comes is shown in the apertures there are.
    pub(super) fn forget(&mut self) {
        self.apertures.clear();
    }

    /// Puts private pages where `start..=last` is shown.
    ///
    /// # Errors
    /// Why they cannot be put there, the first reason of several; guest memory may still be shown then.
    pub(super) fn take(&mut self, start: u64, last: u64) -> Result<(), Errno> {
        // All of them, also after the first error.
        let mut taken = Ok(());
        for aperture in self.apertures.values_mut() {
            taken = taken.and(aperture.take(start, last));
        }
        taken
    }

    /// Shows `start..=last`, which is mapped now, where an aperture was made of the same bytes of the same
    /// file and the rights suffice.
    pub(super) fn give(&mut self, start: u64, last: u64, rights: DmaFlags, source: &Source) {
        for aperture in self.apertures.values_mut() {
            aperture.give(start, last, rights, source);
        }
    }
}

impl Shown {
    fn take(&mut self, start: u64, last: u64) -> Result<(), Errno> {
        if self.start > last || self.last < start {
            return Ok(());
        }
        for part in &mut self.parts {
            let Some((start, last)) = common((part.start, part.last), (start, last)) else {
                continue;
            };
            if !part.shown {
                continue;
            }
            let (at, length) = place(self.start, start, last)?;
            if self.pages.place_private(at, length).is_err() {
                // There are too many mappings for a further piece, but not for fewer.
                self.pages.place_private(0, self.pages.length())?;
            }
            // Not before: what could not be taken is taken the next time.
            part.shown = (start, last) != (part.start, part.last);
        }
        Ok(())
    }

    fn give(&mut self, start: u64, last: u64, rights: DmaFlags, source: &Source) {
        let sufficient = rights.contains(self::rights(self.pages.is_writeable()));
        if self.start > last || self.last < start || !sufficient {
            return;
        }
        for part in &mut self.parts {
            let Some((first, last)) = common((part.start, part.last), (start, last)) else {
                continue;
            };
            // Neither overflows: both are inside a range that lies in its file.
            let offset = source.offset + (first - start);
            if !part.source.file.is_same_file(&source.file)
                || part.source.offset + (first - part.start) != offset
            {
                continue;
            }
            part.shown = true;
            let placed = place(self.start, first, last).and_then(|(at, length)| {
                self.pages
                    .place_file(at, length, source.file.as_fd(), offset)
            });
            if let Err(error) = placed {
                tracing::warn!(
                    "guest memory at {first:#x} is back, but an aperture cannot show it: {error}"
                );
            }
        }
    }
}

/// What a region must allow for an aperture to show it.
pub(super) fn rights(writeable: bool) -> DmaFlags {
    if writeable {
        DmaFlags::READ | DmaFlags::WRITE
    } else {
        DmaFlags::READ
    }
}

/// What two ranges have in common, last addresses included.
fn common(one: (u64, u64), other: (u64, u64)) -> Option<(u64, u64)> {
    let (start, last) = (one.0.max(other.0), one.1.min(other.1));
    (start <= last).then_some((start, last))
}

/// Where in an aperture that begins at `begin` the range `start..=last` is: offset and length.
fn place(begin: u64, start: u64, last: u64) -> Result<(usize, usize), Errno> {
    let at = usize::try_from(start - begin).map_err(|_| Errno::INVAL)?;
    Ok((at, length(start, last)?))
}

/// Bytes of `start..=last`.
///
/// # Errors
/// `EINVAL` when this process cannot address as many.
pub(super) fn length(start: u64, last: u64) -> Result<usize, Errno> {
    usize::try_from(last - start)
        .ok()
        .and_then(|span| span.checked_add(1))
        .ok_or(Errno::INVAL)
}

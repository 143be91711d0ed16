//! Which part of a BAR a client may map: a client maps a BAR from one file, at one offset, and
//! writeable. And what clients have been offered, since that cannot be taken back.

use std::collections::BTreeMap;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use hdv_pci::BarIndex;
use hdv_vfio_user::backend::SparseArea;

use super::section::{FileId, Section};

/// What a client may map of a BAR: one file, `offset` its byte that is the BAR's first, and areas.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) file: Arc<OwnedFd>,
    pub(crate) offset: u64,
    /// Sorted, whole pages, never empty.
    pub(crate) areas: Vec<SparseArea>,
}

/// What this client was told of each BAR, once it has asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Offers([Option<Option<Arc<Offer>>>; BarIndex::ALL.len()]);

impl Offers {
    /// The answer that it got, if it has asked.
    pub(super) fn given(&self, bar: BarIndex) -> Option<Option<Arc<Offer>>> {
        self.0[bar.get()].clone()
    }

    /// Answers with `offer`, unless it was answered before.
    pub(super) fn give(&mut self, bar: BarIndex, offer: Option<Arc<Offer>>) -> Option<Arc<Offer>> {
        self.0[bar.get()].get_or_insert(offer).clone()
    }

    /// Whether it may have mapped any of these bytes.
    pub(super) fn cover(&self, bar: BarIndex, bytes: &Range<u64>) -> bool {
        let areas = self.0[bar.get()]
            .iter()
            .flatten()
            .flat_map(|offer| &offer.areas);
        areas.into_iter().any(|area| {
            area.offset < bytes.end && bytes.start < area.offset.saturating_add(area.size)
        })
    }
}

/// What [`choose`] chose.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// Which of the sections has the file; others may have it too.
    pub(super) section: usize,
    /// The file's byte that is the BAR's first.
    pub(super) offset: u64,
    /// Sorted, not adjacent, at least one.
    pub(super) areas: Vec<SparseArea>,
}

/// Chooses, among sections of one BAR that are sorted by offset and do not overlap, those of
/// one file at one distance that offer the most bytes, without the `reserved` pages. Of more than
/// `most_areas` the smallest are left to be trapped.
pub(super) fn choose(
    sections: &[(Section, FileId)],
    bar_size: u64,
    reserved: Vec<Range<u64>>,
    most_areas: usize,
) -> Option<Choice> {
    let reserved = merged(reserved);
    let mut groups = BTreeMap::<(FileId, u64), Choice>::new();
    for (index, (section, file)) in sections.iter().enumerate() {
        let inside = section
            .offset
            .checked_add(section.length)
            .is_some_and(|end| end <= bar_size);
        let Some(offset) = section.file_offset.checked_sub(section.offset) else {
            continue;
        };
        if !inside || !section.may_be_offered() {
            continue;
        }
        let choice = groups.entry((*file, offset)).or_insert_with(|| Choice {
            section: index,
            offset,
            areas: Vec::new(),
        });
        add_areas(&mut choice.areas, section, &reserved);
    }
    let largest = groups
        .into_values()
        .map(|mut choice| {
            keep_largest(&mut choice.areas, most_areas);
            choice
        })
        // Of two that are equally large the one whose first section comes first.
        .max_by_key(|choice| {
            let bytes: u64 = choice.areas.iter().map(|area| area.size).sum();
            (bytes, std::cmp::Reverse(choice.section))
        })?;
    (!largest.areas.is_empty()).then_some(largest)
}

/// Sorted, with none that overlap.
fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged = Vec::<Range<u64>>::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// Adds what `reserved` leaves of a section behind the areas there are.
fn add_areas(areas: &mut Vec<SparseArea>, section: &Section, reserved: &[Range<u64>]) {
    let end = section.offset + section.length;
    let mut from = section.offset;
    let first = reserved.partition_point(|range| range.end <= from);
    let holes = reserved[first..]
        .iter()
        .take_while(|range| range.start < end)
        .cloned();
    for hole in holes.chain(std::iter::once(end..end)) {
        if hole.start > from {
            match areas.last_mut() {
                Some(last) if last.offset + last.size == from => last.size += hole.start - from,
                _ => areas.push(SparseArea {
                    offset: from,
                    size: hole.start - from,
                }),
            }
        }
        from = hole.end;
    }
}

/// Drops the smallest areas beyond `most`; of equal ones the last.
fn keep_largest(areas: &mut Vec<SparseArea>, most: usize) {
    if areas.len() > most {
        areas.sort_by_key(|area| std::cmp::Reverse(area.size));
        areas.truncate(most);
        areas.sort_unstable_by_key(|area| area.offset);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::section::SectionFlags;
    use super::*;

    const PAGE: u64 = 0x1000;
    const BAR_SIZE: u64 = 64 * PAGE;

    fn file(inode: u64) -> FileId {
        FileId { device: 1, inode }
    }

    /// Pages `pages` of the BAR, from page `at` of the file on.
    fn section(pages: Range<u64>, inode: u64, at: u64) -> (Section, FileId) {
        let section = Section {
            bar: BarIndex::BAR0,
            offset: pages.start * PAGE,
            length: (pages.end - pages.start) * PAGE,
            file_offset: at * PAGE,
            flags: SectionFlags::WRITEABLE,
        };
        (section, file(inode))
    }

    fn flagged((section, file): (Section, FileId), flags: SectionFlags) -> (Section, FileId) {
        (Section { flags, ..section }, file)
    }

    fn pages(pages: Range<u64>) -> Range<u64> {
        pages.start * PAGE..pages.end * PAGE
    }

    fn area(range: Range<u64>) -> SparseArea {
        SparseArea {
            offset: range.start * PAGE,
            size: (range.end - range.start) * PAGE,
        }
    }

    fn chosen(sections: &[(Section, FileId)], reserved: &[Range<u64>]) -> Option<Choice> {
        choose(sections, BAR_SIZE, reserved.to_vec(), 100)
    }

    #[test]
    fn one_section_is_offered_as_it_is() {
        assert_eq!(chosen(&[], &[]), None);
        let choice = Choice {
            section: 0,
            offset: 3 * PAGE,
            areas: vec![area(2..6)],
        };
        assert_eq!(chosen(&[section(2..6, 7, 5)], &[]), Some(choice));
    }

    #[test]
    fn sections_that_fit_together_are_one_group_and_adjacent_ones_one_area() {
        let sections = [
            section(0..2, 7, 10),
            section(2..3, 7, 12),
            section(5..6, 7, 15),
            // The same file at another distance, and another file at the same.
            section(8..10, 7, 17),
            section(12..15, 8, 22),
        ];
        let choice = chosen(&sections, &[]).unwrap();
        assert_eq!(choice.section, 0);
        assert_eq!(choice.offset, 10 * PAGE);
        assert_eq!(choice.areas, [area(0..3), area(5..6)]);
    }

    #[test]
    fn the_largest_group_is_chosen_by_what_is_left_of_it() {
        let sections = [section(0..4, 7, 0), section(8..11, 8, 8)];
        assert_eq!(chosen(&sections, &[]).unwrap().areas, [area(0..4)]);
        let reserved = [pages(1..3)];
        let choice = chosen(&sections, &reserved).unwrap();
        assert_eq!((choice.section, choice.areas), (1, vec![area(8..11)]));
        // Equal ones: the first in the BAR, whatever its file is called.
        let equal = [section(0..4, 9, 0), section(8..12, 8, 8)];
        assert_eq!(chosen(&equal, &[]).unwrap().section, 0);
    }

    #[test]
    fn what_a_client_cannot_map_is_not_offered() {
        // In front of the file.
        assert_eq!(chosen(&[section(2..3, 7, 1)], &[]), None);
        // Outside the BAR, also in part.
        assert_eq!(chosen(&[section(63..65, 7, 63)], &[]), None);
        assert!(chosen(&[section(63..64, 7, 63)], &[]).is_some());
        let plain = section(0..1, 7, 0);
        assert_eq!(chosen(&[flagged(plain, SectionFlags::empty())], &[]), None);
        let never = SectionFlags::WRITEABLE | SectionFlags::NEVER_OFFERED;
        assert_eq!(chosen(&[flagged(plain, never)], &[]), None);
        assert_eq!(chosen(&[plain], &[pages(0..1)]), None);
    }

    #[test]
    fn reserved_pages_are_cut_out() {
        let sections = [section(2..6, 7, 2), section(6..10, 7, 6)];
        let areas = |reserved: &[Range<u64>]| {
            chosen(&sections, reserved)
                .map(|choice| choice.areas)
                .unwrap_or_default()
        };
        assert_eq!(areas(&[pages(0..2), pages(10..12)]), [area(2..10)]);
        assert_eq!(areas(&[pages(0..3), pages(9..64)]), [area(3..9)]);
        assert_eq!(areas(&[pages(5..7)]), [area(2..5), area(7..10)]);
        // In no order, and overlapping.
        let messy = [pages(8..9), pages(4..6), pages(3..5), pages(8..9)];
        assert_eq!(areas(&messy), [area(2..3), area(6..8), area(9..10)]);
        assert_eq!(areas(&[pages(0..64)]), []);
    }

    #[test]
    fn the_smallest_areas_are_left_out_when_there_are_too_many() {
        let sections = [
            section(0..1, 7, 0),
            section(2..5, 7, 2),
            section(6..8, 7, 6),
            section(10..12, 7, 10),
        ];
        let areas = |most| choose(&sections, BAR_SIZE, Vec::new(), most).map(|c| c.areas);
        assert_eq!(areas(3).unwrap(), [area(2..5), area(6..8), area(10..12)]);
        assert_eq!(areas(2).unwrap(), [area(2..5), area(6..8)]);
        assert_eq!(areas(0), None);
    }

    #[test]
    fn what_was_offered_covers_whatever_touches_it() {
        let mut offers = Offers::default();
        assert!(offers.given(BarIndex::BAR0).is_none());
        assert!(offers.give(BarIndex::BAR1, None).is_none());
        assert!(
            offers
                .given(BarIndex::BAR1)
                .is_some_and(|offer| offer.is_none())
        );
        let file = rustix::fs::memfd_create("offer", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let offer = Offer {
            file: Arc::new(file),
            offset: 0,
            areas: vec![area(2..4)],
        };
        assert!(offers.give(BarIndex::BAR0, Some(Arc::new(offer))).is_some());
        // The answer holds.
        assert!(offers.give(BarIndex::BAR0, None).is_some());
        let cover = |bar, range| offers.cover(bar, &pages(range));
        assert!(cover(BarIndex::BAR0, 0..3) && cover(BarIndex::BAR0, 3..4));
        assert!(!cover(BarIndex::BAR0, 0..2) && !cover(BarIndex::BAR0, 4..9));
        assert!(!cover(BarIndex::BAR1, 2..4) && !cover(BarIndex::BAR2, 2..4));
    }
}

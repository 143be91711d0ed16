//! Where doorbells and sections lie in a function's BARs, and which of them an access meets. Pure:
//! what is rung (`E`) and what is behind a section (`S`) is the caller's.

use std::ops::Range;

use hdv_pci::BarIndex;
use hdv_vfio_user::limits::PAGE_SIZE;

use super::MmioError;
use super::doorbell::{AccessSize, Doorbell};
use super::section::{FileId, Section};
use crate::access::BarAccess;

/// What is known of the BARs once the function is powered on.
#[derive(Clone, Debug)]
struct Layout {
    sizes: [u64; BarIndex::ALL.len()],
    /// Where interrupt tables lie.
    tables: Vec<(BarIndex, Range<u64>)>,
}

/// A section and what is behind it.
#[derive(Clone, Debug)]
pub(super) struct Placed<S> {
    pub(super) section: Section,
    pub(super) file: FileId,
    pub(super) backing: S,
}

impl<S> Placed<S> {
    /// Its BAR and its end there, by which sections are sorted: they do not overlap.
    fn end(&self) -> (BarIndex, u64) {
        (self.section.bar, self.bytes().end)
    }

    pub(super) fn bytes(&self) -> Range<u64> {
        let Section { offset, length, .. } = self.section;
        offset..offset.saturating_add(length)
    }
}

/// See the module's documentation. All lists are sorted.
#[derive(Clone, Debug)]
pub(super) struct Table<E, S> {
    layout: Option<Layout>,
    doorbells: Vec<(Doorbell, E)>,
    /// By BAR and number of the page.
    pages: Vec<((BarIndex, u64), E)>,
    sections: Vec<Placed<S>>,
}

impl<E, S> Default for Table<E, S> {
    fn default() -> Self {
        Self {
            layout: None,
            doorbells: Vec::new(),
            pages: Vec::new(),
            sections: Vec::new(),
        }
    }
}

impl<E, S> Table<E, S> {
    pub(super) fn is_empty(&self) -> bool {
        self.doorbells.is_empty() && self.pages.is_empty() && self.sections.is_empty()
    }

    pub(super) fn set_layout(
        &mut self,
        sizes: [u64; BarIndex::ALL.len()],
        tables: Vec<(BarIndex, Range<u64>)>,
    ) {
        self.layout = Some(Layout { sizes, tables });
    }

    /// Size of a BAR in bytes; as large as can be while nothing is known.
    pub(super) fn bar_size(&self, bar: BarIndex) -> u64 {
        self.layout
            .as_ref()
            .map_or(u64::MAX, |layout| layout.sizes[bar.get()])
    }

    /// What a write rings: a doorbell, or else the page.
    pub(super) fn rung(&self, access: BarAccess, value: u64) -> Option<&E> {
        let any = Doorbell {
            bar: access.bar,
            offset: access.offset,
            size: None,
            value: None,
        };
        let (size, value) = (AccessSize::of(access.size), Some(value));
        let in_order = [
            Doorbell { size, value, ..any },
            Doorbell { value, ..any },
            Doorbell { size, ..any },
            any,
        ];
        let exact = in_order.iter().find_map(|doorbell| self.doorbell(doorbell));
        exact.or_else(|| self.page(access.bar, access.offset / PAGE_SIZE))
    }

    fn doorbell(&self, doorbell: &Doorbell) -> Option<&E> {
        let at = self.place_of_doorbell(doorbell).ok()?;
        Some(&self.doorbells[at].1)
    }

    fn page(&self, bar: BarIndex, page: u64) -> Option<&E> {
        let at = self.place_of_page(bar, page).ok()?;
        Some(&self.pages[at].1)
    }

    fn place_of_doorbell(&self, doorbell: &Doorbell) -> Result<usize, usize> {
        self.doorbells
            .binary_search_by(|(placed, _)| placed.cmp(doorbell))
    }

    fn place_of_page(&self, bar: BarIndex, page: u64) -> Result<usize, usize> {
        self.pages
            .binary_search_by(|(placed, _)| placed.cmp(&(bar, page)))
    }

    /// The section in which an access lies. An aligned access never straddles a page's end.
    pub(super) fn section(&self, access: BarAccess) -> Option<&Placed<S>> {
        let placed = self
            .sections
            .get(self.place_of_section(access.bar, access.offset))?;
        let here = placed.section.bar == access.bar && placed.section.offset <= access.offset;
        here.then_some(placed)
    }

    /// Where the first section is that ends behind `offset`.
    fn place_of_section(&self, bar: BarIndex, offset: u64) -> usize {
        self.sections
            .partition_point(|placed| placed.end() <= (bar, offset))
    }

    /// Whether an access touches an interrupt table.
    pub(super) fn meets_interrupt_table(&self, access: BarAccess) -> bool {
        let end = access.offset.saturating_add(access.size.into());
        self.interrupt_tables(access.bar)
            .any(|bytes| bytes.start < end && access.offset < bytes.end)
    }

    fn interrupt_tables(&self, bar: BarIndex) -> impl Iterator<Item = &Range<u64>> {
        self.layout
            .iter()
            .flat_map(|layout| &layout.tables)
            .filter_map(move |(table_bar, bytes)| (*table_bar == bar).then_some(bytes))
    }

    /// Checks where a doorbell is; its value has been masked.
    pub(super) fn add_doorbell(&mut self, doorbell: Doorbell, event: E) -> Result<(), MmioError> {
        let Doorbell { bar, offset, .. } = doorbell;
        let length = doorbell.size.map_or(1, AccessSize::bytes);
        if !offset.is_multiple_of(length) {
            let problem = "a doorbell must be aligned to its size";
            return Err(range(bar, offset, length, problem));
        }
        self.check_inside(bar, offset, length)?;
        match self.place_of_doorbell(&doorbell) {
            Ok(_) => Err(MmioError::Taken { bar, offset }),
            Err(at) => {
                self.doorbells.insert(at, (doorbell, event));
                Ok(())
            }
        }
    }

    pub(super) fn remove_doorbell(&mut self, doorbell: &Doorbell) -> Result<(), MmioError> {
        let Doorbell { bar, offset, .. } = *doorbell;
        let at = self
            .place_of_doorbell(doorbell)
            .map_err(|_| MmioError::NotFound { bar, offset })?;
        self.doorbells.remove(at);
        Ok(())
    }

    pub(super) fn add_page(&mut self, bar: BarIndex, page: u64, event: E) -> Result<(), MmioError> {
        let offset = offset_of(bar, page)?;
        // A BAR smaller than a page has one all the same.
        self.check_inside(bar, offset, 1)?;
        match self.place_of_page(bar, page) {
            Ok(_) => Err(MmioError::Taken { bar, offset }),
            Err(at) => {
                self.pages.insert(at, ((bar, page), event));
                Ok(())
            }
        }
    }

    pub(super) fn remove_page(&mut self, bar: BarIndex, page: u64) -> Result<(), MmioError> {
        let at = self
            .place_of_page(bar, page)
            .map_err(|_| MmioError::NotFound {
                bar,
                offset: page.saturating_mul(PAGE_SIZE),
            })?;
        self.pages.remove(at);
        Ok(())
    }

    /// Checks what can be said of a section without its neighbours and its file.
    pub(super) fn check_section(&self, section: &Section) -> Result<(), MmioError> {
        let Section {
            bar,
            offset,
            length,
            file_offset,
            ..
        } = *section;
        let wrong = |problem| Err(range(bar, offset, length, problem));
        if length == 0 {
            return wrong("a section must not be empty");
        }
        let page_granular = |number: u64| number.is_multiple_of(PAGE_SIZE);
        if ![offset, length, file_offset].into_iter().all(page_granular) {
            return wrong("a section and its place in the file must be whole pages of 4096 bytes");
        }
        if file_offset.checked_add(length).is_none() {
            return wrong("the range in the file wraps");
        }
        self.check_inside(bar, offset, length)
    }

    /// Places a section. The same one again changes nothing.
    pub(super) fn add_section(
        &mut self,
        section: Section,
        file: FileId,
        backing: S,
    ) -> Result<(), MmioError> {
        self.check_section(&section)?;
        let Section { bar, offset, .. } = section;
        let placed = Placed {
            section,
            file,
            backing,
        };
        let at = self.place_of_section(bar, offset);
        match self.sections.get(at) {
            Some(next) if next.section == section && next.file == file => Ok(()),
            Some(next) if next.section.bar == bar && next.section.offset < placed.bytes().end => {
                Err(MmioError::Taken { bar, offset })
            }
            _ => {
                self.sections.insert(at, placed);
                Ok(())
            }
        }
    }

    /// The section that begins at `offset`.
    pub(super) fn section_at(&self, bar: BarIndex, offset: u64) -> Result<&Placed<S>, MmioError> {
        self.sections
            .get(self.place_of_section(bar, offset))
            .filter(|placed| placed.section.bar == bar && placed.section.offset == offset)
            .ok_or(MmioError::NotFound { bar, offset })
    }

    pub(super) fn remove_section(&mut self, bar: BarIndex, offset: u64) -> Result<(), MmioError> {
        self.section_at(bar, offset)?;
        self.sections.remove(self.place_of_section(bar, offset));
        Ok(())
    }

    /// A BAR's sections, by offset.
    pub(super) fn sections(&self, bar: BarIndex) -> impl Iterator<Item = &Placed<S>> {
        self.sections
            .iter()
            .filter(move |placed| placed.section.bar == bar)
    }

    /// A BAR's doorbells, by offset.
    pub(super) fn doorbells(&self, bar: BarIndex) -> impl Iterator<Item = &(Doorbell, E)> {
        self.doorbells
            .iter()
            .filter(move |(doorbell, _)| doorbell.bar == bar)
    }

    /// Everything that can be rung.
    pub(super) fn events(&self) -> impl Iterator<Item = &E> {
        let doorbells = self.doorbells.iter().map(|(_, event)| event);
        doorbells.chain(self.pages.iter().map(|(_, event)| event))
    }

    /// The bytes of a BAR that no client may map, in whole pages and no order: those of doorbells and
    /// interrupt tables.
    pub(super) fn reserved(&self, bar: BarIndex) -> Vec<Range<u64>> {
        let doorbells = self.doorbells(bar).map(|(doorbell, _)| {
            let end = doorbell.size.map_or(1, AccessSize::bytes);
            doorbell.offset..doorbell.offset.saturating_add(end)
        });
        let pages = self.pages.iter().filter_map(|((page_bar, page), _)| {
            let start = page.saturating_mul(PAGE_SIZE);
            (*page_bar == bar).then(|| start..start.saturating_add(1))
        });
        let tables = self.interrupt_tables(bar).cloned();
        doorbells
            .chain(pages)
            .chain(tables)
            .map(|bytes| whole_pages(&bytes))
            .collect()
    }

    fn check_inside(&self, bar: BarIndex, offset: u64, length: u64) -> Result<(), MmioError> {
        let Some(end) = offset.checked_add(length) else {
            return Err(range(bar, offset, length, "it wraps"));
        };
        match self.bar_size(bar) {
            0 => Err(range(bar, offset, length, "the device has no such BAR")),
            size if end > size => Err(range(bar, offset, length, "it leaves the BAR")),
            _ => Ok(()),
        }
    }
}

/// The pages that a range touches.
pub(super) fn whole_pages(bytes: &Range<u64>) -> Range<u64> {
    let start = bytes.start - bytes.start % PAGE_SIZE;
    let last_page = u64::MAX - u64::MAX % PAGE_SIZE;
    start
        ..bytes
            .end
            .checked_next_multiple_of(PAGE_SIZE)
            .unwrap_or(last_page)
}

/// Where a page begins, in bytes.
pub(super) fn offset_of(bar: BarIndex, page: u64) -> Result<u64, MmioError> {
    page.checked_mul(PAGE_SIZE)
        .ok_or_else(|| range(bar, page, PAGE_SIZE, "there is no page of this number"))
}

fn range(bar: BarIndex, offset: u64, length: u64, problem: &'static str) -> MmioError {
    MmioError::Range {
        bar,
        offset,
        length,
        problem,
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

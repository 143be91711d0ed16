use proptest::prelude::*;

use super::super::section::SectionFlags;
use super::*;

const BARS: [BarIndex; 2] = [BarIndex::BAR0, BarIndex::BAR2];
const BAR_SIZE: u64 = 8 * PAGE_SIZE;
/// Of BAR 0: misaligned to pages, so that its page is shared.
const INTERRUPT_TABLE: Range<u64> = 0x2008..0x2030;
const ITS_PAGE: Range<u64> = 0x2000..0x3000;

type Numbered = Table<u32, u32>;

fn table() -> Numbered {
    let mut table = Table::default();
    let sizes = BarIndex::ALL.map(|bar| if BARS.contains(&bar) { BAR_SIZE } else { 0 });
    table.set_layout(sizes, vec![(BarIndex::BAR0, INTERRUPT_TABLE)]);
    table
}

fn access(bar: BarIndex, offset: u64, size: u8) -> BarAccess {
    BarAccess { bar, offset, size }
}

fn doorbell(offset: u64, size: Option<AccessSize>, value: Option<u64>) -> Doorbell {
    Doorbell {
        bar: BarIndex::BAR0,
        offset,
        size,
        value,
    }
}

fn section(offset: u64, length: u64) -> Section {
    Section {
        bar: BarIndex::BAR0,
        offset,
        length,
        file_offset: 0,
        flags: SectionFlags::WRITEABLE,
    }
}

const FILE: FileId = FileId {
    device: 1,
    inode: 1,
};

#[test]
fn an_exact_value_goes_before_any_and_an_exact_size_before_any() {
    let size = Some(AccessSize::Dword);
    let mut table = table();
    table.add_page(BarIndex::BAR0, 0, 0).unwrap();
    table.add_doorbell(doorbell(8, None, None), 1).unwrap();
    table.add_doorbell(doorbell(8, size, None), 2).unwrap();
    table.add_doorbell(doorbell(8, None, Some(7)), 3).unwrap();
    table.add_doorbell(doorbell(8, size, Some(7)), 4).unwrap();
    table.add_doorbell(doorbell(8, size, Some(9)), 5).unwrap();
    let rung = |table: &Numbered, offset, size, value| {
        table
            .rung(access(BarIndex::BAR0, offset, size), value)
            .copied()
    };
    assert_eq!(rung(&table, 8, 4, 7), Some(4));
    assert_eq!(rung(&table, 8, 4, 9), Some(5));
    assert_eq!(rung(&table, 8, 2, 7), Some(3));
    assert_eq!(rung(&table, 8, 4, 8), Some(2));
    assert_eq!(rung(&table, 8, 2, 8), Some(1));
    assert_eq!(rung(&table, 12, 4, 7), Some(0));
    assert_eq!(rung(&table, 0x1000, 4, 7), None);
    // The best one gone, the next best rings.
    table.remove_doorbell(&doorbell(8, size, Some(7))).unwrap();
    assert_eq!(rung(&table, 8, 4, 7), Some(3));
    table.remove_doorbell(&doorbell(8, None, Some(7))).unwrap();
    assert_eq!(rung(&table, 8, 4, 7), Some(2));
    table.remove_doorbell(&doorbell(8, size, None)).unwrap();
    assert_eq!(rung(&table, 8, 4, 7), Some(1));
    table.remove_doorbell(&doorbell(8, None, None)).unwrap();
    assert_eq!(rung(&table, 8, 4, 7), Some(0));
    table.remove_page(BarIndex::BAR0, 0).unwrap();
    assert_eq!(rung(&table, 8, 4, 7), None);
}

fn is_range_error(result: Result<(), MmioError>) -> bool {
    matches!(result, Err(MmioError::Range { .. }))
}

#[test]
fn doorbells_are_aligned_and_inside_their_bar() {
    let mut table = table();
    let mut add = |offset, size| table.add_doorbell(doorbell(offset, size, None), 0);
    assert!(is_range_error(add(4, Some(AccessSize::Qword))));
    assert!(is_range_error(add(1, Some(AccessSize::Word))));
    assert!(is_range_error(add(BAR_SIZE, None)));
    assert!(is_range_error(add(u64::MAX, None)));
    assert_eq!(add(BAR_SIZE - 1, None), Ok(()));
    assert_eq!(add(BAR_SIZE - 8, Some(AccessSize::Qword)), Ok(()));
    for page in [8, u64::MAX / PAGE_SIZE, u64::MAX] {
        assert!(is_range_error(table.add_page(BarIndex::BAR0, page, 0)));
    }
    assert!(is_range_error(table.add_page(BarIndex::BAR1, 0, 0)));
    assert_eq!(table.add_page(BarIndex::BAR0, 7, 0), Ok(()));
}

#[test]
fn before_the_layout_is_known_only_what_wraps_is_refused() {
    let mut table = Numbered::default();
    let far = 1 << 40;
    assert_eq!(table.add_doorbell(doorbell(far, None, None), 0), Ok(()));
    assert_eq!(table.add_page(BarIndex::BAR5, far, 0), Ok(()));
    assert_eq!(table.add_section(section(far, PAGE_SIZE), FILE, 0), Ok(()));
    let last = u64::MAX - u64::MAX % PAGE_SIZE;
    assert!(is_range_error(table.add_section(
        section(last, PAGE_SIZE),
        FILE,
        0
    )));
    assert!(is_range_error(
        table.add_doorbell(doorbell(u64::MAX, None, None), 0)
    ));
}

#[test]
fn sections_are_whole_pages_inside_their_bar() {
    let mut table = table();
    let mut add = |section| table.add_section(section, FILE, 0);
    assert!(is_range_error(add(section(0, 0))));
    assert!(is_range_error(add(section(0x800, PAGE_SIZE))));
    assert!(is_range_error(add(section(0, 0x1800))));
    assert!(is_range_error(add(section(0, BAR_SIZE + PAGE_SIZE))));
    assert!(is_range_error(add(section(BAR_SIZE, PAGE_SIZE))));
    let file_offset = |file_offset| Section {
        file_offset,
        ..section(0, PAGE_SIZE)
    };
    assert!(is_range_error(add(file_offset(1))));
    assert!(is_range_error(add(file_offset(u64::MAX - 0xfff))));
    assert_eq!(add(section(0, BAR_SIZE)), Ok(()));
}

#[test]
fn the_same_section_again_is_no_other() {
    let mut table = table();
    let placed = section(PAGE_SIZE, 2 * PAGE_SIZE);
    table.add_section(placed, FILE, 1).unwrap();
    assert_eq!(table.add_section(placed, FILE, 2), Ok(()));
    let seen = table.section(access(BarIndex::BAR0, PAGE_SIZE, 8)).unwrap();
    assert_eq!(seen.backing, 1, "the first one stays");
    let taken = MmioError::Taken {
        bar: BarIndex::BAR0,
        offset: PAGE_SIZE,
    };
    let other_file = FileId { inode: 2, ..FILE };
    assert_eq!(table.add_section(placed, other_file, 3), Err(taken));
    let flags = SectionFlags::WRITEABLE | SectionFlags::EXECUTABLE;
    assert_eq!(
        table.add_section(Section { flags, ..placed }, FILE, 3),
        Err(taken)
    );
    let file_offset = PAGE_SIZE;
    let moved = Section {
        file_offset,
        ..placed
    };
    assert_eq!(table.add_section(moved, FILE, 3), Err(taken));
    let bar = BarIndex::BAR2;
    assert_eq!(
        table.add_section(Section { bar, ..placed }, FILE, 3),
        Ok(())
    );
}

#[test]
fn doorbells_and_interrupt_tables_reserve_whole_pages() {
    let mut table = table();
    assert_eq!(table.reserved(BarIndex::BAR0), [ITS_PAGE]);
    assert_eq!(table.reserved(BarIndex::BAR2), []);
    let last = BAR_SIZE - 8;
    table
        .add_doorbell(doorbell(last, Some(AccessSize::Qword), None), 0)
        .unwrap();
    table.add_page(BarIndex::BAR0, 4, 0).unwrap();
    let mut reserved = table.reserved(BarIndex::BAR0);
    reserved.sort_by_key(|range| range.start);
    assert_eq!(reserved, [ITS_PAGE, 0x4000..0x5000, 0x7000..0x8000]);
}

#[test]
fn pages_at_the_end_of_the_address_space_do_not_wrap() {
    let end = u64::MAX - 0xfff;
    assert_eq!(whole_pages(&(u64::MAX - 1..u64::MAX)), end..end);
    assert_eq!(whole_pages(&(1..2)), 0..0x1000);
    assert_eq!(whole_pages(&(0x1000..0x2000)), 0x1000..0x2000);
}

/// One change, or try of one.
#[derive(Clone, Debug)]
enum Change {
    AddDoorbell(Doorbell),
    RemoveDoorbell(Doorbell),
    AddPage(BarIndex, u64),
    RemovePage(BarIndex, u64),
    AddSection(Section, FileId),
    RemoveSection(BarIndex, u64),
}

/// The same in lists without any order.
#[derive(Default)]
struct Model {
    doorbells: Vec<(Doorbell, u32)>,
    pages: Vec<((BarIndex, u64), u32)>,
    sections: Vec<(Section, FileId, u32)>,
}

impl Model {
    /// Whether the change is possible. It is made then.
    fn change(&mut self, change: &Change, number: u32) -> bool {
        match *change {
            Change::AddDoorbell(doorbell) => {
                let free = self.doorbells.iter().all(|(other, _)| *other != doorbell);
                let aligned = doorbell.offset % doorbell.size.map_or(1, AccessSize::bytes) == 0;
                let inside = doorbell.offset < BAR_SIZE;
                if free && aligned && inside {
                    self.doorbells.push((doorbell, number));
                }
                free && aligned && inside
            }
            Change::RemoveDoorbell(doorbell) => {
                let before = self.doorbells.len();
                self.doorbells.retain(|(other, _)| *other != doorbell);
                self.doorbells.len() < before
            }
            Change::AddPage(bar, page) => {
                let free = self.pages.iter().all(|(other, _)| *other != (bar, page));
                let inside = page < BAR_SIZE / PAGE_SIZE;
                if free && inside {
                    self.pages.push(((bar, page), number));
                }
                free && inside
            }
            Change::RemovePage(bar, page) => {
                let before = self.pages.len();
                self.pages.retain(|(other, _)| *other != (bar, page));
                self.pages.len() < before
            }
            Change::AddSection(section, file) => {
                let pages = |section: &Section| {
                    let (bar, first) = (section.bar, section.offset / PAGE_SIZE);
                    (first..first + section.length / PAGE_SIZE).map(move |page| (bar, page))
                };
                let same = |(other, other_file, _): &(Section, FileId, u32)| {
                    *other == section && *other_file == file
                };
                if self.sections.iter().any(same) {
                    return true;
                }
                let overlaps = self.sections.iter().any(|(other, ..)| {
                    pages(other).any(|page| pages(&section).any(|mine| mine == page))
                });
                let fits = section.length > 0 && section.offset + section.length <= BAR_SIZE;
                if fits && !overlaps {
                    self.sections.push((section, file, number));
                }
                fits && !overlaps
            }
            Change::RemoveSection(bar, offset) => {
                let before = self.sections.len();
                self.sections
                    .retain(|(other, ..)| (other.bar, other.offset) != (bar, offset));
                self.sections.len() < before
            }
        }
    }

    fn rung(&self, access: BarAccess, value: u64) -> Option<u32> {
        let best = self
            .doorbells
            .iter()
            .filter(|(doorbell, _)| {
                (doorbell.bar, doorbell.offset) == (access.bar, access.offset)
                    && doorbell
                        .size
                        .is_none_or(|size| size.bytes() == u64::from(access.size))
                    && doorbell.value.is_none_or(|wanted| wanted == value)
            })
            .max_by_key(|(doorbell, _)| (doorbell.value.is_some(), doorbell.size.is_some()));
        let page = (access.bar, access.offset / PAGE_SIZE);
        let page = self.pages.iter().find(|(other, _)| *other == page);
        best.map(|(_, number)| *number)
            .or_else(|| page.map(|(_, number)| *number))
    }

    fn section(&self, access: BarAccess) -> Option<u32> {
        self.sections
            .iter()
            .find(|(section, ..)| {
                section.bar == access.bar
                    && (section.offset..section.offset + section.length).contains(&access.offset)
            })
            .map(|(.., number)| *number)
    }
}

fn bar() -> impl Strategy<Value = BarIndex> {
    prop::sample::select(&BARS[..])
}

fn size() -> impl Strategy<Value = Option<AccessSize>> {
    let [a, b, c, d] = [1, 2, 4, 8].map(AccessSize::of);
    prop::sample::select(vec![None, a, b, c, d])
}

fn offset() -> impl Strategy<Value = u64> {
    // Few, so that they meet; beyond the end as well.
    (0..10u64, 0..3u64).prop_map(|(page, byte)| page * PAGE_SIZE + 4 * byte)
}

fn any_doorbell() -> impl Strategy<Value = Doorbell> {
    (bar(), offset(), size(), prop::option::of(0..3u64)).prop_map(|(bar, offset, size, value)| {
        Doorbell {
            bar,
            offset,
            size,
            value,
        }
    })
}

fn any_section() -> impl Strategy<Value = (Section, FileId)> {
    let flags = prop::sample::select(vec![SectionFlags::empty(), SectionFlags::WRITEABLE]);
    (bar(), 0..9u64, 0..4u64, flags, 1..3u64).prop_map(|(bar, page, pages, flags, inode)| {
        let section = Section {
            bar,
            offset: page * PAGE_SIZE,
            length: pages * PAGE_SIZE,
            file_offset: 0,
            flags,
        };
        (section, FileId { device: 1, inode })
    })
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => any_doorbell().prop_map(Change::AddDoorbell),
        1 => any_doorbell().prop_map(Change::RemoveDoorbell),
        2 => (bar(), 0..10u64).prop_map(|(bar, page)| Change::AddPage(bar, page)),
        1 => (bar(), 0..10u64).prop_map(|(bar, page)| Change::RemovePage(bar, page)),
        3 => any_section().prop_map(|(section, file)| Change::AddSection(section, file)),
        2 => (bar(), 0..9u64).prop_map(|(bar, page)| Change::RemoveSection(bar, page * PAGE_SIZE)),
    ]
}

proptest! {
    #[test]
    fn it_does_what_plain_lists_do(changes in prop::collection::vec(any_change(), 1..40)) {
        let (mut table, mut model) = (table(), Model::default());
        for (number, change) in (0..).zip(&changes) {
            let result = match change.clone() {
                Change::AddDoorbell(doorbell) => table.add_doorbell(doorbell, number),
                Change::RemoveDoorbell(doorbell) => table.remove_doorbell(&doorbell),
                Change::AddPage(bar, page) => table.add_page(bar, page, number),
                Change::RemovePage(bar, page) => table.remove_page(bar, page),
                Change::AddSection(section, file) => table.add_section(section, file, number),
                Change::RemoveSection(bar, offset) => table.remove_section(bar, offset),
            };
            prop_assert_eq!(result.is_ok(), model.change(change, number), "{:?}", change);
        }
        let empty = model.doorbells.is_empty() && model.pages.is_empty() && model.sections.is_empty();
        prop_assert_eq!(table.is_empty(), empty);
        prop_assert_eq!(table.events().count(), model.doorbells.len() + model.pages.len());
        for bar in BARS {
            for (page, byte) in (0..8).flat_map(|page| [0, 4, 8, 0x20, 0x28, 0x30].map(|byte| (page, byte))) {
                for size in [1u8, 2, 4, 8] {
                    let access = access(bar, page * PAGE_SIZE + byte, size);
                    if !access.offset.is_multiple_of(size.into()) {
                        continue;
                    }
                    for value in 0..4 {
                        prop_assert_eq!(table.rung(access, value).copied(), model.rung(access, value));
                    }
                    prop_assert_eq!(table.section(access).map(|placed| placed.backing), model.section(access));
                    let touches = (access.offset..access.offset + u64::from(size))
                        .any(|byte| bar == BarIndex::BAR0 && INTERRUPT_TABLE.contains(&byte));
                    prop_assert_eq!(table.meets_interrupt_table(access), touches);
                }
            }
        }
    }
}

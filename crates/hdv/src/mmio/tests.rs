use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::MemfdFlags;

use crate::device::DeviceError;

use super::*;

const BAR: BarIndex = BarIndex::BAR0;
const TABLE: Range<u64> = 0x3000..0x3040;

fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

/// How often it was signalled since the last look.
fn taken(event: &OwnedFd) -> u64 {
    let mut count = [0; 8];
    rustix::io::read(event, &mut count).map_or(0, |_| u64::from_ne_bytes(count))
}

fn memfd(size: u64) -> OwnedFd {
    let file = rustix::fs::memfd_create("section", MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&file, size).unwrap();
    file
}

/// BAR 0 of four pages, an interrupt table in the last.
fn mmio() -> Mmio {
    let mmio = Mmio::new();
    mmio.set_layout([0x4000, 0, 0, 0, 0, 0], vec![(BAR, TABLE)]);
    mmio
}

fn doorbell(offset: u64) -> Doorbell {
    Doorbell {
        bar: BAR,
        offset,
        size: None,
        value: None,
    }
}

fn section(offset: u64, length: u64, flags: SectionFlags) -> Section {
    Section {
        bar: BAR,
        offset,
        length,
        file_offset: offset,
        flags,
    }
}

fn at(offset: u64, size: u8) -> BarAccess {
    BarAccess {
        bar: BAR,
        offset,
        size,
    }
}

#[test]
fn a_doorbell_beats_a_section_and_an_exact_one_its_page() {
    let mmio = mmio();
    assert!(mmio.is_empty());
    assert!(!mmio.write(at(0, 4), &[1; 4]));
    let (file, exact, page) = (memfd(0x4000), event(), event());
    let all = section(0, 0x4000, SectionFlags::WRITEABLE);
    mmio.create_section(all, file.as_fd()).unwrap();
    mmio.register_doorbell(doorbell(8), exact.as_fd()).unwrap();
    mmio.register_doorbell_page(BAR, 1, page.as_fd()).unwrap();
    mmio.register_doorbell(doorbell(0x1008), exact.as_fd())
        .unwrap();
    assert!(!mmio.is_empty());
    let seen = |offset| {
        let mut byte = [0];
        rustix::io::pread(&file, &mut byte, offset).unwrap();
        byte[0]
    };
    for (offset, events) in [
        (0, (0, 0)),
        (8, (1, 0)),
        (0x1008, (1, 0)),
        (0x100c, (0, 1)),
        (0x2000, (0, 0)),
    ] {
        assert!(mmio.write(at(offset, 4), &[1; 4]));
        assert_eq!((taken(&exact), taken(&page)), events, "{offset:#x}");
        assert_eq!(seen(offset), u8::from(events == (0, 0)), "{offset:#x}");
        // Reads are no business of a doorbell's.
        let mut read = [9; 4];
        assert!(mmio.read(at(offset, 4), &mut read));
        assert_eq!(read[0], seen(offset));
    }
}

#[test]
fn no_section_answers_for_an_interrupt_table_except_to_the_host() {
    let mmio = mmio();
    let file = memfd(0x4000);
    // Not for the guest to write, yet for the host.
    let all = section(0, 0x4000, SectionFlags::empty());
    mmio.create_section(all, file.as_fd()).unwrap();
    let mut data = [0; 8];
    assert!(!mmio.read(at(0x3000, 8), &mut data));
    assert!(!mmio.write(at(0x3038, 8), &data));
    assert!(mmio.read(at(0x3040, 8), &mut data));
    assert!(mmio.write(at(0x3040, 8), &[5; 8]));
    assert!(mmio.read(at(0x3040, 8), &mut data));
    assert_eq!(data, [0; 8]);
    assert!(mmio.write_section(at(0x3038, 8), &[5; 8]));
    assert!(mmio.read_section(at(0x3038, 8), &mut data));
    assert_eq!(data, [5; 8]);
    mmio.destroy_section(BAR, 0).unwrap();
    assert!(!mmio.write_section(at(0x3038, 8), &[5; 8]));
    assert!(!mmio.read_section(at(0x3038, 8), &mut data));
}

#[test]
fn errors_name_what_is_wrong() {
    let mmio = mmio();
    let (event, file) = (event(), memfd(0x4000));
    let taken = |offset| Err(MmioError::Taken { bar: BAR, offset });
    let missing = |offset| Err(MmioError::NotFound { bar: BAR, offset });
    assert_eq!(mmio.unregister_doorbell(&doorbell(8)), missing(8));
    assert_eq!(mmio.unregister_doorbell_page(BAR, 1), missing(0x1000));
    assert_eq!(mmio.destroy_section(BAR, 0), missing(0));
    let not_an_event = mmio.register_doorbell(doorbell(8), file.as_fd());
    assert_eq!(not_an_event, Err(MmioError::NotAnEvent));
    let not_an_event = mmio.register_doorbell_page(BAR, 1, file.as_fd());
    assert_eq!(not_an_event, Err(MmioError::NotAnEvent));

    let valued = |value| Doorbell {
        size: Some(AccessSize::Byte),
        value: Some(value),
        ..doorbell(8)
    };
    let register = |doorbell| mmio.register_doorbell(doorbell, event.as_fd());
    register(valued(1)).unwrap();
    register(valued(2)).unwrap();
    assert_eq!(register(valued(0x101)), taken(8), "the same byte");
    mmio.unregister_doorbell(&valued(0x201)).unwrap();
    assert_eq!(mmio.unregister_doorbell(&valued(1)), missing(8));
    mmio.register_doorbell_page(BAR, 1, event.as_fd()).unwrap();
    let again = mmio.register_doorbell_page(BAR, 1, event.as_fd());
    assert_eq!(again, taken(0x1000));

    let create = |section| mmio.create_section(section, file.as_fd());
    let writeable = SectionFlags::WRITEABLE;
    create(section(0, 0x2000, writeable)).unwrap();
    create(section(0, 0x2000, writeable)).unwrap();
    assert_eq!(create(section(0x1000, 0x1000, writeable)), taken(0x1000));
    let beyond = Section {
        file_offset: 0x4000,
        ..section(0x2000, 0x1000, writeable)
    };
    assert_eq!(create(beyond), Err(MmioError::File(Errno::INVAL)));
    // Not where it begins.
    assert_eq!(mmio.destroy_section(BAR, 0x1000), missing(0x1000));
    let message = create(section(0x4000, 0x1000, writeable))
        .unwrap_err()
        .to_string();
    assert_eq!(
        message,
        "offset 0x4000 of BAR 0, 0x1000 bytes: it leaves the BAR"
    );
}

#[test]
fn errors_say_what_to_do() {
    let mmio = mmio();
    let file = memfd(0x1000);
    let create = |section| {
        let error = mmio.create_section(section, file.as_fd()).unwrap_err();
        error.to_string()
    };
    let missing_bar = Section {
        bar: BarIndex::BAR1,
        ..section(0, 0x1000, SectionFlags::empty())
    };
    assert_eq!(
        create(missing_bar),
        "offset 0x0 of BAR 1, 0x1000 bytes: the device has no such BAR"
    );
    let beyond = create(section(0x1000, 0x1000, SectionFlags::empty()));
    assert!(
        beyond.ends_with("; the section's range must lie wholly in the file"),
        "{beyond}"
    );
    mmio.create_section(section(0, 0x1000, SectionFlags::empty()), file.as_fd())
        .unwrap();
    let again = create(section(0, 0x1000, SectionFlags::WRITEABLE));
    assert_eq!(
        again,
        "offset 0x0 of BAR 0 is taken by another doorbell or section: remove that one first"
    );
    let error = DeviceError::from(MmioError::Gone);
    assert_eq!(error.to_string(), MmioError::Gone.to_string());
    assert_eq!(error.code(), None);
}

#[test]
fn what_is_gone_holds_nothing_and_takes_nothing() {
    let mmio = mmio();
    let (event, file) = (event(), memfd(0x4000));
    let writeable = section(0, 0x1000, SectionFlags::WRITEABLE);
    mmio.create_section(writeable, file.as_fd()).unwrap();
    mmio.register_doorbell(doorbell(0x2000), event.as_fd())
        .unwrap();
    mmio.register_doorbell_page(BAR, 1, event.as_fd()).unwrap();
    assert!(mmio.offer(BAR).is_some());
    let answers_nobody = || {
        assert!(mmio.is_empty());
        assert!(!mmio.write(at(0x2000, 4), &[0; 4]) && !mmio.read(at(0, 4), &mut [0; 4]));
        assert_eq!(taken(&event), 0);
        assert!(mmio.offer(BAR).is_none());
    };
    let gone = Err(MmioError::Gone);
    mmio.end();
    mmio.end();
    answers_nobody();
    assert_eq!(mmio.create_section(writeable, file.as_fd()), gone);
    assert_eq!(mmio.register_doorbell(doorbell(0), event.as_fd()), gone);
    assert_eq!(mmio.register_doorbell_page(BAR, 2, event.as_fd()), gone);
    // What was mapped too: it is the client's business now.
    assert_eq!(mmio.destroy_section(BAR, 0), Ok(()));
    assert_eq!(mmio.unregister_doorbell(&doorbell(0x2000)), Ok(()));
    assert_eq!(mmio.unregister_doorbell_page(BAR, 1), Ok(()));
    assert!(matches!(
        mmio.destroy_section(BAR, 0),
        Err(MmioError::NotFound { .. })
    ));
    mmio.close();
    mmio.close();
    answers_nobody();
    assert_eq!(mmio.create_section(writeable, file.as_fd()), gone);
    assert_eq!(mmio.destroy_section(BAR, 0), gone);
    assert_eq!(mmio.register_doorbell(doorbell(0), event.as_fd()), gone);
    assert_eq!(mmio.unregister_doorbell(&doorbell(0)), gone);
    assert_eq!(mmio.register_doorbell_page(BAR, 2, event.as_fd()), gone);
    assert_eq!(mmio.unregister_doorbell_page(BAR, 1), gone);
}

#[test]
fn an_offer_holds_until_the_client_leaves() {
    let mmio = mmio();
    let (event, file) = (event(), memfd(0x4000));
    let register = |offset| mmio.register_doorbell(doorbell(offset), event.as_fd());
    let all = section(0, 0x4000, SectionFlags::WRITEABLE);
    mmio.create_section(all, file.as_fd()).unwrap();
    register(0x1010).unwrap();
    let areas = |mmio: &Mmio| {
        let offer = mmio.offer(BAR).unwrap();
        let areas = offer.areas.iter().map(|area| (area.offset, area.size));
        areas.collect::<Vec<_>>()
    };
    let offered = [(0, 0x1000), (0x2000, 0x1000)];
    assert_eq!(areas(&mmio), offered);
    let mapped = |offset| Err(MmioError::Mapped { bar: BAR, offset });
    assert_eq!(mmio.destroy_section(BAR, 0), mapped(0));
    assert_eq!(register(0x2ff8), mapped(0x2ff8));
    let page = mmio.register_doorbell_page(BAR, 2, event.as_fd());
    assert_eq!(page, mapped(0x2000));
    // Where the client has nothing mapped, and what changes nothing.
    register(0x1018).unwrap();
    register(0x3ff8).unwrap();
    mmio.unregister_doorbell(&doorbell(0x1010)).unwrap();
    mmio.unregister_doorbell(&doorbell(0x1018)).unwrap();
    mmio.create_section(all, file.as_fd()).unwrap();
    assert_eq!(areas(&mmio), offered);
    // A client that finds nothing finds nothing later either.
    assert!(mmio.offer(BarIndex::BAR2).is_none());

    mmio.client_left();
    assert_eq!(areas(&mmio), [(0, 0x3000)]);
    mmio.client_left();
    register(0x2ff8).unwrap();
    mmio.destroy_section(BAR, 0).unwrap();
    assert!(mmio.offer(BAR).is_none());
    mmio.create_section(all, file.as_fd()).unwrap();
    assert!(mmio.offer(BAR).is_none());
    mmio.destroy_section(BAR, 0).unwrap();
}

#[test]
fn only_doorbells_that_a_client_can_tell_apart_are_offered() {
    let mmio = mmio();
    let event = event();
    let register = |offset, size, value| {
        let one = Doorbell {
            size,
            value,
            ..doorbell(offset)
        };
        mmio.register_doorbell(one, event.as_fd()).unwrap();
        one
    };
    let (word, dword) = (Some(AccessSize::Word), Some(AccessSize::Dword));
    let expected = [
        register(0, dword, Some(1)),
        register(0, dword, Some(2)),
        register(0, word, Some(1)),
        register(8, None, None),
        register(0x10, dword, None),
    ];
    // Any value beside a certain one, and a value without a size.
    register(0x18, dword, Some(1));
    register(0x18, dword, None);
    register(0x20, None, Some(1));
    let mut offered: Vec<_> = mmio
        .offered_doorbells(BAR)
        .iter()
        .map(|offered| offered.doorbell)
        .collect();
    let mut expected = expected.to_vec();
    offered.sort();
    expected.sort();
    assert_eq!(offered, expected);
    assert!(mmio.offered_doorbells(BarIndex::BAR1).is_empty());
}

#[test]
fn what_was_placed_before_the_layout_was_known_and_does_not_fit_is_not_offered() {
    let mmio = Mmio::new();
    let (event, file) = (event(), memfd(0x4000));
    let writeable = section(0x1000, 0x2000, SectionFlags::WRITEABLE);
    mmio.create_section(writeable, file.as_fd()).unwrap();
    mmio.register_doorbell(doorbell(0x2000), event.as_fd())
        .unwrap();
    mmio.set_layout([0x2000, 0, 0, 0, 0, 0], Vec::new());
    assert!(mmio.offer(BAR).is_none());
    assert!(mmio.offered_doorbells(BAR).is_empty());
    mmio.destroy_section(BAR, 0x1000).unwrap();
}

#[test]
fn a_doorbell_that_was_taken_back_is_never_rung() {
    let (mmio, writes, stop) = (mmio(), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                mmio.write(at(8, 4), &[0; 4]);
                writes.fetch_add(1, Ordering::SeqCst);
            }
        });
        for _ in 0..100 {
            let event = event();
            mmio.register_doorbell(doorbell(8), event.as_fd()).unwrap();
            while taken(&event) == 0 {
                std::thread::yield_now();
            }
            mmio.unregister_doorbell(&doorbell(8)).unwrap();
            taken(&event);
            let so_far = writes.load(Ordering::SeqCst);
            while writes.load(Ordering::SeqCst) < so_far + 2 {
                std::thread::yield_now();
            }
            assert_eq!(taken(&event), 0);
        }
        stop.store(true, Ordering::SeqCst);
    });
}

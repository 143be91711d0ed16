//! Apertures over a real socket: what they show, what may not be shown, and how they follow when the
//! client takes memory away and gives it back.

mod support;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use hdv::{Aperture, GuestAddress, GuestMemory, MemoryError};
use hdv_vfio_user::DmaFlags;
use hdv_vfio_user::client::Client;
use support::*;

const PAGE: u64 = 4096;
const BASE: u64 = 0x10_0000;

fn setup() -> (Served, Client, GuestMemory) {
    let served = serve(Recorder::default());
    let client = served.connect();
    let memory = served.record.context().memory;
    (served, client, memory)
}

fn map(client: &mut Client, address: u64, size: u64, file: &OwnedFd, offset: u64) {
    map_with(client, address, size, READ_WRITE, file, offset);
}

fn map_with(
    client: &mut Client,
    address: u64,
    size: u64,
    flags: DmaFlags,
    file: &OwnedFd,
    offset: u64,
) {
    client
        .dma_map(address, size, flags, Some((file.as_fd(), offset)))
        .unwrap();
}

fn bytes(aperture: &Aperture, offset: usize, length: usize) -> Vec<u8> {
    let mut data = vec![0xee; length];
    let slice = aperture.as_volatile_slice();
    slice.subslice(offset, length).unwrap().copy_to(&mut data);
    data
}

fn write(aperture: &Aperture, offset: usize, data: &[u8]) {
    let slice = aperture.as_volatile_slice();
    slice.subslice(offset, data.len()).unwrap().copy_from(data);
}

fn in_file(file: &OwnedFd, offset: u64, length: usize) -> Vec<u8> {
    let mut data = vec![0; length];
    rustix::io::pread(file, &mut data, offset).unwrap();
    data
}

/// A memfd in which each page is filled with its number from `first` on.
fn numbered(pages: u8, first: u8) -> OwnedFd {
    let file = memfd(u64::from(pages) * PAGE);
    for page in 0..pages {
        rustix::io::pwrite(&file, &[first + page; 4096], u64::from(page) * PAGE).unwrap();
    }
    file
}

/// The rights with which the page at an address of this process is mapped, as the kernel says, and what is
/// mapped there.
fn mapped_as(address: *mut u8) -> (String, String) {
    let address = address.addr();
    for line in std::fs::read_to_string("/proc/self/maps").unwrap().lines() {
        let mut words = line.split_whitespace();
        let (start, end) = words.next().unwrap().split_once('-').unwrap();
        let number = |text| usize::from_str_radix(text, 16).unwrap();
        if (number(start)..number(end)).contains(&address) {
            let rights = words.next().unwrap().to_owned();
            return (rights, words.nth(3).unwrap_or_default().to_owned());
        }
    }
    panic!("{address:#x} is not mapped");
}

#[test]
fn an_aperture_is_contiguous_whatever_regions_it_spans() {
    let (_served, mut client, memory) = setup();
    let (first, second) = (numbered(4, 1), numbered(4, 11));
    // Three regions, the middle one of another file, none in the order of its file.
    map(&mut client, BASE, PAGE, &first, 2 * PAGE);
    map(&mut client, BASE + PAGE, 2 * PAGE, &second, PAGE);
    map(&mut client, BASE + 3 * PAGE, PAGE, &first, 0);
    let aperture = memory
        .aperture(GuestAddress(BASE), 4 * 4096, false)
        .unwrap();
    assert_eq!(aperture.len(), 4 * 4096);
    assert_eq!(aperture.address(), GuestAddress(BASE));
    assert!(!aperture.is_write_protected());
    assert_eq!(aperture.as_ptr().addr() % 4096, 0);
    let pages = [3, 12, 13, 1];
    for (at, number) in [0, 4096, 2 * 4096, 3 * 4096].into_iter().zip(pages) {
        assert_eq!(bytes(&aperture, at, 4096), [number; 4096]);
    }
    // Both ways, over a seam.
    write(&aperture, 4094, &[0xa1, 0xa2, 0xa3, 0xa4]);
    assert_eq!(in_file(&first, 3 * PAGE - 2, 2), [0xa1, 0xa2]);
    assert_eq!(in_file(&second, PAGE, 2), [0xa3, 0xa4]);
    memory
        .write(GuestAddress(BASE + 3 * PAGE - 1), &[0xb1, 0xb2])
        .unwrap();
    assert_eq!(bytes(&aperture, 3 * 4096 - 1, 2), [0xb1, 0xb2]);
}

#[test]
fn neither_end_needs_to_be_page_aligned() {
    let (_served, mut client, memory) = setup();
    let file = numbered(3, 1);
    map(&mut client, BASE, 3 * PAGE, &file, 0);
    for (offset, length) in [
        (1, 1),
        (4095, 2),
        (4095, 4098),
        (17, 4096),
        (3 * 4096 - 1, 1),
        (0, 3 * 4096),
    ] {
        for write_protected in [false, true] {
            let address = GuestAddress(BASE + offset);
            let aperture = memory.aperture(address, length, write_protected).unwrap();
            assert_eq!(aperture.len(), length);
            assert_eq!(aperture.as_ptr().addr() as u64 % PAGE, offset % PAGE);
            let mut expected = vec![0; length];
            memory.read(address, &mut expected).unwrap();
            assert_eq!(bytes(&aperture, 0, length), expected);
        }
    }
    // The last byte of all.
    map(&mut client, u64::MAX - PAGE + 1, PAGE, &file, PAGE);
    let aperture = memory.aperture(GuestAddress(u64::MAX), 1, false).unwrap();
    assert_eq!(bytes(&aperture, 0, 1), [2]);
    client.dma_unmap_all().unwrap();
    assert_eq!(bytes(&aperture, 0, 1), [0]);
}

#[test]
fn a_write_protected_aperture_is_mapped_so() {
    let (_served, mut client, memory) = setup();
    let file = numbered(2, 1);
    map(&mut client, BASE, PAGE, &file, 0);
    map_with(&mut client, BASE + PAGE, PAGE, DmaFlags::READ, &file, PAGE);
    let read_only = memory.aperture(GuestAddress(BASE + 8), 4096, true).unwrap();
    assert!(read_only.is_write_protected());
    let writeable = memory.aperture(GuestAddress(BASE), 8, false).unwrap();
    let rights = |aperture: &Aperture| mapped_as(aperture.as_ptr()).0;
    assert_eq!(rights(&read_only), "r--s");
    assert_eq!(rights(&writeable), "rw-s");
    // Whatever becomes of it.
    client.dma_unmap_all().unwrap();
    assert_eq!(rights(&read_only), "r--p");
    assert_eq!(rights(&writeable), "rw-p");
    map(&mut client, BASE, PAGE, &file, 0);
    assert_eq!(rights(&read_only), "r--s");
    assert_eq!(rights(&writeable), "rw-s");
}

#[test]
fn what_cannot_be_shown_is_refused_with_its_address() {
    let (_served, mut client, memory) = setup();
    let error = |address, length, protected| {
        memory
            .aperture(GuestAddress(address), length, protected)
            .expect_err("refused")
    };
    let bad = |address, length| MemoryError::BadRange {
        address: GuestAddress(address),
        length,
    };
    for protected in [false, true] {
        assert_eq!(error(BASE, 1, protected), MemoryError::NoMemory);
        assert_eq!(error(BASE, 0, protected), bad(BASE, 0));
        assert_eq!(error(u64::MAX, 2, protected), bad(u64::MAX, 2));
        assert_eq!(error(BASE, usize::MAX, protected), bad(BASE, usize::MAX));
    }
    let file = numbered(2, 1);
    map(&mut client, BASE, PAGE, &file, 0);
    map_with(&mut client, BASE + PAGE, PAGE, DmaFlags::READ, &file, 0);
    let at = |page: u64| GuestAddress(BASE + page * PAGE);
    client.dma_map(at(2).0, PAGE, READ_WRITE, None).unwrap();
    map_with(&mut client, at(4).0, PAGE, DmaFlags::WRITE, &file, 0);
    // Not of whole pages, as memory without a descriptor may be.
    client.dma_map(at(8).0 + 16, 32, READ_WRITE, None).unwrap();
    assert_eq!(error(0, 1, true), MemoryError::NotMapped(GuestAddress(0)));
    assert_eq!(error(at(3).0, 1, true), MemoryError::NotMapped(at(3)));
    assert_eq!(
        error(BASE, 8192, false),
        MemoryError::Denied(at(1)),
        "read-only memory"
    );
    assert_eq!(error(at(4).0, 1, true), MemoryError::Denied(at(4)));
    assert_eq!(
        error(BASE, 3 * 4096, true),
        MemoryError::NoDescriptor(at(2))
    );
    let odd = GuestAddress(at(8).0 + 20);
    assert_eq!(error(odd.0, 4, true), MemoryError::NoDescriptor(odd));
    // And the rest of it is not harmed.
    assert!(memory.aperture(at(0), 8192, true).is_ok());
    // Too many files.
    let files: Vec<_> = (0..20).map(|_| numbered(1, 9)).collect();
    for (index, file) in (0..).zip(&files) {
        map(&mut client, BASE * 16 + index * PAGE, PAGE, file, 0);
    }
    let last = GuestAddress(BASE * 16 + 19 * PAGE);
    assert_eq!(error(last.0, 1, true), MemoryError::NoDescriptor(last));
    let mut byte = [0];
    memory.read(last, &mut byte).unwrap();
    assert_eq!(byte, [9]);
}

#[test]
fn a_part_that_goes_is_private_and_returns_with_its_file() {
    let (_served, mut client, memory) = setup();
    let (file, other) = (numbered(4, 1), numbered(4, 21));
    let again = file.try_clone().unwrap();
    for page in 0..4 {
        map(&mut client, BASE + page * PAGE, PAGE, &file, page * PAGE);
    }
    let aperture = memory
        .aperture(GuestAddress(BASE + 16), 4 * 4096 - 32, false)
        .unwrap();
    let page = |number: usize| bytes(&aperture, number * 4096, 1)[0];
    let pages = || [0, 1, 2, 3].map(page);
    assert_eq!(pages(), [1, 2, 3, 4]);

    client.dma_unmap(BASE + PAGE, 2 * PAGE).unwrap();
    assert_eq!(pages(), [1, 0, 0, 4]);
    // What is written there is nobody's; next to it it is the guest's.
    write(&aperture, 4096, &[0x55]);
    write(&aperture, 0, &[0x66]);
    assert_eq!(pages(), [0x66, 0x55, 0, 4]);
    assert_eq!(in_file(&file, PAGE + 16, 1), [2]);
    assert_eq!(in_file(&file, 16, 1), [0x66]);

    // Another file, another place in the file, too few rights: it stays private.
    let mut tries = |size, flags, file: &OwnedFd, offset| {
        map_with(&mut client, BASE + PAGE, size, flags, file, offset);
        let seen = pages();
        client.dma_unmap(BASE + PAGE, size).unwrap();
        seen
    };
    let private = [0x66, 0x55, 0, 4];
    assert_eq!(tries(PAGE, READ_WRITE, &other, PAGE), private);
    assert_eq!(tries(PAGE, READ_WRITE, &file, 0), private);
    assert_eq!(tries(2 * PAGE, READ_WRITE, &file, 2 * PAGE), private);
    assert_eq!(tries(PAGE, DmaFlags::READ, &file, PAGE), private);
    assert_eq!(tries(PAGE, DmaFlags::WRITE, &file, PAGE), private);
    // In other pieces, by another descriptor.
    assert_eq!(tries(PAGE, READ_WRITE, &again, PAGE), [0x66, 2, 0, 4]);
    assert_eq!(tries(2 * PAGE, READ_WRITE, &again, PAGE), [0x66, 2, 3, 4]);
    assert_eq!(pages(), [0x66, 0, 0, 4]);

    // As the firmware has it: all of it goes, and comes in pieces, one of them read-only at first.
    for _ in 0..10 {
        client.dma_unmap_all().unwrap();
        assert_eq!(pages(), [0; 4]);
        map(&mut client, BASE, 2 * PAGE, &file, 0);
        map_with(
            &mut client,
            BASE + 2 * PAGE,
            PAGE,
            DmaFlags::READ,
            &file,
            2 * PAGE,
        );
        map(&mut client, BASE + 3 * PAGE, PAGE, &file, 3 * PAGE);
        assert_eq!(pages(), [0x66, 2, 0, 4]);
        client.dma_unmap(BASE + 2 * PAGE, PAGE).unwrap();
        map(&mut client, BASE + 2 * PAGE, PAGE, &file, 2 * PAGE);
        assert_eq!(pages(), [0x66, 2, 3, 4]);
        client.dma_unmap_all().unwrap();
        // More than was there before.
        map(&mut client, BASE, 4 * PAGE, &file, 0);
        assert_eq!(pages(), [0x66, 2, 3, 4]);
    }
}

#[test]
fn a_next_client_does_not_get_the_last_one_s_apertures() {
    let (served, mut client, memory) = setup();
    let file = numbered(1, 7);
    map(&mut client, BASE, PAGE, &file, 0);
    let aperture = memory.aperture(GuestAddress(BASE), 4096, false).unwrap();
    drop(client);
    wait_for("end", || memory.ranges().is_empty());
    let mut client = served.connect();
    map(&mut client, BASE, PAGE, &file, 0);
    assert_eq!(bytes(&aperture, 0, 4096), [0; 4096]);
    write(&aperture, 0, &[1]);
    assert_eq!(in_file(&file, 0, 1), [7]);
    let next = memory.aperture(GuestAddress(BASE), 4096, false).unwrap();
    assert_eq!(bytes(&next, 0, 4096), [7; 4096]);
}

#[test]
fn an_aperture_outlives_its_host() {
    let (served, mut client, memory) = setup();
    let file = numbered(1, 7);
    map(&mut client, BASE, PAGE, &file, 0);
    let aperture = memory.aperture(GuestAddress(BASE), 4096, false).unwrap();
    drop(memory);
    drop(served);
    assert_eq!(bytes(&aperture, 0, 4096), [0; 4096]);
    write(&aperture, 9, &[1, 2, 3]);
    assert_eq!(bytes(&aperture, 9, 3), [1, 2, 3]);
    drop(client);
    assert_eq!(in_file(&file, 9, 3), [7; 3]);
    let at = aperture.as_ptr();
    assert_eq!(mapped_as(at).0, "rw-p");
    drop(aperture);
}

#[test]
fn threads_go_on_during_thousands_of_changes() {
    let (_served, mut client, memory) = setup();
    let file = memfd(16 * PAGE);
    map(&mut client, BASE, 16 * PAGE, &file, 0);
    let stop = AtomicBool::new(false);
    let aperture = memory
        .aperture(GuestAddress(BASE), 16 * 4096, false)
        .unwrap();
    std::thread::scope(|scope| {
        for value in [0x11, 0x22] {
            let (aperture, stop) = (&aperture, &stop);
            scope.spawn(move || {
                let mut seen = vec![0; 16 * 4096];
                while !stop.load(Ordering::SeqCst) {
                    write(aperture, 0, &[value; 16 * 4096]);
                    aperture.as_volatile_slice().copy_to(&mut seen[..]);
                    let strange = |byte: &u8| ![0, 0x11, 0x22].contains(byte);
                    let found = seen.iter().position(strange);
                    assert_eq!(found.map(|at| (at, seen[at])), None);
                }
            });
        }
        // Apertures that come and go in the middle of it.
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                if let Ok(one) = memory.aperture(GuestAddress(BASE + 5), 3 * 4096, true) {
                    bytes(&one, 0, 3 * 4096);
                }
            }
        });
        let zeros = vec![0; 16 * 4096];
        for burst in 0..1000 {
            client.dma_unmap_all().unwrap();
            if burst % 50 == 0 {
                // What is answered is final.
                rustix::io::pwrite(&file, &zeros, 0).unwrap();
                std::thread::yield_now();
                assert_eq!(in_file(&file, 0, 16 * 4096), zeros);
            }
            for (page, pages) in [(0, 3), (3, 1), (4, 12)] {
                let at = page * PAGE;
                map(&mut client, BASE + at, pages * PAGE, &file, at);
            }
        }
        stop.store(true, Ordering::SeqCst);
    });
    rustix::io::pwrite(&file, &[0x77], 5 * PAGE).unwrap();
    assert_eq!(bytes(&aperture, 5 * 4096, 1), [0x77]);
}

/// In a process of its own, since other tests map and open files too.
#[test]
fn helper_cycles() {
    if std::env::var_os("HDV_TEST_CYCLES").is_none() {
        return;
    }
    let (_served, mut client, memory) = setup();
    let files = [numbered(2, 1), numbered(2, 3)];
    for page in 0..4 {
        let file = &files[usize::try_from(page % 2).unwrap()];
        map(&mut client, BASE + page * PAGE, PAGE, file, 0);
    }
    let grown = || {
        let lines = std::fs::read_to_string("/proc/self/maps").unwrap();
        let files = std::fs::read_dir("/proc/self/fd").unwrap().count();
        (lines.lines().count(), files)
    };
    let kept: Vec<_> = (0..8)
        .map(|_| memory.aperture(GuestAddress(BASE), 4 * 4096, false))
        .collect();
    let mut before = grown();
    for cycle in 0..10_000 {
        let write_protected = cycle % 2 == 0;
        let aperture = memory
            .aperture(GuestAddress(BASE + 100), 3 * 4096, write_protected)
            .unwrap();
        assert_eq!(bytes(&aperture, 0, 1), [1]);
        drop(aperture);
        if cycle == 10 {
            before = grown();
        }
    }
    let after = grown();
    // The allocator may take a further piece or two.
    assert!(after.0 <= before.0 + 4, "{before:?} {after:?}");
    assert_eq!(after.1, before.1);
    drop(kept);
    assert!(grown().0 <= before.0 - 8 * 4 + 4);
}

#[test]
fn ten_thousand_cycles_leave_nothing() {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_cycles", "--nocapture"])
        .env("HDV_TEST_CYCLES", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn many_ranges_of_a_file_cost_one_descriptor() {
    let (_served, mut client, memory) = setup();
    let file = memfd(2 * PAGE);
    let link = std::fs::read_link(format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&file)
    ))
    .unwrap();
    let inode = rustix::fs::fstat(&file).unwrap().st_ino;
    // Of this test's file only: the others of this process have memory too.
    let count = || {
        std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                if std::fs::read_link(&path).ok()? != link {
                    return None;
                }
                let found = rustix::fs::stat(&path).ok()?;
                (found.st_ino == inode).then_some(())
            })
            .count()
    };
    assert_eq!(count(), 1);
    for range in 0..300 {
        map(&mut client, BASE + range * PAGE, PAGE, &file, PAGE);
    }
    assert_eq!(count(), 2);
    let aperture = memory
        .aperture(GuestAddress(BASE), 300 * 4096, false)
        .unwrap();
    write(&aperture, 0, &[5]);
    assert_eq!(bytes(&aperture, 299 * 4096, 1), [5]);
    assert_eq!(count(), 2);
    drop(aperture);
    client.dma_unmap_all().unwrap();
    assert_eq!(count(), 1);
}

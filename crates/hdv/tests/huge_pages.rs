//! Guest memory in huge pages, which the kernel maps and unmaps whole, over a real socket. Nothing
//! here needs any: where there are none, an access finds the memory lost.

mod support;

use std::os::fd::{AsFd, OwnedFd};

use hdv::{GuestAddress, GuestMemory, MemoryError};
use rustix::fs::MemfdFlags;
use support::*;

const HUGE: u64 = 2 << 20;
const PAGE: u64 = 4096;

/// A file of this many huge pages.
fn huge(pages: u64) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
    let file = rustix::fs::memfd_create("huge", flags).unwrap();
    rustix::fs::ftruncate(&file, pages * HUGE).unwrap();
    file
}

/// How many mappings of a file this process has.
fn mappings(file: &OwnedFd) -> usize {
    let inode = rustix::fs::fstat(file).unwrap().st_ino.to_string();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines()
        .filter(|line| line.split_whitespace().nth(4) == Some(inode.as_str()))
        .count()
}

/// Writes and reads back; where there are no huge pages the memory is lost instead.
fn check(memory: &GuestMemory, address: u64) {
    let written = memory.write(GuestAddress(address), &[1, 2, 3, 4]);
    if written == Err(MemoryError::Lost(GuestAddress(address))) {
        return;
    }
    let mut data = [0; 4];
    memory.read(GuestAddress(address), &mut data).unwrap();
    assert_eq!(data, [1, 2, 3, 4]);
}

#[test]
fn parts_of_huge_pages_are_mapped_and_leave_nothing() {
    let served = serve(Recorder::default());
    let mut client = served.connect();
    let memory = served.record.context().memory;
    let file = huge(2);
    for _ in 0..50 {
        // As QEMU has it: around the hole of the VGA memory, and more than a page.
        for (start, end) in [
            (0, 0xa_0000),
            (0xc_0000, 0xc_0000 + PAGE),
            (HUGE - PAGE, 2 * HUGE),
        ] {
            client
                .dma_map(start, end - start, READ_WRITE, Some((file.as_fd(), start)))
                .unwrap();
        }
        assert_eq!(mappings(&file), 3);
        client.dma_unmap(0xc_0000, PAGE).unwrap();
        assert_eq!(mappings(&file), 2);
        check(&memory, 0x9_fffc);
        check(&memory, HUGE - 2);
        client.dma_unmap_all().unwrap();
        assert_eq!(mappings(&file), 0);
    }
}

#[test]
fn an_aperture_of_huge_pages_is_refused() {
    let served = serve(Recorder::default());
    let mut client = served.connect();
    let memory = served.record.context().memory;
    let (file, plain) = (huge(1), memfd(PAGE));
    client
        .dma_map(0, PAGE, READ_WRITE, Some((plain.as_fd(), 0)))
        .unwrap();
    client
        .dma_map(PAGE, HUGE, READ_WRITE, Some((file.as_fd(), 0)))
        .unwrap();
    for (address, length) in [(PAGE, 1), (PAGE, 2 << 20), (0, 8192)] {
        for write_protected in [false, true] {
            assert_eq!(
                memory
                    .aperture(GuestAddress(address), length, write_protected)
                    .expect_err("refused"),
                MemoryError::HugePages(GuestAddress(PAGE))
            );
        }
    }
    assert!(memory.aperture(GuestAddress(0), 4096, false).is_ok());
    assert_eq!(mappings(&file), 1);
}

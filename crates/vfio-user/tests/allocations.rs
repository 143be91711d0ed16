//! An access allocates nothing, on either end, however often it is made.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{TestBackend, lock};
use hdv_vfio_user::client::{Client, ClientOptions};
use hdv_vfio_user::server::{Ledger, SessionOptions};

/// The system's allocator, counting on threads that asked for it.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    if COUNTED.try_with(Cell::get).unwrap_or(false) {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
    }
}

// SAFETY: every call is the system allocator's, unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The count is the process's.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
fn the_counter_counts() {
    let _one = lock(&ONE_AT_A_TIME);
    COUNTED.set(true);
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    drop(std::hint::black_box(Box::new(5)));
    let counted = ALLOCATIONS.load(Ordering::SeqCst) - before;
    COUNTED.set(false);
    assert_eq!(counted, 1);
}

#[test]
fn reads_writes_and_posted_writes_allocate_nothing_on_either_end() {
    let _one = lock(&ONE_AT_A_TIME);
    let mut backend = TestBackend::new();
    backend.quiet = true;
    // The session's thread begins to be counted when it is told to, in its first write.
    backend.on_write = Some(Box::new(|_, offset, _| {
        if offset == 0x100 {
            COUNTED.set(true);
        }
        if offset == 0x104 {
            COUNTED.set(false);
        }
        Ok(())
    }));
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let connecting =
        std::thread::spawn(move || Client::from_stream(ours, ClientOptions::default()));
    let ledger = Ledger::open(Ledger::file().expect("a file")).expect("a ledger");
    let options = SessionOptions::default();
    let _running = common::serve_with_ledger(theirs, options, backend, Some(ledger));
    let mut client = connecting.join().expect("no panic").expect("connected");
    let mut data = [0; 8];
    client.region_read(0, 0, &mut data).expect("warm");
    client.region_write(0, 0, &data).expect("warm");

    client.region_write(0, 0x100, &[0; 4]).expect("begin");
    COUNTED.set(true);
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    let mut page = [0; 4096];
    for round in 0..2000_u32 {
        for size in [1, 2, 4, 8] {
            client.region_write(0, 0, &data[..size]).expect("write");
            client.region_read(0, 0, &mut data[..size]).expect("read");
            client
                .region_write_posted(0, 8, &data[..size])
                .expect("posted");
        }
        if round % 100 == 0 {
            client.region_read(0, 0, &mut page).expect("a page");
            client.region_write(0, 0x1000, &page).expect("a page");
        }
    }
    let counted = ALLOCATIONS.load(Ordering::SeqCst) - before;
    COUNTED.set(false);
    client.region_write(0, 0x104, &[0; 4]).expect("end");
    assert_eq!(counted, 0);
}

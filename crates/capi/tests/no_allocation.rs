//! The hot functions of the C interface make no heap allocation.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::os::fd::AsFd;

use computecore::{HdvDeliverGuestInterrupt, HdvReadGuestMemory, HdvWriteGuestMemory, codes};
use hdv_vfio_user::vfio;

#[path = "guests/device.rs"]
#[allow(dead_code, reason = "each test file uses its own part of this")]
mod device;
#[path = "support/guest.rs"]
mod guest;

use device::{MSIX_CAPABILITY, serve};
use guest::{BAR0, CONFIG, event, give_memory, taken, write};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: by the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: by the caller's contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// This thread's allocations during many calls, after a first one.
fn allocations(mut call: impl FnMut() -> i32) -> u64 {
    assert_eq!(call(), codes::S_OK);
    let before = ALLOCATIONS.get();
    for _ in 0..1_000 {
        assert_eq!(call(), codes::S_OK);
    }
    ALLOCATIONS.get() - before
}

#[test]
fn memory_and_interrupts_allocate_nothing() {
    let served = serve();
    let mut client = served.guest();
    let _memory = give_memory(&mut client, 0x10_0000, 0x4000);
    let vector = event();
    client
        .set_irq_event_fds(vfio::irq::MSIX, 0, &[vector.as_fd()])
        .expect("taken");
    write(&mut client, BAR0, 0x300c, &0u32.to_le_bytes());
    write(
        &mut client,
        CONFIG,
        MSIX_CAPABILITY + 2,
        &0x8000u16.to_le_bytes(),
    );
    let (address, data) = served.state.message(0);
    let device = served.device();
    let mut bytes = [0; 64];
    // SAFETY: the buffers have that length.
    let reads =
        allocations(|| unsafe { HdvReadGuestMemory(device, 0x10_0000, 64, bytes.as_mut_ptr()) });
    // SAFETY: as above.
    let writes =
        allocations(|| unsafe { HdvWriteGuestMemory(device, 0x10_0000, 64, [1; 64].as_ptr()) });
    let interrupts = allocations(|| HdvDeliverGuestInterrupt(device, address, data));
    assert_eq!((reads, writes, interrupts), (0, 0, 0));
    assert_eq!(taken(&vector), 1_001);
}

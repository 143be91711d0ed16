//! What happens when this process may have no further mapping, which clients can bring about with what
//! they map. Alone in its process.

use hdv::{Aperture, GuestAddress, GuestMemory};
use hdv_vfio_user::backend::DmaMap;
use hdv_vfio_user::{DmaFlags, Errno};
use rustix::mm::{MapFlags, ProtFlags};

const PAGE: u64 = 4096;

/// Takes every mapping that there is and one more than the kernel lets anybody split; gives them back when
/// dropped.
struct Exhausted(Vec<*mut std::ffi::c_void>);

impl Exhausted {
    fn new() -> Self {
        let mut all = Vec::with_capacity(1 << 20);
        // No two neighbours alike, or the kernel would join them.
        for protection in [ProtFlags::READ, ProtFlags::empty()].into_iter().cycle() {
            assert!(all.len() < all.capacity(), "vm.max_map_count is too large");
            // SAFETY: the kernel chooses an unused address, and nobody uses what is there.
            let mapped = unsafe {
                rustix::mm::mmap_anonymous(
                    std::ptr::null_mut(),
                    4096,
                    protection,
                    MapFlags::PRIVATE | MapFlags::NORESERVE,
                )
            };
            match mapped {
                Ok(mapped) => all.push(mapped),
                Err(_) => break,
            }
        }
        Self(all)
    }
}

impl Drop for Exhausted {
    fn drop(&mut self) {
        for &mapped in &self.0 {
            // SAFETY: it was mapped above and nobody uses it.
            let _ = unsafe { rustix::mm::munmap(mapped, 4096) };
        }
    }
}

fn byte(aperture: &Aperture) -> u8 {
    let mut byte = [0];
    aperture.as_volatile_slice().copy_to(&mut byte);
    byte[0]
}

/// Two pages of sevens, and an aperture of each.
fn shown() -> (GuestMemory, [Aperture; 2]) {
    let file = rustix::fs::memfd_create("guest", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&file, 2 * PAGE).unwrap();
    rustix::io::pwrite(&file, &[7; 2 * 4096], 0).unwrap();
    let memory = GuestMemory::new();
    memory
        .map(&DmaMap {
            address: 0,
            size: 2 * PAGE,
            flags: DmaFlags::READ | DmaFlags::WRITE,
            offset: 0,
            file: Some(file),
        })
        .unwrap();
    let apertures = [0, PAGE].map(|at| memory.aperture(GuestAddress(at), 4096, false).unwrap());
    assert_eq!(apertures.each_ref().map(byte), [7, 7]);
    (memory, apertures)
}

#[test]
fn memory_is_taken_away_when_there_is_room_again() {
    let (memory, apertures) = shown();
    let exhausted = Exhausted::new();
    let refused = memory.unmap(0, 2 * PAGE);
    let still_there = memory.load::<u32>(GuestAddress(0));
    drop(exhausted);
    assert_eq!(refused, Err(Errno::NOMEM));
    assert_eq!(still_there, Ok(0x0707_0707));
    // The client tries again.
    memory.unmap(0, 2 * PAGE).unwrap();
    assert_eq!(apertures.each_ref().map(byte), [0, 0]);

    // When the client leaves, its own mappings make room.
    let (memory, apertures) = shown();
    let exhausted = Exhausted::new();
    memory.clear();
    drop(exhausted);
    assert_eq!(apertures.each_ref().map(byte), [0, 0]);
}

//! A guest, as far as a device can tell: the client end with memory, BARs and interrupts.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its own part of this"
)]

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use hdv_vfio_user::client::{Client, ClientOptions};
use hdv_vfio_user::{DmaFlags, Errno, vfio};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

/// Longer than anything takes; a wait that lasts this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const BAR0: u32 = vfio::region::BAR0;
pub const BAR2: u32 = vfio::region::BAR0 + 2;
pub const CONFIG: u32 = vfio::region::CONFIG;
pub const READ_WRITE: DmaFlags = DmaFlags::READ.union(DmaFlags::WRITE);

pub fn connect(socket: &Path) -> Client {
    let options = ClientOptions::default().with_reply_timeout(Some(PATIENCE));
    Client::connect(socket, options).expect("a connection")
}

/// Waits until `condition` holds.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "no {what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub fn read<const N: usize>(client: &mut Client, region: u32, offset: u64) -> [u8; N] {
    let mut data = [0x5a; N];
    client.region_read(region, offset, &mut data).expect("read");
    data
}

pub fn write(client: &mut Client, region: u32, offset: u64, data: &[u8]) {
    client.region_write(region, offset, data).expect("written");
}

/// Sets Memory Space and Bus Master Enable.
pub fn enable(client: &mut Client) {
    write(client, CONFIG, 4, &6u16.to_le_bytes());
}

pub fn memfd(size: u64) -> OwnedFd {
    let file = memfd_create("guest", MemfdFlags::CLOEXEC).expect("memfd");
    ftruncate(&file, size).expect("sized");
    file
}

/// Gives the device a memfd as guest memory at `address`.
pub fn give_memory(client: &mut Client, address: u64, size: u64) -> OwnedFd {
    let file = memfd(size);
    client
        .dma_map(address, size, READ_WRITE, Some((file.as_fd(), 0)))
        .expect("mapped");
    file
}

pub fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).expect("an eventfd")
}

/// How often it was signalled since the last look.
pub fn taken(event: impl AsFd) -> u64 {
    let mut count = [0; 8];
    match rustix::io::read(event, &mut count) {
        Ok(_) => u64::from_ne_bytes(count),
        Err(error) => {
            assert_eq!(error, Errno::AGAIN);
            0
        }
    }
}

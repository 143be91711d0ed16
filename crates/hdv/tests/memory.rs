//! Guest memory over a real socket: maps of every kind, good and hostile, and what a device
//! sees through them.

mod support;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use hdv::{GuestAddress, GuestMemory, MAX_REGIONS, MemoryError};
use hdv_vfio_user::client::{Client, DmaHandler};
use hdv_vfio_user::{DmaFlags, Errno};
use support::*;

const PAGE: u64 = 4096;

fn map(client: &mut Client, address: u64, size: u64, file: &OwnedFd, offset: u64) -> Option<Errno> {
    map_with(client, address, size, READ_WRITE, file, offset)
}

fn map_with(
    client: &mut Client,
    address: u64,
    size: u64,
    flags: DmaFlags,
    file: &OwnedFd,
    offset: u64,
) -> Option<Errno> {
    let result = client.dma_map(address, size, flags, Some((file.as_fd(), offset)));
    result.err().map(|error| error.errno().expect("a refusal"))
}

fn setup() -> (Served, Client, GuestMemory) {
    let served = serve(Recorder::default());
    let client = served.connect();
    let memory = served.record.context().memory;
    (served, client, memory)
}

fn in_file(file: &OwnedFd, offset: u64) -> [u8; 4] {
    let mut data = [0; 4];
    rustix::io::pread(file, &mut data, offset).unwrap();
    data
}

#[test]
fn memory_is_the_clients_file_wherever_it_is_mapped() {
    let (_served, mut client, memory) = setup();
    let (first, second) = (memfd(4 * PAGE), memfd(2 * PAGE));
    assert_eq!(map(&mut client, 0x10_0000, 2 * PAGE, &first, PAGE), None);
    assert_eq!(
        map(&mut client, 0x10_0000 + 2 * PAGE, PAGE, &second, PAGE),
        None
    );
    let seam = GuestAddress(0x10_0000 + 2 * PAGE - 2);
    memory.write(seam, &[1, 2, 3, 4]).unwrap();
    assert_eq!(in_file(&first, 3 * PAGE - 2)[..2], [1, 2]);
    assert_eq!(in_file(&second, PAGE)[..2], [3, 4]);
    let mut data = [0; 4];
    memory.read(seam, &mut data).unwrap();
    assert_eq!(data, [1, 2, 3, 4]);
    // Over the end: whole or not at all.
    let end = GuestAddress(0x10_0000 + 3 * PAGE - 2);
    let beyond = GuestAddress(0x10_0000 + 3 * PAGE);
    assert_eq!(
        memory.write(end, &[9; 4]),
        Err(MemoryError::NotMapped(beyond))
    );
    assert_eq!(in_file(&second, 2 * PAGE - 2)[..2], [0, 0]);
    // Atomics: aligned and in one region.
    let at = GuestAddress(0x10_0000 + 8);
    memory.store(at, 0x1234_5678_u32).unwrap();
    assert_eq!(in_file(&first, PAGE + 8), 0x1234_5678_u32.to_le_bytes());
    assert_eq!(memory.load::<u32>(at), Ok(0x1234_5678));
    for bad in [GuestAddress(at.0 + 1), seam] {
        assert_eq!(memory.load::<u32>(bad), Err(MemoryError::Misaligned(bad)));
        let stored = memory.store(bad, 0_u32);
        assert_eq!(stored, Err(MemoryError::Misaligned(bad)));
    }
    assert_eq!(
        memory.check_writeable(GuestAddress(0x10_0000), 3 * PAGE),
        Ok(())
    );
    assert!(
        memory
            .check_writeable(GuestAddress(0x10_0000), 3 * PAGE + 1)
            .is_err()
    );
    assert!(
        memory
            .check_writeable(GuestAddress(u64::MAX), u64::MAX)
            .is_err()
    );
}

#[test]
fn rights_are_kept() {
    let (_served, mut client, memory) = setup();
    let file = memfd(2 * PAGE);
    assert_eq!(
        map_with(&mut client, 0, PAGE, DmaFlags::READ, &file, 0),
        None
    );
    assert_eq!(map(&mut client, PAGE, PAGE, &file, PAGE), None);
    let denied = |at| Err(MemoryError::Denied(GuestAddress(at)));
    assert_eq!(memory.write(GuestAddress(8), &[1]), denied(8));
    assert_eq!(memory.store(GuestAddress(8), 1_u32), denied(8));
    assert_eq!(
        memory.write(GuestAddress(PAGE - 1), &[1, 1]),
        denied(PAGE - 1)
    );
    assert_eq!(in_file(&file, PAGE)[0], 0, "nothing of it was written");
    assert_eq!(memory.read(GuestAddress(PAGE - 1), &mut [0; 2]), Ok(()));
    client.dma_unmap_all().unwrap();
    assert_eq!(
        map_with(&mut client, 0, PAGE, DmaFlags::WRITE, &file, 0),
        None
    );
    assert_eq!(memory.read(GuestAddress(8), &mut [0]), denied(8));
    assert_eq!(memory.write(GuestAddress(8), &[1]), Ok(()));
    // A file that cannot be written cannot be mapped so.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let read_only = OwnedFd::from(std::fs::File::open(path).unwrap());
    assert_eq!(
        map(&mut client, PAGE, PAGE, &read_only, 0),
        Some(Errno::ACCESS)
    );
    assert_eq!(
        map_with(&mut client, PAGE, PAGE, DmaFlags::READ, &read_only, 0),
        None
    );
}

#[test]
fn hostile_maps_are_refused_and_change_nothing() {
    let (_served, mut client, memory) = setup();
    let file = memfd(4 * PAGE);
    assert_eq!(map(&mut client, 0x10_000, 2 * PAGE, &file, 0), None);
    let before = memory.ranges();
    let (pipe, _other) = rustix::pipe::pipe().unwrap();
    let directory = OwnedFd::from(std::fs::File::open("/").unwrap());
    for (address, size, file, offset, error) in [
        (0x10_000, PAGE, &file, 0, Errno::EXIST),
        (0x11_000, 2 * PAGE, &file, 0, Errno::EXIST),
        (0xf_000, 4 * PAGE, &file, 0, Errno::EXIST),
        (0x20_000, 5 * PAGE, &file, 0, Errno::INVAL),
        (0x20_000, PAGE, &file, 4 * PAGE, Errno::INVAL),
        (0x20_000, PAGE, &file, 1 << 62, Errno::INVAL),
        (0x20_000, 1 << 62, &file, 0, Errno::INVAL),
        (0x20_000, PAGE, &file, u64::MAX - PAGE + 1, Errno::INVAL),
        (0x20_000, 0, &file, 0, Errno::INVAL),
        (0x20_001, PAGE, &file, 0, Errno::INVAL),
        (0x20_000, PAGE - 1, &file, 0, Errno::INVAL),
        (0x20_000, PAGE, &file, 1, Errno::INVAL),
        (u64::MAX - PAGE + 1, 2 * PAGE, &file, 0, Errno::INVAL),
        (0x20_000, PAGE, &pipe, 0, Errno::INVAL),
        (0x20_000, PAGE, &event(), 0, Errno::INVAL),
    ] {
        assert_eq!(
            map(&mut client, address, size, file, offset),
            Some(error),
            "{address:#x}"
        );
        assert_eq!(memory.ranges(), before);
    }
    assert!(map_with(&mut client, 0x20_000, PAGE, DmaFlags::READ, &directory, 0).is_some());
    assert_eq!(memory.ranges(), before);
    // Cutting one in two is refused whole; nothing is nothing.
    for (address, size) in [
        (0x10_000, PAGE),
        (0x11_000, PAGE),
        (0, 0x11_000),
        (0x11_000, 1 << 40),
    ] {
        let error = client.dma_unmap(address, size).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::INVAL));
        assert_eq!(memory.ranges(), before);
    }
    client.dma_unmap(0x20_000, PAGE).unwrap();
    client.dma_unmap(0, 0x10_000).unwrap();
    assert_eq!(memory.ranges(), before);
    client.dma_unmap(0, 1 << 63).unwrap();
    assert_eq!(memory.ranges(), []);
    // The last page of all, and everything.
    assert_eq!(map(&mut client, u64::MAX - PAGE + 1, PAGE, &file, 0), None);
    memory.write(GuestAddress(u64::MAX), &[7]).unwrap();
    assert!(memory.write(GuestAddress(u64::MAX), &[7, 7]).is_err());
    client
        .dma_map((1 << 63) - PAGE, 2 * PAGE, READ_WRITE, None)
        .unwrap();
    client.dma_unmap_all().unwrap();
    assert_eq!(memory.ranges(), []);
}

#[test]
fn there_is_a_limit_of_regions() {
    let (_served, mut client, memory) = setup();
    let file = memfd(PAGE);
    for index in 0..MAX_REGIONS as u64 {
        // Mostly without a descriptor, which is faster.
        let file = index.is_multiple_of(64).then(|| (file.as_fd(), 0));
        client
            .dma_map(2 * PAGE * index, PAGE, READ_WRITE, file)
            .unwrap();
    }
    assert_eq!(memory.ranges().len(), MAX_REGIONS);
    assert_eq!(
        map(&mut client, 1 << 40, PAGE, &file, 0),
        Some(Errno::NOSPC)
    );
    client.dma_unmap(0, PAGE).unwrap();
    assert_eq!(map(&mut client, 1 << 40, PAGE, &file, 0), None);
}

/// Memory that is reached by messages.
#[derive(Clone)]
struct Ram(Arc<Mutex<Vec<u8>>>);

impl DmaHandler for Ram {
    fn dma_read(&mut self, address: u64, data: &mut [u8]) -> Result<(), Errno> {
        let at = usize::try_from(address).unwrap();
        data.copy_from_slice(&lock(&self.0)[at..at + data.len()]);
        Ok(())
    }

    fn dma_write(&mut self, address: u64, data: &[u8]) -> Result<(), Errno> {
        let at = usize::try_from(address).unwrap();
        lock(&self.0)[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }
}

#[test]
fn memory_without_a_descriptor_is_reached_by_messages() {
    for twin in [false, true] {
        let served = serve(Recorder::default());
        let mut client = Client::connect(&served.socket, options().with_twin_socket(twin)).unwrap();
        let memory = served.record.context().memory;
        let ram = Ram(Arc::new(Mutex::new(vec![0; 0x4000])));
        client.set_dma_handler(Box::new(ram.clone()));
        let file = memfd(PAGE);
        client.dma_map(0, PAGE, READ_WRITE, None).unwrap();
        assert_eq!(map(&mut client, PAGE, PAGE, &file, 0), None);
        client
            .dma_map(2 * PAGE, PAGE, DmaFlags::READ, None)
            .unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Message, mapping, message.
                let data: Vec<u8> = (0..PAGE + 8).map(|byte| byte.to_le_bytes()[0]).collect();
                let at = GuestAddress(PAGE - 4);
                assert_eq!(
                    memory.write(at, &data),
                    Err(MemoryError::Denied(GuestAddress(2 * PAGE)))
                );
                memory.write(at, &data[..64]).unwrap();
                assert_eq!(lock(&ram.0)[4092..4096], data[..4]);
                assert_eq!(in_file(&file, 0), data[4..8]);
                let mut back = vec![0; data.len()];
                memory.read(at, &mut back).unwrap();
                assert_eq!(back[..64], data[..64]);
                memory.store(GuestAddress(16), 77_u32).unwrap();
                assert_eq!(memory.load::<u32>(GuestAddress(16)), Ok(77));
                done.store(true, Ordering::SeqCst);
            });
            wait_for("messages", || {
                client
                    .serve_requests(std::time::Duration::from_millis(20))
                    .unwrap();
                done.load(Ordering::SeqCst)
            });
        });
        drop(client);
        wait_for("end", || memory.ranges().is_empty());
    }
}

/// Answers once it is let.
struct Gated {
    asked: std::sync::mpsc::Sender<()>,
    gate: std::sync::mpsc::Receiver<()>,
}

impl DmaHandler for Gated {
    fn dma_read(&mut self, _: u64, _: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::IO)
    }

    fn dma_write(&mut self, _: u64, _: &[u8]) -> Result<(), Errno> {
        self.asked.send(()).unwrap();
        self.gate.recv().unwrap();
        Ok(())
    }
}

#[test]
fn memory_that_goes_during_a_message_is_not_touched() {
    let served = serve(Recorder::default());
    let mut client = Client::connect(&served.socket, options().with_twin_socket(true)).unwrap();
    let memory = served.record.context().memory;
    let (asked, was_asked) = std::sync::mpsc::channel();
    let (open, gate) = std::sync::mpsc::channel();
    client.set_dma_handler(Box::new(Gated { asked, gate }));
    let file = memfd(PAGE);
    client.dma_map(0, PAGE, READ_WRITE, None).unwrap();
    assert_eq!(map(&mut client, PAGE, PAGE, &file, 0), None);
    std::thread::scope(|scope| {
        let device = scope.spawn(|| memory.write(GuestAddress(PAGE - 4), &[0xaa; 8]));
        was_asked.recv_timeout(PATIENCE).unwrap();
        // Not kept waiting by the message, and final.
        client.dma_unmap(PAGE, PAGE).unwrap();
        open.send(()).unwrap();
        let result = device.join().unwrap();
        assert_eq!(result, Err(MemoryError::NotMapped(GuestAddress(PAGE))));
    });
    assert_eq!(in_file(&file, 0), [0; 4]);
}

/// Reads guest memory while its client waits.
struct Eager {
    memory: Option<GuestMemory>,
    result: Arc<Mutex<Option<Result<(), MemoryError>>>>,
}

impl hdv::PciDevice for Eager {
    fn config_space(&self) -> Result<hdv::ConfigSpace, hdv::ConfigError> {
        Recorder::default().config_space()
    }

    fn initialize(&mut self, context: hdv::DeviceContext) -> Result<(), hdv::DeviceError> {
        self.memory = Some(context.memory);
        Ok(())
    }

    fn read(&mut self, _: hdv::BarAccess) -> u64 {
        let memory = self.memory.as_ref().expect("powered on");
        *lock(&self.result) = Some(memory.read(GuestAddress(16), &mut [0; 4]));
        7
    }

    fn write(&mut self, _: hdv::BarAccess, _: u64) {}

    fn reset(&mut self) {}
}

#[test]
fn an_access_by_message_in_a_call_fails_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("s");
    let host = host();
    let result = Arc::new(Mutex::new(None));
    let device = Eager {
        memory: None,
        result: Arc::clone(&result),
    };
    host.serve(&socket, "eager", device).unwrap();
    for twin in [false, true] {
        let mut client = Client::connect(&socket, options().with_twin_socket(twin)).unwrap();
        client.dma_map(0, PAGE, READ_WRITE, None).unwrap();
        let begin = std::time::Instant::now();
        assert_eq!(read32(&mut client, BAR0, 0), 7);
        assert!(begin.elapsed() < std::time::Duration::from_secs(2));
        assert_eq!(
            lock(&result).take(),
            Some(Err(MemoryError::ClientWaits(GuestAddress(16))))
        );
    }
}

#[test]
fn nothing_is_copied_after_an_unmap_is_answered() {
    let (_served, mut client, memory) = setup();
    let file = memfd(64 * PAGE);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (memory, stop) = (memory.clone(), &stop);
            scope.spawn(move || {
                let data = vec![0xaa; 64 * 4096];
                while !stop.load(Ordering::SeqCst) {
                    let _ = memory.write(GuestAddress(0), &data);
                }
            });
        }
        let zeros = vec![0; 64 * 4096];
        let mut seen = vec![0; 64 * 4096];
        for _ in 0..200 {
            assert_eq!(map(&mut client, 0, 64 * PAGE, &file, 0), None);
            client.dma_unmap(0, 64 * PAGE).unwrap();
            rustix::io::pwrite(&file, &zeros, 0).unwrap();
            std::thread::yield_now();
            rustix::io::pread(&file, &mut seen, 0).unwrap();
            assert_eq!(seen, zeros);
        }
        stop.store(true, Ordering::SeqCst);
    });
}

#[test]
fn a_client_cannot_take_all_addresses_of_the_process() {
    const TEBI: u64 = 1 << 40;
    let served = serve(Recorder::default());
    let mut client = served.connect();
    // Nothing is in it, so it costs nothing.
    let file = memfd(8 * TEBI);
    for (address, size, refused) in [
        (0, 8 * TEBI, None),
        (8 * TEBI, 8 * TEBI, None),
        (16 * TEBI, PAGE, Some(Errno::NOSPC)),
    ] {
        assert_eq!(map(&mut client, address, size, &file, 0), refused);
    }
    client.dma_unmap(0, 8 * TEBI).unwrap();
    assert_eq!(map(&mut client, 16 * TEBI, 8 * TEBI, &file, 0), None);
}

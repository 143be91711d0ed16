//! Everything at once: devices are created and removed while clients come, give memory and vectors, and go,
//! and while threads of the devices use what they were given. Alone in its process.

mod support;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use hdv::{
    BarIndex, DeviceIds, GuestAddress, MmioError, Section, SectionFlags, SocketDirectory, Uuid,
    pci_function,
};
use hdv_vfio_user::client::Client;
use hdv_vfio_user::vfio;
use support::*;

const PAGE: u64 = 4096;
/// Instance ids that are used again and again.
const DEVICES: u32 = 3;
const ROUNDS: usize = 60;

/// Descriptors, mappings of deleted files (memfds), and threads of this process.
fn held() -> (usize, usize, usize) {
    let count = |path| std::fs::read_dir(path).unwrap().count();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let files = maps.lines().filter(|line| line.contains("/memfd:")).count();
    (count("/proc/self/fd"), files, count("/proc/self/task"))
}

/// A client's visit. Any step may fail: its device may be gone, or somebody else has it.
fn visit(client: &mut Client) -> Option<()> {
    let file = memfd(4 * PAGE);
    for page in 0..4 {
        let at = page * PAGE;
        client
            .dma_map(at, PAGE, READ_WRITE, Some((file.as_fd(), at)))
            .ok()?;
    }
    let events: Vec<_> = (0..2).map(|_| event()).collect();
    let borrowed: Vec<_> = events.iter().map(AsFd::as_fd).collect();
    for _ in 0..5 {
        client.region_info(vfio::region::BAR0).ok()?;
        client
            .set_irq_event_fds(vfio::irq::MSIX, 0, &borrowed)
            .ok()?;
        client
            .region_read(vfio::region::BAR0, 0, &mut [0; 4])
            .ok()?;
        client.region_write(vfio::region::BAR0, 0, &[1; 4]).ok()?;
        client.dma_unmap(PAGE, 2 * PAGE).ok()?;
        client.reset().ok()?;
        client
            .dma_map(PAGE, 2 * PAGE, READ_WRITE, Some((file.as_fd(), PAGE)))
            .ok()?;
        client.disable_irqs(vfio::irq::MSIX).ok()?;
    }
    // It may leave with its file shrunk, too.
    rustix::fs::ftruncate(&file, 0).ok()
}

#[test]
fn nothing_hangs_and_nothing_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let host = host();
    let system = Arc::new(SocketDirectory::open(directory.path()).unwrap());
    host.attach(Arc::clone(&system) as _).unwrap();
    let before = held();
    let stop = AtomicBool::new(false);
    let visits = AtomicUsize::new(0);
    let done = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for visitor in (0..DEVICES).chain(0..DEVICES) {
            let (system, stop, visits) = (&system, &stop, &visits);
            scope.spawn(move || {
                let socket = system.socket(Uuid::from_u128(visitor.into()));
                while !stop.load(Ordering::SeqCst) {
                    let visited = Client::connect(&socket, options())
                        .ok()
                        .and_then(|mut client| visit(&mut client));
                    if visited.is_some() {
                        visits.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        for device in 0..DEVICES {
            let (host, stop, visits, done) = (&host, &stop, &visits, &done);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let function = pci_function(Box::new(Recorder::default())).unwrap();
                    let ids = DeviceIds {
                        class_id: Uuid::nil(),
                        instance_id: Uuid::from_u128(device.into()),
                    };
                    let instance = host.create_device(ids, function).unwrap();
                    host.announce(instance.id()).unwrap();
                    let due = visits.load(Ordering::SeqCst) + round % 3;
                    let gone = AtomicBool::new(false);
                    std::thread::scope(|scope| {
                        // A thread of the device's own, which learns late that the device is gone.
                        scope.spawn(|| {
                            let section = Section {
                                bar: BarIndex::BAR0,
                                offset: 0,
                                length: PAGE,
                                file_offset: 0,
                                flags: SectionFlags::WRITEABLE,
                            };
                            let file = memfd(PAGE);
                            while !gone.load(Ordering::SeqCst) {
                                let _ = instance.interrupts().signal(1);
                                let _ = instance.memory().read(GuestAddress(8), &mut [0; 8192]);
                                if let Ok(aperture) =
                                    instance.memory().aperture(GuestAddress(16), 12_000, true)
                                {
                                    aperture.as_volatile_slice().copy_to(&mut [0_u8; 12_000]);
                                }
                                match instance.mmio().create_section(section, file.as_fd()) {
                                    Ok(()) | Err(MmioError::Gone) => {}
                                    Err(error) => panic!("{error}"),
                                }
                                let _ = instance.mmio().destroy_section(BarIndex::BAR0, 0);
                            }
                        });
                        wait_for("visits", || visits.load(Ordering::SeqCst) >= due);
                        host.remove(instance.id()).unwrap();
                        gone.store(true, Ordering::SeqCst);
                    });
                }
                // Whoever is last sends the visitors home.
                if done.fetch_add(1, Ordering::SeqCst) + 1 == DEVICES {
                    stop.store(true, Ordering::SeqCst);
                }
            });
        }
    });
    wait_for("the end of all sessions", || held() == before);
    host.close().unwrap();
}

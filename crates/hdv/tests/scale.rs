//! Many devices and many cycles leave nothing behind. One test, since it counts what its whole
//! process has open.

mod support;

use std::path::Path;

use hdv_vfio_user::vfio;
use support::*;

fn count(path: &str) -> usize {
    std::fs::read_dir(path).unwrap().count()
}

fn threads_named(name: &str) -> usize {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
        .filter(|comm| comm.starts_with(name))
        .count()
}

fn maps_of_guest_memory() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines()
        .filter(|line| line.contains("memfd:guest"))
        .count()
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let size = line.unwrap().split_whitespace().nth(1).unwrap();
    size.parse().unwrap()
}

fn use_it(socket: &Path) {
    let mut client = connect(socket);
    enable(&mut client);
    let file = memfd(0x4000);
    let file = Some((std::os::fd::AsFd::as_fd(&file), 0));
    client.dma_map(0, 0x4000, READ_WRITE, file).unwrap();
    let events = connect_vectors(&mut client, vfio::irq::MSIX, 0, 4);
    write32(&mut client, BAR0, SIGNAL, 2);
    assert_eq!(taken(&events[2]), 1);
}

#[test]
fn nothing_grows() {
    let directory = tempfile::tempdir().unwrap();
    let path = |index: usize| directory.path().join(format!("{index}.sock"));
    let host = host();
    let open = || count("/proc/self/fd");
    let before = open();

    // Many devices at once, each with a client of its own.
    let ids: Vec<_> = (0..64)
        .map(|index| {
            host.serve(path(index), "many", Recorder::default())
                .unwrap()
        })
        .collect();
    let serving = open();
    for _ in 0..3 {
        std::thread::scope(|scope| {
            for index in 0..64 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..5 {
                        use_it(&path(index));
                    }
                });
            }
        });
        wait_for("descriptors to go", || open() == serving);
    }
    assert!(host.devices().iter().all(|device| device.client.is_none()));
    for id in ids {
        host.remove(id).unwrap();
    }
    wait_for("descriptors to go", || open() == before);

    // The whole life of a device, again and again; every other one is removed under its client.
    for round in 0..200 {
        let socket = path(0);
        let id = host.serve(&socket, "again", Recorder::default()).unwrap();
        if round % 2 == 0 {
            use_it(&socket);
            host.remove(id).unwrap();
        } else {
            let mut client = connect(&socket);
            enable(&mut client);
            host.remove(id).unwrap();
            assert_eq!(read32(&mut client, CONFIG, 0), u32::MAX);
        }
    }
    wait_for("descriptors to go", || open() == before);
    wait_for("threads to go", || {
        threads_named("hdv-again") + threads_named("hdv-many") == 0
    });
    assert_eq!(maps_of_guest_memory(), 0);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);

    // Memory, once buffers and stacks that are kept have been had.
    let id = host.serve(path(0), "again", Recorder::default()).unwrap();
    let cycles = |count: usize| (0..count).for_each(|_| use_it(&path(0)));
    cycles(100);
    let resident = resident_kib();
    cycles(1000);
    let grown = resident_kib().saturating_sub(resident);
    assert!(grown < 2048, "{grown} KiB more after 1000 clients");
    host.remove(id).unwrap();

    // Hosts too.
    for _ in 0..20 {
        let served = serve(Recorder::default());
        use_it(&served.socket);
    }
    // Their last sessions end in their own time.
    wait_for("descriptors to go", || open() == before);
    assert_eq!(threads_named("hdv-accept"), 1);
    drop(host);
    wait_for("threads to go", || threads_named("hdv") == 0);
}

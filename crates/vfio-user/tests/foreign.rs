//! The `vfio_user` crate as the other end: its client with our server, our client with its
//! server.

mod common;

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};

use common::{Event, TestBackend, eventfd, lock, memfd, serve};
use hdv_vfio_user::client::{Client, ClientOptions};
use hdv_vfio_user::server::SessionOptions;
use hdv_vfio_user::{DmaFlags, Errno, IrqAction, vfio};

#[test]
fn its_client_works_with_our_server() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("device.sock");
    let listener = UnixListener::bind(&path).expect("bound");
    let client = std::thread::spawn(move || vfio_user::Client::new(&path).expect("connected"));
    let (stream, _) = listener.accept().expect("accepted");
    let running = serve(stream, SessionOptions::default(), TestBackend::new());
    let mut client = client.join().expect("no panic");

    let bar0 = client.region(vfio::region::BAR0).expect("BAR 0");
    assert_eq!(bar0.size, common::BAR0_SIZE as u64);
    let bar1 = client.region(vfio::region::BAR1).expect("BAR 1");
    let file = bar1.file_offset.as_ref().expect("mappable");
    assert_eq!(file.start(), common::BAR1_FILE_OFFSET);
    assert_eq!(bar1.sparse_areas.len(), 2);
    assert_eq!(bar1.sparse_areas[1].offset, 0x2000);
    let bar2 = client.region(vfio::region::BAR2).expect("BAR 2");
    assert!(bar2.file_offset.is_some() && bar2.sparse_areas.is_empty());

    client.region_write(0, 0x40, &[5, 6, 7, 8]).expect("write");
    let mut data = [0; 4];
    client.region_read(0, 0x40, &mut data).expect("read");
    assert_eq!(data, [5, 6, 7, 8]);

    let memory = memfd(0x4000, 0x55);
    client
        .dma_map(0x1000, 0x8000, 0x2000, memory.as_raw_fd())
        .expect("map");
    client.dma_unmap(0x8000, 0x2000).expect("unmap");

    let msix = client.get_irq_info(vfio::irq::MSIX).expect("irq info");
    assert_eq!(msix.count, 64);
    let event = eventfd();
    client
        .set_irqs(vfio::irq::MSIX, 0x24, 1, 1, &[event.as_raw_fd()])
        .expect("eventfd");
    client
        .set_irqs(vfio::irq::MSIX, 0x21, 0, 0, &[])
        .expect("disable");
    client.reset().expect("reset");

    assert_eq!(
        running.record.take()[1..],
        [
            Event::Write(0, 0x40, vec![5, 6, 7, 8]),
            Event::Read(0, 0x40, 4),
            Event::Map {
                address: 0x8000,
                size: 0x2000,
                flags: DmaFlags::READ | DmaFlags::WRITE,
                offset: 0x1000,
                file: Some(0x55),
            },
            Event::Unmap(0x8000, 0x2000),
            Event::SetIrqs {
                index: vfio::irq::MSIX,
                start: 1,
                count: 1,
                action: IrqAction::Trigger,
                data: common::Data::EventFds(1),
            },
            Event::DisableIrqs(vfio::irq::MSIX),
            Event::Reset,
        ]
    );
    assert_eq!(running.statistics.errors(), 0);
    client.shutdown().expect("shut down");
    running.end().expect("the client left");
}

/// A backend for that crate's server.
struct Foreign {
    memory: Vec<u8>,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Foreign {
    fn note(&self, call: String) {
        lock(&self.calls).push(call);
    }
}

impl vfio_user::ServerBackend for Foreign {
    fn region_read(&mut self, _: u32, offset: u64, data: &mut [u8]) -> std::io::Result<()> {
        let begin = usize::try_from(offset).expect("small");
        data.copy_from_slice(&self.memory[begin..][..data.len()]);
        Ok(())
    }

    fn region_write(&mut self, _: u32, offset: u64, data: &[u8]) -> std::io::Result<()> {
        let begin = usize::try_from(offset).expect("small");
        self.memory[begin..][..data.len()].copy_from_slice(data);
        Ok(())
    }

    fn dma_map(
        &mut self,
        _: vfio_user::DmaMapFlags,
        offset: u64,
        address: u64,
        size: u64,
        file: Option<std::fs::File>,
    ) -> std::io::Result<()> {
        self.note(format!(
            "map {address:#x} {size:#x} {offset:#x} {}",
            file.is_some()
        ));
        Ok(())
    }

    fn dma_unmap(
        &mut self,
        _: vfio_user::DmaUnmapFlags,
        address: u64,
        size: u64,
    ) -> std::io::Result<()> {
        self.note(format!("unmap {address:#x} {size:#x}"));
        Ok(())
    }

    fn reset(&mut self) -> std::io::Result<()> {
        self.note("reset".into());
        Ok(())
    }

    fn set_irqs(
        &mut self,
        index: u32,
        flags: u32,
        start: u32,
        count: u32,
        files: Vec<std::fs::File>,
    ) -> std::io::Result<()> {
        self.note(format!(
            "irqs {index} {flags:#x} {start} {count} {}",
            files.len()
        ));
        Ok(())
    }
}

#[test]
fn our_client_works_with_its_server() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("device.sock");
    let file = memfd(0x4000, 0x66);
    let irqs = (0..5)
        .map(|index| vfio_user::IrqInfo {
            index,
            flags: 1,
            count: 40,
        })
        .collect();
    let mut regions: Vec<_> = (0..9)
        .map(|index| {
            let mut region = vfio_user::ServerRegion {
                region_info: Default::default(),
                sparse_areas: Vec::new(),
                mmap_fd: None,
            };
            region.region_info.argsz = 32;
            region.region_info.index = index;
            region.region_info.flags = 3;
            region.region_info.size = 0x2000;
            region
        })
        .collect();
    regions[1].region_info.flags = 7;
    regions[1].mmap_fd = Some(file.as_raw_fd());
    let mut area = vfio_user::SparseArea {
        area: Default::default(),
    };
    area.area.offset = 0x1000;
    area.area.size = 0x1000;
    regions[1].sparse_areas.push(area);
    let server = vfio_user::Server::new(&path, true, irqs, regions).expect("bound");
    let calls = Arc::new(Mutex::new(Vec::new()));
    let mut backend = Foreign {
        memory: vec![0; 0x2000],
        calls: Arc::clone(&calls),
    };
    let thread = std::thread::spawn(move || server.run(&mut backend));

    let mut client = Client::connect(&path, ClientOptions::default()).expect("connected");
    assert_eq!(client.server_version(), (0, 0));
    assert_eq!(client.capabilities().max_msg_fds, 1);
    assert!(!client.capabilities().write_multiple);
    let info = client.device_info().expect("info");
    assert_eq!((info.num_regions, info.num_irqs), (9, 5));
    assert_eq!(client.region_info(0).expect("BAR 0").size, 0x2000);
    let bar1 = client.region_info(1).expect("BAR 1");
    assert!(bar1.mappable && bar1.file.is_some());
    assert_eq!(bar1.areas.len(), 1);
    assert_eq!((bar1.areas[0].offset, bar1.areas[0].size), (0x1000, 0x1000));
    assert_eq!(client.irq_info(2).expect("MSI-X").count, 40);

    client.region_write(0, 0x10, &[1, 2, 3, 4]).expect("write");
    let mut data = [0; 4];
    client.region_read(0, 0x10, &mut data).expect("read");
    assert_eq!(data, [1, 2, 3, 4]);
    client
        .region_write_posted(0, 0x10, &[8; 4])
        .expect("posted");
    client.region_read(0, 0x10, &mut data).expect("read");
    assert_eq!(data, [8; 4]);

    let flags = DmaFlags::READ | DmaFlags::WRITE;
    client
        .dma_map(0x10000, 0x1000, flags, Some((file.as_fd(), 0x1000)))
        .expect("map");
    client.dma_map(0x20000, 0x1000, flags, None).expect("map");
    client.dma_unmap(0x10000, 0x1000).expect("unmap");
    let events = [eventfd(), eventfd()];
    client
        .set_irq_event_fds(2, 7, &[events[0].as_fd(), events[1].as_fd()])
        .expect("one at a time");
    client.disable_irqs(2).expect("disable");
    client.reset().expect("reset");
    let error = client.region_info(9).expect_err("no such region");
    assert_eq!(error.errno(), Some(Errno::INVAL));
    drop(client);
    thread.join().expect("no panic").expect("served");
    assert_eq!(
        *lock(&calls),
        [
            "map 0x10000 0x1000 0x1000 true",
            "map 0x20000 0x1000 0x0 false",
            "unmap 0x10000 0x1000",
            "irqs 2 0x24 7 1 1",
            "irqs 2 0x24 8 1 1",
            "irqs 2 0x21 0 0 0",
            "reset",
        ]
    );
}
